"""The operators of CEL: arithmetic that never wraps around, comparisons across numbers, access to items."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from podling.machinery.cel import types as t
from podling.machinery.cel.types import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Duration,
    EvaluationError,
    Optional,
    Timestamp,
    UInt,
    equal,
)


def no_overload(name: str, *args: Any) -> EvaluationError:
    return EvaluationError(f"no such overload: {name}({', '.join(t.name_of(a) for a in args)})")


def whole(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("integer overflow")
    return value


def unsigned(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def add(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return whole(a + b)
        if kind in (str, float, bytes, list):
            return a + b
        if kind is UInt:
            return unsigned(int(a) + int(b))
        if kind is Duration:
            return Duration(a.ns + b.ns)
    elif (kind is Timestamp and isinstance(b, Duration)) or (kind is Duration and isinstance(b, Timestamp)):
        return Timestamp(a.ns + b.ns)
    elif isinstance(a, list) and isinstance(b, list):
        return [*a, *b]
    raise no_overload("_+_", a, b)


def subtract(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return whole(a - b)
        if kind is float:
            return a - b
        if kind is UInt:
            return unsigned(int(a) - int(b))
        if kind in (Timestamp, Duration):
            return Duration(a.ns - b.ns)
    elif kind is Timestamp and isinstance(b, Duration):
        return Timestamp(a.ns - b.ns)
    raise no_overload("_-_", a, b)


def multiply(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return whole(a * b)
        if kind is float:
            return a * b
        if kind is UInt:
            return unsigned(int(a) * int(b))
    raise no_overload("_*_", a, b)


def divide(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is float:
            if b == 0:
                return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
            return a / b
        if kind in (int, UInt):
            if b == 0:
                raise EvaluationError("division by zero")
            quotient = abs(a) // abs(b)
            return whole(quotient if (a < 0) == (b < 0) else -quotient) if kind is int else UInt(quotient)
    raise no_overload("_/_", a, b)


def modulo(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b) and kind in (int, UInt):
        if b == 0:
            raise EvaluationError("modulus by zero")
        rest = abs(a) % abs(b)
        return (-rest if a < 0 else rest) if kind is int else UInt(rest)
    raise no_overload("_%_", a, b)


def negate(a: Any) -> Any:
    if type(a) is int:
        return whole(-a)
    if type(a) is float:
        return -a
    raise no_overload("-_", a)


def invert(a: Any) -> bool:
    if a is True or a is False:
        return not a
    raise no_overload("!_", a)


def comparison(symbol: str, decide: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    name = f"_{symbol}_"

    def compare(a: Any, b: Any) -> bool:
        kind, other = type(a), type(b)
        if kind is other and kind in (int, str, float, bytes, bool, UInt):
            return decide(a, b)
        if kind in (Timestamp, Duration) and kind is other:
            return decide(a.ns, b.ns)
        if kind in (int, float, UInt) and other in (int, float, UInt):
            return decide(a, b)
        raise no_overload(name, a, b)

    return compare


def index(container: Any, key: Any) -> Any:
    if isinstance(container, list):
        position = _position(key)
        if 0 <= position < len(container):
            return container[position]
        raise EvaluationError(f"index out of bounds: {position}")
    if isinstance(container, dict):
        return _value(container, key)
    if isinstance(container, Optional):
        return optional_index(container, key)
    raise no_overload("_[_]", container, key)


def _position(key: Any) -> int:
    if type(key) in (int, UInt) or (type(key) is float and key.is_integer()):
        return int(key)
    raise EvaluationError(f"unsupported index type '{t.name_of(key)}' in list")


def _value(container: dict[Any, Any], key: Any) -> Any:
    if isinstance(key, list | dict):
        raise EvaluationError(f"unsupported key type: {t.name_of(key)}")
    found = container.get(key, _MISSING)
    if found is _MISSING:
        raise EvaluationError(f"no such key: {shown(key)}")
    return found


_MISSING = object()


def optional_index(container: Any, key: Any) -> Optional:
    """`container[?key]`."""
    if isinstance(container, Optional):
        return optional_index(container.value, key) if container.present else t.NONE
    try:
        return Optional(index(container, key))
    except EvaluationError as error:
        if str(error).startswith(("no such key", "index out of")):
            return t.NONE
        raise


def contains(item: Any, container: Any) -> bool:
    """`item in container`."""
    if isinstance(container, list):
        if type(item) is str:
            return item in container
        return any(equal(item, other) for other in container)
    if isinstance(container, dict):
        return not isinstance(item, list | dict) and item in container
    raise no_overload("@in", item, container)


def size(value: Any) -> int:
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    raise no_overload("size", value)


def shown(value: Any) -> str:
    """A value as string() and messages show it."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float):
        return go_float(value)
    return str(value)


def go_float(value: float) -> str:
    """A number as Go's %g writes it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" not in text and abs(value) < 1e-4:
        digits = f"{value:.17g}"
        text = digits if "e" in digits else text
    return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text)
