"""URLs, as Go's net/url parses them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, urlsplit

from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.library.attempt import attempt
from podling.machinery.cel.types import (
    EvaluationError,
    Opaque,
    opaque,
)


class Url(Opaque):
    __slots__ = ("parts", "text")
    TYPE = opaque("kubernetes.URL")

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = split_url(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def split_url(text: str) -> SplitResult:
    def failed(why: str) -> EvaluationError:
        return EvaluationError(f'URL parse error during conversion from string: parse "{text}": {why}')

    if not text:
        raise failed("empty url")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise failed("net/url: invalid control character in URL")
    if ":" in text.partition("/")[0] and not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text):
        raise failed("first path segment in URL cannot contain colon" if text[0] != ":" else "missing protocol scheme")
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        bad = re.search(r"%.{0,2}", text)
        raise failed(f'invalid URL escape "{bad.group() if bad else ""}"')
    try:
        parts = urlsplit(text)
        port = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
        if port and not port.isdecimal():
            raise failed(f'invalid port ":{port}" after host')
    except ValueError as error:
        raise failed(str(error)) from None
    if not parts.scheme and not text.startswith("/"):
        raise failed("invalid URI for request")
    if " " in parts.netloc:
        raise failed('invalid character " " in host name')
    return parts


def _host(url: Url) -> str:
    return url.parts.netloc.rpartition("@")[2]


def _hostname(url: Url) -> str:
    host = _host(url)
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _port(url: Url) -> str:
    return _host(url).rpartition("]")[2].partition(":")[2]


def _escaped_path(url: Url) -> str:
    return re.sub(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/%\[\]]", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()),
                  url.parts.path)  # fmt: skip


def declare_all(table: Functions) -> None:
    kind = Url.TYPE.name
    declare(table, f"url(string) -> {kind}", Url)
    declare(table, "isURL(string) -> bool", attempt(Url))
    declare(table, f"{kind}.getScheme() -> string", lambda u: u.parts.scheme)
    declare(table, f"{kind}.getHost() -> string", _host)
    declare(table, f"{kind}.getHostname() -> string", _hostname)
    declare(table, f"{kind}.getPort() -> string", _port)
    declare(table, f"{kind}.getEscapedPath() -> string", _escaped_path)
    declare(table, f"{kind}.getQuery() -> map<string, list<string>>",
            lambda u: parse_qs(u.parts.query, keep_blank_values=True))  # fmt: skip
