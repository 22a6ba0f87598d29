"""StatefulSets: order of their pods, rolling updates, scale, status."""

from __future__ import annotations

import asyncio
from typing import Any

from podling.cluster.config import ClusterConfig
from tests.conformance.whole import MERGE, Api, in_namespace, template, virtual, virtual_with

SETS = in_namespace("apps/v1", "statefulsets")
PODS = in_namespace("v1", "pods")
PAUSE = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "pause"}]}}}}


def stateful_set(name: str = "ss", replicas: int = 1, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": {"e2e": "testing"}},
        "spec": {
            "serviceName": "test",
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template(**labels),
            **spec,
        },
    }


def ready(replicas: int) -> Any:
    return lambda s: (s["status"].get("readyReplicas", 0), s["status"]["replicas"]) == (replicas, replicas)


async def images(api: Api) -> dict[str, str]:
    pods = (await api.get(PODS, labelSelector="app=ss"))["items"]
    return {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in pods}


@virtual
async def test_scale(api: Api) -> None:
    await api.post(SETS, stateful_set())
    await api.until(f"{SETS}/ss", ready(1))
    scale = await api.get(f"{SETS}/ss/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 1, "selector": "app=ss"})
    scale["metadata"]["resourceVersion"] = ""
    scale["spec"]["replicas"] = 2
    await api.put(f"{SETS}/ss/scale", scale)
    assert (await api.get(f"{SETS}/ss"))["spec"]["replicas"] == 2
    patch = {"metadata": {"creationTimestamp": None}, "spec": {"replicas": 4}, "status": {"replicas": 0}}
    await api.patch(f"{SETS}/ss/scale", patch)
    assert (await api.get(f"{SETS}/ss"))["spec"]["replicas"] == 4
    await api.until(f"{SETS}/ss", ready(4))


@virtual
async def test_list_patch_and_delete_a_collection(api: Api) -> None:
    await api.post(SETS, stateful_set())
    await api.until(f"{SETS}/ss", ready(1))
    patch = {
        "metadata": {"labels": {"ss": "patched"}},
        "spec": {
            "replicas": 2,
            "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "pause"}]}},
        },
    }
    await api.patch(f"{SETS}/ss", patch)
    await api.until(f"{SETS}/ss", lambda s: ready(2)(s) and s["status"].get("updatedReplicas") == 2)
    assert len((await api.get("/apis/apps/v1/statefulsets", labelSelector="ss=patched"))["items"]) == 1
    await api.delete(SETS, {"gracePeriodSeconds": 1}, labelSelector="ss=patched")
    await api.until(SETS, lambda s: not s["items"], labelSelector="ss=patched")


@virtual
async def test_status(api: Api) -> None:
    await api.post(SETS, stateful_set())
    await api.until(f"{SETS}/ss", ready(1))
    await api.get(f"{SETS}/ss/status")
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by a test"}
    async with api.watch(SETS, labelSelector="e2e=testing") as events:
        updated = await api.change(f"{SETS}/ss", lambda s: s["status"].update(conditions=[condition]), "status")
        assert types(updated) == ["StatusUpdate"]
        await events.until("MODIFIED", lambda s: types(s) == ["StatusUpdate"])
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        assert types(await api.patch(f"{SETS}/ss/status", patch, MERGE)) == ["StatusPatched"]
        await events.until("MODIFIED", lambda s: types(s) == ["StatusPatched"])
    await asyncio.sleep(30)
    assert types(await api.get(f"{SETS}/ss")) == ["StatusPatched"]


def types(obj: Any) -> list[str]:
    return [c["type"] for c in obj["status"].get("conditions", ())]


def unready() -> dict[str, Any]:
    """A template whose pods become ready when a file is made."""
    found = template(app="ss")
    found["spec"]["containers"][0] |= {
        "command": ["sleep", "1000000"],
        "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1},
    }
    return found


@virtual
async def test_pods_come_and_go_in_order_and_wait_for_each_other(api: Api) -> None:
    await api.post(SETS, stateful_set(replicas=3, template=unready()))
    await asyncio.sleep(60)
    assert list(await images(api)) == ["ss-0"]
    async with api.watch(PODS, labelSelector="app=ss") as events:
        probe = {"spec": {"template": {"spec": {"containers": [{"name": "c", "readinessProbe": None}]}}}}
        await api.patch(f"{SETS}/ss", probe)
        # Its pod is broken, so it is not replaced by itself.
        await api.delete(f"{PODS}/ss-0")
        await api.until(f"{SETS}/ss", ready(3))
        await api.patch(f"{SETS}/ss", {"spec": {"replicas": 0}})
        await api.until(f"{SETS}/ss", ready(0))
        while sum(t == "DELETED" for t, _ in events.seen) < 4:
            await events.next()
    order = [(type_, obj["metadata"]["name"]) for type_, obj in events.seen if type_ in ("ADDED", "DELETED")]
    assert order == [
        ("ADDED", "ss-0"),
        ("DELETED", "ss-0"),
        ("ADDED", "ss-0"),
        ("ADDED", "ss-1"),
        ("ADDED", "ss-2"),
        ("DELETED", "ss-2"),
        ("DELETED", "ss-1"),
        ("DELETED", "ss-0"),
    ]


@virtual
async def test_burst_scaling_waits_for_nobody(api: Api) -> None:
    await api.post(SETS, stateful_set(replicas=3, podManagementPolicy="Parallel", template=unready()))
    await api.until(f"{SETS}/ss", lambda s: s["status"]["replicas"] == 3)
    assert not (await api.get(f"{SETS}/ss"))["status"].get("readyReplicas")
    await api.patch(f"{SETS}/ss", {"spec": {"replicas": 0}})
    await api.until(PODS, lambda p: not p["items"], labelSelector="app=ss")


@virtual
async def test_rolling_update_and_rollback(api: Api) -> None:
    await api.post(SETS, stateful_set(replicas=3))
    before = await api.until(f"{SETS}/ss", ready(3))
    first = before["status"]["currentRevision"]
    assert before["status"]["updateRevision"] == first
    await api.patch(f"{SETS}/ss", PAUSE)
    after = await api.until(f"{SETS}/ss", lambda s: updated(s, 3) and s["status"]["currentRevision"] != first)
    second = after["status"]["currentRevision"]
    assert second == after["status"]["updateRevision"]
    assert set((await images(api)).values()) == {"pause"}
    # The old template is the old revision: no new one is made.
    back = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "busybox"}]}}}}
    async with api.watch(PODS, labelSelector="app=ss") as events:
        await api.patch(f"{SETS}/ss", back)
        await api.until(f"{SETS}/ss", lambda s: updated(s, 3) and s["status"]["currentRevision"] == first)
        while sum(t == "DELETED" for t, _ in events.seen) < 3:
            await events.next()
    assert [o["metadata"]["name"] for t, o in events.seen if t == "DELETED"] == ["ss-2", "ss-1", "ss-0"]
    revisions = (await api.get(in_namespace("apps/v1", "controllerrevisions")))["items"]
    assert {r["metadata"]["name"] for r in revisions} == {first, second}


