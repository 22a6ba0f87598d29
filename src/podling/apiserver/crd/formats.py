"""The string formats that a schema can ask for, as upstream's go-openapi/strfmt checks them. Others mean nothing."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date as calendar_date
from datetime import datetime
from urllib.parse import urlsplit

from podling.api import names

Check = Callable[[str], bool]


def _matches(pattern: str) -> Check:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.search(text) is not None


def _uri(text: str) -> bool:
    """As net/url.ParseRequestURI: absolute, or a path from the root."""
    if not text or any(ord(c) < 0x20 or ord(c) == 0x7F or c == " " for c in text):
        return False
    if text.startswith("/") or text == "*":
        return True
    try:
        parts = urlsplit(text)
        return (
            bool(parts.scheme) and parts.port is not False and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text) is not None
        )
    except ValueError:
        return False


_EMAIL = re.compile(r"(?:[^<>]*<)?[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.\[\]:-]+>?\Z")
_HOST_LABEL = re.compile(r"[a-zA-Z0-9\-\U000000a1-\U0010ffff]{1,63}\Z")


def _hostname(text: str) -> bool:
    if not text or len(text) > 255:
        return False
    labels = text.removesuffix(".").split(".")
    return all(_HOST_LABEL.match(p) and not p.startswith("-") and not p.endswith("-") for p in labels)


def _version(number: int) -> Check:
    def check(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == number
        except ValueError:
            return False

    return check


def _cidr(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text and text.rpartition("/")[2].isdigit()


def _isbn(text: str) -> bool:
    return _isbn10(text) or _isbn13(text)


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", digits):
        return False
    values = [10 if d == "X" else int(d) for d in digits]
    return sum((n + 1) * v for n, v in enumerate(values)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{13}", digits):
        return False
    return sum(int(d) * (3 if n % 2 else 1) for n, d in enumerate(digits)) % 10 == 0


_CARD = re.compile(
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])"
    r"[0-9]{11}|(?:2131|1800|35\d{3})\d{11})\Z"
)


def _credit_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if not _CARD.match(digits):
        return False
    total = 0
    for n, d in enumerate(reversed(digits)):
        value = int(d) * (2 if n % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return text != "" and re.fullmatch(r"(?:[A-Za-z0-9+/\-_=]|\n)*", text) is not None


def _date(text: str) -> bool:
    try:
        calendar_date.fromisoformat(text)
    except ValueError:
        return False
    return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None


_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?\Z", re.ASCII)


def _date_time(text: str) -> bool:
    found = _MOMENT.match(text)
    if found is None:
        return False
    try:
        datetime.fromisoformat(f"{found[1]}T{found[2]}")
    except ValueError:
        return False
    return True


_GO_DURATION = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+\Z|[+-]?0\Z")
_WORDED_DURATION = re.compile(
    r"\s*(?:\d+\s*(?:nanoseconds?|nanos?|ns|microseconds?|micros?|us|µs|milliseconds?|millis?|ms|seconds?|secs?|s|"
    r"minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w)\s*)+\Z",
    re.IGNORECASE,
)


def _duration(text: str) -> bool:
    return bool(_GO_DURATION.match(text) or _WORDED_DURATION.match(text))


_FORMATS: dict[str, Check] = {
    "bsonobjectid": _matches(r"^[0-9a-fA-F]{24}\Z"),
    "uri": _uri,
    "email": lambda text: _EMAIL.match(text) is not None,
    "hostname": _hostname,
    "ipv4": _version(4),
    "ipv6": _version(6),
    "cidr": _cidr,
    "mac": _matches(
        r"^(?:[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}(?:(?:[:-][0-9a-fA-F]{2}){2}(?:(?:[:-][0-9a-fA-F]{2}){12})?)?"
        r"|[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}){2}(?:\.[0-9a-fA-F]{4}(?:(?:\.[0-9a-fA-F]{4}){6})?)?)\Z"
    ),
    "uuid": _matches(r"^(?i:[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})\Z"),
    "uuid3": _matches(r"^(?i:[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12})\Z"),
    "uuid4": _matches(r"^(?i:[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12})\Z"),
    "uuid5": _matches(r"^(?i:[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12})\Z"),
    "isbn": _isbn,
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _credit_card,
    "ssn": _matches(r"^\d{3}[- ]?\d{2}[- ]?\d{4}\Z"),
    "hexcolor": _matches(r"^#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})\Z"),
    "rgbcolor": _matches(
        r"^rgb\(\s*(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\s*(?:,\s*(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\s*){2}\)\Z"
    ),
    "byte": _byte,
    "password": lambda text: True,
    "date": _date,
    "datetime": _date_time,
    "duration": _duration,
    "k8sshortname": lambda text: not names.dns_label(text),
    "k8slongname": lambda text: not names.dns_subdomain(text),
}

_OF_NUMBERS = {"integer": ("int32", "int64"), "number": ("float", "double")}


def known(kind: str, format_: str) -> bool:
    """Whether a format means anything for a type ("" is any)."""
    if kind in ("", "string"):
        return format_.replace("-", "") in _FORMATS
    return format_ in _OF_NUMBERS.get(kind, ())


def check(format_: str) -> Check | None:
    """What decides whether a text has a format; None for a format of numbers, or an unknown one."""
    return _FORMATS.get(format_.replace("-", ""))
