"""The functions of CEL: a table of declarations, and CEL's standard library with operators, strings, lists and sets.

A declaration is written as documentation writes it: `string.indexOf(string, int) -> int` is called on a string,
`size(list<A>) -> int` as a function; a single capital stands for any type. Kubernetes' own are in `cel_library`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from podling.machinery import cel_types as t
from podling.machinery.cel_types import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Duration,
    EvaluationError,
    Optional,
    Timestamp,
    Type,
    TypeValue,
    UInt,
    equal,
)

Implementation = Callable[..., Any]

_SIMPLE = {
    x.kind: x for x in (t.DYN, t.BOOL, t.INT, t.UINT, t.DOUBLE, t.STRING, t.BYTES, t.NULL, t.DURATION, t.TIMESTAMP)
}


class Overload:
    """`member` if the first parameter stands before the dot."""

    __slots__ = ("implementation", "member", "params", "result")

    def __init__(self, member: bool, params: tuple[Type, ...], result: Type, implementation: Implementation) -> None:
        self.member, self.params, self.result, self.implementation = member, params, result, implementation


class Function:
    """`total` implementations take every value that the checker lets through and dispatch themselves."""

    __slots__ = ("name", "overloads", "total")

    def __init__(self, name: str) -> None:
        self.name = name
        self.overloads: list[Overload] = []
        self.total: Implementation | None = None


Functions = dict[str, Function]


def no_overload(name: str, *args: Any) -> EvaluationError:
    return EvaluationError(f"no such overload: {name}({', '.join(t.name_of(a) for a in args)})")


def declare(table: Functions, declarations: str, implementation: Implementation, *, total: bool = False) -> None:
    """Add declarations, one in a line, that share an implementation."""
    for line in declarations.strip().splitlines():
        head, _, result = line.strip().partition(" -> ")
        name, _, rest = head.partition("(")
        args = _split(rest.removesuffix(")"))
        member = False
        receiver, dot, last = _receiver(name)
        if dot:
            name, member, args = last, True, [receiver, *args]
        params = tuple(_type(a) for a in args)
        function = table.setdefault(name, Function(name))
        function.overloads.append(Overload(member, params, _type(result), implementation))
        if total:
            function.total = implementation


def _receiver(name: str) -> tuple[str, str, str]:
    """`list<A>.size` is called on a list; `sets.contains` is a name with a dot."""
    receiver, dot, last = name.rpartition(".")
    opaque = receiver.startswith(("kubernetes.", "net."))
    if not dot or not (receiver in _SIMPLE or "<" in receiver or opaque):
        return "", "", name
    return receiver, dot, last


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "<") - (character == ">")
        if character == "," and not depth:
            parts.append(text[start:position].strip())
            start = position + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


_opaque: dict[str, Type] = {}


def _type(text: str) -> Type:
    if text in _SIMPLE:
        return _SIMPLE[text]
    if len(text) == 1:
        return t.variable(text)
    name, bracket, rest = text.partition("<")
    if not bracket:
        return _opaque.setdefault(name, t.opaque(name))
    inner = [_type(p) for p in _split(rest[:-1])]
    if name == "optional":
        return t.optional_of(inner[0])
    return Type(name, name, tuple(inner))


# -- operators --------------------------------------------------------------------------------------------------------

_INTEGER = {bool: False, int: True, UInt: True}


def _int(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("integer overflow")
    return value


def _uint(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def add(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return _int(a + b)
        if kind in (str, float, bytes, list):
            return a + b
        if kind is UInt:
            return _uint(int(a) + int(b))
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
            return _int(a - b)
        if kind is float:
            return a - b
        if kind is UInt:
            return _uint(int(a) - int(b))
        if kind in (Timestamp, Duration):
            return Duration(a.ns - b.ns)
    elif kind is Timestamp and isinstance(b, Duration):
        return Timestamp(a.ns - b.ns)
    raise no_overload("_-_", a, b)


def multiply(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return _int(a * b)
        if kind is float:
            return a * b
        if kind is UInt:
            return _uint(int(a) * int(b))
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
            return _int(quotient if (a < 0) == (b < 0) else -quotient) if kind is int else UInt(quotient)
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
        return _int(-a)
    if type(a) is float:
        return -a
    raise no_overload("-_", a)


def invert(a: Any) -> bool:
    if a is True or a is False:
        return not a
    raise no_overload("!_", a)


def _comparison(symbol: str, decide: Callable[[Any, Any], bool]) -> Implementation:
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


# -- conversions ------------------------------------------------------------------------------------------------------


def to_int(value: Any) -> int:
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?[0-9]+", value):
            raise EvaluationError(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        if not INT_MIN <= int(value) <= INT_MAX:
            raise EvaluationError(f'strconv.ParseInt: parsing "{value}": value out of range')
        return int(value)
    if isinstance(value, float):
        if math.isnan(value) or not INT_MIN < value < INT_MAX:
            raise EvaluationError("integer overflow")
        return int(value)
    if isinstance(value, Timestamp):
        return value.ns // 10**9
    if isinstance(value, Duration):
        return value.ns
    return _int(int(value))


def to_uint(value: Any) -> UInt:
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]+", value):
            raise EvaluationError(f'strconv.ParseUint: parsing "{value}": invalid syntax')
        if int(value) > UINT_MAX:
            raise EvaluationError(f'strconv.ParseUint: parsing "{value}": value out of range')
        return UInt(value)
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value)):
        raise EvaluationError("unsigned integer overflow")
    return _uint(int(value))


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


_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SPAN = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def to_duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, int):
        return Duration(int(value))
    return parse_duration(value)


def parse_duration(text: str) -> Duration:
    """Go's notation: 1h30m, 1.5s."""
    body = text[1:] if text[:1] in ("-", "+") else text
    total, at = 0, 0
    if body != "0":
        while at < len(body):
            match = _SPAN.match(body, at)
            if match is None or not (match[1] or match[2]):
                break
            fraction = match[2] or ""
            unit = _UNITS[match[3]]
            total += int(match[1] or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
            at = match.end()
        if at != len(body) or not body:
            raise EvaluationError(f'time: invalid duration "{text}"')
    return Duration(-total if text[:1] == "-" else total)


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


_PARTS: dict[str, Callable[[datetime], int]] = {
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
_SPANS = {"getHours": 3600 * 10**9, "getMinutes": 60 * 10**9, "getSeconds": 10**9}


def _part(read: Callable[[datetime], int]) -> Implementation:
    return lambda moment, zone="UTC": read(moment.at(_zone(zone)))


def _span(unit: int) -> Implementation:
    return lambda span: (
        int(span.ns / unit) if abs(span.ns) < 2**53 else abs(span.ns) // unit * (1 if span.ns > 0 else -1)
    )


# -- strings ----------------------------------------------------------------------------------------------------------


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


def _lower_ascii(text: str) -> str:
    return text.translate({c: c + 32 for c in range(65, 91)})


def _upper_ascii(text: str) -> str:
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


# -- lists, sets, optional values --------------------------------------------------------------------------------------


def slice_(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(items) < end:
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    found: list[Any] = []
    for item in items:
        found += flatten(item, depth - 1) if isinstance(item, list) and depth > 0 else [item]
    return found


def sort(items: list[Any]) -> list[Any]:
    return sort_by(items, items)


def sort_by(items: list[Any], keys: list[Any]) -> list[Any]:
    kinds = {type(k) for k in keys}
    if len(kinds) > 1:
        raise EvaluationError("list elements must have the same type")
    if kinds & {list, dict, type(None)}:
        raise EvaluationError("list elements must be comparable")
    order = sorted(range(len(items)), key=lambda i: keys[i].ns if hasattr(keys[i], "ns") else keys[i])
    return [items[i] for i in order]


def distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not contains(item, found):
            found.append(item)
    return found


def range_(count: int) -> list[int]:
    if count > 10_000_000:
        raise EvaluationError("range too large")
    return list(range(count))


def _unwrap(value: Optional) -> Any:
    if not value.present:
        raise EvaluationError("optional.none() dereference")
    return value.value


def zero(value: Any) -> bool:
    """Whether a value is its type's zero."""
    if isinstance(value, Timestamp | Duration):
        return value.ns == 0
    return not value


STANDARD: Functions = {}


def _standard(table: Functions) -> None:
    d = declare
    d(table, "_==_(A, A) -> bool", equal, total=True)
    d(table, "_!=_(A, A) -> bool", lambda a, b: not equal(a, b), total=True)
    ordered = ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")
    mixed = [(a, b) for a in ("int", "uint", "double") for b in ("int", "uint", "double") if a != b]
    pairs = [(k, k) for k in ordered] + mixed
    for symbol, decide in (
        ("<", lambda a, b: a < b), ("<=", lambda a, b: a <= b), (">", lambda a, b: a > b), (">=", lambda a, b: a >= b),
    ):  # fmt: skip
        lines = "\n".join(f"_{symbol}_({a}, {b}) -> bool" for a, b in pairs)
        d(table, lines, _comparison(symbol, decide), total=True)
    same = "\n".join(
        f"_+_({k}, {k}) -> {k}" for k in ("int", "uint", "double", "string", "bytes", "list<A>", "duration")
    )
    d(table, same + "\n_+_(timestamp, duration) -> timestamp\n_+_(duration, timestamp) -> timestamp", add, total=True)
    same = "\n".join(f"_-_({k}, {k}) -> {k}" for k in ("int", "uint", "double", "duration"))
    d(table, same + "\n_-_(timestamp, timestamp) -> duration\n_-_(timestamp, duration) -> timestamp", subtract,
      total=True)  # fmt: skip
    for name, implementation in (("_*_", multiply), ("_/_", divide)):
        d(table, "\n".join(f"{name}({k}, {k}) -> {k}" for k in ("int", "uint", "double")), implementation, total=True)
    d(table, "_%_(int, int) -> int\n_%_(uint, uint) -> uint", modulo, total=True)
    d(table, "-_(int) -> int\n-_(double) -> double", negate, total=True)
    d(table, "!_(bool) -> bool", invert, total=True)
    d(table, "_&&_(bool, bool) -> bool\n_||_(bool, bool) -> bool", lambda *_: None)
    d(table, "_?_:_(bool, A, A) -> A", lambda *_: None)
    d(table, "_[_](list<A>, int) -> A\n_[_](map<A, B>, A) -> B\n_[_](optional<list<A>>, int) -> optional<A>\n"
      "_[_](optional<map<A, B>>, A) -> optional<B>", index, total=True)  # fmt: skip
    d(table, "_[?_](list<A>, int) -> optional<A>\n_[?_](map<A, B>, A) -> optional<B>\n"
      "_[?_](optional<list<A>>, int) -> optional<A>\n_[?_](optional<map<A, B>>, A) -> optional<B>", optional_index,
      total=True)  # fmt: skip
    d(table, "@in(A, list<A>) -> bool\n@in(A, map<A, B>) -> bool", contains, total=True)
    sized = ("string", "bytes", "list<A>", "map<A, B>")
    d(table, "\n".join(f"size({k}) -> int\n{k}.size() -> int" for k in sized), size, total=True)
    d(table, "type(A) -> type<A>", lambda a: TypeValue(t.name_of(a)), total=True)
    d(table, "dyn(A) -> dyn", lambda a: a, total=True)
    _conversions(table)
    _times(table)
    _strings(table)
    _collections(table)


def _conversions(table: Functions) -> None:
    for name, kinds, implementation in (
        ("int", ("int", "uint", "double", "string", "timestamp", "duration"), to_int),
        ("uint", ("uint", "int", "double", "string"), to_uint),
        ("double", ("double", "int", "uint", "string"), to_double),
        ("bool", ("bool", "string"), to_bool),
        ("string", ("string", "bool", "int", "uint", "double", "bytes", "timestamp", "duration"), to_string),
        ("bytes", ("bytes", "string"), lambda v: v.encode() if isinstance(v, str) else v),
        ("duration", ("duration", "string", "int"), to_duration),
        ("timestamp", ("timestamp", "string", "int"), to_timestamp),
    ):
        declare(table, "\n".join(f"{name}({k}) -> {name}" for k in kinds), implementation)


def _times(table: Functions) -> None:
    for name, read in _PARTS.items():
        declare(table, f"timestamp.{name}() -> int\ntimestamp.{name}(string) -> int", _part(read))
    for name, unit in _SPANS.items():
        declare(table, f"duration.{name}() -> int", _span(unit))
    declare(table, "duration.getMilliseconds() -> int", lambda span: span.ns // 10**6)


def _strings(table: Functions) -> None:
    d = declare
    d(table, "string.contains(string) -> bool", lambda a, b: b in a)
    d(table, "string.startsWith(string) -> bool", str.startswith)
    d(table, "string.endsWith(string) -> bool", str.endswith)
    d(table, "string.matches(string) -> bool\nmatches(string, string) -> bool", matches)
    d(table, "string.charAt(int) -> string", char_at)
    d(table, "string.indexOf(string) -> int\nstring.indexOf(string, int) -> int", index_of)
    d(table, "string.lastIndexOf(string) -> int\nstring.lastIndexOf(string, int) -> int", last_index_of)
    d(table, "list<string>.join() -> string\nlist<string>.join(string) -> string", join)
    d(table, "string.lowerAscii() -> string", _lower_ascii)
    d(table, "string.upperAscii() -> string", _upper_ascii)
    d(table, "string.replace(string, string) -> string\nstring.replace(string, string, int) -> string",
      lambda text, old, new, limit=-1: text.replace(old, new, max(limit, -1)))  # fmt: skip
    d(table, "string.split(string) -> list<string>\nstring.split(string, int) -> list<string>", split)
    d(table, "string.substring(int) -> string\nstring.substring(int, int) -> string", substring)
    d(table, "string.trim() -> string", str.strip)
    d(table, "string.format(list<dyn>) -> string", format_)
    d(table, "strings.quote(string) -> string", quote)


def _collections(table: Functions) -> None:
    d = declare
    d(table, "list<A>.slice(int, int) -> list<A>", slice_)
    d(table, "list<list<A>>.flatten() -> list<A>\nlist<A>.flatten(int) -> list<dyn>", flatten)
    d(table, "list<A>.sort() -> list<A>", sort)
    d(table, "list<A>.distinct() -> list<A>", distinct)
    d(table, "list<A>.reverse() -> list<A>", lambda items: items[::-1])
    d(table, "lists.range(int) -> list<int>", range_)
    d(table, "sets.contains(list<A>, list<A>) -> bool", lambda a, b: all(contains(x, a) for x in b))
    d(table, "sets.equivalent(list<A>, list<A>) -> bool",
      lambda a, b: all(contains(x, a) for x in b) and all(contains(x, b) for x in a))  # fmt: skip
    d(table, "sets.intersects(list<A>, list<A>) -> bool", lambda a, b: any(contains(x, a) for x in b))
    d(table, "list<A>.first() -> optional<A>", lambda items: Optional(items[0]) if items else t.NONE)
    d(table, "list<A>.last() -> optional<A>", lambda items: Optional(items[-1]) if items else t.NONE)
    d(table, "optional.of(A) -> optional<A>", Optional)
    d(table, "optional.none() -> optional<A>", lambda: t.NONE)
    d(table, "optional.ofNonZeroValue(A) -> optional<A>", lambda v: t.NONE if zero(v) else Optional(v))
    d(table, "optional.unwrap(list<optional<A>>) -> list<A>\nlist<optional<A>>.unwrapOpt() -> list<A>",
      lambda items: [i.value for i in items if i.present])  # fmt: skip
    d(table, "optional<A>.hasValue() -> bool", lambda o: o.present)
    d(table, "optional<A>.value() -> A", _unwrap)
    d(table, "optional<A>.or(optional<A>) -> optional<A>", lambda a, b: a if a.present else b)
    d(table, "optional<A>.orValue(A) -> A", lambda o, other: o.value if o.present else other)


_standard(STANDARD)
