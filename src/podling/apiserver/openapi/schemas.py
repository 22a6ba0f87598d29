"""OpenAPI definitions of the generated types.

Fields and how they merge come from the types themselves, the rest of what is said of them from generated tables. The
descriptions are read from the kubernetes-validate wheel when it is installed, and left out when it is not.
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from typing import Any

from podling.api import registry
from podling.apiserver.openapi import facts
from podling.machinery import typeinfo

Schema = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_PREFIXES = {
    "apiextensions_v1": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    "apiregistration_v1": "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
    "meta_v1": _META,
    "version": "io.k8s.apimachinery.pkg.version",
}
#: Scalars that are definitions of their own.
_SCALARS = {
    "Quantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "Time": f"{_META}.Time",
    "MicroTime": f"{_META}.MicroTime",
    "IntOrString": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
}
#: What an item of a list or map is that is left empty, by type.
_ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
_SCHEMA_VERSION = "v1.37.0-local"


def name_of(type_: type[Any]) -> str:
    """`io.k8s.api.core.v1.Pod`."""
    module = type_.__module__.rpartition(".")[2]
    prefix = _PREFIXES.get(module)
    if prefix is None:
        group, _, version = module.rpartition("_")
        prefix = f"io.k8s.api.{group}.{version}"
    return f"{prefix}.{type_.__name__}"


@cache
def _prose() -> dict[str, Any]:
    """The wheel's definitions by name; none without the wheel."""
    try:
        from importlib.resources import files

        root = files("kubernetes_validate") / "kubernetes-json-schema" / _SCHEMA_VERSION / "_definitions.json"
        found: dict[str, Any] = json.loads(root.read_text())["$defs"]
    except (ImportError, OSError, KeyError):
        return {}
    return found


def forget() -> None:
    """Give the memory of texts and tables back; what was made of them stays."""
    _prose.cache_clear()
    facts.forget()


