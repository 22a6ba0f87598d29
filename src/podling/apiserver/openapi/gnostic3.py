"""v3 documents in protobuf: the messages of gnostic's OpenAPIv3.proto."""

from __future__ import annotations

from typing import Any

from podling.apiserver.openapi import messages
from podling.apiserver.openapi.messages import Table, any_, delimited, fields, named, pairs, text, whole


def _plain_schema(value: dict[str, Any]) -> bytes:
    return fields(value, _SCHEMA, 36)


def _reference(value: dict[str, Any]) -> bytes:
    return delimited(2, delimited(1, text(value["$ref"])))


def _schema(value: dict[str, Any]) -> bytes:
    """A schema or a reference to one."""
    return _reference(value) if "$ref" in value else delimited(1, _plain_schema(value))


def _additional(value: dict[str, Any] | bool) -> bytes:
    return messages.boolean(2, value) if isinstance(value, bool) else delimited(1, _schema(value))


def _default(value: Any) -> bytes:
    """A scalar; an object or list is there, but empty."""
    if isinstance(value, bool):
        return messages.boolean(2, value)
    if isinstance(value, int | float):
        return messages.number(1, value)
    return delimited(3, value.encode()) if isinstance(value, str) else b""


_SCHEMA: Table = {
    "nullable": (1, bool),
    "readOnly": (3, bool),
    "writeOnly": (4, bool),
    "externalDocs": (6, lambda value: fields(value, _DOCS, 3)),
    "example": (7, whole),
    "deprecated": (8, bool),
    "title": (9, text),
    "multipleOf": (10, float),
    "maximum": (11, float),
    "exclusiveMaximum": (12, bool),
    "minimum": (13, float),
    "exclusiveMinimum": (14, bool),
    "maxLength": (15, int),
    "minLength": (16, int),
    "pattern": (17, text),
    "maxItems": (18, int),
    "minItems": (19, int),
    "uniqueItems": (20, bool),
    "maxProperties": (21, int),
    "minProperties": (22, int),
    "required": (23, text),
    "enum": (24, any_),
    "type": (25, text),
    "allOf": (26, _schema),
    "oneOf": (27, _schema),
    "anyOf": (28, _schema),
    "not": (29, _plain_schema),
    "items": (30, lambda value: delimited(1, _schema(value))),
    "properties": (31, pairs(1, _schema)),
    "additionalProperties": (32, _additional),
    "default": (33, _default),
    "description": (34, text),
    "format": (35, text),
}
_DOCS: Table = {"description": (1, text), "url": (2, text)}
_MEDIA: Table = {"schema": (1, _schema), "example": (2, whole)}
_content = pairs(1, lambda value: fields(value, _MEDIA, 5))
_PARAMETER: Table = {
    "name": (1, text),
    "in": (2, text),
    "description": (3, text),
    "required": (4, bool),
    "deprecated": (5, bool),
    "schema": (10, _schema),
}
_BODY: Table = {"description": (1, text), "content": (2, _content), "required": (3, bool)}
_RESPONSE: Table = {"description": (1, text), "content": (3, _content)}


def _parameter(value: dict[str, Any]) -> bytes:
    return _reference(value) if "$ref" in value else delimited(1, fields(value, _PARAMETER, 14))


def _responses(value: dict[str, Any]) -> bytes:
    out = bytearray()
    for code, item in value.items():
        response = _reference(item) if "$ref" in item else delimited(1, fields(item, _RESPONSE, 5))
        out += delimited(1, response) if code == "default" else delimited(2, named(code, response))
    return bytes(out)


_OPERATION: Table = {
    "tags": (1, text),
    "summary": (2, text),
    "description": (3, text),
    "operationId": (5, text),
    "parameters": (6, _parameter),
    "requestBody": (7, lambda value: delimited(1, fields(value, _BODY, 4))),
    "responses": (8, _responses),
    "deprecated": (10, bool),
    "security": (11, messages.security),
}


def _operation(value: dict[str, Any]) -> bytes:
    return fields(value, _OPERATION, 13)


_PATH_ITEM: Table = {
    "summary": (2, text),
    "description": (3, text),
    "get": (4, _operation),
    "put": (5, _operation),
    "post": (6, _operation),
    "delete": (7, _operation),
    "options": (8, _operation),
    "head": (9, _operation),
    "patch": (10, _operation),
    "parameters": (13, _parameter),
}


def _paths(value: dict[str, Any]) -> bytes:
    return b"".join(delimited(1, named(path, fields(item, _PATH_ITEM, 14))) for path, item in value.items())


_INFO: Table = {"title": (1, text), "description": (2, text), "version": (6, text)}
_SCHEME: Table = {"type": (1, text), "description": (2, text), "name": (3, text), "in": (4, text)}
_COMPONENTS: Table = {
    "schemas": (1, pairs(1, _schema)),
    "securitySchemes": (7, pairs(1, lambda value: delimited(1, fields(value, _SCHEME, 9)))),
}
_DOCUMENT: Table = {
    "openapi": (1, text),
    "info": (2, lambda value: fields(value, _INFO, 7)),
    "paths": (4, _paths),
    "components": (5, lambda value: fields(value, _COMPONENTS, 10)),
    "security": (6, messages.security),
}


def document(openapi: dict[str, Any]) -> bytes:
    """A document of OpenAPI 3.0 as an openapi.v3.Document."""
    return fields(openapi, _DOCUMENT, 9)
