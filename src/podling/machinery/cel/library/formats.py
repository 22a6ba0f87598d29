"""Named formats: what a text must be to be a DNS label, a URI, a date, ..."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from podling.api import names
from podling.machinery.cel.convert import parse_timestamp
from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.library.attempt import attempt
from podling.machinery.cel.library.urls import split_url
from podling.machinery.cel.types import (
    NONE,
    EvaluationError,
    Opaque,
    Optional,
    opaque,
)


class Format(Opaque):
    __slots__ = ("check", "name")
    TYPE = opaque("kubernetes.NamedFormat")

    def __init__(self, name: str, check: Callable[[str], list[str]]) -> None:
        self.name, self.check = name, check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def _unless(check: Callable[[str], bool], problem: str) -> Callable[[str], list[str]]:
    return lambda text: [] if check(text) else [problem]


def _uri(text: str) -> list[str]:
    try:
        split_url(text)
    except EvaluationError as error:
        return [str(error).removeprefix("URL parse error during conversion from string: ")]
    return []


def _base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _date(text: str) -> bool:
    return attempt(parse_timestamp)(f"{text}T00:00:00Z")


_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
FORMATS: dict[str, Format] = {
    f.name[0].lower() + f.name[1:] if not f.name.startswith("DNS") else f"dns{f.name[3:]}": f
    for f in (
        Format("DNS1123Label", names.dns_label),
        Format("DNS1123Subdomain", names.dns_subdomain),
        Format("DNS1035Label", names.dns_1035_label),
        Format("QualifiedName", names.qualified_name),
        Format("DNS1123LabelPrefix", lambda s: names.dns_label(s, prefix=True)),
        Format("DNS1123SubdomainPrefix", lambda s: names.dns_subdomain(s, prefix=True)),
        Format("DNS1035LabelPrefix", lambda s: names.dns_1035_label(s, prefix=True)),
        Format("LabelValue", names.label_value),
        Format("uuid", _unless(lambda s: _UUID.fullmatch(s) is not None, "does not match the UUID format")),
        Format("byte", _unless(_base64, "invalid base64")),
        Format("date", _unless(_date, "invalid date")),
        Format("datetime", _unless(attempt(parse_timestamp), "invalid datetime")),
    )
} | {"uri": Format("URI", _uri)}


def _validate(format_: Format, text: str) -> Optional:
    problems = format_.check(text)
    return Optional(problems) if problems else NONE


def declare_all(table: Functions) -> None:
    kind = Format.TYPE.name
    for name, value in FORMATS.items():
        declare(table, f"format.{name}() -> {kind}", lambda value=value: value)
    declare(table, f"format.named(string) -> optional<{kind}>",
            lambda name: Optional(FORMATS[name]) if name in FORMATS else NONE)  # fmt: skip
    declare(table, f"{kind}.validate(string) -> optional<list<string>>", _validate)
