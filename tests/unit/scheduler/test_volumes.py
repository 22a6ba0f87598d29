"""Pods with claims, on the whole loop with the controllers of storage: where they go, and why they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from podling import clock
from podling.api import core_v1, storage_v1
from podling.api.struct import clone, from_dict
from podling.cluster.config import ClusterConfig
from podling.cluster.inprocess import Cluster

Pod, Claim, Volume = core_v1.Pod, core_v1.PersistentVolumeClaim, core_v1.PersistentVolume


def on_nodes(test: Callable[[Cluster], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with Cluster(config=ClusterConfig(name="n", simulate=True, nodes=2)) as cluster:
                await test(cluster)

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def pod(name: str, *claims: str, **spec: Any) -> core_v1.Pod:
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    made = {"containers": [{"name": "c", "image": "i"}], "volumes": volumes, **spec}
    return from_dict({"metadata": {"name": name, "namespace": "default"}, "spec": made}, core_v1.Pod)


def claim(name: str, storage_class: str | None = None, mode: str = "ReadWriteOnce", **spec: Any) -> Claim:
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    made = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return from_dict({"metadata": {"name": name, "namespace": "default"}, "spec": made}, Claim)


def volume(name: str, node: str = "", storage_class: str = "local", **labels: str) -> Volume:
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "storageClassName": storage_class,
        "local": {"path": f"/mnt/{name}"},
    }
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    if not node:
        term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}
    spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
    return from_dict({"metadata": {"name": name, "labels": labels}, "spec": spec}, Volume)


def waiting_class(name: str = "local", provisioner: str = "kubernetes.io/no-provisioner", **more: Any) -> Any:
    made = {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer", **more}
    return from_dict(made, storage_v1.StorageClass)


async def why(cluster: Cluster, name: str = "p") -> str:
    """What keeps the pod from a node, without the words about preemption."""

    def said(found: core_v1.Pod) -> bool:
        return any(c.type == "PodScheduled" and c.status == "False" for c in found.status.conditions or ())

    found = await cluster.until(Pod, name, said)
    message = next(c.message or "" for c in found.status.conditions or () if c.type == "PodScheduled")
    return message.partition(" preemption:")[0]


async def node_of(cluster: Cluster, name: str = "p") -> str:
    found = await cluster.until(Pod, name, lambda p: p.status.phase == "Running")
    return found.spec.node_name or ""


def nothing_on(*names: str) -> str:
    return f"0/2 nodes are available: {', '.join(names)}."


@on_nodes
async def test_a_missing_claim_is_waited_for(cluster: Cluster) -> None:
    await cluster.client.create(pod("p", "c"))
    assert await why(cluster) == nothing_on('persistentvolumeclaim "c" not found')
    await cluster.client.create(claim("c"))
    began = clock.elapsed()
    await node_of(cluster)
    assert clock.elapsed() - began < 10


@on_nodes
async def test_a_claim_that_nothing_is_bound_to(cluster: Cluster) -> None:
    await cluster.client.create(claim("c", ""))
    await cluster.client.create(pod("p", "c"))
    assert await why(cluster) == nothing_on("pod has unbound immediate PersistentVolumeClaims")
    await cluster.client.create(volume("v", "n-2", ""))
    assert await node_of(cluster) == "n-2"


@on_nodes
async def test_the_default_class_gives_a_volume_on_the_pods_node(cluster: Cluster) -> None:
    await cluster.client.create(claim("c"))
    await cluster.until(Claim, "c", lambda c: c.spec.storage_class_name == "standard")
    await asyncio.sleep(5)
    events = (await cluster.client.list(core_v1.Event, "default")).items
    text = "waiting for first consumer to be created before binding"
    assert ("WaitForFirstConsumer", text) in [(e.reason, e.message) for e in events]
    await cluster.client.create(pod("p", "c", nodeSelector={"kubernetes.io/hostname": "n-2"}))
    assert await node_of(cluster) == "n-2"
    bound = await cluster.until(Claim, "c", lambda c: c.status.phase == "Bound")
    assert (bound.metadata.annotations or {})["volume.kubernetes.io/selected-node"] == "n-2"
    made = await cluster.client.get(Volume, bound.spec.volume_name or "")
    assert made.spec.local is not None
    assert made.spec.local.path == f"/var/lib/podling/nodes/n-2/local-path/{made.metadata.name}"
    assert made.status.phase == "Bound"
    await cluster.client.delete(Pod, "p", "default")
    await cluster.gone(Pod, "p")
    # The claim holds the next pod where its data is.
    await cluster.client.create(pod("again", "c"))
    assert await node_of(cluster, "again") == "n-2"
    await cluster.client.create(pod("other", "c", nodeSelector={"kubernetes.io/hostname": "n-1"}))
    assert await why(cluster, "other") == nothing_on(
        "1 node(s) didn't match PersistentVolume's node affinity", "1 node(s) didn't match Pod's node affinity/selector"
    )
    for name in ("again", "other"):
        await cluster.client.delete(Pod, name, "default")
    await cluster.client.delete(Claim, "c", "default")
    await cluster.gone(Claim, "c")
    await cluster.gone(Volume, made.metadata.name or "")


@on_nodes
async def test_volumes_that_are_there_are_given_by_node(cluster: Cluster) -> None:
    await cluster.client.create(waiting_class())
    for name in ("a", "b"):
        await cluster.client.create(claim(name, "local"))
    await cluster.client.create(pod("p", "a", "b"))
    assert await why(cluster) == nothing_on("2 node(s) didn't find available persistent volumes to bind")
    await cluster.client.create(volume("one", "n-1"))
    await cluster.client.create(volume("two", "n-2"))
    await asyncio.sleep(30)
    assert not (await cluster.client.get(Pod, "p", "default")).spec.node_name
    await cluster.client.create(volume("three", "n-2"))
    assert await node_of(cluster) == "n-2"
    bound = {(await cluster.client.get(Claim, name, "default")).spec.volume_name for name in ("a", "b")}
    assert bound == {"two", "three"}


@on_nodes
async def test_pods_at_once_do_not_take_one_volume_twice(cluster: Cluster) -> None:
    await cluster.client.create(waiting_class())
    names = [str(n) for n in range(6)]
    for name in names:
        await cluster.client.create(volume(f"v{name}", f"n-{int(name) % 2 + 1}"))
        await cluster.client.create(claim(f"c{name}", "local"))
    for name in names:
        await cluster.client.create(pod(f"p{name}", f"c{name}"))
    for name in names:
        await node_of(cluster, f"p{name}")
    held = [c.spec.volume_name for c in (await cluster.client.list(Claim, "default")).items]
    assert sorted(h or "" for h in held) == [f"v{name}" for name in names]


@on_nodes
async def test_pods_at_once_share_a_claim_on_one_node(cluster: Cluster) -> None:
    await cluster.client.create(claim("c"))
    for name in ("p", "q", "r"):
        await cluster.client.create(pod(name, "c"))
    assert len({await node_of(cluster, name) for name in ("p", "q", "r")}) == 1


@on_nodes
async def test_lost_claims_and_claims_that_go(cluster: Cluster) -> None:
    await cluster.client.create(volume("v", storage_class=""))
    await cluster.client.create(claim("lost", ""))
    await cluster.until(Claim, "lost", lambda c: c.status.phase == "Bound")
    gone = clone(await cluster.until(Volume, "v", lambda v: v.status.phase == "Bound"))
    gone.metadata.finalizers = None
    await cluster.client.update(gone)
    await cluster.client.delete(Volume, "v")
    await cluster.until(Claim, "lost", lambda c: c.status.phase == "Lost")
    await cluster.client.create(pod("p", "lost"))
    assert await why(cluster) == nothing_on('persistentvolumeclaim "lost" bound to non-existent persistentvolume "v"')
    leaving = claim("leaving")
    leaving.metadata.finalizers = ["example.com/stay"]
    await cluster.client.create(leaving)
    await cluster.client.delete(Claim, "leaving", "default")
    await cluster.client.create(pod("q", "leaving"))
    assert await why(cluster, "q") == nothing_on('persistentvolumeclaim "leaving" is being deleted')


@on_nodes
async def test_a_claim_of_one_pod_alone(cluster: Cluster) -> None:
    await cluster.client.create(claim("c", mode="ReadWriteOncePod"))
    await cluster.client.create(pod("p", "c"))
    await node_of(cluster)
    await cluster.client.create(pod("q", "c"))
    # Whoever is on the node where the volume is not gives the first plugin's reason.
    text = "2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
    assert await why(cluster, "q") == nothing_on(text)
    await cluster.client.delete(Pod, "p", "default")
    await node_of(cluster, "q")


@on_nodes
async def test_an_ephemeral_volume_has_a_claim_of_its_own(cluster: Cluster) -> None:
    template = {"spec": claim("x").spec, "metadata": {"labels": {"of": "p"}}}
    template["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    await cluster.client.create(pod("p", volumes=volumes))
    await node_of(cluster)
    made = await cluster.client.get(Claim, "p-scratch", "default")
    assert (made.status.phase, made.metadata.labels) == ("Bound", {"of": "p"})
    await cluster.client.delete(Pod, "p", "default")
    await cluster.gone(Claim, "p-scratch")


@on_nodes
async def test_zones(cluster: Cluster) -> None:
    for node, zone in (("n-1", "a"), ("n-2", "b")):
        await cluster.client.patch(
            core_v1.Node, node, None, {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}
        )
    made = volume("v", "", "", **{"topology.kubernetes.io/zone": "b"})
    await cluster.client.create(made)
    await cluster.client.create(claim("c", ""))
    await cluster.client.create(pod("p", "c"))
    assert await node_of(cluster) == "n-2"
    await cluster.client.create(pod("q", "c", nodeSelector={"topology.kubernetes.io/zone": "a"}))
    assert "1 node(s) had no available volume zone" in await why(cluster, "q")


@on_nodes
async def test_topologies_of_a_class(cluster: Cluster) -> None:
    term = {"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["n-2"]}]}
    await cluster.client.create(waiting_class("there", "podling.dev/local-path", allowedTopologies=[term]))
    await cluster.client.create(claim("c", "there"))
    await cluster.client.create(pod("p", "c"))
    assert await node_of(cluster) == "n-2"


@on_nodes
async def test_a_pod_that_goes_while_its_claims_are_bound(cluster: Cluster) -> None:
    """Nobody provisions for this class: the pod waits with a node in mind, and its room is free when it is gone."""
    await cluster.client.create(waiting_class("slow", "example.com/nobody"))
    await cluster.client.create(claim("c", "slow"))
    await cluster.client.create(pod("p", "c"))
    await cluster.until(Claim, "c", lambda c: "volume.kubernetes.io/selected-node" in (c.metadata.annotations or {}))
    await asyncio.sleep(1)
    assert not (await cluster.client.get(Pod, "p", "default")).spec.node_name
    await cluster.client.delete(Pod, "p", "default")
    await cluster.gone(Pod, "p")


@on_nodes
async def test_binding_that_takes_too_long(cluster: Cluster) -> None:
    await cluster.client.create(waiting_class("slow", "example.com/nobody"))
    await cluster.client.create(claim("c", "slow"))
    await cluster.client.create(pod("p", "c"))
    await asyncio.sleep(630)
    events = [(e.reason, e.message) for e in (await cluster.client.list(core_v1.Event, "default")).items]
    text = 'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded'
    assert ("FailedScheduling", text) in events
