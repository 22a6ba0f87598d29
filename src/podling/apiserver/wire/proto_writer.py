"""Objects into protobuf messages, byte for byte as gogo-proto writes them.

A field that is no pointer in Go is written even if it is empty, one that is a pointer only if it is there; fields stand
in the order of their numbers, the entries of maps in the order of their keys. For each class the way of writing it is
worked out once: a getter of all its attributes, and for each of them what writes it and what stands there without it.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from podling.api import times
from podling.api.struct import encode as to_json
from podling.apiserver.wire import fields
from podling.machinery import typeinfo

#: Writes a whole field, tag included.
Write = Callable[[Any], bytes]

_MASK = (1 << 64) - 1
_SMALL = tuple(bytes((n,)) for n in range(128))


def varint(n: int) -> bytes:
    """A number in base 128; negative ones take ten bytes."""
    if 0 <= n < 128:
        return _SMALL[n]
    n &= _MASK
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def delimited(number: int, data: bytes) -> bytes:
    """A field of strings, bytes or messages."""
    return _key(number, 2) + varint(len(data)) + data


def _key(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


class Message:
    """How the objects of one class are written. `encode` makes the message of an object, `zero` is that of none."""

    def __init__(self, type_: type[Any], name: str) -> None:
        self._type = type_
        self._name = name
        self._rows: tuple[Callable[[Any], Any], tuple[tuple[Write, bytes], ...]] | None = None

    def _plan(self) -> tuple[Callable[[Any], Any], tuple[tuple[Write, bytes], ...]]:
        """The rows, worked out when they are first needed: messages may contain themselves."""
        infos = typeinfo.fields(self._type)
        names: list[str] = []
        rows: list[tuple[Write, bytes]] = []
        for number, how, wire in fields.message(self._name):
            if how == fields.EMBEDDED:
                names.append("")
                rows.append((_embedded(number, message(self._type, wire)), b""))
            elif (info := infos.get(wire)) is not None:
                names.append(info.attribute)
                rows.append(_row(number, how, info))
        self._rows = _getter(names), tuple(rows)
        return self._rows

    def encode(self, obj: Any) -> bytes:
        """The message of an object."""
        get, rows = self._rows or self._plan()
        return b"".join(
            [absent if value is None else write(value) for value, (write, absent) in zip(get(obj), rows, strict=True)]
        )

    @property
    def zero(self) -> bytes:
        """The message of an object without anything in it."""
        _, rows = self._rows or self._plan()
        return b"".join([getattr(write, "zero", absent) for write, absent in rows])


_messages: dict[tuple[type[Any], str], Message] = {}


def message(type_: type[Any], name: str = "") -> Message:
    """How a class is written, as the message of that name or its own."""
    found = _messages.get((type_, name))
    if found is None:
        found = _messages[type_, name] = Message(type_, name or fields.name_of(type_))
    return found


def _getter(names: list[str]) -> Callable[[Any], Any]:
    """All attributes at once; "" is the object itself, whose fields are spread over several messages."""
    if not names:
        return lambda obj: ()
    if "" not in names and len(names) > 1:
        return attrgetter(*names)
    getters = [attrgetter(name) if name else _itself for name in names]
    return lambda obj: [get(obj) for get in getters]


def _itself(obj: Any) -> Any:
    return obj


class _embedded:
    """An embedded message is always written, from the attributes of the same object."""

    def __init__(self, number: int, inner: Message) -> None:
        self._number = number
        self._inner = inner

    def __call__(self, obj: Any) -> bytes:
        return delimited(self._number, self._inner.encode(obj))

    @property
    def zero(self) -> bytes:
        return delimited(self._number, self._inner.zero)


def _row(number: int, how: str, info: typeinfo.FieldInfo) -> tuple[Write, bytes]:
    """What writes a field, and what is written where it is None."""
    if how == fields.WRAPPED:
        item = _string(1)
        return (lambda values: delimited(number, b"".join(map(item, values)))), b""
    write = _value(number, info)
    if info.shape == "list":
        return (lambda values: b"".join(map(write, values))), b""
    if info.shape == "map":
        return _map(number, _value(2, info)), b""
    return write, b"" if how == fields.POINTER else _absent(number, info)


def _absent(number: int, info: typeinfo.FieldInfo) -> bytes:
    """The zero value of a field that is always written."""
    if info.struct is not None:
        return delimited(number, message(info.struct).zero)
    match info.meaning or info.scalar.__name__:
        case "Base64":
            return b""
        case "Quantity":
            return delimited(number, b"\x0a\x010")
        case "IntOrString":
            return delimited(number, _int_or_string(0))
        case "int" | "bool":
            return _key(number, 0) + b"\0"
        case "float":
            return _key(number, 1) + bytes(8)
        case _:
            return _key(number, 2) + b"\0"


def _map(number: int, write: Write) -> Write:
    key = _string(1)

    def entries(values: dict[str, Any]) -> bytes:
        return b"".join([delimited(number, key(k) + write(v)) for k, v in sorted(values.items())])

    return entries


def _value(number: int, info: typeinfo.FieldInfo) -> Write:
    """What writes one value of a field (of a list, each of them)."""
    if info.struct is not None:
        return _nested(number, message(info.struct))
    if (union := _UNIONS.get(info.name)) is not None and info.scalar is object and not info.meaning:
        return _converted(number, union)
    if info.meaning in _MEANINGS:
        return _converted(number, _MEANINGS[info.meaning])
    match info.scalar.__name__:
        case "str":
            return _string(number)
        case "int":
            key = _key(number, 0)
            return lambda value: key + varint(value)
        case "bool":
            yes, no = _key(number, 0) + b"\1", _key(number, 0) + b"\0"
            return lambda value: yes if value else no
        case "float":
            double = _key(number, 1)
            return lambda value: double + struct.pack("<d", value)
    # A map of lists of strings (a user's extra), or any JSON.
    return _converted(number, _strings if info.shape == "map" else _json)


def _string(number: int) -> Write:
    key = _key(number, 2)
    heads = tuple(key + length for length in _SMALL)

    def write(value: str) -> bytes:
        data = value.encode()
        size = len(data)
        return heads[size] + data if size < 128 else key + varint(size) + data

    return write


def _nested(number: int, inner: Message) -> Write:
    key = _key(number, 2)

    def write(value: Any) -> bytes:
        data = inner.encode(value)
        return key + varint(len(data)) + data

    return write


def _converted(number: int, convert: Callable[[Any], bytes | None]) -> Write:
    key = _key(number, 2)

    def write(value: Any) -> bytes:
        data = convert(value)
        return b"" if data is None else key + varint(len(data)) + data

    return write


# -- values with a message of their own --------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _time(text: str) -> bytes:
    return b"" if not text else b"\x08" + varint(int(times.parse(text).timestamp() // 1)) + b"\x10\0"


def _micro_time(text: str) -> bytes:
    if not text:
        return b""
    when = times.parse(text)
    seconds = int(when.replace(microsecond=0).timestamp())
    return b"\x08" + varint(seconds) + b"\x10" + varint(when.microsecond * 1000)


def _quantity(value: Any) -> bytes:
    return delimited(1, str(value).encode())


def _int_or_string(value: int | str) -> bytes:
    if isinstance(value, str):
        return b"\x08\1\x10\0" + delimited(3, value.encode())
    return b"\x08\0\x10" + varint(value) + b"\x1a\0"


def _json(value: Any) -> bytes | None:
    data = to_json(value)
    return delimited(1, data) if data else None


def _strings(values: list[str]) -> bytes:
    return b"".join([delimited(1, value.encode()) for value in values])


def _or_bool(value: Any) -> bytes:
    """JSONSchemaPropsOrBool: Go's decoder says that a schema is allowed."""
    if isinstance(value, bool):
        return b"\x08\1" if value else b"\x08\0"
    return b"\x08\1" + delimited(2, message(type(value)).encode(value))


def _or_list(value: Any) -> bytes:
    """JSONSchemaPropsOrArray."""
    if isinstance(value, list):
        return b"".join([delimited(2, message(type(item)).encode(item)) for item in value])
    return delimited(1, message(type(value)).encode(value))


def _or_strings(value: Any) -> bytes:
    """JSONSchemaPropsOrStringArray."""
    if isinstance(value, list):
        return b"".join([delimited(2, item.encode()) for item in value])
    return delimited(1, message(type(value)).encode(value))


_MEANINGS: dict[str, Callable[[Any], bytes | None]] = {
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "Base64": base64.b64decode,
}
#: Fields of schemas that are one thing or another.
_UNIONS: dict[str, Callable[[Any], bytes | None]] = {
    "additionalItems": _or_bool,
    "additionalProperties": _or_bool,
    "items": _or_list,
    "dependencies": _or_strings,
}


def body(obj: Any) -> bytes:
    """The message of an object of a generated class."""
    if isinstance(obj, msgspec.Struct):
        return message(type(obj)).encode(obj)
    raise TypeError(f"{type(obj).__name__} has no protobuf form")