class Definitions:
    """Definitions by name, of one flavour of OpenAPI (2 or 3); `add` brings in a type and all that it refers to."""

    def __init__(self, flavour: int) -> None:
        self.flavour = flavour
        self.schemas: dict[str, Schema] = {}
        #: Kinds of custom resources: (group, version, kind) -> name.
        self.custom: dict[tuple[str, str, str], str] = {}
        self._root = "#/definitions/" if flavour == 2 else "#/components/schemas/"

    def ref(self, name: str) -> Schema:
        """A reference to a definition."""
        return {"$ref": self._root + name}

    def add(self, type_: type[Any]) -> str:
        """The definition's name."""
        name = name_of(type_)
        if name in self.schemas:
            return name
        short = f"{type_.__module__.rpartition('.')[2]}.{type_.__name__}"
        prose, more = _prose().get(name, {}), facts.load().structs.get(short, {})
        properties: dict[str, Schema] = {}
        schema: Schema = {"type": "object", "properties": properties}
        if "description" in prose:
            schema["description"] = prose["description"]
        self.schemas[name] = schema
        known, said = more.get("properties", {}), prose.get("properties", {})
        required = []
        for field in typeinfo.fields(type_).values():
            if field.required and field.name not in ("kind", "apiVersion", "metadata"):
                required.append(field.name)
            text = said.get(field.name, {}).get("description", "")
            properties[field.name] = self._field(f"{short}.{field.name}", field, known.get(field.name, {}), text)
        if required:
            schema["required"] = sorted(required)
        schema.update((key, value) for key, value in more.items() if key != "properties")
        if not properties:
            del schema["properties"]
        if kinds := _kinds(type_):
            schema["x-kubernetes-group-version-kind"] = kinds
        return name

    def _field(self, name: str, field: typeinfo.FieldInfo, known: Schema, text: str) -> Schema:
        """A field: what its class says, `known` adds, and the tables of enums and defaults."""
        inner = known.get("items") or known.get("additionalProperties") or {} if field.shape else known
        schema = value = self._value(field, inner)
        enum = facts.load().enums.get(name)
        if enum is not None:
            value["enum"] = enum
            if not field.shape:
                text += facts.listed(enum)
        if field.shape == "list":
            schema = {"type": "array", "items": self._held(value, field)}
        elif field.shape == "map":
            schema = {"type": "object", "additionalProperties": self._held(value, field)}
        if text:
            schema["description"] = text
        if self.flavour == 3 and (default := facts.load().defaults.get(name)) is not None:
            schema["default"] = default
        _merging(schema, field)
        return self._whole(schema)

    def _held(self, value: Schema, field: typeinfo.FieldInfo) -> Schema:
        """A value as an item of a list or map; v3 says what an item is that is left empty."""
        if self.flavour == 3 and "enum" not in value:
            if field.struct is not None:
                value["default"] = {}
            elif (zero := _ZERO.get(value.get("type", ""))) is not None and value.get("format") not in ("byte",):
                value["default"] = zero
            elif value.get("type") == "array":
                value["items"]["default"] = ""
        elif self.flavour == 3:
            value["default"] = ""
        return self._whole(value)

    def _whole(self, schema: Schema) -> Schema:
        """In v3 nothing may stand beside a reference."""
        if self.flavour == 2 or "$ref" not in schema or len(schema) == 1:
            return schema
        ref = schema.pop("$ref")
        return {"allOf": [{"$ref": ref}], **schema}

    def _value(self, field: typeinfo.FieldInfo, known: Schema) -> Schema:
        """What one value of the field is."""
        if field.struct is not None:
            return self.ref(self.add(field.struct))
        if "$ref" in known:
            return self.ref(self._free_form(known["$ref"]))
        if field.meaning == "Base64":
            return {"type": "string", "format": "byte"}
        if field.meaning in _SCALARS:
            return self.ref(self._scalar(field.meaning))
        match field.scalar.__name__:
            case "str":
                return {"type": "string"}
            case "bool":
                return {"type": "boolean"}
            case "int":
                return {"type": "integer", "format": "int64" if field.wide else "int32"}
            case "float":
                return {"type": "number", "format": "double"}
        return {key: dict(value) if isinstance(value, dict) else value for key, value in known.items()}

    def _free_form(self, name: str) -> str:
        """A type without fields of its own."""
        if name not in self.schemas:
            schema: Schema = {} if ".JSON" in name else {"type": "object"}
            if text := _prose().get(name, {}).get("description"):
                schema["description"] = text
            self.schemas[name] = schema
        return name

    def _scalar(self, meaning: str) -> str:
        name = _SCALARS[meaning]
        if name not in self.schemas:
            prose = _prose().get(name, {})
            schema: Schema = {"type": "string"}
            if meaning in ("Time", "MicroTime"):
                schema["format"] = "date-time"
            elif self.flavour == 3:
                several = ("integer", "string") if meaning == "IntOrString" else ("string", "number")
                schema = {"oneOf": [{"type": one} for one in several]}
            if meaning == "IntOrString":
                schema["format"] = "int-or-string"
            if "description" in prose:
                schema["description"] = prose["description"]
            self.schemas[name] = schema
        return name


def _merging(schema: Schema, field: typeinfo.FieldInfo) -> None:
    """How changes to the field merge."""
    if field.list_type:
        of_map = field.shape == "map" or (field.struct and not field.shape)
        schema["x-kubernetes-map-type" if of_map else "x-kubernetes-list-type"] = field.list_type
    if field.map_keys:
        schema["x-kubernetes-list-map-keys"] = list(field.map_keys)
    if field.patch:
        schema["x-kubernetes-patch-strategy"] = ",".join(field.patch)
    if field.key:
        schema["x-kubernetes-patch-merge-key"] = field.key


@cache
def _all_group_versions() -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys((r.group, r.version) for r in registry.BUILTIN))


def _kinds(type_: type[Any]) -> list[dict[str, str]]:
    """Group, version and kind of a type that is an object of its own."""
    fields, common = typeinfo.fields(type_), type_.__module__.endswith("meta_v1")
    if common and type_.__name__ in ("DeleteOptions", "WatchEvent"):
        return [{"group": g, "version": v, "kind": type_.__name__} for g, v in _all_group_versions()]
    if "kind" not in fields or "apiVersion" not in fields or not fields["kind"].required:
        return []
    if common:
        return [{"group": "", "version": "v1", "kind": type_.__name__}]
    version = str(getattr(type_(), "api_version", ""))
    if not version:
        return []
    group, _, number = version.rpartition("/")
    return [{"group": group, "version": number, "kind": type_.__name__}]


def find(module: str, name: str) -> type[Any] | None:
    """The generated class, None if there is none of the name."""
    found: type[Any] | None = getattr(importlib.import_module(f"podling.api.{module}"), name, None)
    return found
