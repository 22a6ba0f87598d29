"""Protobuf messages into the dicts and lists that their JSON would give.

Field numbers come from the generated table, all else from the generated types. Like Go's reader it ignores fields that
it does not know, takes the last of several values of one field, and reads maps whose entries lack a key or a value.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec

from podling.api import times
from podling.apiserver.wire import fields
from podling.machinery import typeinfo
from podling.machinery.schema import DecodeError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NUMBER = (1 << 29) - 1
_EOF = "unexpected EOF"


class Malformed(DecodeError):
    """The bytes are no such message; in Go's words."""


def read(data: bytes, type_: type[Any]) -> dict[str, Any]:
    """The message of a generated class. Raises Malformed."""
    try:
        return _message(data, type_, fields.name_of(type_))
    except RecursionError:
        raise Malformed("proto: exceeded max depth") from None
    except UnicodeDecodeError:
        raise Malformed("proto: invalid UTF-8 string") from None
    except (ValueError, OverflowError) as error:
        raise Malformed(f"proto: {error}") from None


# -- the wire ----------------------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    for byte in data[at : at + 10]:
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise Malformed("proto: integer overflow" if shift == 70 else _EOF)


def scan(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Field numbers, wire types and values: int or float for numbers, bytes for the rest. Raises Malformed."""
    at, end = 0, len(data)
    value: Any
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= _MAX_NUMBER:
            raise Malformed(f"proto: illegal tag {number} (wire type {wire})")
        if wire == 2:
            size, at = _varint(data, at)
            if size >= 1 << 63:
                raise Malformed("proto: negative length found during unmarshaling")
            if at + size > end:
                raise Malformed(_EOF)
            value, at = data[at : at + size], at + size
        elif wire == 0:
            value, at = _varint(data, at)
            if value >= 1 << 63:
                value -= 1 << 64
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if at + size > end:
                raise Malformed(_EOF)
            value, at = struct.unpack_from("<d" if wire == 1 else "<f", data, at)[0], at + size
        elif wire == 3:
            at = _skip_group(data, at)
            continue
        elif wire == 4:
            raise Malformed("proto: wiretype end group for non-group")
        else:
            raise Malformed(f"proto: illegal wireType {wire}")
        yield number, wire, value


def _skip_group(data: bytes, at: int) -> int:
    """Where a group ends, which no type of ours has."""
    depth = 1
    while depth:
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(data, at)
                at += size
            case 3:
                depth += 1
            case 4:
                depth -= 1
            case 5:
                at += 4
            case wire:
                raise Malformed(f"proto: illegal wireType {wire}")
        if at > len(data):
            raise Malformed(_EOF)
    return at


def _parts(data: bytes) -> dict[int, Any]:
    """A small message by numbers."""
    return {number: value for number, _, value in scan(data)}


# -- messages ----------------------------------------------------------------------------------------------------------


@cache
def _table(name: str) -> dict[int, fields.Field]:
    return {f.number: f for f in fields.message(name)}


def _message(data: bytes, type_: type[Any], name: str) -> dict[str, Any]:
    table, infos = _table(name), typeinfo.fields(type_)
    found: dict[str, Any] = {}
    for number, wire_type, raw in scan(data):
        row = table.get(number)
        if row is None:
            continue
        if row.how == fields.EMBEDDED:
            _expect(wire_type, 2, row.wire.rpartition(".")[2])
            found.update(_message(raw, type_, row.wire))
            continue
        info = infos.get(row.wire)
        if info is None:
            continue
        _expect(wire_type, _wire_type(row, info), row.wire)
        if row.how == fields.WRAPPED:
            found[row.wire] = _strings(raw)
        elif info.shape == "list":
            found.setdefault(row.wire, []).append(_value(raw, info))
        elif info.shape == "map":
            key, value = _entry(raw, info)
            found.setdefault(row.wire, {})[key] = value
        else:
            value = _value(raw, info)
            # What Go's JSON leaves out when it is zero is written in protobuf.
            if value or value == {} or row.how == fields.POINTER:
                found[row.wire] = value
    return found


def _expect(found: int, wanted: int, name: str) -> None:
    if found != wanted:
        raise Malformed(f"proto: wrong wireType = {found} for field {name[:1].upper()}{name[1:]}")


def _wire_type(row: fields.Field, info: typeinfo.FieldInfo) -> int:
    if row.how == fields.WRAPPED or info.shape == "map" or info.struct is not None or info.meaning:
        return 2
    return {int: 0, bool: 0, float: 1}.get(info.scalar, 2)


def _entry(data: bytes, info: typeinfo.FieldInfo) -> tuple[str, Any]:
    """An entry of a map; without a key or a value it has the empty one."""
    key, value, there = "", None, False
    for number, wire, part in scan(data):
        if number == 1:
            _expect(wire, 2, "mapkey")
            key = part.decode()
        elif number == 2:
            value, there = part, True
    if not there:
        value = 0 if info.struct is None and not info.meaning and info.scalar in (int, bool, float) else b""
    elif isinstance(value, bytes) != (info.struct is not None or bool(info.meaning) or info.scalar in (str, object)):
        raise Malformed(f"proto: wrong wireType for field {info.name}")
    return key, _value(value, info)


def _value(raw: Any, info: typeinfo.FieldInfo) -> Any:
    if info.struct is not None:
        return _message(raw, info.struct, fields.name_of(info.struct))
    if info.meaning:
        return _MEANINGS[info.meaning](raw)
    match info.scalar.__name__:
        case "str":
            return raw.decode()
        case "bool":
            return bool(raw)
        case "int" | "float":
            return raw
    if (union := _UNIONS.get(info.name)) is not None:
        return union(raw)
    return _strings(raw) if info.shape == "map" else _json(raw)


# -- values with a message of their own --------------------------------------------------------------------------------


def _strings(raw: bytes) -> list[str]:
    return [_bytes(value).decode() for number, _, value in scan(raw) if number == 1]


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed("proto: wrong wireType")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise Malformed("proto: wrong wireType")
    return value


def _time(raw: bytes) -> str | None:
    """Whole seconds: Go's reader leaves the rest out. No time is null, as in JSON."""
    parts = _parts(raw)
    return times.format(_moment(parts, 0)) if parts else None


def _micro_time(raw: bytes) -> str | None:
    parts = _parts(raw)
    if not parts:
        return None
    micros = _integer(parts.get(2, 0)) // 1000
    return times.format_micro(_moment(parts, micros))


def _moment(parts: dict[int, Any], micros: int) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=_integer(parts.get(1, 0)), microseconds=micros)
    except OverflowError:
        raise Malformed("proto: time out of range") from None


