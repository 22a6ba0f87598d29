"""Functions of texts in CEL. Regular expressions are RE2's, which take time linear in their input."""

from __future__ import annotations

import math
import re
from typing import Any

from podling.machinery.cel import types as t
from podling.machinery.cel.convert import to_string
from podling.machinery.cel.operators import shown
from podling.machinery.cel.types import EvaluationError, TypeValue


def compiled(pattern: str) -> Any:
    """A regular expression in RE2's syntax, which takes time linear in its input."""
    import re2

    try:
        return re2.compile(pattern, _quiet())
    except re2.error as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise EvaluationError(f"error parsing regexp: {why}") from None


_options: Any = None


def _quiet() -> Any:
    global _options
    if _options is None:
        import re2

        _options = re2.Options()
        _options.log_errors = False
    return _options


def matches(text: str, pattern: str) -> bool:
    return compiled(pattern).search(text) is not None


def _out_of_range(position: int) -> EvaluationError:
    return EvaluationError(f"index out of range: {position}")


def char_at(text: str, position: int) -> str:
    if not 0 <= position <= len(text):
        raise _out_of_range(position)
    return text[position : position + 1]


def index_of(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        if part == "":
            return start
        raise _out_of_range(start)
    return text.find(part, start)


def last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return text.rfind(part)
    if not 0 <= start <= len(text):
        raise _out_of_range(start)
    return text.rfind(part, 0, start + len(part))


def join(items: list[Any], separator: str = "") -> str:
    for item in items:
        if not isinstance(item, str):
            raise EvaluationError("no such overload")
    return separator.join(items)


def lower_ascii(text: str) -> str:
    return text.translate({c: c + 32 for c in range(65, 91)})


def upper_ascii(text: str) -> str:
    return text.translate({c: c - 32 for c in range(97, 123)})


def split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if separator == "":
        return list(text) if limit < 0 or limit >= len(text) else [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= len(text):
        raise _out_of_range(start)
    if not 0 <= end <= len(text):
        raise _out_of_range(end)
    if start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


_QUOTED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
           '"': '\\"'}  # fmt: skip


def quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(c, c) for c in text) + '"'


_CLAUSE = re.compile(r"%(?:\.(\d+))?(.)|%$")


def format_(text: str, args: list[Any]) -> str:
    """`"%s is %d".format([a, b])`."""
    at = iter(enumerate(args))

    def replace(match: re.Match[str]) -> str:
        verb = match[2]
        if verb == "%":
            return "%"
        position, value = next(at, (-1, None))
        if position < 0:
            raise EvaluationError(f"index {len(args)} out of range")
        return _formatted(verb, value, int(match[1]) if match[1] is not None else 6)

    return _CLAUSE.sub(replace, text)


def _formatted(verb: str | None, value: Any, precision: int) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if verb == "s":
        return _readable(value)
    if verb == "d" and (whole or isinstance(value, float)):
        return shown(value)
    if verb in ("f", "e") and (whole or isinstance(value, float)):
        number = float(value)
        if math.isnan(number) or math.isinf(number):
            return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
        return f"{number:.{precision}{verb}}"
    if verb == "b" and (whole or isinstance(value, bool)):
        return f"{int(value):b}"
    if verb in ("x", "X"):
        if whole:
            return f"{int(value):{verb}}"
        if isinstance(value, str | bytes):
            digits = (value.encode() if isinstance(value, str) else value).hex()
            return digits.upper() if verb == "X" else digits
    if verb == "o" and whole:
        return f"{int(value):o}"
    if verb not in ("d", "f", "e", "b", "x", "X", "o"):
        raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')
    raise EvaluationError(f"error during formatting: no such overload: %{verb} of {t.name_of(value)}")


def _readable(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_readable(v) for v in value) + "]"
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{k}: {v}" for k, v in sorted((_readable(k), _readable(v)) for k, v in value.items()))
            + "}"
        )
    if value is None:
        return "null"
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return to_string(value)
