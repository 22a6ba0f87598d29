"""The functions of CEL: a table of declarations, and CEL's standard library with operators, strings, lists and sets.

A declaration is written as documentation writes it: `string.indexOf(string, int) -> int` is called on a string,
`size(list<A>) -> int` as a function; a single capital stands for any type. Kubernetes' own are in `library`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podling.machinery.cel import convert as convert
from podling.machinery.cel import operators as op
from podling.machinery.cel import strings as strings
from podling.machinery.cel import types as t
from podling.machinery.cel.operators import contains
from podling.machinery.cel.types import Duration, EvaluationError, Optional, Timestamp, Type, TypeValue, equal

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
        d(table, lines, op.comparison(symbol, decide), total=True)
    same = "\n".join(
        f"_+_({k}, {k}) -> {k}" for k in ("int", "uint", "double", "string", "bytes", "list<A>", "duration")
    )
    d(
        table,
        same + "\n_+_(timestamp, duration) -> timestamp\n_+_(duration, timestamp) -> timestamp",
        op.add,
        total=True,
    )
    same = "\n".join(f"_-_({k}, {k}) -> {k}" for k in ("int", "uint", "double", "duration"))
    d(table, same + "\n_-_(timestamp, timestamp) -> duration\n_-_(timestamp, duration) -> timestamp", op.subtract,
      total=True)  # fmt: skip
    for name, implementation in (("_*_", op.multiply), ("_/_", op.divide)):
        d(table, "\n".join(f"{name}({k}, {k}) -> {k}" for k in ("int", "uint", "double")), implementation, total=True)
    d(table, "_%_(int, int) -> int\n_%_(uint, uint) -> uint", op.modulo, total=True)
    d(table, "-_(int) -> int\n-_(double) -> double", op.negate, total=True)
    d(table, "!_(bool) -> bool", op.invert, total=True)
    d(table, "_&&_(bool, bool) -> bool\n_||_(bool, bool) -> bool", lambda *_: None)
    d(table, "_?_:_(bool, A, A) -> A", lambda *_: None)
    d(table, "_[_](list<A>, int) -> A\n_[_](map<A, B>, A) -> B\n_[_](optional<list<A>>, int) -> optional<A>\n"
      "_[_](optional<map<A, B>>, A) -> optional<B>", op.index, total=True)  # fmt: skip
    d(table, "_[?_](list<A>, int) -> optional<A>\n_[?_](map<A, B>, A) -> optional<B>\n"
      "_[?_](optional<list<A>>, int) -> optional<A>\n_[?_](optional<map<A, B>>, A) -> optional<B>", op.optional_index,
      total=True)  # fmt: skip
    d(table, "@in(A, list<A>) -> bool\n@in(A, map<A, B>) -> bool", contains, total=True)
    sized = ("string", "bytes", "list<A>", "map<A, B>")
    d(table, "\n".join(f"size({k}) -> int\n{k}.size() -> int" for k in sized), op.size, total=True)
    d(table, "type(A) -> type<A>", lambda a: TypeValue(t.name_of(a)), total=True)
    d(table, "dyn(A) -> dyn", lambda a: a, total=True)
    _conversions(table)
    _times(table)
    _strings(table)
    _collections(table)


def _conversions(table: Functions) -> None:
    for name, kinds, implementation in (
        ("int", ("int", "uint", "double", "string", "timestamp", "duration"), convert.to_int),
        ("uint", ("uint", "int", "double", "string"), convert.to_uint),
        ("double", ("double", "int", "uint", "string"), convert.to_double),
        ("bool", ("bool", "string"), convert.to_bool),
        ("string", ("string", "bool", "int", "uint", "double", "bytes", "timestamp", "duration"), convert.to_string),
        ("bytes", ("bytes", "string"), lambda v: v.encode() if isinstance(v, str) else v),
        ("duration", ("duration", "string", "int"), convert.to_duration),
        ("timestamp", ("timestamp", "string", "int"), convert.to_timestamp),
    ):
        declare(table, "\n".join(f"{name}({k}) -> {name}" for k in kinds), implementation)


def _times(table: Functions) -> None:
    for name, read in convert.PARTS.items():
        declare(table, f"timestamp.{name}() -> int\ntimestamp.{name}(string) -> int", convert.part(read))
    for name, unit in convert.SPANS.items():
        declare(table, f"duration.{name}() -> int", convert.span(unit))
    declare(table, "duration.getMilliseconds() -> int", lambda span: span.ns // 10**6)


def _strings(table: Functions) -> None:
    d = declare
    d(table, "string.contains(string) -> bool", lambda a, b: b in a)
    d(table, "string.startsWith(string) -> bool", str.startswith)
    d(table, "string.endsWith(string) -> bool", str.endswith)
    d(table, "string.matches(string) -> bool\nmatches(string, string) -> bool", strings.matches)
    d(table, "string.charAt(int) -> string", strings.char_at)
    d(table, "string.indexOf(string) -> int\nstring.indexOf(string, int) -> int", strings.index_of)
    d(table, "string.lastIndexOf(string) -> int\nstring.lastIndexOf(string, int) -> int", strings.last_index_of)
    d(table, "list<string>.join() -> string\nlist<string>.join(string) -> string", strings.join)
    d(table, "string.lowerAscii() -> string", strings.lower_ascii)
    d(table, "string.upperAscii() -> string", strings.upper_ascii)
    d(table, "string.replace(string, string) -> string\nstring.replace(string, string, int) -> string",
      lambda text, old, new, limit=-1: text.replace(old, new, max(limit, -1)))  # fmt: skip
    d(table, "string.split(string) -> list<string>\nstring.split(string, int) -> list<string>", strings.split)
    d(table, "string.substring(int) -> string\nstring.substring(int, int) -> string", strings.substring)
    d(table, "string.trim() -> string", str.strip)
    d(table, "string.format(list<dyn>) -> string", strings.format_)
    d(table, "strings.quote(string) -> string", strings.quote)


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
