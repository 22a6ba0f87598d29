"""Custom resources as clients meet them: writes, /status, /scale, tables, field selectors, field validation."""

from __future__ import annotations

from typing import Any

import pytest

from podling.apiserver import table
from podling.apiserver.crd.strategy import CustomStrategy
from tests.unit.apiserver.crd.support import (
    DEFINITIONS,
    MERGE,
    CustomServer,
    definition,
    of_spec,
    version,
    virtual,
    widget,
    wire,
)

SUBRESOURCES = {
    "status": {},
    "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
}  # fmt: skip
STATUS = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"replicas": {"type": "integer"}, "color": {"type": "string"}, "on": {"type": "boolean"}},
        },
        "status": STATUS,
    },
}
FULL = definition(schema=SCHEMA, version={
    "subresources": SUBRESOURCES, "selectableFields": [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.on"}],
})  # fmt: skip


@virtual
async def test_generation_counts_what_is_wanted(server: CustomServer) -> None:
    await server.define(FULL)
    made = await server.create(widget(spec={"replicas": 1}, status={"replicas": 9}))
    assert made.metadata.generation == 1 and "status" not in made
    for change, subresource, expected in (
        ({"metadata": {"labels": {"a": "b"}}}, "", 1),
        ({"spec": {"replicas": 2}}, "", 2),
        ({"status": {"replicas": 2}}, "", 2),
        ({"status": {"replicas": 3}}, "status", 2),
        ({"spec": {"replicas": 4}}, "status", 2),
    ):
        found = await server.patch(change, subresource=subresource)
        assert found.metadata.generation == expected, change
    assert found["spec"] == {"replicas": 2} and found["status"] == {"replicas": 3}
    assert found.metadata.labels == {"a": "b"}


@virtual
async def test_without_a_status_subresource_the_status_is_content(server: CustomServer) -> None:
    await server.define(definition(schema=SCHEMA))
    made = await server.create(widget(spec={}, status={"a": 1}))
    assert made["status"] == {"a": 1}
    assert (await server.patch({"status": {"a": 2}})).metadata.generation == 2
    assert "could not find" in await server.refused("GET", f"{server.path()}/w/status")


@virtual
async def test_status_does_not_change_metadata(server: CustomServer) -> None:
    await server.define(FULL)
    await server.create(widget(meta={"labels": {"a": "1"}}))
    found = await server.patch({"metadata": {"labels": {"a": "2"}}, "status": {"x": 1}}, subresource="status")
    assert found.metadata.labels == {"a": "1"} and found["status"] == {"x": 1}


@virtual
async def test_updates_name_the_version_they_are_based_on(server: CustomServer) -> None:
    await server.define(FULL)
    await server.create(widget())
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in await server.refused(
        "PUT", f"{server.path()}/w", widget()
    )


@virtual
async def test_a_write_that_changes_nothing_writes_nothing(server: CustomServer) -> None:
    await server.define(FULL)
    made = await server.create(widget(spec={"replicas": 1, "color": "red"}))
    same = wire(made) | {"spec": {"color": "red", "replicas": 1}}
    again = (await server.ask("PUT", f"{server.path()}/w", same)).obj
    assert again.metadata.resource_version == made.metadata.resource_version


@virtual
async def test_scale(server: CustomServer) -> None:
    await server.define(FULL)
    await server.create(widget(spec={"replicas": 1, "color": "red"}))
    await server.patch({"status": {"replicas": 1, "selector": "app=w"}}, subresource="status")
    shown = (await server.ask("GET", f"{server.path()}/w/scale")).obj
    assert (shown.spec.replicas, shown.status.replicas, shown.status.selector) == (1, 1, "app=w")
    changed = await server.patch({"spec": {"replicas": 5}}, subresource="scale")
    assert changed.spec.replicas == 5
    found = await server.get()
    assert found["spec"] == {"replicas": 5, "color": "red"} and found.metadata.generation == 2
    assert "must be greater than or equal to 0" in await server.refused(
        "PATCH", f"{server.path()}/w/scale", {"spec": {"replicas": -1}}, headers=MERGE
    )


@virtual
async def test_scale_of_what_says_no_number(server: CustomServer) -> None:
    await server.define(FULL)
    await server.create(widget(spec={"color": "red"}))
    path = f"{server.path()}/w/scale"
    assert await server.refused("GET", path) == (
        'Internal error occurred: the spec replicas field ".spec.replicas" does not exist'
    )
    assert await server.refused("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, headers=MERGE) == (
        'the spec replicas field ".spec.replicas" cannot be empty'
    )
    await server.patch({"spec": {"replicas": 2}}, subresource="scale")
    assert (await server.get())["spec"] == {"color": "red", "replicas": 2}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": -1}, ".spec.replicas: Invalid value: -1: should be a non-negative integer"),
        (
            {"replicas": 1 << 33},
            ".spec.replicas: Invalid value: 8589934592: should be less than or equal to 2147483647",
        ),
    ],
)
@virtual
async def test_replicas_are_checked_in_the_object_too(server: CustomServer, spec: Any, message: str) -> None:
    await server.define(FULL)
    assert message in await server.refused("POST", server.path(), widget(spec=spec))


