"""Types of CEL from OpenAPI schemas: so that rules over custom resources and policies' expressions are type-checked.

Source: k8s.io/apiserver pkg/cel/common (SchemaDeclType) and pkg/cel/escaping.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from podling.machinery import typeinfo
from podling.machinery.cel import types as t
from podling.machinery.cel.syntax import RESERVED
from podling.machinery.cel.types import DYN, ObjectType, Type

_KEYWORDS = RESERVED | {"true", "false", "null", "in"}
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_SPECIAL = re.compile(r"__|[-./]")
_IDENTIFIER = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*")
_FORMATS = {"byte": t.BYTES, "duration": t.DURATION, "date": t.TIMESTAMP, "date-time": t.TIMESTAMP}
_BOOL = Type("bool")
_BOOL.least = 4
_SCALARS = {"integer": t.INT, "number": t.DOUBLE, "boolean": _BOOL}


def escape(name: str) -> str | None:
    """A field's name as it is written in expressions; None if it can't be."""
    if name in _KEYWORDS:
        return f"__{name}__"
    if not _IDENTIFIER.fullmatch(name):
        return None
    return _SPECIAL.sub(lambda m: _ESCAPES[m[0]], name)


def type_of(schema: Mapping[str, Any], *, name: str = "object", root: bool = False) -> Type | None:
    """The type of a value that a schema describes; None if expressions can't reach it.

    `root` and x-kubernetes-embedded-resource add apiVersion, kind and metadata.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return _sized(Type("dyn"), _most_characters(schema), 1)
    kind = schema.get("type")
    if kind == "array":
        return _array(schema, name)
    if kind == "object":
        return _object(schema, name, root)
    if kind == "string":
        return _string(schema)
    if kind in _SCALARS:
        return _SCALARS[kind]
    return DYN if schema.get("x-kubernetes-preserve-unknown-fields") else None


def _sized(type_: Type, most: int, least: int) -> Type:
    type_.most, type_.least = most, least
    return type_


#: What a request may have at most, in bytes: it bounds what has no bound in its schema.
MAX_REQUEST = 3 * 1024 * 1024
#: Longest and shortest JSON of values of a format.
_FORMAT_SIZES = {"duration": (32, 3), "date": (12, 12), "date-time": (32, 21)}


def _most_characters(schema: Mapping[str, Any]) -> int:
    """A character may be four bytes long."""
    length = schema.get("maxLength")
    return max(length, 0) * 4 if length is not None else MAX_REQUEST - 2


def _string(schema: Mapping[str, Any]) -> Type:
    format_ = schema.get("format") or ""
    base = _FORMATS.get(format_, t.STRING)
    made = Type(base.kind, base.name)
    if format_ == "byte":
        length = schema.get("maxLength")
        return _sized(made, max(length, 0) if length is not None else MAX_REQUEST - 2, 2)
    if format_ in _FORMAT_SIZES:
        return _sized(made, *_FORMAT_SIZES[format_])
    if schema.get("maxLength") is None and schema.get("enum"):
        return _sized(made, max((len(v.encode()) for v in schema["enum"] if isinstance(v, str)), default=0), 2)
    return _sized(made, _most_characters(schema), 2)


def _array(schema: Mapping[str, Any], name: str) -> Type | None:
    items = schema.get("items")
    inner = type_of(items, name=f"{name}.@idx") if items is not None else None
    if inner is None:
        return None
    made = t.list_of(inner)
    made.merge = schema.get("x-kubernetes-list-type") or ""
    made.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    most = schema.get("maxItems")
    return _sized(made, max(most, 0) if most is not None else (MAX_REQUEST - 2) // (inner.least + 1), 2)


_METADATA = t.message("metadata", {"name": t.STRING, "generateName": t.STRING})


def _object(schema: Mapping[str, Any], name: str, root: bool) -> Type | None:
    values = schema.get("additionalProperties")
    properties = schema.get("properties") or {}
    embedded = root or schema.get("x-kubernetes-embedded-resource")
    if not properties and not embedded:
        if isinstance(values, Mapping):
            inner = type_of(values, name=f"{name}.@elem")
            if inner is None:
                return None
            most = schema.get("maxProperties")
            most = max(most, 0) if most is not None else (MAX_REQUEST - 2) // (inner.least + 6)
            return _sized(t.map_of(t.STRING, inner), most, 2)
        if values or schema.get("x-kubernetes-preserve-unknown-fields"):
            return DYN
    known: dict[str, Type | None] = {}
    wire = {escaped: field for field in properties if (escaped := escape(field)) is not None}
    if embedded:
        wire |= {field: field for field in ("apiVersion", "kind", "metadata")}
        known = {"apiVersion": t.STRING, "kind": t.STRING, "metadata": _metadata(properties.get("metadata"))}

    def lookup(field: str) -> Type | None:
        if field not in known:
            at = wire.get(field)
            inner = type_of(properties[at], name=f"{name}.{field}") if at is not None else None
            known[field] = inner
        return known[field]

    made = ObjectType(name, lookup, {e: f for e, f in wire.items() if e != f})
    made.least = 2 + sum(
        len(field) + 4 + (found.least if (found := type_of(properties[field])) is not None else 1)
        for field in schema.get("required") or ()
        if field in properties and "default" not in properties[field]
    )
    return made


def _metadata(schema: Mapping[str, Any] | None) -> Type:
    """Of a custom resource's metadata only the name can be read."""
    properties = (schema or {}).get("properties") or {}
    if "name" in properties and "generateName" in properties:
        return type_of(schema or {}, name="metadata") or _METADATA
    return _METADATA


# -- built-in types ---------------------------------------------------------------------------------------------------

_MEANINGS = {
    "Time": t.TIMESTAMP, "MicroTime": t.TIMESTAMP, "Base64": t.BYTES, "Quantity": t.STRING, "IntOrString": DYN
}  # fmt: skip
_PLAIN = {str: t.STRING, int: t.INT, bool: t.BOOL, float: t.DOUBLE}


@typeinfo.cached
def of_struct(type_: type[Any]) -> ObjectType:
    """The type of a generated class; its fields are looked at when they are first asked for."""
    fields = {escaped: f for name, f in typeinfo.fields(type_).items() if (escaped := escape(name)) is not None}
    known: dict[str, Type] = {}

    def lookup(name: str) -> Type | None:
        field = fields.get(name)
        if field is None:
            return None
        if name not in known:
            known[name] = _of_field(field)
        return known[name]

    wire = {escaped: f.name for escaped, f in fields.items() if escaped != f.name}
    return ObjectType(type_.__name__, lookup, wire)


def _of_field(field: typeinfo.FieldInfo) -> Type:
    if field.struct is not None:
        value: Type = of_struct(field.struct)
    else:
        value = _MEANINGS.get(field.meaning) or _PLAIN.get(field.scalar, DYN)
    if field.shape == "list":
        made = t.list_of(value)
        made.merge, made.keys = field.list_type or "", field.map_keys
        return made
    return t.map_of(t.STRING, value) if field.shape == "map" else value
