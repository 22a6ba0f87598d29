"""Pods with claims: where they go, what they wait for, and what becomes of the volumes. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1, events_v1, storage_v1
from podling.cluster.config import layout
from podling.cluster.host_paths import NodePaths
from podling.cluster.inprocess import Cluster
from podling.store.memory import MemoryStore

Claim, Volume = core_v1.PersistentVolumeClaim, core_v1.PersistentVolume
Test = Callable[[Cluster], Awaitable[None]]


def run(test: Test, *, nodes: int = 2) -> None:
    async def main() -> None:
        async with Cluster(nodes=nodes) as cluster:
            await test(cluster)

    clock.run_virtual(main())


def claim(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def pod(name: str, *claims: str, **spec: Any) -> dict[str, Any]:
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    container = {"name": "c", "image": "busybox", "command": ["sleep", "infinity"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": volumes, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def volume(name: str, node: str, storage_class: str = "local") -> dict[str, Any]:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": f"/mnt/{name}"},
            "nodeAffinity": affinity, "storageClassName": storage_class}  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def waiting_class(name: str = "local", provisioner: str = "kubernetes.io/no-provisioner") -> dict[str, Any]:
    return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"}  # fmt: skip


async def running(cluster: Cluster, name: str) -> core_v1.Pod:
    return await cluster.until(core_v1.Pod, name, lambda p: p.status.phase == "Running", seconds=30)


async def unschedulable(cluster: Cluster, name: str) -> str:
    def message(found: core_v1.Pod) -> str:
        return next((c.message or "" for c in found.status.conditions or () if c.reason == "Unschedulable"), "")

    return message(await cluster.until(core_v1.Pod, name, lambda p: bool(message(p)), seconds=30))


async def reasons(cluster: Cluster, name: str) -> set[str]:
    await asyncio.sleep(2)
    events = (await cluster.client.list(events_v1.Event, "default")).items
    return {e.reason or "" for e in events if e.regarding and e.regarding.name == name}


NOT_HELPFUL = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."


def test_a_stateful_set_gets_volumes_of_the_default_class_and_finds_them_again() -> None:
    async def test(cluster: Cluster) -> None:
        labels = {"app": "db"}
        spec = pod("db")["spec"]
        await cluster.apply({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": spec},
                     "volumeClaimTemplates": [claim("data")]},
        })  # fmt: skip
        first = await running(cluster, "db-0")
        await running(cluster, "db-1")
        bound = await cluster.until(Claim, "data-db-0", lambda c: c.status.phase == "Bound")
        assert bound.spec.storage_class_name == "standard"
        found = await cluster.client.get(Volume, bound.spec.volume_name or "")
        assert found.metadata.name == f"pvc-{bound.metadata.uid}" and found.spec.capacity == {"storage": "1Gi"}
        assert {"WaitForFirstConsumer", "ExternalProvisioning", "Provisioning", "ProvisioningSucceeded"} <= (
            await reasons(cluster, "data-db-0")
        )
        await cluster.client.delete(core_v1.Pod, "db-0", "default")
        await asyncio.sleep(5)
        again = await running(cluster, "db-0")
        assert again.metadata.uid != first.metadata.uid and again.spec.node_name == first.spec.node_name

    run(test)


def test_a_volume_goes_with_its_claim_unless_it_is_kept() -> None:
    async def test(cluster: Cluster) -> None:
        kept = {**waiting_class("kept", "podling.dev/local-path"), "reclaimPolicy": "Retain"}
        for body in (kept, claim("gone"), claim("stays", storageClassName="kept"), pod("p", "gone", "stays")):
            await cluster.apply(body)
        await running(cluster, "p")
        await cluster.client.delete(core_v1.Pod, "p", "default")
        for name in ("gone", "stays"):
            await cluster.client.delete(Claim, name, "default")
        await asyncio.sleep(10)
        (left,) = (await cluster.client.list(Volume)).items
        assert (left.spec.storage_class_name, left.status.phase) == ("kept", "Released")
        await cluster.client.delete(Volume, left.metadata.name or "")
        await cluster.gone(Volume, left.metadata.name or "", namespace="", seconds=10)

    run(test)


def test_what_can_not_be_provisioned_says_why() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.apply(claim("many", accessModes=["ReadWriteMany"]))
        await cluster.apply(pod("p", "many"))
        await asyncio.sleep(3)
        assert "ProvisioningFailed" in await reasons(cluster, "many")
        assert (await cluster.client.get(core_v1.Pod, "p", "default")).spec.node_name is None
        assert "FailedScheduling" in await reasons(cluster, "p")

    run(test)


def test_a_pod_waits_for_claims_that_are_bound_at_once() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.apply(claim("data", storageClassName="slow"))
        await cluster.apply(pod("p", "data"))
        unbound = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        assert await unschedulable(cluster, "p") == f"{unbound} {NOT_HELPFUL}"
        await cluster.apply(volume("v", "node-2", "slow"))
        assert (await running(cluster, "p")).spec.node_name == "node-2"

    run(test)


def test_a_claim_that_is_not_there_is_waited_for() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.apply(pod("p", "data"))
        missing = '0/2 nodes are available: persistentvolumeclaim "data" not found.'
        assert await unschedulable(cluster, "p") == f"{missing} {NOT_HELPFUL}"
        await cluster.apply(claim("data"))
        await running(cluster, "p")

    run(test)


def test_a_pod_goes_where_a_volume_by_hand_is_and_each_gets_its_own() -> None:
    async def test(cluster: Cluster) -> None:
        for body in (waiting_class(), volume("v1", "node-2"), volume("v2", "node-2")):
            await cluster.apply(body)
        for name in ("a", "b", "c"):
            await cluster.apply(claim(name, storageClassName="local"))
            await cluster.apply(pod(name, name))
        for name in ("a", "b"):
            assert (await running(cluster, name)).spec.node_name == "node-2"
        nothing = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
        assert await unschedulable(cluster, "c") == f"{nothing} {NOT_HELPFUL}"
        claims = (await cluster.client.list(Claim, "default")).items
        assert {c.spec.volume_name for c in claims} == {"v1", "v2", None}
        await cluster.apply(volume("v3", "node-1"))
        assert (await running(cluster, "c")).spec.node_name == "node-1"

    run(test)


def test_a_pod_can_not_leave_its_volume() -> None:
    async def test(cluster: Cluster) -> None:
        for body in (waiting_class(), volume("v", "node-2"), claim("data", storageClassName="local"), pod("a", "data")):
            await cluster.apply(body)
        await running(cluster, "a")
        await cluster.apply(pod("b", "data", nodeSelector={"kubernetes.io/hostname": "node-1"}))
        said = (
            "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, "
            "1 node(s) didn't match Pod's node affinity/selector."
        )
        assert await unschedulable(cluster, "b") == f"{said} {NOT_HELPFUL}"

    run(test)


def test_one_pod_at_a_time() -> None:
    async def test(cluster: Cluster) -> None:
        for body in (claim("data", accessModes=["ReadWriteOncePod"]), pod("a", "data"), pod("b", "data")):
            await cluster.apply(body)
        await running(cluster, "a")
        taken = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
        assert taken in await unschedulable(cluster, "b")
        await cluster.client.delete(core_v1.Pod, "a", "default")
        await running(cluster, "b")

    run(test)


def test_an_ephemeral_volume_lives_as_long_as_its_pod() -> None:
    async def test(cluster: Cluster) -> None:
        template = {"metadata": {"labels": {"of": "p"}}, "spec": claim("x")["spec"]}
        volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
        await cluster.apply(pod("p", volumes=volumes))
        await running(cluster, "p")
        made = await cluster.client.get(Claim, "p-scratch", "default")
        assert made.metadata.labels == {"of": "p"} and made.status.phase == "Bound"
        await cluster.client.delete(core_v1.Pod, "p", "default")
        await cluster.gone(Claim, "p-scratch", seconds=60)
        await asyncio.sleep(5)
        assert not (await cluster.client.list(Volume)).items

    run(test)


def test_a_default_class_that_was_removed_stays_removed() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with Cluster(nodes=1, store=store) as cluster:
            await cluster.client.delete(storage_v1.StorageClass, "standard")
        async with Cluster(nodes=1, store=store) as cluster:
            assert not (await cluster.client.list(storage_v1.StorageClass)).items

    clock.run_virtual(main())


def test_directories_are_made_for_all_and_removed_only_where_they_belong(tmp_path: Path) -> None:
    async def main() -> None:
        places = NodePaths(layout(tmp_path))
        path = places.path("n", "pvc-1")
        await places.make(path)
        assert Path(path).stat().st_mode & 0o777 == 0o777
        (Path(path) / "file").write_text("x")
        outside = tmp_path / "outside"
        outside.mkdir()
        wrong = (str(outside), f"{path}/../../../../outside", f"{path}/file", str(Path(path).parent), "/", "", "n/../x")
        for other in wrong:
            with pytest.raises(OSError, match="no directory of a volume"):
                await places.remove(other)
        await places.remove(path)
        await places.remove(path)
        assert not Path(path).exists() and outside.exists()

    asyncio.run(main())