COLUMNS = [
    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "description": "How many", "priority": 1},
    {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Conditions", "type": "string", "jsonPath": ".status.conditions"},
    {"name": "App", "type": "string", "jsonPath": ".metadata.labels.app"},
    {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Broken", "type": "integer", "jsonPath": ".spec.color"},
]


@virtual
async def test_tables(server: CustomServer) -> None:
    await server.define(definition(schema=SCHEMA, version={"additionalPrinterColumns": COLUMNS}))
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    await server.create(
        widget(spec={"color": "red", "replicas": 3, "on": True}, status=status, meta={"labels": {"app": "x"}})
    )
    await server.get()
    served = server.app.lookup("example.com", "widgets")
    assert served is not None
    (entry,) = served.cache.all()
    row = table.row(served, entry, server.app.now(), "None", "v1")
    since = row["cells"].pop(7)
    assert row["cells"] == ["w", "red", 3, True, "True", '[{"status":"True","type":"Ready"}]', "x", None]
    assert since.endswith("s")
    columns = table.columns(served)
    assert [c["name"] for c in columns] == ["Name", *(c["name"] for c in COLUMNS)]
    assert columns[1]["description"] == "Custom resource definition column (in JSONPath format): .spec.color"
    assert (columns[2]["description"], columns[2]["priority"]) == ("How many", 1)


def test_without_columns_there_is_the_age() -> None:
    from podling.api.registry import Resource
    from tests.unit.apiserver.crd.support import typed

    row = Resource(group="example.com", version="v1", name="widgets", kind="Widget")
    strategy = CustomStrategy(row, typed(definition()).spec.versions[0], None)
    assert [c.name for c in strategy.columns] == ["Name", "Age"]


@virtual
async def test_field_selectors(server: CustomServer) -> None:
    await server.define(FULL)
    await server.create(widget("a", spec={"color": "red", "on": True}))
    await server.create(widget("b", spec={"color": "blue"}))

    async def names(selector: str) -> list[str]:
        answer = await server.ask("GET", server.path(), query={"fieldSelector": selector})
        return [o.metadata.name for o in answer.objects or ()]

    assert await names("spec.color=red") == ["a"]
    assert await names("spec.color!=red") == ["b"]
    assert await names("spec.on=true") == ["a"]
    assert await names("spec.on=") == ["b"]
    assert await names("metadata.name=b,spec.color=blue") == ["b"]
    assert await server.refused("GET", server.path(), query={"fieldSelector": "spec.replicas=1"}) == (
        "field label not supported: spec.replicas"
    )
    watch = await server.sent("GET", server.path(), query={"watch": "true", "fieldSelector": "spec.color=red"})
    await server.patch({"spec": {"color": "red"}}, "b")
    await server.patch({"spec": {"color": "green"}}, "a")
    assert watch.events is not None
    told = []
    async for event in watch.events:
        told.append((event.type, event.obj.metadata.name))
        if len(told) == 3:
            break
    assert told == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


@virtual
async def test_unknown_fields_warn_or_refuse(server: CustomServer) -> None:
    await server.define(definition(schema=of_spec(a={"type": "string"})))
    raw = widget(spec={"a": "x", "b": 1}, other=1)
    answer = await server.ask("POST", server.path(), raw)
    assert answer.warnings == ['unknown field "other"', 'unknown field "spec.b"']
    assert answer.obj["spec"] == {"a": "x"} and "other" not in answer.obj
    strict = {"fieldValidation": "Strict"}
    assert await server.refused("POST", server.path(), widget("v", spec={"b": 1}), query=strict) == (
        'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.b"'
    )
    ignored = await server.ask("POST", server.path(), widget("u", spec={"b": 1}), query={"fieldValidation": "Ignore"})
    assert ignored.warnings == [] and ignored.obj["spec"] == {}
    text = b'{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"d"},"spec":{"a":"x","a":"y"}}'
    assert 'duplicate field "spec.a"' in await server.refused("POST", server.path(), text, query=strict)


@virtual
async def test_strategic_merge_patches_are_not_for_custom_resources(server: CustomServer) -> None:
    await server.define(FULL)
    await server.create(widget())
    headers = {"content-type": "application/strategic-merge-patch+json"}
    error = await server.fails("PATCH", f"{server.path()}/w", {}, headers=headers)
    assert error.code == 415 and "application/merge-patch+json" in str(error)
    found = await server.ask("PATCH", f"{server.path()}/w", [{"op": "add", "path": "/spec", "value": {"color": "x"}}],
                             headers={"content-type": "application/json-patch+json"})  # fmt: skip
    assert found.obj["spec"] == {"color": "x"}


@virtual
async def test_finalizers_without_a_domain_are_warned_of(server: CustomServer) -> None:
    await server.define(FULL)
    answer = await server.ask(
        "POST", server.path(), widget(meta={"finalizers": ["example.com/x", "mine.org", "orphan"]})
    )
    assert answer.warnings == [
        'metadata.finalizers: "mine.org": prefer a domain-qualified finalizer name including a path (/) to avoid '
        "accidental conflicts with other finalizer writers"
    ]


@virtual
async def test_deprecated_versions_warn(server: CustomServer) -> None:
    versions = [version("v1", storage=True), version("v1beta1", deprecated=True),
                version("v1alpha1", deprecated=True, deprecationWarning="go away")]  # fmt: skip
    await server.define(definition(versions=versions))
    await server.create(widget())
    for name, warnings in (
        ("v1", []),
        ("v1beta1", ["example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"]),
        ("v1alpha1", ["go away"]),
    ):
        assert (await server.ask("GET", f"{server.path(name)}/w")).warnings == warnings


@virtual
async def test_lists_that_are_sets_or_maps(server: CustomServer) -> None:
    item = {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}
    schema = of_spec(
        m={"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item},
        s={"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    )
    await server.define(definition(schema=schema))
    raw = widget(spec={"m": [{"k": "a"}, {"k": "a", "v": 1}], "s": ["x", "y", "x", "x"]})
    message = await server.refused("POST", server.path(), raw)
    assert 'spec.m[1]: Duplicate value: {"k":"a"}' in message and 'spec.s[2]: Duplicate value: "x"' in message
    assert message.count("Duplicate") == 2


@virtual
async def test_embedded_objects_are_checked(server: CustomServer) -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    await server.define(definition(schema=of_spec(template=embedded)))
    message = await server.refused("POST", server.path(), widget(spec={"template": {"metadata": {"name": "a/b"}}}))
    assert "spec.template.apiVersion: Required value" in message
    assert "spec.template.kind: Required value" in message
    assert "spec.template.metadata.name: Invalid value: \"a/b\": may not contain '/'" in message
    assert "template.kind" in await server.refused("POST", server.path(), widget(spec={"template": {"kind": 5}}))


@virtual
async def test_rules_are_not_asked_about_objects_that_are_wrong_already(server: CustomServer) -> None:
    schema = of_spec(a={"type": "integer"})
    schema["properties"]["spec"]["x-kubernetes-validations"] = [{"rule": "self.a > 1"}]
    await server.define(definition(schema=schema))
    assert "some validation rules were not checked because the object was invalid" in await server.refused(
        "POST", server.path(), widget(spec={"a": "x"})
    )
    assert "failed rule: self.a > 1" in await server.refused("POST", server.path(), widget(spec={"a": 1}))


@virtual
async def test_cluster_scoped(server: CustomServer) -> None:
    await server.define(definition(scope="Cluster"))
    await server.ask("POST", server.path(namespace=""), widget())
    assert (await server.ask("GET", f"{server.path(namespace='')}/w")).obj.metadata.namespace is None
    assert "could not find" in await server.refused("GET", f"{server.path()}/w")


@virtual
async def test_definitions_say_what_is_wrong_with_them(server: CustomServer) -> None:
    schema = of_spec(
        a={"type": "string", "default": 5}, b={"type": "string", "format": "nonsense"},
        c={"type": "integer", "x-kubernetes-validations": [{"rule": "self == 'a'"}]},
    )  # fmt: skip
    message = await server.refused("POST", DEFINITIONS, definition(schema=schema))
    where = "spec.validation.openAPIV3Schema.properties[spec].properties[a].default"
    assert f'{where}: Invalid value: "integer": ' in message and 'must be of type string: "integer"' in message
    del schema["properties"]["spec"]["properties"]["a"]
    message = await server.refused("POST", DEFINITIONS, definition(schema=schema))
    assert "x-kubernetes-validations[0].rule: Invalid value:" in message and "compilation failed: ERROR" in message
    del schema["properties"]["spec"]["properties"]["c"]
    answer = await server.ask("POST", DEFINITIONS, definition(schema=schema))
    assert answer.warnings == ['unrecognized format "nonsense"']
