"""Documents as protobuf messages: what both of gnostic's formats are written with.

A message is a table from key to (field number, how the value is written). What no table knows is left out: documents of
other servers are merged into ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from podling.api.struct import encode

#: Writes a value as the bytes of a length-delimited field.
Writer = Callable[[Any], bytes]
Table = dict[str, tuple[int, Writer | type]]


def varint(number: int) -> bytes:
    """A whole number that is not negative, in groups of seven bits."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(field: int, data: bytes) -> bytes:
    """A field that is a string or a message."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def boolean(field: int, value: bool) -> bytes:
    """A field that is there even if it is false, since it is one of several."""
    return varint(field << 3) + (b"\1" if value else b"\0")


def number(field: int, value: float) -> bytes:
    """A field that is a double."""
    return varint(field << 3 | 1) + struct.pack("<d", value)


def text(value: Any) -> bytes:
    """A string."""
    return str(value).encode()


def any_(value: Any) -> bytes:
    """Any: the value as YAML, of which JSON is a kind."""
    return delimited(2, encode(value) + b"\n")


def whole(value: Any) -> bytes:
    """As `any_`; a list is one value."""
    return any_(value)


def named(name: str, value: bytes) -> bytes:
    """A pair of a name and a message."""
    return delimited(1, name.encode()) + delimited(2, value)


def pairs(field: int, writer: Writer) -> Writer:
    """A map as a message of named values."""
    return lambda value: b"".join(delimited(field, named(name, writer(item))) for name, item in value.items())


def fields(value: dict[str, Any], table: Table, extension: int) -> bytes:
    """A message: its known fields by table, what begins with x- as vendor extensions."""
    out = bytearray()
    for key, item in value.items():
        if key.startswith("x-"):
            out += delimited(extension, named(key, any_(item)))
            continue
        if key not in table:
            continue
        at, writer = table[key]
        if writer is bool:
            if item:
                out += boolean(at, True)
        elif writer is int:
            out += varint(at << 3) + varint(item)
        elif writer is float:
            out += number(at, item)
        elif isinstance(item, list) and writer is not whole:
            for one in item:
                out += delimited(at, writer(one))
        else:
            out += delimited(at, writer(item))
    return bytes(out)


def security(value: dict[str, list[str]]) -> bytes:
    """A SecurityRequirement: names with their scopes."""
    return pairs(1, lambda scopes: b"".join(delimited(1, text(scope)) for scope in scopes))(value)
