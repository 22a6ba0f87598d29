"""Types of CEL from OpenAPI schemas: so that rules over custom resources and policies' expressions are type-checked.

Source: k8s.io/apiserver pkg/cel/common (SchemaDeclType) and pkg/cel/escaping.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from podling.machinery import cel_types as t
from podling.machinery.cel_syntax import RESERVED
from podling.machinery.cel_types import DYN, ObjectType, Type

_KEYWORDS = RESERVED | {"true", "false", "null", "in"}
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_SPECIAL = re.compile(r"__|[-./]")
_IDENTIFIER = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*")
_FORMATS = {"byte": t.BYTES, "duration": t.DURATION, "date": t.TIMESTAMP, "date-time": t.TIMESTAMP}
_SCALARS = {"integer": t.INT, "number": t.DOUBLE, "boolean": t.BOOL, "string": t.STRING}

Resolve = Callable[[str], Mapping[str, Any] | None]


def escape(name: str) -> str | None:
    """A field's name as it is written in expressions; None if it can't be."""
    if name in _KEYWORDS:
        return f"__{name}__"
    if not _IDENTIFIER.fullmatch(name):
        return None
    return _SPECIAL.sub(lambda m: _ESCAPES[m[0]], name)


def type_of(
    schema: Mapping[str, Any], *, name: str = "object", root: bool = False, resolve: Resolve | None = None
) -> Type | None:
    """The type of a value that a schema describes; None if expressions can't reach it.

    `root` and x-kubernetes-embedded-resource add apiVersion, kind and metadata. `resolve` finds what a `$ref` means.
    """
    schema = _dereferenced(schema, resolve)
    if schema.get("x-kubernetes-int-or-string"):
        return DYN
    kind = schema.get("type")
    if kind == "array":
        return _array(schema, name, resolve)
    if kind == "object":
        return _object(schema, name, root, resolve)
    if kind in _SCALARS:
        if kind == "string":
            return _FORMATS.get(schema.get("format") or "", t.STRING)
        return _SCALARS[kind]
    return DYN if schema.get("x-kubernetes-preserve-unknown-fields") or resolve is not None else None


def _dereferenced(schema: Mapping[str, Any], resolve: Resolve | None) -> Mapping[str, Any]:
    if resolve is None:
        return schema
    if len(schema.get("allOf") or ()) == 1 and "type" not in schema:
        schema = {**schema, **schema["allOf"][0]}
    reference = schema.get("$ref")
    if not reference:
        return schema
    found = resolve(reference.rpartition("/")[2])
    return found if found is not None else {"x-kubernetes-preserve-unknown-fields": True}


def _array(schema: Mapping[str, Any], name: str, resolve: Resolve | None) -> Type | None:
    items = schema.get("items")
    inner = type_of(items, name=f"{name}.@idx", resolve=resolve) if items is not None else None
    if inner is None:
        return None
    made = t.list_of(inner)
    made.merge = schema.get("x-kubernetes-list-type") or ""
    made.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    return made


_METADATA = t.message("metadata", {"name": t.STRING, "generateName": t.STRING})


def _object(schema: Mapping[str, Any], name: str, root: bool, resolve: Resolve | None) -> Type | None:
    values = schema.get("additionalProperties")
    properties = schema.get("properties") or {}
    embedded = root or schema.get("x-kubernetes-embedded-resource")
    if not properties and not embedded:
        if isinstance(values, Mapping):
            inner = type_of(values, name=f"{name}.@elem", resolve=resolve)
            return t.map_of(t.STRING, inner) if inner is not None else None
        if values or schema.get("x-kubernetes-preserve-unknown-fields"):
            return DYN
    known: dict[str, Type | None] = {}
    wire = {escaped: field for field in properties if (escaped := escape(field)) is not None}
    if embedded:
        wire |= {field: field for field in ("apiVersion", "kind", "metadata")}
        known = {"apiVersion": t.STRING, "kind": t.STRING, "metadata": _metadata(properties.get("metadata"), resolve)}

    def lookup(field: str) -> Type | None:
        if field not in known:
            at = wire.get(field)
            inner = type_of(properties[at], name=f"{name}.{field}", resolve=resolve) if at is not None else None
            known[field] = inner
        return known[field]

    return ObjectType(name, lookup, {e: f for e, f in wire.items() if e != f})


def _metadata(schema: Mapping[str, Any] | None, resolve: Resolve | None) -> Type:
    """Of a custom resource's metadata only the name can be read, of a built-in one's everything."""
    full = _dereferenced(schema or {}, resolve)
    properties = full.get("properties") or {}
    if "name" in properties and "generateName" in properties:
        return type_of(full, name="metadata", resolve=resolve) or _METADATA
    return _METADATA
