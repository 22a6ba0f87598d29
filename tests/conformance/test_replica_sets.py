"""ReplicaSets and ReplicationControllers: adoption and release of pods, scale, status, and their lives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.whole import MERGE, Api, in_namespace, template, virtual

SETS = in_namespace("apps/v1", "replicasets")
CONTROLLERS = in_namespace("v1", "replicationcontrollers")
PODS = in_namespace("v1", "pods")
both = pytest.mark.parametrize("path", [SETS, CONTROLLERS], ids=["replicasets", "replicationcontrollers"])


def replicated(path: str, name: str = "r", **spec: Any) -> dict[str, Any]:
    labels = {"name": name}
    kind, version = ("ReplicaSet", "apps/v1") if path == SETS else ("ReplicationController", "v1")
    selector = {"matchLabels": labels} if path == SETS else labels
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": {"test-static": "true"}},
        "spec": {"selector": selector, "template": template(**labels), **spec},
    }


def ready(replicas: int) -> Any:
    return lambda r: (r["status"].get("readyReplicas", 0), r["status"]["replicas"]) == (replicas, replicas)


@both
@virtual
async def test_adopts_pods_that_match(api: Api, path: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orphan", "labels": {"name": "r"}}}
    await api.post(PODS, {**pod, "spec": template()["spec"]})
    made = await api.post(path, replicated(path, replicas=1))
    owned = await api.until(f"{PODS}/orphan", lambda p: p["metadata"].get("ownerReferences"))
    (owner,) = owned["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (made["metadata"]["uid"], True)
    assert len((await api.get(PODS))["items"]) == 1


@both
@virtual
async def test_releases_pods_that_match_no_longer(api: Api, path: str) -> None:
    made = await api.post(path, replicated(path, replicas=1))
    await api.until(f"{path}/r", ready(1))
    (pod,) = (await api.get(PODS))["items"]
    released = f"{PODS}/{pod['metadata']['name']}"
    await api.patch(released, {"metadata": {"labels": {"name": "not-matching-name"}}})
    await api.until(released, lambda p: not p["metadata"].get("ownerReferences"))
    (other,) = (await api.until(PODS, lambda p: len(p["items"]) == 1, labelSelector="name=r"))["items"]
    assert other["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


@both
@virtual
async def test_scale(api: Api, path: str) -> None:
    await api.post(path, replicated(path, replicas=1))
    await api.until(f"{path}/r", ready(1))
    scale = await api.get(f"{path}/r/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 1, "selector": "name=r"})
    scale["metadata"]["resourceVersion"] = ""
    scale["spec"]["replicas"] = 2
    assert (await api.put(f"{path}/r/scale", scale))["spec"] == {"replicas": 2}
    await api.until(f"{path}/r", ready(2))
    patch = {"metadata": {"creationTimestamp": None}, "spec": {"replicas": 4}, "status": {"replicas": 0}}
    assert (await api.patch(f"{path}/r/scale", patch))["spec"] == {"replicas": 4}
    await api.until(f"{path}/r", ready(4))


@virtual
async def test_replace_and_patch_a_replica_set(api: Api) -> None:
    await api.post(SETS, replicated(SETS, replicas=1))
    await api.until(f"{SETS}/r", ready(1))
    await api.change(f"{SETS}/r", lambda r: r["spec"].update(replicas=2))
    await api.until(f"{SETS}/r", ready(2))
    patch = {
        "metadata": {"labels": {"test-rs": "patched"}},
        "spec": {
            "replicas": 3,
            "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "pause"}]}},
        },
    }
    async with api.watch(SETS, labelSelector="test-static=true") as events:
        await api.patch(f"{SETS}/r", patch)
        await events.until("MODIFIED", lambda r: r["metadata"]["labels"].get("test-rs") == "patched" and ready(3)(r))


@virtual
async def test_list_and_delete_a_collection_of_replica_sets(api: Api) -> None:
    await api.post(SETS, replicated(SETS, replicas=3))
    await api.until(f"{SETS}/r", ready(3))
    assert len((await api.get("/apis/apps/v1/replicasets", labelSelector="test-static=true"))["items"]) == 1
    await api.delete(SETS, labelSelector="test-static=true")
    assert (await api.get(SETS, labelSelector="test-static=true"))["items"] == []


@both
@virtual
async def test_status(api: Api, path: str) -> None:
    await api.post(path, replicated(path, replicas=1))
    await api.until(f"{path}/r", ready(1))
    await api.get(f"{path}/r/status")
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by a test"}
    async with api.watch(path, fieldSelector="metadata.name=r") as events:
        updated = await api.change(f"{path}/r", lambda r: r["status"].update(conditions=[condition]), "status")
        assert types(updated) == ["StatusUpdate"]
        await events.until("MODIFIED", lambda r: types(r) == ["StatusUpdate"])
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        assert types(await api.patch(f"{path}/r/status", patch, MERGE)) == ["StatusPatched"]
        await events.until("MODIFIED", lambda r: types(r) == ["StatusPatched"])
    await asyncio.sleep(30)
    assert types(await api.get(f"{path}/r")) == ["StatusPatched"]


def types(obj: Any) -> list[str]:
    return [c["type"] for c in obj["status"].get("conditions", ())]


@virtual
async def test_lifecycle_of_a_replication_controller(api: Api) -> None:
    """A watch sees creation, patches of the object, of its status and of its scale, and deletion, in that order."""
    selector = {"labelSelector": "test-static=true"}
    since = (await api.get(CONTROLLERS, **selector))["metadata"]["resourceVersion"]
    async with api.watch(CONTROLLERS, **selector, resourceVersion=since) as events:
        await api.post(CONTROLLERS, replicated(CONTROLLERS, replicas=1))
        await events.until("ADDED")
        await events.until("MODIFIED", ready(1))
        # As Go writes a ReplicationController of which nothing but labels is set.
        patch = {
            "metadata": {"creationTimestamp": None, "labels": {"test-rc": "patched"}},
            "spec": {},
            "status": {"replicas": 0},
        }
        patched = await api.patch(f"{CONTROLLERS}/r", patch)
        assert patched["metadata"]["labels"] == {"test-static": "true", "test-rc": "patched"}
        await events.until("MODIFIED")
        patch = {"status": {"readyReplicas": 0, "availableReplicas": 0}}
        patched = await api.patch(f"{CONTROLLERS}/r/status", patch)
        assert not patched["status"]["readyReplicas"]
        await events.until("MODIFIED")
        await events.until("MODIFIED", lambda r: r["status"]["replicas"] == 1)
        assert (await api.get(f"{CONTROLLERS}/r/status"))["status"]["replicas"] == 1
        scale = {"metadata": {"creationTimestamp": None}, "spec": {"replicas": 2}, "status": {"replicas": 0}}
        await api.patch(f"{CONTROLLERS}/r/scale", scale)
        await events.until("MODIFIED", ready(2))

        def less(rc: Any) -> None:
            rc["status"] |= {"availableReplicas": 1, "readyReplicas": 1}

        await api.change(f"{CONTROLLERS}/r", less, "status")
        await events.until("MODIFIED")
        assert len((await api.get("/api/v1/replicationcontrollers", **selector))["items"]) == 1
        await api.delete(CONTROLLERS, **selector)
        await events.until("DELETED")


@virtual
async def test_a_quota_that_blocks_pods_is_told(api: Api) -> None:
    """The condition ReplicaFailure comes, and goes when fewer pods are wanted."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "condition-test"},
        "spec": {"hard": {"pods": "2"}},
    }
    quotas = in_namespace("v1", "resourcequotas")
    await api.post(quotas, quota)
    await api.until(f"{quotas}/condition-test", lambda q: q["status"].get("hard") == {"pods": "2"})
    await api.post(CONTROLLERS, replicated(CONTROLLERS, replicas=3))
    failing = await api.until(f"{CONTROLLERS}/r", lambda r: "ReplicaFailure" in types(r))
    assert failing["status"]["observedGeneration"] == failing["metadata"]["generation"]
    await api.change(f"{CONTROLLERS}/r", lambda r: r["spec"].update(replicas=2))
    await api.until(f"{CONTROLLERS}/r", lambda r: "ReplicaFailure" not in types(r))
