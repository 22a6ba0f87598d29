"""Garbage collection: what goes with its owner, what stays, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.whole import Api, in_namespace, template, virtual

DEPLOYMENTS = in_namespace("apps/v1", "deployments")
SETS = in_namespace("apps/v1", "replicasets")
CONTROLLERS = in_namespace("v1", "replicationcontrollers")
PODS = in_namespace("v1", "pods")


def controller(name: str, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"name": name}, "template": template(name=name)},
    }


def deployment() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "gctest"}}, "template": template(app="gctest")},
    }


def options(policy: str, owner: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": policy,
        "preconditions": {"uid": owner["metadata"]["uid"]},
    }


async def pods(api: Api, number: int) -> list[Any]:
    found = await api.until(PODS, lambda p: len(p["items"]) == number)
    return list(found["items"])


@virtual
async def test_pods_of_a_controller_go_in_the_background(api: Api) -> None:
    rc = await api.post(CONTROLLERS, controller("rc", 2))
    await pods(api, 2)
    await api.delete(f"{CONTROLLERS}/rc", options("Background", rc))
    assert (await api.refusal("GET", f"{CONTROLLERS}/rc"))["reason"] == "NotFound"
    await pods(api, 0)


@pytest.mark.parametrize("named", ["propagationPolicy", "orphanDependents"])
@virtual
async def test_pods_of_a_controller_are_orphaned(api: Api, named: str) -> None:
    rc = await api.post(CONTROLLERS, controller("rc", 20))
    await api.until(f"{CONTROLLERS}/rc", lambda r: r["status"]["replicas"] == 20)
    wanted = options("Orphan", rc)
    if named == "orphanDependents":
        del wanted["propagationPolicy"]
        wanted["orphanDependents"] = True
    await api.delete(f"{CONTROLLERS}/rc", wanted)
    await api.gone(f"{CONTROLLERS}/rc")
    await asyncio.sleep(30)
    assert all("ownerReferences" not in p["metadata"] for p in await pods(api, 20))


@virtual
async def test_a_replica_set_goes_in_the_background(api: Api) -> None:
    d = await api.post(DEPLOYMENTS, deployment())
    await api.until(SETS, lambda s: len(s["items"]) == 1)
    await api.delete(f"{DEPLOYMENTS}/d", options("Background", d))
    await api.until(SETS, lambda s: not s["items"])
    await pods(api, 0)


@virtual
async def test_a_replica_set_is_orphaned(api: Api) -> None:
    d = await api.post(DEPLOYMENTS, deployment())
    await api.until(SETS, lambda s: len(s["items"]) == 1)
    await pods(api, 2)
    await api.delete(f"{DEPLOYMENTS}/d", options("Orphan", d))
    await api.gone(f"{DEPLOYMENTS}/d")
    await asyncio.sleep(30)
    (left,) = (await api.get(SETS))["items"]
    assert "ownerReferences" not in left["metadata"]
    assert all(p["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet" for p in await pods(api, 2))


@virtual
async def test_a_controller_stays_in_the_foreground_until_its_pods_are_gone(api: Api) -> None:
    rc = await api.post(CONTROLLERS, controller("rc", 10))
    await api.until(f"{CONTROLLERS}/rc", lambda r: r["status"].get("readyReplicas") == 10)
    held = (await pods(api, 10))[0]["metadata"]["name"]
    await api.patch(f"{PODS}/{held}", {"metadata": {"finalizers": ["example.com/held"]}})
    await api.delete(f"{CONTROLLERS}/rc", options("Foreground", rc))
    await pods(api, 1)
    await asyncio.sleep(60)
    waiting = await api.get(f"{CONTROLLERS}/rc")
    assert waiting["metadata"]["deletionTimestamp"]
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    # It makes no new ones meanwhile.
    assert [p["metadata"]["name"] for p in await pods(api, 1)] == [held]
    await api.patch(f"{PODS}/{held}", {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/held"]}})
    await api.gone(f"{CONTROLLERS}/rc")
    assert await pods(api, 0) == []


@virtual
async def test_what_has_another_owner_stays(api: Api) -> None:
    """Half of the pods are another controller's as well: they lose the owner that goes, and live."""
    going = await api.post(CONTROLLERS, controller("going", 10))
    staying = await api.post(CONTROLLERS, controller("staying", 0))
    await api.until(f"{CONTROLLERS}/going", lambda r: r["status"].get("readyReplicas") == 10)
    names = sorted(p["metadata"]["name"] for p in await pods(api, 10))
    owner = {"apiVersion": "v1", "kind": "ReplicationController"}
    owner |= {"name": "staying", "uid": staying["metadata"]["uid"]}
    for name in names[:5]:
        patched = await api.patch(f"{PODS}/{name}", {"metadata": {"ownerReferences": [owner]}})
        assert len(patched["metadata"]["ownerReferences"]) == 2
    await api.delete(f"{CONTROLLERS}/going", options("Foreground", going))
    await api.gone(f"{CONTROLLERS}/going")
    left = await pods(api, 5)
    assert sorted(p["metadata"]["name"] for p in left) == names[:5]
    for pod in left:
        assert "deletionTimestamp" not in pod["metadata"]
        assert [r["name"] for r in pod["metadata"]["ownerReferences"]] == ["staying"]


@virtual
async def test_a_ring_of_owners_does_not_block(api: Api) -> None:
    made = []
    for n in range(3):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod{n}"}, "spec": template()["spec"]}
        made.append(await api.post(PODS, pod))
    for n, pod in enumerate(made):
        before = made[n - 1]["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": before["name"], "uid": before["uid"]}
        owner |= {"controller": True, "blockOwnerDeletion": True}
        await api.patch(f"{PODS}/{pod['metadata']['name']}", {"metadata": {"ownerReferences": [owner]}})
    await api.delete(f"{PODS}/pod0", options("Foreground", made[0]))
    await pods(api, 0)


@virtual
async def test_a_precondition_is_kept(api: Api) -> None:
    await api.post(CONTROLLERS, controller("rc", 1))
    wrong = options("Background", {"metadata": {"uid": "another"}})
    refused = await api.refusal("DELETE", f"{CONTROLLERS}/rc", wrong)
    assert (refused["code"], refused["reason"]) == (409, "Conflict")


@virtual
async def test_what_names_owners_of_a_kind_that_comes_later_goes_when_it_comes(api: Api) -> None:
    owner = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "never-was"}
    maps = in_namespace("v1", "configmaps")
    await api.post(maps, {"metadata": {"name": "child", "ownerReferences": [owner]}})
    await asyncio.sleep(3600)
    assert await api.get(f"{maps}/child")
    schema = {"openAPIV3Schema": {"type": "object"}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"kind": "Widget", "plural": "widgets"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    await api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    await api.gone(f"{maps}/child", 10)
