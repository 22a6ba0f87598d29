"""Field validation of custom resources in server-side apply: what is unknown, twice there, or not metadata's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.custom import APPLY, GROUP, Api, definition, version, virtual

PATH = f"/apis/{GROUP}/v1/namespaces/default/noxus"
STRICT = {"fieldManager": "field_validation_mgr", "fieldValidation": "Strict"}
HEAD = f"apiVersion: {GROUP}/v1\nkind: Noxu\n"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
                "foo": {"type": "string"},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                    "items": {
                        "type": "object",
                        "required": ["containerPort", "protocol"],
                        "properties": {
                            "containerPort": {"type": "integer", "format": "int32"},
                            "name": {"type": "string"},
                            "protocol": {"type": "string"},
                        },
                    },
                },
                "template": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "properties": {"spec": {"type": "object"}},
                },
            },
        }
    },
}


def noxus(schema: Any = None) -> dict[str, Any]:
    return definition("noxus", "Noxu", version("v1", schema, storage=True))


@virtual
async def test_without_a_schema_unknown_fields_are_applied(api: Api) -> None:
    await api.define(noxus())
    text = HEAD + "metadata:\n  name: mytest\nspec:\n  cronSpec: '* * * * */5'\n  unknownField: unknown\n"
    made = await api.ask("PATCH", f"{PATH}/mytest", text, query=STRICT, headers=APPLY)
    assert made["spec"]["unknownField"] == "unknown"


@virtual
async def test_what_fits_its_schema_is_applied(api: Api) -> None:
    await api.define(noxus(SCHEMA))
    port = "  - {name: x, containerPort: 80, protocol: TCP}\n"
    text = HEAD + f"metadata:\n  name: mytest\nspec:\n  cronSpec: '* * * * */5'\n  ports:\n{port}"
    made = await api.ask("PATCH", f"{PATH}/mytest", text, query=STRICT, headers=APPLY)
    assert made["spec"]["ports"] == [{"containerPort": 80, "name": "x", "protocol": "TCP"}]
    wrong = text.replace("* * * * */5", "never")
    query = STRICT | {"force": "true"}
    assert "spec.cronSpec in body should match" in await api.refused(
        "PATCH", f"{PATH}/mytest", wrong, query=query, headers=APPLY
    )


@virtual
async def test_an_extra_property_is_refused(api: Api) -> None:
    await api.define(noxus(SCHEMA))
    text = HEAD + "metadata:\n  name: mytest\nspec:\n  unknownField: unknown\n  foo: bar\n"
    message = await api.refused("PATCH", f"{PATH}/mytest", text, query=STRICT, headers=APPLY)
    assert ".spec.unknownField: field not declared in schema" in message


@virtual
async def test_a_key_that_is_there_twice_is_refused(api: Api) -> None:
    await api.define(noxus())
    text = HEAD + "metadata:\n  name: mytest\nspec:\n  foo: a\n  bar: x\n  foo: b\n"
    message = await api.refused("PATCH", f"{PATH}/mytest", text, query=STRICT, headers=APPLY)
    assert 'key "foo" already set in map' in message and "line 8" in message


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("metadata:\n  name: mytest\n  unknownMeta: unknown\n", ".metadata.unknownMeta"),
        (
            "metadata:\n  name: mytest\nspec:\n  template:\n    apiVersion: v1\n    kind: X\n    metadata:\n"
            "      unknownSubMeta: unknown\n",
            ".spec.template.metadata.unknownSubMeta",
        ),
    ],
)
def test_metadata_has_only_its_own_fields(body: str, path: str) -> None:
    @virtual
    async def run(api: Api) -> None:
        await api.define(noxus(SCHEMA))
        message = await api.refused("PATCH", f"{PATH}/mytest", HEAD + body, query=STRICT, headers=APPLY)
        assert f"{path}: field not declared in schema" in message

    run()
