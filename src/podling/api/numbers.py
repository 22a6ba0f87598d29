"""Numbers in text, read as Go's strconv reads them: ASCII digits, and within 64 bits.

Python's `int` takes more (`1_0`, ` 1`, digits of other scripts) and, of thousands of digits, has an error of its own.
What a client may say must not depend on that.
"""

from __future__ import annotations

import json
import re

_SIGNED = re.compile(r"[+-]?[0-9]+", re.ASCII)
_UNSIGNED = re.compile(r"[0-9]+", re.ASCII)
#: More digits than 64 bits have, leading zeros aside, and fewer than `int` refuses.
_DIGITS = 1000

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class NumberError(ValueError):
    """Says in Go's words what is wrong with a number."""


def parse_int(text: str) -> int:
    """A signed number. NumberError."""
    return _parse("ParseInt", _SIGNED, text, INT_MIN, INT_MAX)


def parse_uint(text: str) -> int:
    """A number without a sign. NumberError."""
    return _parse("ParseUint", _UNSIGNED, text, 0, UINT_MAX)


def atoi(text: str) -> int:
    """As `parse_int`, in the words of another function. NumberError."""
    return _parse("Atoi", _SIGNED, text, INT_MIN, INT_MAX)


def nearest(text: str) -> int:
    """The nearest number within 64 bits; 0 for what is none. What Go's Atoi gives beside its error."""
    try:
        return atoi(text)
    except NumberError:
        return 0 if _SIGNED.fullmatch(text) is None else INT_MIN if text.startswith("-") else INT_MAX


def is_decimal(text: str) -> bool:
    """Whether `int` can read it and it has no sign: some digits, and not too many."""
    return len(text) <= _DIGITS and _UNSIGNED.fullmatch(text) is not None


def _parse(function: str, form: re.Pattern[str], text: str, low: int, high: int) -> int:
    if form.fullmatch(text) is None:
        raise NumberError(f"strconv.{function}: parsing {_quoted(text)}: invalid syntax")
    value = int(text) if len(text) <= _DIGITS else high + 1
    if not low <= value <= high:
        raise NumberError(f"strconv.{function}: parsing {_quoted(text)}: value out of range")
    return value


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
