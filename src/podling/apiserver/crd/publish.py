"""OpenAPI definitions of custom resources: what kubectl explains, and validates before it sends anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podling.api import meta_v1
from podling.api.registry import Resource
from podling.apiserver.openapi.schemas import Definitions, Schema

Kind = tuple[str, str, str]
#: (kind, name of the definition, definition) of all that a resource adds.
Publish = Callable[[Definitions], list[tuple[Kind, str, Schema]]]

_INT_OR_STRING: list[Schema] = [{"type": "integer"}, {"type": "string"}]


def name_of(group: str, version: str, kind: str) -> str:
    """`com.example.stable.v1.CronTab`."""
    return f"{'.'.join(reversed(group.split('.')))}.{version}.{kind}"


def publisher(resource: Resource, schema: dict[str, Any] | None, selectable: list[str]) -> Publish:
    """The definitions of a version of a custom resource: its objects and lists of them."""
    kind = (resource.group, resource.version, resource.kind)
    list_kind = (resource.group, resource.version, resource.list_kind or f"{resource.kind}List")

    def publish(definitions: Definitions) -> list[tuple[Kind, str, Schema]]:
        one = _object(definitions, schema)
        many = _list(definitions, resource)
        for definition, (group, version, name) in ((one, kind), (many, list_kind)):
            definition["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": name}]
            if selectable:
                definition["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in selectable]
        return [(kind, name_of(*kind), one), (list_kind, name_of(*list_kind), many)]

    return publish


def _object(definitions: Definitions, schema: dict[str, Any] | None) -> Schema:
    v2 = definitions.flavour == 2
    if schema is None or (v2 and schema.get("x-kubernetes-preserve-unknown-fields")):
        # With any property, kubectl would refuse all others.
        return {"type": "object"}
    made = _published(schema, definitions)
    _add_meta(made, definitions)
    return made


def _add_meta(made: Schema, definitions: Definitions) -> None:
    properties = made.setdefault("properties", {})
    status = definitions.schemas[definitions.add(meta_v1.Status)]["properties"]
    for name in ("apiVersion", "kind"):
        properties[name] = status[name]
    properties["metadata"] = _ref(definitions, meta_v1.ObjectMeta, "Standard object's metadata.")


def _ref(definitions: Definitions, type_: type[Any], text: str) -> Schema:
    ref = definitions.ref(definitions.add(type_))
    return {"description": text, **(ref if definitions.flavour == 2 else {"allOf": [ref]})}


def _list(definitions: Definitions, resource: Resource) -> Schema:
    item = definitions.ref(name_of(resource.group, resource.version, resource.kind))
    status = definitions.schemas[definitions.add(meta_v1.Status)]["properties"]
    return {
        "description": f"{resource.list_kind or resource.kind + 'List'} is a list of {resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": status["apiVersion"],
            "items": {"description": f"List of {resource.name}.", "type": "array", "items": item},
            "kind": status["kind"],
            "metadata": _ref(definitions, meta_v1.ListMeta, "Standard list metadata."),
        },
    }


def _published(schema: dict[str, Any], definitions: Definitions) -> Schema:
    """A schema as it is published; of v2 all that it or kubectl's reading of it can't express is left out."""
    made = dict(schema)
    if made.get("x-kubernetes-int-or-string"):
        if "anyOf" not in made:
            made["anyOf"] = _INT_OR_STRING
        elif made["anyOf"] != _INT_OR_STRING:
            made["allOf"] = [{"anyOf": _INT_OR_STRING}, *(made.get("allOf") or ())]
    if definitions.flavour == 2:
        _to_v2(made)
    if "properties" in made:
        made["properties"] = {name: _published(field, definitions) for name, field in made["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _published(made[key], definitions)
    if made.get("x-kubernetes-embedded-resource") and not (
        definitions.flavour == 2 and made.get("x-kubernetes-preserve-unknown-fields")
    ):
        _add_meta(made, definitions)
        missing = [name for name in ("kind", "apiVersion") if name not in (made.get("required") or ())]
        made["required"] = [*(made.get("required") or ()), *missing]
    return made


_V3_ONLY = ("allOf", "anyOf", "oneOf", "not")


def _to_v2(made: Schema) -> None:
    for key in _V3_ONLY:
        made.pop(key, None)
    if made.pop("nullable", None):
        for key in ("type", "items", "properties"):
            made.pop(key, None)
    if made.get("x-kubernetes-preserve-unknown-fields"):
        for key in ("items", "properties"):
            made.pop(key, None)
        if made.get("type") == "object":
            del made["type"]
    if made.get("type") == "array" and "items" not in made:
        del made["type"]
    nullable = {name for name, field in (made.get("properties") or {}).items() if field.get("nullable")}
    more = made.get("additionalProperties")
    if nullable and made.get("required"):
        made["required"] = [name for name in made["required"] if name not in nullable]
    if isinstance(more, dict) and more.get("nullable"):
        made.pop("required", None)
    if "required" in made and not made["required"]:
        del made["required"]
