"""OpenAPI definitions of custom resources."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podling.api.registry import Resource
from podling.apiserver.crd import publish
from podling.apiserver.openapi.schemas import Definitions
from tests.unit.apiserver.crd.support import CustomServer, definition, of_spec, version, virtual

ROW = Resource(group="stable.example.com", version="v1", name="widgets", kind="Widget", list_kind="Widgets")
OPEN = {"x-kubernetes-preserve-unknown-fields": True}


def published(schema: dict[str, Any] | None, flavour: int) -> dict[str, Any]:
    (_, name, one), (_, many, _) = publish.publisher(ROW, schema, [])(Definitions(flavour))
    assert (name, many) == ("com.example.stable.v1.Widget", "com.example.stable.v1.Widgets")
    return one


def field(schema: dict[str, Any], flavour: int) -> dict[str, Any]:
    made = published({"type": "object", "properties": {"x": schema}}, flavour)
    found: dict[str, Any] = made["properties"]["x"]
    return found


@pytest.mark.parametrize(
    ("schema", "v2", "v3"),
    [
        ({"type": "string", "enum": ["a"], "minLength": 1}, {"type": "string", "enum": ["a"], "minLength": 1}, None),
        ({"type": "string", "nullable": True}, {}, None),
        ({"type": "object", **OPEN}, OPEN, None),
        ({"type": "object", **OPEN, "properties": {"a": {"type": "string"}}}, OPEN, None),
        ({"type": "array", "items": {"type": "string"}, "nullable": True}, {}, None),
        ({"type": "integer", "oneOf": [{"minimum": 1}], "not": {"maximum": 0}}, {"type": "integer"}, None),
        ({"x-kubernetes-int-or-string": True}, {"x-kubernetes-int-or-string": True},
         {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        ({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string", "nullable": True},
          "b": {"type": "string"}}},
         {"type": "object", "required": ["b"], "properties": {"a": {}, "b": {"type": "string"}}}, None),
    ],
)  # fmt: skip
def test_what_each_flavour_can_say(schema: Any, v2: Any, v3: Any) -> None:
    assert field(schema, 2) == v2
    assert field(schema, 3) == (schema if v3 is None else v3)


@pytest.mark.parametrize(("schema", "flavour"), [(None, 2), (None, 3), ({"type": "object", **OPEN}, 2)])
def test_where_anything_goes_nothing_is_said(schema: Any, flavour: int) -> None:
    made = published(schema, flavour)
    del made["x-kubernetes-group-version-kind"]
    assert made == {"type": "object"}


def test_objects_have_kind_version_and_metadata() -> None:
    made = published({"type": "object", "properties": {"spec": {"type": "object"}}}, 3)
    assert set(made["properties"]) == {"spec", "kind", "apiVersion", "metadata"}
    assert made["properties"]["metadata"]["allOf"] == [
        {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    ]
    assert made["x-kubernetes-group-version-kind"] == [
        {"group": "stable.example.com", "kind": "Widget", "version": "v1"}
    ]


def test_so_have_embedded_objects() -> None:
    made = field({"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"a": {"type": "string"}}}, 3)
    assert set(made["properties"]) == {"a", "kind", "apiVersion", "metadata"}
    assert set(made["required"]) == {"kind", "apiVersion"}


@virtual
async def test_documents_follow_what_is_served(server: CustomServer) -> None:
    async def known() -> set[str]:
        body = (await server.ask("GET", "/openapi/v2")).body
        assert body is not None
        return {name for name in json.loads(body)["definitions"] if name.startswith("com.example")}

    async def address() -> str:
        body = (await server.ask("GET", "/openapi/v3")).body
        assert body is not None
        found: str = json.loads(body)["paths"]["apis/example.com/v1"]["serverRelativeURL"]
        return found

    schema = of_spec(a={"type": "string"})
    await server.define(definition(versions=[version("v1", schema, storage=True), version("v2", schema, served=False)]))
    assert await known() == {"com.example.v1.Widget", "com.example.v1.WidgetList"}
    before = await address()
    change = {"spec": {"versions": [version("v1", of_spec(b={"type": "string"}), storage=True)]}}
    headers = {"content-type": "application/merge-patch+json"}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com"
    await server.ask("PATCH", path, change, headers=headers)
    await server.settled()
    assert await address() != before, "clients that have the old document must not keep it"
    document = (await server.ask("GET", "/openapi/v3/apis/example.com/v1")).body
    assert document is not None
    found = json.loads(document)
    assert set(found["components"]["schemas"]["com.example.v1.Widget"]["properties"]["spec"]["properties"]) == {"b"}
    patch = found["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    accept = {"accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    binary = (await server.ask("GET", "/openapi/v2", headers=accept)).body
    assert binary is not None and b"com.example.v1.WidgetList" in binary
    await server.ask("DELETE", path)
    await server.settled()
    assert await known() == set()
