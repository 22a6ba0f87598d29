"""Nodes and leases: their API, and pods that leave a node because of a taint."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.whole import Api, in_namespace, template, virtual_with

NODES = "/api/v1/nodes"
PODS = in_namespace("v1", "pods")
LEASES = in_namespace("coordination.k8s.io/v1", "leases")
TAINT = {"key": "kubernetes.io/e2e-evict-taint-key", "value": "evictTaintVal", "effect": "NoExecute"}


@virtual_with()
async def test_lifecycle_of_a_node(api: Api) -> None:
    fake = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "e2e-fake-node", "creationTimestamp": None},
        "spec": {"unschedulable": True},
        "status": {
            "phase": "Running",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "E2E",
                    "message": "Set from e2e test",
                    "lastHeartbeatTime": None,
                    "lastTransitionTime": None,
                }
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": {"machineID": "", "kernelVersion": ""},
        },
    }
    made = await api.post(NODES, fake)
    assert made["status"]["conditions"][0]["reason"] == "E2E" and made["status"]["phase"] == "Running"
    path = f"{NODES}/e2e-fake-node"
    patched = await api.patch(path, {"metadata": {"labels": {"e2e-fake-node": "patched"}}})
    assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert len((await api.get(NODES, labelSelector="e2e-fake-node=patched"))["items"]) == 1
    updated = await api.change(path, lambda n: n["metadata"]["labels"].update({"e2e-fake-node": "updated"}))
    assert updated["metadata"]["labels"]["e2e-fake-node"] == "updated"
    await api.delete(path)
    await api.gone(path, seconds=180)


def tolerating(name: str, seconds: int | None) -> dict[str, Any]:
    spec = template()["spec"] | {"terminationGracePeriodSeconds": 1}
    if seconds is not None:
        spec["tolerations"] = [{**TAINT, "operator": "Equal", "tolerationSeconds": seconds}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def node_of(api: Api, name: str) -> str:
    pod = await api.until(f"{PODS}/{name}", lambda p: p["status"].get("phase") == "Running")
    return f"{NODES}/{pod['spec']['nodeName']}"


def tainted(node: Any) -> None:
    node["spec"].setdefault("taints", []).append(TAINT)


def untainted(node: Any) -> None:
    node["spec"]["taints"] = [t for t in node["spec"]["taints"] if t["key"] != TAINT["key"]]


@virtual_with()
async def test_pods_are_evicted_when_they_tolerate_no_longer(api: Api) -> None:
    """Each at its own time."""
    await api.post(PODS, tolerating("first", 5))
    await api.post(PODS, tolerating("second", 25))
    node = await node_of(api, "first")
    await node_of(api, "second")
    await api.change(node, tainted)
    await asyncio.sleep(1)
    assert {p["metadata"]["name"] for p in (await api.get(PODS))["items"]} == {"first", "second"}
    await asyncio.sleep(10)
    (left,) = (await api.get(PODS))["items"]
    assert left["metadata"]["name"] == "second" and "deletionTimestamp" not in left["metadata"]
    await api.until(PODS, lambda p: not p["items"], seconds=30)


@virtual_with()
async def test_an_eviction_is_cancelled_with_its_taint(api: Api) -> None:
    await api.post(PODS, tolerating("p", 20))
    node = await node_of(api, "p")
    await api.change(node, tainted)
    await asyncio.sleep(10)
    await api.change(node, untainted)
    await asyncio.sleep(60)
    assert "deletionTimestamp" not in (await api.get(f"{PODS}/p"))["metadata"]


@virtual_with()
async def test_a_pod_that_does_not_tolerate_goes_at_once(api: Api) -> None:
    await api.post(PODS, tolerating("p", None))
    await api.change(await node_of(api, "p"), tainted)
    await api.gone(f"{PODS}/p", seconds=10)


@virtual_with()
async def test_leases(api: Api) -> None:
    spec = {
        "holderIdentity": "holder",
        "leaseDurationSeconds": 30,
        "acquireTime": "2026-01-01T00:00:00.123456Z",
        "renewTime": "2026-01-01T00:00:05.654321Z",
        "leaseTransitions": 0,
    }
    raw = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lease"}, "spec": spec}
    await api.post(LEASES, raw)
    assert (await api.get(f"{LEASES}/lease"))["spec"] == spec
    other = {**spec, "holderIdentity": "holder2", "leaseDurationSeconds": 60, "leaseTransitions": 1}
    await api.change(f"{LEASES}/lease", lambda o: o.update(spec=other))
    assert (await api.get(f"{LEASES}/lease"))["spec"] == other
    patched = await api.patch(f"{LEASES}/lease", {"spec": {"leaseDurationSeconds": 90}})
    assert patched["spec"] == {**other, "leaseDurationSeconds": 90}
    labelled = {**raw, "metadata": {"name": "lease2", "labels": {"deletecollection": "true"}}}
    await api.post(LEASES, labelled)
    assert len((await api.get(LEASES))["items"]) == 2
    await api.delete(LEASES, labelSelector="deletecollection=true")
    assert [o["metadata"]["name"] for o in (await api.get(LEASES))["items"]] == ["lease"]
    await api.delete(f"{LEASES}/lease")
    assert (await api.refusal("GET", f"{LEASES}/lease"))["reason"] == "NotFound"
