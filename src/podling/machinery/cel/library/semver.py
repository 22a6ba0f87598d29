"""Semantic versions (semver.org 2.0.0), compared by precedence."""

from __future__ import annotations

import re

from podling.api.numbers import is_decimal
from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.library.attempt import attempt, compare
from podling.machinery.cel.types import (
    EvaluationError,
    Opaque,
    opaque,
)

_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)


class Semver(Opaque):
    __slots__ = ("key", "numbers")
    TYPE = opaque("kubernetes.Semver")

    def __init__(self, numbers: tuple[int, int, int], pre: str) -> None:
        self.numbers = numbers
        # Without a pre-release comes after all with one; numbers come before words.
        identifiers = [(0, int(p), "") if is_decimal(p) else (1, 0, p) for p in pre.split(".")] if pre else []
        self.key = (*numbers, not pre, identifiers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.numbers)


def to_semver(text: str, normalize: bool = False) -> Semver:
    if normalize:
        core, mark, rest = re.fullmatch(r"v?([^-+]*)([-+]?)(.*)", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [p.lstrip("0") or "0" if p.isdecimal() else p for p in core.split(".")]
        text = ".".join([*parts, *["0"] * (3 - len(parts))]) + mark + rest
    match = _SEMVER.fullmatch(text)
    if match is None:
        what = "Version string empty" if not text else "No Major.Minor.Patch elements found"
        if text.count(".") >= 2:
            what = f"Invalid character(s) found in version {quote(text)}"
        raise EvaluationError(what)
    return Semver((int(match[1]), int(match[2]), int(match[3])), match[4] or "")


def quote(text: str) -> str:
    return f'"{text}"'


def declare_all(table: Functions) -> None:
    kind = Semver.TYPE.name
    declare(table, f"semver(string) -> {kind}\nsemver(string, bool) -> {kind}", to_semver)
    declare(table, "isSemver(string) -> bool\nisSemver(string, bool) -> bool", attempt(to_semver))
    declare(table, f"{kind}.isGreaterThan({kind}) -> bool", lambda a, b: a.key > b.key)
    declare(table, f"{kind}.isLessThan({kind}) -> bool", lambda a, b: a.key < b.key)
    declare(table, f"{kind}.compareTo({kind}) -> int", lambda a, b: compare(a.key, b.key))
    for position, name in enumerate(("major", "minor", "patch")):
        declare(table, f"{kind}.{name}() -> int", lambda v, position=position: v.numbers[position])
