"""The v2 document in protobuf: the messages of gnostic's OpenAPIv2.proto, which kubectl asks for first."""

from __future__ import annotations

from typing import Any

from podling.apiserver.openapi import messages
from podling.apiserver.openapi.messages import Table, any_, delimited, fields, named, pairs, text, whole


def _schema(value: dict[str, Any]) -> bytes:
    return fields(value, _SCHEMA, 31)


def _additional(value: dict[str, Any] | bool) -> bytes:
    return messages.boolean(2, value) if isinstance(value, bool) else delimited(1, _schema(value))


_SCHEMA: Table = {
    "$ref": (1, text),
    "format": (2, text),
    "title": (3, text),
    "description": (4, text),
    "default": (5, whole),
    "multipleOf": (6, float),
    "maximum": (7, float),
    "exclusiveMaximum": (8, bool),
    "minimum": (9, float),
    "exclusiveMinimum": (10, bool),
    "maxLength": (11, int),
    "minLength": (12, int),
    "pattern": (13, text),
    "maxItems": (14, int),
    "minItems": (15, int),
    "uniqueItems": (16, bool),
    "maxProperties": (17, int),
    "minProperties": (18, int),
    "required": (19, text),
    "enum": (20, any_),
    "additionalProperties": (21, _additional),
    "type": (22, lambda value: delimited(1, text(value))),
    "items": (23, lambda value: delimited(1, _schema(value))),
    "allOf": (24, _schema),
    "properties": (25, pairs(1, _schema)),
    "readOnly": (27, bool),
    "externalDocs": (28, lambda value: fields(value, _DOCS, 3)),
    "example": (29, whole),
}
_DOCS: Table = {"description": (1, text), "url": (2, text)}

_PARAMETER: Table = {
    "required": (1, bool),
    "in": (2, text),
    "description": (3, text),
    "name": (4, text),
}
_QUERY: Table = {**_PARAMETER, "type": (6, text), "format": (7, text), "uniqueItems": (20, bool)}
_PATH: Table = {**_PARAMETER, "type": (5, text), "format": (6, text), "uniqueItems": (19, bool)}
_BODY: Table = {
    "description": (1, text),
    "name": (2, text),
    "in": (3, text),
    "required": (4, bool),
    "schema": (5, _schema),
}


def _parameter(value: dict[str, Any]) -> bytes:
    """A BodyParameter or a NonBodyParameter."""
    if value["in"] == "body":
        return delimited(1, fields(value, _BODY, 6))
    if value["in"] == "query":
        return delimited(2, delimited(3, fields(value, _QUERY, 23)))
    return delimited(2, delimited(4, fields(value, _PATH, 22)))


def _parameter_or_reference(value: dict[str, Any]) -> bytes:
    return delimited(2, delimited(1, text(value["$ref"]))) if "$ref" in value else delimited(1, _parameter(value))


_RESPONSE: Table = {
    "description": (1, text),
    "schema": (2, lambda value: delimited(1, _schema(value))),
}
_OPERATION: Table = {
    "tags": (1, text),
    "summary": (2, text),
    "description": (3, text),
    "operationId": (5, text),
    "produces": (6, text),
    "consumes": (7, text),
    "parameters": (8, _parameter_or_reference),
    "responses": (9, pairs(1, lambda value: delimited(1, fields(value, _RESPONSE, 5)))),
    "schemes": (10, text),
    "deprecated": (11, bool),
    "security": (12, messages.security),
}


def _operation(value: dict[str, Any]) -> bytes:
    return fields(value, _OPERATION, 13)


_PATH_ITEM: Table = {
    "get": (2, _operation),
    "put": (3, _operation),
    "post": (4, _operation),
    "delete": (5, _operation),
    "options": (6, _operation),
    "head": (7, _operation),
    "patch": (8, _operation),
    "parameters": (9, _parameter_or_reference),
}


def _paths(value: dict[str, Any]) -> bytes:
    return b"".join(delimited(2, named(path, fields(item, _PATH_ITEM, 10))) for path, item in value.items())


_INFO: Table = {"title": (1, text), "version": (2, text), "description": (3, text)}
_API_KEY: Table = {"type": (1, text), "name": (2, text), "in": (3, text), "description": (4, text)}


def _security_definitions(value: dict[str, Any]) -> bytes:
    keys = {name: item for name, item in value.items() if item.get("type") == "apiKey"}
    return pairs(1, lambda item: delimited(2, fields(item, _API_KEY, 5)))(keys)


_DOCUMENT: Table = {
    "swagger": (1, text),
    "info": (2, lambda value: fields(value, _INFO, 7)),
    "paths": (8, _paths),
    "definitions": (9, pairs(1, _schema)),
    "parameters": (10, pairs(1, _parameter)),
    "security": (12, messages.security),
    "securityDefinitions": (13, _security_definitions),
}


def document(swagger: dict[str, Any]) -> bytes:
    """A swagger document as an openapi.v2.Document."""
    return fields(swagger, _DOCUMENT, 16)
