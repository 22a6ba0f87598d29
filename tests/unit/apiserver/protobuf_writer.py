"""Protobuf as a typed Go client writes it, by the same table of field numbers that the server reads it with."""

from __future__ import annotations

import base64
import struct
from typing import Any

from podling.api import times
from podling.api.struct import encode
from podling.apiserver import protobuf
from podling.apiserver.openapi.gnostic import varint
from podling.machinery import typeinfo


def key(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def chunk(number: int, data: bytes) -> bytes:
    return key(number, 2) + varint(len(data)) + data


def write_message(obj: Any, name: str) -> bytes:
    out = b""
    for number, (how, wire) in protobuf._table(name).items():
        if how == ">":
            out += chunk(number, write_message(obj, wire))
            continue
        field = typeinfo.fields(type(obj)).get(wire)
        if field is None:
            continue
        value = getattr(obj, field.attribute)
        if value is None:
            continue
        if how == "|" and field.shape == "map":
            for name_, item in value.items():
                out += chunk(number, chunk(1, name_.encode()) + chunk(2, alternative(item, wire, name)))
        elif how == "|":
            out += chunk(number, alternative(value, wire, name))
        elif field.shape == "list":
            out += b"".join(write_value(number, v, field) for v in value)
        elif field.shape == "map":
            for name_, item in value.items():
                out += chunk(number, chunk(1, name_.encode()) + write_value(2, item, field))
        else:
            out += write_value(number, value, field)
    return out


def alternative(value: Any, wire: str, name: str) -> bytes:
    """A JSON schema, or what stands in its place."""
    if isinstance(value, bool):
        return key(1, 0) + varint(value)
    if isinstance(value, list):
        return b"".join(chunk(2, v.encode() if isinstance(v, str) else write_message(v, name)) for v in value)
    if wire.startswith("additional"):
        return key(1, 0) + varint(True) + chunk(2, write_message(value, name))
    return chunk(1, write_message(value, name))


def write_value(number: int, value: Any, field: typeinfo.FieldInfo) -> bytes:
    if field.struct is not None:
        module = field.struct.__module__.rpartition(".")[2]
        return chunk(number, write_message(value, f"{module}.{field.struct.__name__}"))
    match field.meaning:
        case "Quantity":
            return chunk(number, chunk(1, str(value).encode()))
        case "Time" | "MicroTime":
            when = times.parse(value).timestamp()
            nanos = round(when % 1 * 1_000_000) * 1000
            return chunk(number, key(1, 0) + varint(int(when)) + key(2, 0) + varint(nanos))
        case "IntOrString":
            if isinstance(value, str):
                return chunk(number, key(1, 0) + b"\1" + chunk(3, value.encode()))
            return chunk(number, key(1, 0) + b"\0" + key(2, 0) + varint(value % (1 << 64)))
        case "Base64":
            return chunk(number, base64.b64decode(value))
    if field.scalar is object and field.shape != "map":
        return chunk(number, chunk(1, encode(value)))
    if isinstance(value, bool):
        return key(number, 0) + (b"\1" if value else b"\0")
    if isinstance(value, int):
        return key(number, 0) + varint(value % (1 << 64))
    if isinstance(value, float):
        return key(number, 1) + struct.pack("<d", value)
    if isinstance(value, str):
        return chunk(number, value.encode())
    if isinstance(value, list):
        return chunk(number, b"".join(chunk(1, v.encode()) for v in value))
    return chunk(number, chunk(1, encode(value)))


def wrapped(obj: Any) -> bytes:
    """The body of a request."""
    module = type(obj).__module__.rpartition(".")[2]
    meta = chunk(1, obj.api_version.encode()) + chunk(2, obj.kind.encode())
    return b"k8s\0" + chunk(1, meta) + chunk(2, write_message(obj, f"{module}.{obj.kind}"))
