"""OpenAPI definitions of the generated types.

Everything but the prose comes from the types themselves; the descriptions are read from the kubernetes-validate wheel
when it is installed, and left out when it is not.
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from typing import Any

from podling.api import registry
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


def forget_prose() -> None:
    """Give the memory back; what was made of it stays."""
    _prose.cache_clear()


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
        prose = _prose().get(name, {})
        properties: dict[str, Schema] = {}
        schema: Schema = {"type": "object", "properties": properties}
        if "description" in prose:
            schema["description"] = prose["description"]
        self.schemas[name] = schema
        required = []
        for field in typeinfo.fields(type_).values():
            if field.required and field.name not in ("kind", "apiVersion", "metadata"):
                required.append(field.name)
            properties[field.name] = self._field(field, prose.get("properties", {}).get(field.name, {}))
        if required:
            schema["required"] = sorted(required)
        if not properties:
            del schema["properties"]
        if kinds := _kinds(type_):
            schema["x-kubernetes-group-version-kind"] = kinds
        return name

    def _field(self, field: typeinfo.FieldInfo, prose: dict[str, Any]) -> Schema:
        value = self._value(field, prose)
        if field.shape == "list":
            schema: Schema = {"type": "array", "items": self._inner(value, field)}
        elif field.shape == "map":
            schema = {"type": "object", "additionalProperties": self._inner(value, field)}
        elif "$ref" in value and self.flavour == 3:
            schema = {"allOf": [value]}
            if field.struct is not None:
                schema["default"] = {}
        else:
            schema = dict(value)
        if text := prose.get("description"):
            schema["description"] = text
        if field.list_type:
            schema["x-kubernetes-map-type" if field.shape == "map" or (field.struct and not field.shape) else
                   "x-kubernetes-list-type"] = field.list_type  # fmt: skip
        if field.map_keys:
            schema["x-kubernetes-list-map-keys"] = list(field.map_keys)
        if field.patch:
            schema["x-kubernetes-patch-strategy"] = ",".join(field.patch)
        if field.key:
            schema["x-kubernetes-patch-merge-key"] = field.key
        return schema

    def _inner(self, value: Schema, field: typeinfo.FieldInfo) -> Schema:
        if "$ref" in value and self.flavour == 3:
            return {"allOf": [value], "default": {}} if field.struct is not None else {"allOf": [value]}
        return value

    def _value(self, field: typeinfo.FieldInfo, prose: dict[str, Any]) -> Schema:
        """What one value of the field is."""
        if field.struct is not None:
            return self.ref(self.add(field.struct))
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
                wide = "int64" in typeinfo.go_type(field) or _format(prose) == "int64"
                return {"type": "integer", "format": "int64" if wide else "int32"}
            case "float":
                return {"type": "number", "format": "double"}
        return {"type": "object"} if _free_form_object(prose) else {}

    def _scalar(self, meaning: str) -> str:
        name = _SCALARS[meaning]
        if name not in self.schemas:
            prose = _prose().get(name, {})
            schema: Schema = {"type": "string"}
            if meaning in ("Time", "MicroTime"):
                schema["format"] = "date-time"
            elif self.flavour == 3:
                other = "integer" if meaning == "IntOrString" else "number"
                schema = {"oneOf": [{"type": "string"}, {"type": other}]}
                if meaning == "IntOrString":
                    schema["format"] = "int-or-string"
            elif meaning == "IntOrString":
                schema["format"] = "int-or-string"
            if "description" in prose:
                schema["description"] = prose["description"]
            self.schemas[name] = schema
        return name


def _format(prose: dict[str, Any]) -> str:
    inner = prose.get("items") or prose.get("additionalProperties") or prose
    return str(inner.get("format", "")) if isinstance(inner, dict) else ""


def _free_form_object(prose: dict[str, Any]) -> bool:
    types = prose.get("type")
    return types == "object" or (isinstance(types, list) and "object" in types)


@cache
def _all_group_versions() -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys((r.group, r.version) for r in registry.BUILTIN))


def _kinds(type_: type[Any]) -> list[dict[str, str]]:
    """Group, version and kind of a type that is an object of its own."""
    fields = typeinfo.fields(type_)
    if "kind" not in fields or "apiVersion" not in fields or not fields["kind"].required:
        return []
    if type_.__module__.endswith("meta_v1"):
        if type_.__name__ in ("DeleteOptions", "WatchEvent"):
            return [{"group": g, "version": v, "kind": type_.__name__} for g, v in _all_group_versions()]
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
