"""The scheduler: what keeps pods from a node, and who has to go for whom."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.whole import MERGE, Api, in_namespace, template, virtual, virtual_with

PODS = in_namespace("v1", "pods")
NODES = "/api/v1/nodes"
SETS = in_namespace("apps/v1", "replicasets")
PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
RESOURCE = "scheduling.k8s.io/foo"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "labels": {"name": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {**template()["spec"], **spec}}


def asking(amount: str, **spec: Any) -> dict[str, Any]:
    """A pod's spec with so much of the extended resource."""
    resources = {"requests": {RESOURCE: amount}, "limits": {RESOURCE: amount}}
    return {"containers": [{"name": "c", "image": "busybox", "resources": resources}], **spec}


async def running(api: Api, name: str) -> Any:
    return await api.until(f"{PODS}/{name}", lambda p: p["status"].get("phase") == "Running")


async def unschedulable(api: Api, name: str) -> str:
    """The scheduler's reason why a pod has no node."""

    def so(p: Any) -> bool:
        return any(c["type"] == "PodScheduled" and c["status"] == "False" for c in p["status"].get("conditions", ()))

    found = await api.until(f"{PODS}/{name}", so)
    (condition,) = (c for c in found["status"]["conditions"] if c["type"] == "PodScheduled")
    assert condition["reason"] == "Unschedulable" and "nodeName" not in found["spec"]
    events = await api.until(
        in_namespace("v1", "events"),
        lambda e: e["items"],
        fieldSelector=f"involvedObject.name={name},reason=FailedScheduling",
    )
    assert events["items"][0]["type"] == "Warning"
    return str(condition["message"])


async def node(api: Api) -> str:
    return str((await api.get(NODES))["items"][0]["metadata"]["name"])


async def offer(api: Api, amount: str) -> None:
    """Every node has so much of an extended resource."""
    for item in (await api.get(NODES))["items"]:
        patch = {"status": {"capacity": {RESOURCE: amount}, "allocatable": {RESOURCE: amount}}}
        await api.patch(f"{NODES}/{item['metadata']['name']}/status", patch)


async def classes(api: Api, **values: int) -> None:
    for name, value in values.items():
        raw = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        await api.post(PRIORITIES, {**raw, "value": value})


@virtual
async def test_a_pod_that_wants_more_than_is_left_waits(api: Api) -> None:
    allocatable = (await api.get(f"{NODES}/{await node(api)}"))["status"]["allocatable"]["cpu"]
    half = {"requests": {"cpu": f"{int(allocatable) * 700}m"}}
    filler = [{"name": "c", "image": "busybox", "resources": half}]
    await api.post(PODS, pod("filler", containers=filler))
    await running(api, "filler")
    await api.post(PODS, pod("additional", containers=filler))
    assert "Insufficient cpu" in await unschedulable(api, "additional")
    await api.delete(f"{PODS}/filler")
    await running(api, "additional")


@virtual_with(nodes=2)
async def test_labels_of_nodes_are_respected(api: Api) -> None:
    await api.post(PODS, pod("restricted", nodeSelector={"label": "nonempty"}))
    assert "didn't match Pod's node affinity/selector" in await unschedulable(api, "restricted")
    name = await node(api)
    await api.patch(f"{NODES}/{name}", {"metadata": {"labels": {"kubernetes.io/e2e-x": "42"}}})
    await api.post(PODS, pod("with-labels", nodeSelector={"kubernetes.io/e2e-x": "42"}))
    assert (await running(api, "with-labels"))["spec"]["nodeName"] == name


def listening(ip: str, protocol: str = "TCP") -> list[dict[str, Any]]:
    port = {"containerPort": 8080, "hostPort": 54322, "protocol": protocol, "hostIP": ip}
    return [{"name": "c", "image": "busybox", "ports": [port]}]


@virtual
async def test_a_host_port_at_every_address_is_one_at_each(api: Api) -> None:
    await api.post(PODS, pod("pod4", containers=listening("0.0.0.0")))
    await running(api, "pod4")
    await api.post(PODS, pod("pod5", containers=listening("10.0.0.1")))
    assert "free ports" in await unschedulable(api, "pod5")


