"""The types and values of CEL, Kubernetes' expression language.

Values are what objects are made of on the wire (dict, list, str, bool, int, float, None, bytes), and the classes here
for what JSON does not have. Source: the CEL language definition (github.com/google/cel-spec).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any


class EvaluationError(Exception):
    """An expression has no value; the text is what upstream says after `resulted in error: `."""


class Type:
    """A type: `name` with parameters (`list`, `map`, `optional_type`). Compared by `same`."""

    __slots__ = ("keys", "kind", "least", "merge", "most", "name", "params")

    def __init__(self, kind: str, name: str = "", params: tuple[Type, ...] = ()) -> None:
        self.kind = kind
        self.name = name or kind
        self.params = params
        #: Of lists in a schema: "set" or "map" (with `keys`), which change what == and + mean.
        self.merge = ""
        self.keys: tuple[str, ...] = ()
        #: From a schema: how many items, entries or bytes a value has at most; how long its JSON is at least.
        self.most: int | None = None
        self.least = 1

    def with_params(self, params: tuple[Type, ...]) -> Type:
        """The same with other parameters."""
        made = Type(self.kind, self.name, params)
        made.merge, made.keys, made.most, made.least = self.merge, self.keys, self.most, self.least
        return made

    def __str__(self) -> str:
        return f"{self.name}({', '.join(str(p) for p in self.params)})" if self.params else self.name

    __repr__ = __str__


class ObjectType(Type):
    """A message with declared fields; `lookup(name)` finds the type of one, None if there is no such field.

    `keys_of` maps the names in expressions to those on the wire, where they differ.
    """

    __slots__ = ("lookup", "wire")

    def __init__(self, name: str, lookup: Callable[[str], Type | None], wire: Mapping[str, str] | None = None) -> None:
        super().__init__("object", name)
        self.lookup = lookup
        self.wire = wire or {}


DYN = Type("dyn")
BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
STRING = Type("string")
BYTES = Type("bytes")
NULL = Type("null", "null")
DURATION = Type("duration", "google.protobuf.Duration")
TIMESTAMP = Type("timestamp", "google.protobuf.Timestamp")
ERROR = Type("error", "!error!")
TYPE = Type("type")


def list_of(item: Type) -> Type:
    return Type("list", "list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", "map", (key, value))


def optional_of(item: Type) -> Type:
    return Type("opaque", "optional_type", (item,))


def opaque(name: str) -> Type:
    """A type of which only its functions know anything (`kubernetes.Quantity`)."""
    return Type("opaque", name)


def type_of_type(item: Type) -> Type:
    return Type("type", "type", (item,))


_counter = itertools.count()


def variable(name: str = "") -> Type:
    """A type that is to be found out."""
    return Type("param", name or f"_var{next(_counter)}")


def message(name: str, fields: Mapping[str, Type]) -> ObjectType:
    """A message with these fields."""
    return ObjectType(name, fields.get)


# -- values -----------------------------------------------------------------------------------------------------------

INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = (-62135596800 * 10**9, 253402300799999999999)


class UInt(int):
    """An unsigned integer."""

    __slots__ = ()


class Timestamp:
    """A moment: nanoseconds since 1970."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        if not _TIMES[0] <= ns <= _TIMES[1]:
            raise EvaluationError("timestamp overflow")
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and self.ns == other.ns

    def __hash__(self) -> int:
        return hash(self.ns)

    def __str__(self) -> str:
        seconds, fraction = divmod(self.ns, 10**9)
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
        if text.index("-") < 4:
            text = text.rjust(19, "0")
        return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"

    def at(self, zone: Any) -> datetime:
        return (_EPOCH + timedelta(microseconds=self.ns // 1000)).astimezone(zone)


class Duration:
    """A span of time in nanoseconds."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        if not INT_MIN <= ns <= INT_MAX:
            raise EvaluationError("duration overflow")
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.ns == other.ns

    def __hash__(self) -> int:
        return hash(("d", self.ns))

    def __str__(self) -> str:
        seconds, fraction = divmod(abs(self.ns), 10**9)
        text = f"{seconds}" + (f".{fraction:09d}".rstrip("0") if fraction else "")
        return ("-" if self.ns < 0 else "") + text + "s"


class Optional:
    """`optional.of(value)` or `optional.none()`."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any = None, *, present: bool = True) -> None:
        self.value = value
        self.present = present


NONE = Optional(present=False)


class TypeValue:
    """A type as a value: what `type(x)` gives."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Object(dict[str, Any]):
    """A constructed message: `Object{...}`."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.type_name = type_name


class Opaque:
    """The base of values that only functions of the library understand. `TYPE` is their type."""

    __slots__ = ()
    TYPE = DYN


_NAMES: dict[type, str] = {
    bool: "bool", int: "int", UInt: "uint", float: "double", str: "string", bytes: "bytes", list: "list", dict: "map",
    type(None): "null_type", Timestamp: "google.protobuf.Timestamp", Duration: "google.protobuf.Duration",
    Optional: "optional_type", TypeValue: "type",
}  # fmt: skip


def name_of(value: Any) -> str:
    """The name of a value's type."""
    name = _NAMES.get(type(value))
    if name is None:
        if isinstance(value, Object):
            return value.type_name
        if isinstance(value, Opaque):
            return value.TYPE.name
        name = next((n for t, n in _NAMES.items() if isinstance(value, t)), type(value).__name__)
    return name


def fits(value: Any, type_: Type) -> bool:
    """Whether a value may be passed where a function wants this type."""
    kind = type_.kind
    if kind in ("dyn", "param"):
        return True
    if kind == "opaque":
        if type_.name == "optional_type":
            return isinstance(value, Optional)
        return isinstance(value, Opaque) and value.TYPE.name == type_.name
    if kind == "object":
        return isinstance(value, dict)
    name = name_of(value)
    return name == {"null": "null_type"}.get(kind, type_.name) or (kind == "map" and isinstance(value, dict))


def equal(left: Any, right: Any) -> bool:
    """CEL's ==: numbers compare across their types, everything else is unequal to what is of another type."""
    a, b = type(left), type(right)
    if a is b and a in _PLAIN:
        return bool(left == right)
    if a is bool or b is bool:
        return a is b and left is right
    if isinstance(left, int | float):
        return isinstance(right, int | float) and left == right
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict):
        if not isinstance(right, dict) or len(left) != len(right):
            return False
        return all(k in right and equal(v, right[k]) for k, v in left.items())
    if isinstance(left, Optional):
        if not isinstance(right, Optional) or left.present != right.present:
            return False
        return not left.present or equal(left.value, right.value)
    return bool(left == right) if a is b else False


_PLAIN = frozenset((str, int, bool, bytes, type(None), float))


def set_equal(left: Any, right: Any) -> bool:
    """== of lists that are sets."""
    if not (isinstance(left, list) and isinstance(right, list)) or len(left) != len(right):
        return equal(left, right)
    return all(any(equal(a, b) for b in right) for a in left)


def keyed(items: list[Any], keys: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
    """The items of a list that is a map, by their keys."""
    return {tuple(i.get(k) for k in keys) if isinstance(i, dict) else (id(i),): i for i in items}
