"""Definitions: names, conditions, what is served when, and the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podling import clock
from podling.api import apiextensions_v1 as v1
from podling.apiserver.crd.controller import accepted
from podling.machinery.version_order import version_order
from podling.store.memory import MemoryStore
from tests.unit.apiserver.crd.support import (
    DEFINITIONS,
    CustomServer,
    definition,
    of_spec,
    running,
    typed,
    version,
    virtual,
    widget,
)

NOW = "2026-01-01T00:00:00Z"


def conditions(crd: v1.CustomResourceDefinition | None) -> dict[str, tuple[str, str, str]]:
    assert crd is not None
    return {c.type: (c.status, c.reason or "", c.message or "") for c in crd.status.conditions or ()}


def test_new_names_are_accepted_and_the_resource_is_established() -> None:
    crd = accepted(typed(definition()), [], NOW)
    assert conditions(crd) == {
        "NamesAccepted": ("True", "NoConflicts", "no conflicts found"),
        "Established": ("True", "InitialNamesAccepted", "the initial names have been accepted"),
    }
    assert crd is not None and crd.status.accepted_names == crd.spec.names
    assert accepted(crd, [], NOW) is None, "nothing is left to do"


@pytest.mark.parametrize(
    ("names", "reason", "message"),
    [
        ({"plural": "gadgets"}, "PluralConflict", '"gadgets" is already in use'),
        ({"singular": "gadget"}, "SingularConflict", '"gadget" is already in use'),
        ({"shortNames": ["gd"]}, "ShortNamesConflict", '"gd" is already in use'),
        ({"shortNames": ["gd", "gadgets"]}, "ShortNamesConflict",
         '["gd" is already in use, "gadgets" is already in use]'),
        ({"kind": "Gadget"}, "KindConflict", '"Gadget" is already in use'),
        ({"listKind": "GadgetList"}, "ListKindConflict", '"GadgetList" is already in use'),
    ],
)  # fmt: skip
def test_names_that_others_have_are_not_accepted(names: Any, reason: str, message: str) -> None:
    other = accepted(typed(definition("gadgets", "Gadget", names={"shortNames": ["gd"]})), [], NOW)
    assert other is not None
    crd = accepted(typed(definition(names=names)), [other], NOW)
    assert conditions(crd) == {
        "NamesAccepted": ("False", reason, message),
        "Established": ("False", "NotAccepted", "not all names are accepted"),
    }


def test_an_established_resource_stays_so_when_new_names_conflict() -> None:
    other = accepted(typed(definition("gadgets", "Gadget", names={"shortNames": ["gd"]})), [], NOW)
    mine = accepted(typed(definition()), [], NOW)
    assert mine is not None and other is not None
    mine.spec.names.short_names = ["gd"]
    later = accepted(mine, [other], "2026-01-02T00:00:00Z")
    found = conditions(later)
    assert found["NamesAccepted"][:2] == ("False", "ShortNamesConflict")
    assert found["Established"][0] == "True"


def test_a_bad_bundle_of_the_conversion_webhook_keeps_it_from_being_established() -> None:
    webhook = {"clientConfig": {"url": "https://127.0.0.1:1", "caBundle": "bm8="}, "conversionReviewVersions": ["v1"]}
    crd = accepted(typed(definition(conversion={"strategy": "Webhook", "webhook": webhook})), [], NOW)
    assert conditions(crd)["Established"] == (
        "False", "InvalidCABundle", "The conversion webhook CABundle is invalid"
    )  # fmt: skip


def test_versions_in_the_order_in_which_they_are_preferred() -> None:
    given = ["foo10", "v1", "v11alpha2", "v3beta1", "v10", "v10beta3", "v11beta2", "v2", "foo1", "v12alpha1"]
    assert sorted(given, key=version_order) == [
        "v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10",
    ]  # fmt: skip


@virtual
async def test_served_from_the_moment_when_it_is_established(server: CustomServer) -> None:
    seen = []
    watch = await server.sent("GET", DEFINITIONS, query={"watch": "true"})
    await server.ask("POST", DEFINITIONS, definition())
    assert watch.events is not None
    async for event in watch.events:
        established = any(c.type == "Established" and c.status == "True" for c in event.obj.status.conditions or ())
        seen.append(established)
        if established:
            # Without waiting for anything.
            assert (await server.create(widget())).metadata.generation == 1
            break
    assert seen == [False, True]


@virtual
async def test_not_served_before_and_not_after(server: CustomServer) -> None:
    assert "could not find the requested resource" in await server.refused("GET", server.path())
    await server.define(definition())
    await server.ask("GET", server.path())
    await server.ask("DELETE", f"{DEFINITIONS}/widgets.example.com")
    await server.settled()
    assert "could not find the requested resource" in await server.refused("GET", server.path())


@virtual
async def test_freed_names_go_to_who_waits_for_them(server: CustomServer) -> None:
    await server.define(definition(names={"shortNames": ["x"]}))
    second = definition("gadgets", "Gadget", names={"shortNames": ["x"]})
    crd = await server.define(second)
    assert conditions(crd)["NamesAccepted"][1] == "ShortNamesConflict"
    assert "could not find" in await server.refused("GET", server.path(plural="gadgets"))
    await server.ask("DELETE", f"{DEFINITIONS}/widgets.example.com")
    assert conditions(await server.established("gadgets.example.com"))["Established"][0] == "True"
    await server.ask("GET", server.path(plural="gadgets"))


@virtual
async def test_deleting_a_definition_deletes_its_objects(server: CustomServer) -> None:
    await server.define(definition())
    for name in ("a", "b"):
        await server.create(widget(name))
    watch = await server.sent("GET", server.path(), query={"watch": "true", "resourceVersion": "0"})
    await server.ask("DELETE", f"{DEFINITIONS}/widgets.example.com")
    await server.settled()
    assert await server.refused("GET", f"{DEFINITIONS}/widgets.example.com")
    assert watch.events is not None
    told = [(e.type, e.obj.metadata.name) async for e in watch.events]
    assert told == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("DELETED", "b")], "and the watch has ended"
    assert not (await server.store.list("/registry/example.com/")).items


@virtual
async def test_finalizers_of_objects_hold_the_definition(server: CustomServer) -> None:
    await server.define(definition())
    await server.create(widget(meta={"finalizers": ["example.com/wait"]}))
    await server.ask("DELETE", f"{DEFINITIONS}/widgets.example.com")
    crd = await server.established("widgets.example.com")
    assert crd.metadata.finalizers == ["customresourcecleanup.apiextensions.k8s.io"]
    assert conditions(crd)["Terminating"] == (
        "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress"
    )  # fmt: skip
    assert (await server.get()).metadata.deletion_timestamp
    assert await server.refused("POST", server.path(), widget("new")) == (
        'widgets.example.com "new" is forbidden: create not allowed while custom resource definition is terminating'
    )
    await server.patch({"metadata": {"finalizers": None}})
    await server.settled()
    assert "not found" in await server.refused("GET", f"{DEFINITIONS}/widgets.example.com")


@virtual
async def test_a_definition_that_was_never_established_just_goes(server: CustomServer) -> None:
    await server.define(definition("gadgets", "Gadget"))
    await server.define(definition(names={"kind": "Gadget"}))
    await server.ask("DELETE", f"{DEFINITIONS}/widgets.example.com")
    await server.settled()
    assert "not found" in await server.refused("GET", f"{DEFINITIONS}/widgets.example.com")


@virtual
async def test_a_change_of_the_schema_counts_at_once_and_ends_watches(server: CustomServer) -> None:
    await server.define(definition(schema=of_spec(a={"type": "string"})))
    await server.create(widget(spec={"a": "x", "b": 1}))
    assert (await server.get())["spec"] == {"a": "x"}
    watch = await server.sent("GET", server.path(), query={"watch": "true"})
    schema = of_spec(a={"type": "string"}, b={"type": "integer", "default": 5})
    await server.ask("PATCH", f"{DEFINITIONS}/widgets.example.com", {"spec": {"versions": [
        version("v1", schema, storage=True)]}}, headers={"content-type": "application/merge-patch+json"})  # fmt: skip
    await server.settled()
    assert (await server.get())["spec"] == {"a": "x", "b": 5}
    assert watch.events is not None
    assert [e.type async for e in watch.events] == ["ADDED"]


@virtual
async def test_versions_come_and_go(server: CustomServer) -> None:
    await server.define(definition(versions=[version("v1", storage=True), version("v2")]))
    await server.create(widget(), "v1")
    assert (await server.get(version="v2"))["apiVersion"] == "example.com/v2"
    change = {"spec": {"versions": [version("v1", storage=True, served=False), version("v3")]}}
    headers = {"content-type": "application/merge-patch+json"}
    await server.ask("PATCH", f"{DEFINITIONS}/widgets.example.com", change, headers=headers)
    await server.settled()
    assert (await server.get(version="v3"))["apiVersion"] == "example.com/v3"
    for gone in ("v1", "v2"):
        assert "could not find" in await server.refused("GET", f"{server.path(gone)}/w")


def test_definitions_and_objects_are_there_again_after_a_restart() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with running(store) as server:
            await server.define(definition())
            await server.create(widget(spec={"a": 1}))
        async with running(store) as server:
            assert (await server.get())["spec"] == {"a": 1}
            await server.patch({"spec": {"a": 2}})
            assert (await server.get()).metadata.generation == 2
        await store.close()

    clock.run_virtual(main())


@virtual
async def test_idle_it_does_nothing(server: CustomServer) -> None:
    await server.define(definition())
    before = server.store.revision
    await asyncio.sleep(3600)
    assert server.store.revision == before


@virtual
async def test_protected_groups_say_whether_they_are_approved(server: CustomServer) -> None:
    raw = definition(group="x.k8s.io")
    raw["metadata"] = {"name": "widgets.x.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, test"}}
    found = conditions(await server.define(raw))
    assert found["KubernetesAPIApprovalPolicyConformant"] == (
        "False", "UnapprovedAnnotation", 'not approved: "unapproved, test"'
    )  # fmt: skip


@virtual
async def test_built_in_resources_are_not_replaced(server: CustomServer) -> None:
    raw = definition("ingresses", "Mine", group="networking.k8s.io")
    annotations = {"api-approved.kubernetes.io": "unapproved, test"}
    raw["metadata"] = {"name": "ingresses.networking.k8s.io", "annotations": annotations}
    before = server.app.lookup("networking.k8s.io", "ingresses")
    await server.define(raw)
    assert server.app.lookup("networking.k8s.io", "ingresses") is before
    await server.ask("DELETE", f"{DEFINITIONS}/ingresses.networking.k8s.io")
    await server.settled()
    assert "not found" in await server.refused("GET", f"{DEFINITIONS}/ingresses.networking.k8s.io")
    await server.ask("GET", "/apis/networking.k8s.io/v1/ingresses")


@virtual
async def test_watches_of_each_version_begin_with_what_is_there(server: CustomServer) -> None:
    await server.define(definition(versions=[version("v1", storage=True), version("v2")]))
    await server.create(widget("a"))
    query = {
        "watch": "true", "sendInitialEvents": "true", "allowWatchBookmarks": "true",
        "resourceVersionMatch": "NotOlderThan",
    }  # fmt: skip
    for name in ("v1", "v2"):
        watch = await server.sent("GET", server.path(name), query=query)
        assert watch.events is not None
        told = []
        async for event in watch.events:
            told.append((event.type, event.obj["apiVersion"], event.obj.metadata.annotations))
            if event.type == "BOOKMARK":
                break
        api = f"example.com/{name}"
        assert told == [("ADDED", api, None), ("BOOKMARK", api, {"k8s.io/initial-events-end": "true"})]
