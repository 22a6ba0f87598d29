"""CustomResourceDefinitions: create, delete, list, watch, status, defaulting, discovery; and what works over all
resources works over custom ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podling.api import core_v1, meta_v1
from tests.conformance.custom import DEFINITIONS, GROUP, MERGE, Api, definition, version, virtual

FOOS = f"/apis/{GROUP}/v1/namespaces/default/foos"


def foos(**more: Any) -> dict[str, Any]:
    return definition("foos", "Foo", version("v1", storage=True), **more)


def foo(name: str, **more: Any) -> dict[str, Any]:
    meta = {"name": name, **more.pop("meta", {})}
    return {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "metadata": meta, **more}


@virtual
async def test_creating_and_deleting_definitions(api: Api) -> None:
    name = await api.define(foos())
    await api.ask("DELETE", f"{DEFINITIONS}/{name}")
    await api.undefined(name)


@virtual
async def test_listing_and_deleting_definitions_by_label(api: Api) -> None:
    for n in range(10):
        raw = definition(f"things{n}", f"Thing{n}", version("v1", storage=True))
        raw["metadata"]["labels"] = {"e2e-list-test-uuid": "x"}
        await api.define(raw)
    await api.define(foos())
    query = {"labelSelector": "e2e-list-test-uuid=x"}
    assert len(await api.ask("GET", DEFINITIONS, query=query)) == 10
    await api.ask("DELETE", DEFINITIONS, query=query)
    for n in range(10):
        await api.undefined(f"things{n}.{GROUP}")
    assert [c["metadata"]["name"] for c in await api.ask("GET", DEFINITIONS)] == [f"foos.{GROUP}"]


@virtual
async def test_status_can_be_read_updated_and_patched(api: Api) -> None:
    path = f"{DEFINITIONS}/{await api.define(foos())}/status"
    crd = await api.ask("GET", path)
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    crd["status"]["conditions"].append({**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    updated = await api.ask("PUT", path, crd)
    assert any(c["reason"] == "E2E" for c in updated["status"]["conditions"])
    patched = await api.ask("PATCH", path, {"metadata": {"annotations": {"patched": "yes"}}}, headers=MERGE)
    assert patched["metadata"]["annotations"]["patched"] == "yes"
    found = await api.ask("GET", f"{DEFINITIONS}/foos.{GROUP}")
    assert any(c["reason"] == "E2E" for c in found["status"]["conditions"])


@virtual
async def test_definitions_and_custom_resources_are_watched(api: Api) -> None:
    definitions = await api.send("GET", DEFINITIONS, query={"watch": "true"})
    name = await api.define(foos())
    watch = await api.send("GET", FOOS, query={"watch": "true"})
    await api.ask("POST", FOOS, foo("a"))
    await api.ask("PATCH", f"{FOOS}/a", {"num": 1}, headers=MERGE)
    await api.ask("DELETE", f"{FOOS}/a")
    assert watch.events is not None and definitions.events is not None
    told = []
    async for event in watch.events:
        told.append((event.type, event.obj.get("num")))
        if event.type == "DELETED":
            break
    assert told == [("ADDED", None), ("MODIFIED", 1), ("DELETED", 1)]
    await api.ask("DELETE", f"{DEFINITIONS}/{name}")
    types = []
    async for event in definitions.events:
        types.append(event.type)
        if event.type == "DELETED":
            break
    assert types[0] == "ADDED" and set(types[1:-1]) == {"MODIFIED"}


@virtual
async def test_defaulting_of_requests_and_from_storage(api: Api) -> None:
    def schema(**fields: Any) -> dict[str, Any]:
        names = ("a", "b")
        return {"type": "object", "properties": {n: {"type": "string", **fields.get(n, {})} for n in names}}

    name = await api.define(definition("foos", "Foo", version("v1", schema(a={"default": "A"}), storage=True)))
    made = await api.ask("POST", FOOS, foo("one"))
    assert made["a"] == "A" and "b" not in made
    change = {"spec": {"versions": [version("v1", schema(b={"default": "B"}), storage=True)]}}
    await api.ask("PATCH", f"{DEFINITIONS}/{name}", change, headers=MERGE)
    await asyncio.sleep(0.01)
    found = await api.ask("GET", f"{FOOS}/one")
    assert (found["a"], found["b"]) == ("A", "B"), "a was stored, b is filled in when it is read"
    other = await api.ask("POST", FOOS, foo("two"))
    assert "a" not in other and other["b"] == "B"


@virtual
async def test_manifests_of_custom_resources_are_applied(api: Api) -> None:
    await api.define(foos())
    (made,) = await api.cluster.apply(foo("a", num=1))
    assert made.metadata.namespace == "default"
    (changed,) = await api.cluster.apply(foo("a", num=2))
    assert (changed["num"], changed.metadata.generation, changed.metadata.uid) == (2, 2, made.metadata.uid)
    with pytest.raises(ValueError, match="no such kind"):
        await api.cluster.apply({"apiVersion": f"{GROUP}/v1", "kind": "Bar"})


@virtual
async def test_discovery(api: Api) -> None:
    groups = (await api.ask("GET", "/apis"))["groups"]
    (mine,) = [g for g in groups if g["name"] == "apiextensions.k8s.io"]
    assert {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"} in mine["versions"]
    assert (await api.ask("GET", "/apis/apiextensions.k8s.io"))["preferredVersion"]["version"] == "v1"
    listed = (await api.ask("GET", "/apis/apiextensions.k8s.io/v1"))["resources"]
    assert "customresourcedefinitions" in [r["name"] for r in listed]


@virtual
async def test_custom_resources_in_discovery(api: Api) -> None:
    raw = definition("foos", "Foo", version("v1beta1"), version("v2"), version("v1", storage=True))
    raw["spec"]["names"] |= {"shortNames": ["fo"], "categories": ["all"]}
    await api.define(raw)
    group = await api.ask("GET", f"/apis/{GROUP}")
    assert [v["version"] for v in group["versions"]] == ["v2", "v1", "v1beta1"]
    accept = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    document = await api.ask("GET", "/apis", headers=accept)
    assert document["kind"] == "APIGroupDiscoveryList"
    (mine,) = [g for g in document["items"] if g["metadata"].get("name") == GROUP]
    assert [v["version"] for v in mine["versions"]] == ["v2", "v1", "v1beta1"]
    (resource,) = mine["versions"][0]["resources"]
    assert resource["resource"] == "foos" and resource["responseKind"]["kind"] == "Foo"
    assert (resource["shortNames"], resource["categories"], resource["scope"]) == (["fo"], ["all"], "Namespaced")


@virtual
async def test_dependents_of_custom_resources_are_collected(api: Api) -> None:
    await api.define(foos())
    owner = await api.ask("POST", FOOS, foo("owner"))
    reference = {"apiVersion": f"{GROUP}/v1", "kind": "Foo", "name": "owner", "uid": owner["metadata"]["uid"]}
    await api.ask("POST", FOOS, foo("dependent", meta={"ownerReferences": [reference]}))
    config = core_v1.ConfigMap(
        metadata=meta_v1.ObjectMeta(
            name="dependent", namespace="default",
            owner_references=[meta_v1.OwnerReference(
                api_version=f"{GROUP}/v1", kind="Foo", name="owner", uid=owner["metadata"]["uid"]
            )],
        )
    )  # fmt: skip
    await api.cluster.client.create(config)
    await api.ask("DELETE", f"{FOOS}/owner", {"propagationPolicy": "Foreground"})
    await api.cluster.gone(core_v1.ConfigMap, "dependent")
    for _ in range(100):
        if not await api.ask("GET", FOOS):
            break
        await asyncio.sleep(0.1)
    assert await api.ask("GET", FOOS) == []


@virtual
async def test_a_namespace_takes_its_custom_resources_along(api: Api) -> None:
    await api.define(foos())
    await api.cluster.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="doomed")))
    path = FOOS.replace("default", "doomed")
    await api.ask("POST", path, foo("a"))
    await api.ask("POST", FOOS, foo("stays"))
    await api.cluster.client.delete(core_v1.Namespace, "doomed")
    await api.cluster.gone(core_v1.Namespace, "doomed")
    assert [o["metadata"]["name"] for o in await api.ask("GET", f"/apis/{GROUP}/v1/foos")] == ["stays"]


@virtual
async def test_a_quota_counts_objects_of_a_definition_that_came_back(api: Api) -> None:
    count = f"count/foos.{GROUP}"
    quota = core_v1.ResourceQuota(metadata=meta_v1.ObjectMeta(name="q", namespace="default"))
    quota.spec.hard = {count: "5"}
    await api.cluster.client.create(quota)

    def used(wanted: str) -> Any:
        return lambda q: (q.status.used or {}).get(count) == wanted

    for _ in range(2):
        name = await api.define(foos())
        await api.ask("POST", FOOS, foo("a"))
        await api.cluster.until(core_v1.ResourceQuota, "q", used("1"))
        await api.ask("DELETE", f"{FOOS}/a")
        await api.cluster.until(core_v1.ResourceQuota, "q", used("0"), seconds=60)
        await api.ask("DELETE", f"{DEFINITIONS}/{name}")
        await api.gone(name)
        await asyncio.sleep(1)