@virtual
async def test_a_host_port_may_be_had_by_address_and_protocol(api: Api) -> None:
    await api.post(PODS, pod("pod1", containers=listening("127.0.0.1")))
    await api.post(PODS, pod("pod2", containers=listening("10.0.0.1")))
    await api.post(PODS, pod("pod3", containers=listening("10.0.0.1", "UDP")))
    for name in ("pod1", "pod2", "pod3"):
        await running(api, name)


@virtual
async def test_a_pod_of_lower_priority_goes(api: Api) -> None:
    await offer(api, "5")
    await classes(api, low=1, medium=100, high=1000)
    await api.post(PODS, pod("victim", **asking("2", priorityClassName="low")))
    await api.post(PODS, pod("other", **asking("3", priorityClassName="medium")))
    victim = await running(api, "victim")
    await running(api, "other")
    assert (victim["spec"]["priority"], victim["spec"]["preemptionPolicy"]) == (1, "PreemptLowerPriority")
    await api.post(PODS, pod("preemptor", **asking("2", priorityClassName="high")))
    await running(api, "preemptor")
    assert (await api.refusal("GET", f"{PODS}/victim"))["reason"] == "NotFound"
    assert (await running(api, "other"))["spec"]["priority"] == 100


@virtual
async def test_a_critical_pod_finds_room(api: Api) -> None:
    await offer(api, "5")
    await classes(api, low=1)
    await api.post(PODS, pod("victim", **asking("4", priorityClassName="low")))
    await running(api, "victim")
    system = in_namespace("v1", "pods", "kube-system")
    await api.post(system, pod("critical", **asking("4", priorityClassName="system-cluster-critical")))
    await api.until(f"{system}/critical", lambda p: p["status"].get("phase") == "Running")
    await api.gone(f"{PODS}/victim")


@virtual
async def test_a_victim_tells_why_it_goes(api: Api) -> None:
    """A finalizer keeps it to be looked at."""
    await offer(api, "1")
    await classes(api, low=1, high=1000)
    held = pod("victim", **asking("1", priorityClassName="low"))
    held["metadata"]["finalizers"] = ["example.com/test-finalizer"]
    await api.post(PODS, held)
    await running(api, "victim")
    await api.post(PODS, pod("preemptor", **asking("1", priorityClassName="high")))
    victim = await api.until(f"{PODS}/victim", lambda p: p["metadata"].get("deletionTimestamp"))
    (condition,) = (c for c in victim["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "PreemptionByScheduler")
    await api.patch(f"{PODS}/victim", {"metadata": {"finalizers": None}}, MERGE)
    await running(api, "preemptor")


@virtual
async def test_replica_sets_of_four_priorities(api: Api) -> None:
    """The highest takes what the lowest had; those between keep theirs."""
    await offer(api, "10")
    await classes(api, p1=1, p2=2, p3=3, p4=4)

    async def replicated(name: str, replicas: int, amount: str) -> None:
        labels = {"name": name}
        spec = asking(amount, priorityClassName=name, terminationGracePeriodSeconds=0)
        raw = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}}
        sets = {"replicas": replicas, "selector": {"matchLabels": labels}}
        await api.post(SETS, {**raw, "spec": {**sets, "template": {"metadata": {"labels": labels}, "spec": spec}}})

    for name, replicas, amount in (("p1", 5, "1"), ("p2", 4, "1"), ("p3", 1, "1")):
        await replicated(name, replicas, amount)
        await api.until(f"{SETS}/{name}", lambda s, n=replicas: s["status"].get("readyReplicas") == n)
    await replicated("p4", 1, "5")
    await api.until(f"{SETS}/p4", lambda s: s["status"].get("readyReplicas") == 1)
    await asyncio.sleep(60)
    ready = {name: (await api.get(f"{SETS}/{name}"))["status"].get("readyReplicas", 0) for name in ("p1", "p2", "p3")}
    assert ready == {"p1": 0, "p2": 4, "p3": 1}
