"""Publishing of custom resources in OpenAPI: what /openapi/v2 shows of versions, groups and schemas."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.custom import DEFINITIONS, GROUP, MERGE, Api, definition, version, virtual

SCHEMA: dict[str, Any] = {
    "description": "Foo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {
                "bars": {
                    "description": "List of Bars and their specs.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"description": "Name of Bar.", "type": "string"},
                            "age": {"description": "Age of Bar.", "type": "string"},
                            "bazs": {"description": "List of Bazs.", "items": {"type": "string"}, "type": "array"},
                        },
                    },
                }
            },
        },
        "status": {"description": "Status of Foo", "type": "object"},
    },
}


async def published(api: Api) -> dict[str, Any]:
    definitions: dict[str, Any] = (await api.ask("GET", "/openapi/v2"))["definitions"]
    return {name: d for name, d in definitions.items() if ".example." in name and not name.endswith("List")}


@virtual
async def test_a_schema_is_published_as_it_is(api: Api) -> None:
    await api.define(definition("foos", "Foo", version("v1", SCHEMA, storage=True)))
    found = (await published(api))["com.example.stable.v1.Foo"]
    assert found["description"] == "Foo CRD for Testing"
    assert found["properties"]["spec"] == SCHEMA["properties"]["spec"]
    path = f"/apis/{GROUP}/v1/namespaces/default/foos"
    bar = {"name": "test"}
    raw = {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"bars": [bar]}}
    await api.ask("POST", path, raw)
    strict = {"fieldValidation": "Strict"}
    wrong = raw | {"metadata": {"name": "b"}, "spec": {"bars": [bar | {"unknown": "x"}]}}
    assert 'unknown field "spec.bars[0].unknown"' in await api.refused("POST", path, wrong, query=strict)
    missing = raw | {"metadata": {"name": "b"}, "spec": {"bars": [{"age": "1"}]}}
    assert "spec.bars[0].name: Required value" in await api.refused("POST", path, missing)


@virtual
async def test_several_versions_and_what_is_no_longer_served(api: Api) -> None:
    name = await api.define(definition("foos", "Foo", version("v1", SCHEMA, storage=True), version("v2", SCHEMA)))
    assert set(await published(api)) == {"com.example.stable.v1.Foo", "com.example.stable.v2.Foo"}
    change = [version("v1", SCHEMA, storage=True), version("v2", SCHEMA, served=False)]
    await api.ask("PATCH", f"{DEFINITIONS}/{name}", {"spec": {"versions": change}}, headers=MERGE)
    await asyncio.sleep(0.01)
    assert set(await published(api)) == {"com.example.stable.v1.Foo"}


@virtual
async def test_a_version_that_is_renamed(api: Api) -> None:
    name = await api.define(definition("foos", "Foo", version("v2", SCHEMA, storage=True), version("v3", SCHEMA)))
    change = [version("v2", SCHEMA, storage=True), version("v4", SCHEMA)]
    await api.ask("PATCH", f"{DEFINITIONS}/{name}", {"spec": {"versions": change}}, headers=MERGE)
    await asyncio.sleep(0.01)
    assert set(await published(api)) == {"com.example.stable.v2.Foo", "com.example.stable.v4.Foo"}


@virtual
async def test_groups_and_kinds_side_by_side(api: Api) -> None:
    await api.define(definition("foos", "Foo", version("v1", SCHEMA, storage=True)))
    await api.define(definition("bars", "Bar", version("v1", SCHEMA, storage=True)))
    await api.define(definition("foos", "Foo", version("v1", SCHEMA, storage=True), group="other.example.org"))
    assert set(await published(api)) == {
        "com.example.stable.v1.Foo", "com.example.stable.v1.Bar", "org.example.other.v1.Foo",
    }  # fmt: skip


@virtual
async def test_without_a_schema_of_fields_anything_is_accepted(api: Api) -> None:
    nested = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    await api.define(definition("foos", "Foo", version("v1", storage=True)))
    await api.define(definition("bars", "Bar", version("v1", nested, storage=True)))
    found = await published(api)
    assert "properties" not in found["com.example.stable.v1.Foo"]
    assert found["com.example.stable.v1.Bar"]["properties"]["spec"] == {"x-kubernetes-preserve-unknown-fields": True}
    strict = {"fieldValidation": "Strict"}
    for plural, kind, rest in (("foos", "Foo", {"anything": {"goes": 1}}), ("bars", "Bar", {"spec": {"b": [1]}})):
        raw = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": "a"}, **rest}
        made = await api.ask("POST", f"/apis/{GROUP}/v1/namespaces/default/{plural}", raw, query=strict)
        assert made.items() >= rest.items()
