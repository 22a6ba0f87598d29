"""The v2 document in protobuf: the messages of gnostic's OpenAPIv2.proto, which kubectl asks for first.

A message is a table from key to (field number, how the value is written). What no table knows is left out: documents of
other servers are merged into ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from podling.api.struct import encode

#: Writes a value as the bytes of a length-delimited field, or None for none.
Writer = Callable[[Any], bytes]


def varint(number: int) -> bytes:
    """A whole number that is not negative, in groups of seven bits."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _delimited(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def _text(value: Any) -> bytes:
    return str(value).encode()


def _any(value: Any) -> bytes:
    """Any: the value as YAML, of which JSON is a kind."""
    return _delimited(2, encode(value) + b"\n")


def _value(value: Any) -> bytes:
    """As `_any`; a list is one value."""
    return _any(value)


def _named(name: str, value: bytes) -> bytes:
    return _delimited(1, name.encode()) + _delimited(2, value)


def _fields(value: dict[str, Any], table: dict[str, tuple[int, Writer | type]], extension: int) -> bytes:
    """A message: its known fields by table, what begins with x- as vendor extensions."""
    out = bytearray()
    for key, item in value.items():
        if key.startswith("x-"):
            out += _delimited(extension, _named(key, _any(item)))
            continue
        if key not in table:
            continue
        number, writer = table[key]
        if writer is bool:
            if item:
                out += varint(number << 3) + b"\1"
        elif writer is int:
            out += varint(number << 3) + varint(item)
        elif writer is float:
            out += varint(number << 3 | 1) + struct.pack("<d", item)
        elif isinstance(item, list) and writer is not _value:
            for one in item:
                out += _delimited(number, writer(one))
        else:
            out += _delimited(number, writer(item))
    return bytes(out)


def _schema(value: dict[str, Any]) -> bytes:
    return _fields(value, _SCHEMA, 31)


def _additional(value: dict[str, Any] | bool) -> bytes:
    if isinstance(value, bool):
        return varint(2 << 3) + (b"\1" if value else b"\0")
    return _delimited(1, _schema(value))


def _named_schemas(value: dict[str, Any]) -> bytes:
    return b"".join(_delimited(1, _named(name, _schema(item))) for name, item in value.items())


_SCHEMA: dict[str, tuple[int, Writer | type]] = {
    "$ref": (1, _text),
    "format": (2, _text),
    "title": (3, _text),
    "description": (4, _text),
    "default": (5, _value),
    "multipleOf": (6, float),
    "maximum": (7, float),
    "exclusiveMaximum": (8, bool),
    "minimum": (9, float),
    "exclusiveMinimum": (10, bool),
    "maxLength": (11, int),
    "minLength": (12, int),
    "pattern": (13, _text),
    "maxItems": (14, int),
    "minItems": (15, int),
    "uniqueItems": (16, bool),
    "maxProperties": (17, int),
    "minProperties": (18, int),
    "required": (19, _text),
    "enum": (20, _any),
    "additionalProperties": (21, _additional),
    "type": (22, lambda value: _delimited(1, _text(value))),
    "items": (23, lambda value: _delimited(1, _schema(value))),
    "allOf": (24, _schema),
    "properties": (25, _named_schemas),
    "readOnly": (27, bool),
    "externalDocs": (28, lambda value: _fields(value, _DOCS, 3)),
    "example": (29, _value),
}
_DOCS: dict[str, tuple[int, Writer | type]] = {"description": (1, _text), "url": (2, _text)}

_PARAMETER: dict[str, tuple[int, Writer | type]] = {
    "required": (1, bool),
    "in": (2, _text),
    "description": (3, _text),
    "name": (4, _text),
}
_QUERY = {**_PARAMETER, "type": (6, _text), "format": (7, _text), "uniqueItems": (20, bool)}
_PATH = {**_PARAMETER, "type": (5, _text), "format": (6, _text), "uniqueItems": (19, bool)}
_BODY: dict[str, tuple[int, Writer | type]] = {
    "description": (1, _text),
    "name": (2, _text),
    "in": (3, _text),
    "required": (4, bool),
    "schema": (5, _schema),
}


def _parameter(value: dict[str, Any]) -> bytes:
    """ParametersItem: a Parameter, which is a BodyParameter or a NonBodyParameter."""
    if value["in"] == "body":
        return _delimited(1, _delimited(1, _fields(value, _BODY, 6)))
    if value["in"] == "query":
        inner = _delimited(3, _fields(value, _QUERY, 23))
    else:
        inner = _delimited(4, _fields(value, _PATH, 22))
    return _delimited(1, _delimited(2, inner))


_RESPONSE: dict[str, tuple[int, Writer | type]] = {
    "description": (1, _text),
    "schema": (2, lambda value: _delimited(1, _schema(value))),
}


def _responses(value: dict[str, Any]) -> bytes:
    return b"".join(
        _delimited(1, _named(code, _delimited(1, _fields(item, _RESPONSE, 5)))) for code, item in value.items()
    )


_OPERATION: dict[str, tuple[int, Writer | type]] = {
    "tags": (1, _text),
    "summary": (2, _text),
    "description": (3, _text),
    "operationId": (5, _text),
    "produces": (6, _text),
    "consumes": (7, _text),
    "parameters": (8, _parameter),
    "responses": (9, _responses),
    "schemes": (10, _text),
    "deprecated": (11, bool),
}


def _operation(value: dict[str, Any]) -> bytes:
    return _fields(value, _OPERATION, 13)


_PATH_ITEM: dict[str, tuple[int, Writer | type]] = {
    "get": (2, _operation),
    "put": (3, _operation),
    "post": (4, _operation),
    "delete": (5, _operation),
    "options": (6, _operation),
    "head": (7, _operation),
    "patch": (8, _operation),
    "parameters": (9, _parameter),
}


def _paths(value: dict[str, Any]) -> bytes:
    return b"".join(_delimited(2, _named(path, _fields(item, _PATH_ITEM, 10))) for path, item in value.items())


_INFO: dict[str, tuple[int, Writer | type]] = {"title": (1, _text), "version": (2, _text)}

_DOCUMENT: dict[str, tuple[int, Writer | type]] = {
    "swagger": (1, _text),
    "info": (2, lambda value: _fields(value, _INFO, 7)),
    "paths": (8, _paths),
    "definitions": (9, _named_schemas),
}


def document(swagger: dict[str, Any]) -> bytes:
    """A swagger document as an openapi.v2.Document."""
    return _fields(swagger, _DOCUMENT, 16)