def _quantity(raw: bytes) -> str:
    return _bytes(_parts(raw).get(1, b"")).decode()


def _int_or_string(raw: bytes) -> int | str:
    parts = _parts(raw)
    if parts.get(1, 0) == 1:
        return _bytes(parts.get(3, b"")).decode()
    return _integer(parts.get(2, 0))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _json(raw: bytes) -> Any:
    """RawExtension, FieldsV1, JSON: a message with JSON in it. Field sets stay as they are."""
    text = _bytes(_parts(raw).get(1, b""))
    return msgspec.json.decode(text) if text else None


def _schema(raw: Any) -> dict[str, Any]:
    from podling.api.apiextensions_v1 import JSONSchemaProps

    return _message(_bytes(raw), JSONSchemaProps, fields.name_of(JSONSchemaProps))


def _or_bool(raw: bytes) -> Any:
    parts = _parts(raw)
    return _schema(parts[2]) if 2 in parts else bool(parts.get(1, 0))


def _or_list(raw: bytes) -> Any:
    found = [(number, value) for number, _, value in scan(raw)]
    one = [value for number, value in found if number == 1]
    return _schema(one[-1]) if one else [_schema(value) for number, value in found if number == 2]


def _or_strings(raw: bytes) -> Any:
    found = [(number, value) for number, _, value in scan(raw)]
    one = [value for number, value in found if number == 1]
    return _schema(one[-1]) if one else [_bytes(value).decode() for number, value in found if number == 2]


_MEANINGS: dict[str, Callable[[bytes], Any]] = {
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "Base64": _base64,
}
_UNIONS: dict[str, Callable[[bytes], Any]] = {
    "additionalItems": _or_bool,
    "additionalProperties": _or_bool,
    "items": _or_list,
    "dependencies": _or_strings,
}
