"""Conversions of CEL, and what times and spans of time can be asked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from podling.api import numbers, times
from podling.machinery.cel.operators import shown, unsigned, whole
from podling.machinery.cel.types import INT_MAX, INT_MIN, Duration, EvaluationError, Timestamp, UInt


def _read(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except numbers.NumberError as error:
        raise EvaluationError(str(error)) from None


def to_int(value: Any) -> int:
    if isinstance(value, str):
        return _read(numbers.parse_int, value)
    if isinstance(value, float):
        if math.isnan(value) or not INT_MIN < value < INT_MAX:
            raise EvaluationError("integer overflow")
        return int(value)
    if isinstance(value, Timestamp):
        return value.ns // 10**9
    if isinstance(value, Duration):
        return value.ns
    return whole(int(value))


def to_uint(value: Any) -> UInt:
    if isinstance(value, str):
        return UInt(_read(numbers.parse_uint, value))
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value)):
        raise EvaluationError("unsigned integer overflow")
    return unsigned(int(value))


def to_double(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise EvaluationError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def to_bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    raise EvaluationError(f'strconv.ParseBool: parsing "{value}": invalid syntax')


def to_string(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
    return shown(value)


def to_duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, int):
        return Duration(int(value))
    return parse_duration(value)


def parse_duration(text: str) -> Duration:
    """Go's notation: 1h30m, 1.5s."""
    try:
        return Duration(times.parse_duration(text))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # fmt: skip


def to_timestamp(value: Any) -> Timestamp:
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, int):
        return Timestamp(int(value) * 10**9)
    return parse_timestamp(value)


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        fields = [int(f) for f in match.groups()[:6]]
        offset = timedelta()
        if match[8] not in "Zz":
            offset = timedelta(hours=int(match[8][1:3]), minutes=int(match[8][4:])) * (-1 if match[8][0] == "-" else 1)
        moment = datetime(*fields, tzinfo=UTC) - offset  # type: ignore[arg-type, misc]
    except (ValueError, OverflowError):
        raise EvaluationError(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        ) from None
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return Timestamp(seconds * 10**9 + int((match[7] or "0")[:9].ljust(9, "0")))


def _zone(name: str) -> Any:
    match = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name)
    if match:
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset)
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise EvaluationError(f"unknown time zone {name}") from None


PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda d: d.year,
    "getMonth": lambda d: d.month - 1,
    "getDayOfYear": lambda d: d.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda d: d.day - 1,
    "getDate": lambda d: d.day,
    "getDayOfWeek": lambda d: d.isoweekday() % 7,
    "getHours": lambda d: d.hour,
    "getMinutes": lambda d: d.minute,
    "getSeconds": lambda d: d.second,
    "getMilliseconds": lambda d: d.microsecond // 1000,
}
SPANS = {"getHours": 3600 * 10**9, "getMinutes": 60 * 10**9, "getSeconds": 10**9}


def part(read: Callable[[datetime], int]) -> Callable[..., int]:
    return lambda moment, zone="UTC": read(moment.at(_zone(zone)))


def span(unit: int) -> Callable[..., int]:
    return lambda span: (
        int(span.ns / unit) if abs(span.ns) < 2**53 else abs(span.ns) // unit * (1 if span.ns > 0 else -1)
    )