def updated(s: Any, replicas: int) -> bool:
    status = s["status"]
    return ready(replicas)(s) and status["currentRevision"] == status["updateRevision"] and (
        status.get("observedGeneration") == s["metadata"]["generation"]
    )  # fmt: skip


@virtual
async def test_a_partition_makes_canaries_and_phases(api: Api) -> None:
    def partitioned(at: int) -> dict[str, Any]:
        return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": at}}}

    await api.post(SETS, stateful_set(replicas=3, **partitioned(3)))
    await api.until(f"{SETS}/ss", ready(3))
    await api.patch(f"{SETS}/ss", PAUSE)
    await asyncio.sleep(60)
    assert set((await images(api)).values()) == {"busybox"}
    await api.patch(f"{SETS}/ss", {"spec": partitioned(2)})
    await api.until(f"{PODS}/ss-2", lambda p: p["spec"]["containers"][0]["image"] == "pause", seconds=600)
    await api.until(f"{SETS}/ss", ready(3))
    assert await images(api) == {"ss-0": "busybox", "ss-1": "busybox", "ss-2": "pause"}
    # What is deleted comes back as it was.
    for name in ("ss-0", "ss-2"):
        uid = (await api.get(f"{PODS}/{name}"))["metadata"]["uid"]
        await api.delete(f"{PODS}/{name}")

        def replaced(pods: Any, old: str = uid) -> bool:
            uids = [p["metadata"]["uid"] for p in pods["items"]]
            return len(uids) == 3 and old not in uids

        await api.until(PODS, replaced)
    await api.until(f"{SETS}/ss", ready(3))
    assert await images(api) == {"ss-0": "busybox", "ss-1": "busybox", "ss-2": "pause"}
    for at in (1, 0):
        await api.patch(f"{SETS}/ss", {"spec": partitioned(at)})
        await api.until(f"{PODS}/ss-{at}", lambda p: p["spec"]["containers"][0]["image"] == "pause", seconds=600)
        await api.until(f"{SETS}/ss", ready(3))
    assert set((await images(api)).values()) == {"pause"}


@virtual_with(config=ClusterConfig(name="node", simulate=True, nodes=1))
async def test_an_evicted_pod_is_made_again(api: Api) -> None:
    """A host port is taken on the node that the pod is bound to: it fails, and is made again until it runs."""
    node = (await api.get("/api/v1/nodes"))["items"][0]["metadata"]["name"]
    port = {"ports": [{"containerPort": 21017, "hostPort": 21017, "name": "conflict"}]}
    blocker = template()["spec"]
    blocker["containers"][0] |= port
    blocker["nodeName"] = node
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test-pod"}, "spec": blocker}
    await api.post(PODS, pod)
    await api.until(f"{PODS}/test-pod", lambda p: p["status"]["phase"] == "Running")
    pinned = template(app="ss")
    pinned["spec"]["containers"][0] |= port
    pinned["spec"]["nodeName"] = node
    uids = set()
    async with api.watch(PODS, fieldSelector="metadata.name=ss-0") as events:
        await api.post(SETS, stateful_set(template=pinned))
        uids.add((await events.until("MODIFIED", lambda p: p["status"]["phase"] == "Failed"))["metadata"]["uid"])
        uids.add((await events.until("DELETED"))["metadata"]["uid"])
        await api.delete(f"{PODS}/test-pod")
        running = await events.until("MODIFIED", lambda p: p["status"]["phase"] == "Running")
    assert running["metadata"]["uid"] not in uids
