"""Values that are a number or a percentage (maxUnavailable), or a number or a name (targetPort)."""

from __future__ import annotations

import re

from podling.api.numbers import NumberError, atoi, nearest
from podling.api.scalars import IntOrString

_PERCENT = re.compile(r"[0-9]+%", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def scaled(value: IntOrString, total: int, round_up: bool) -> int:
    """`value`, or that share of `total` if it is a percentage. Raises ValueError with upstream's text."""
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError("invalid value for IntOrString: invalid type: string is not a percentage")
    try:
        share = atoi(value[:-1]) * total
    except NumberError as error:
        raise ValueError(f'invalid value for IntOrString: invalid value "{value}": {error}') from None
    return -(-share // 100) if round_up else share // 100


def is_percent(value: IntOrString) -> bool:
    """A string of digits and a percent sign."""
    return isinstance(value, str) and _PERCENT.fullmatch(value) is not None


def percent(value: IntOrString) -> int | None:
    """The number before the percent sign; None if `value` is no percentage."""
    return nearest(value[:-1]) if isinstance(value, str) and is_percent(value) else None


def integer(value: IntOrString) -> int:
    """The number that `value` stands for; 0 for a name or a percentage."""
    if isinstance(value, int):
        return value
    return nearest(value)


def text(value: IntOrString) -> str:
    """As people write it."""
    return str(value)


def of(value: str) -> IntOrString:
    """A number if `value` is one of 32 bits, else the string."""
    if _INTEGER.fullmatch(value) and -(2**31) <= nearest(value) < 2**31:
        return int(value)
    return value
