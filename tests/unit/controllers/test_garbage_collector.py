"""Garbage collection against the real API server: background, foreground, orphan, absent owners."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from controllers.cluster import Cluster, selector, template
from podling import clock
from podling.api import apps_v1, core_v1, rbac_v1
from podling.api.meta_v1 import ObjectMeta, OwnerReference
from podling.controllers.deployment import DeploymentController
from podling.controllers.garbage_collector import FOREGROUND, GarbageCollector, Graph
from podling.controllers.replicaset import ReplicaSetController


def in_cluster(main: Callable[[Cluster], Any], *more: Any, **options: Any) -> None:
    async def run() -> None:
        async with Cluster(*more, GarbageCollector, **options) as cluster:
            await main(cluster)

    clock.run_virtual(run())


def owner_of(obj: Any, block: bool | None = None, uid: str | None = None) -> OwnerReference:
    return OwnerReference(
        api_version=obj.api_version,
        kind=obj.kind,
        name=obj.metadata.name,
        uid=uid or obj.metadata.uid,
        block_owner_deletion=block,
    )


def config_map(name: str, *owners: OwnerReference, namespace: str = "default") -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace, owner_references=list(owners) or None))


async def names(cluster: Cluster) -> list[str]:
    return [c.metadata.name or "" for c in await cluster.list(core_v1.ConfigMap)]


def test_a_deployment_takes_its_replica_sets_and_pods_with_it() -> None:
    async def main(cluster: Cluster) -> None:
        d = apps_v1.Deployment(
            metadata=ObjectMeta(name="web", namespace="default"),
            spec=apps_v1.DeploymentSpec(replicas=3, selector=selector(), template=template()),
        )
        await cluster.client.create(d)
        await cluster.settle()
        assert len(await cluster.list(core_v1.Pod)) == 3
        await cluster.client.delete(apps_v1.Deployment, "web", "default", propagation_policy="Background")
        assert await cluster.get(apps_v1.Deployment, "web") is None
        await cluster.settle()
        assert await cluster.list(apps_v1.ReplicaSet) == [] and await cluster.list(core_v1.Pod) == []

    in_cluster(main, ReplicaSetController, DeploymentController)


def test_foreground_deletion_keeps_the_owner_until_what_blocks_it_is_gone() -> None:
    async def main(cluster: Cluster) -> None:
        owner = await cluster.client.create(config_map("owner"))
        held = config_map("held", owner_of(owner, True))
        held.metadata.finalizers = ["example.com/hold"]
        await cluster.client.create(held)
        await cluster.client.create(config_map("free", owner_of(owner, True)))
        await cluster.client.create(config_map("unblocking", owner_of(owner, False)))
        await cluster.settle()
        await cluster.client.delete(core_v1.ConfigMap, "owner", "default", propagation_policy="Foreground")
        await cluster.settle()
        assert await names(cluster) == ["held", "owner"]
        waiting = await cluster.client.get(core_v1.ConfigMap, "owner", "default")
        assert waiting.metadata.finalizers == [FOREGROUND] and waiting.metadata.deletion_timestamp
        await cluster.change(core_v1.ConfigMap, "held", lambda c: setattr(c.metadata, "finalizers", None))
        await cluster.settle()
        assert await names(cluster) == []

    in_cluster(main)


def test_foreground_deletion_of_a_deployment_goes_from_the_pods_up() -> None:
    async def main(cluster: Cluster) -> None:
        d = apps_v1.Deployment(
            metadata=ObjectMeta(name="web", namespace="default"),
            spec=apps_v1.DeploymentSpec(replicas=2, selector=selector(), template=template()),
        )
        assert d.spec.template.metadata is not None
        d.spec.template.metadata.finalizers = ["example.com/hold"]
        await cluster.client.create(d)
        await cluster.settle()
        await cluster.client.delete(apps_v1.Deployment, "web", "default", propagation_policy="Foreground")
        await cluster.settle(3)
        assert len(await cluster.list(apps_v1.Deployment)) == 1 and len(await cluster.list(apps_v1.ReplicaSet)) == 1
        pods = await cluster.list(core_v1.Pod)
        assert len(pods) == 2 and all(p.metadata.deletion_timestamp for p in pods)
        for pod in pods:
            await cluster.change(
                core_v1.Pod, pod.metadata.name or "", lambda p: setattr(p.metadata, "finalizers", None)
            )
        await cluster.settle(5)
        assert await cluster.list(core_v1.Pod) == [] and await cluster.list(apps_v1.Deployment) == []

    in_cluster(main, ReplicaSetController, DeploymentController)


def test_orphans_stay_and_name_their_owner_no_longer() -> None:
    async def main(cluster: Cluster) -> None:
        owner = await cluster.client.create(config_map("owner"))
        await cluster.client.create(config_map("child", owner_of(owner)))
        await cluster.settle()
        await cluster.client.delete(core_v1.ConfigMap, "owner", "default", propagation_policy="Orphan")
        await cluster.settle()
        assert await names(cluster) == ["child"]
        child = await cluster.client.get(core_v1.ConfigMap, "child", "default")
        assert not child.metadata.owner_references

    in_cluster(main)


def test_an_object_with_another_owner_left_only_loses_the_reference() -> None:
    async def main(cluster: Cluster) -> None:
        one, two = await cluster.client.create(config_map("one")), await cluster.client.create(config_map("two"))
        await cluster.client.create(config_map("child", owner_of(one, True), owner_of(two)))
        await cluster.settle()
        await cluster.client.delete(core_v1.ConfigMap, "one", "default", propagation_policy="Foreground")
        await cluster.settle()
        assert await names(cluster) == ["child", "two"]
        child = await cluster.client.get(core_v1.ConfigMap, "child", "default")
        assert [o.name for o in child.metadata.owner_references or ()] == ["two"]

    in_cluster(main)


def test_an_owner_that_never_was_or_is_a_namesake_is_no_owner() -> None:
    async def main(cluster: Cluster) -> None:
        there = await cluster.client.create(config_map("there"))
        absent = OwnerReference(api_version="v1", kind="ConfigMap", name="absent", uid="never-was")
        await cluster.client.create(config_map("child-of-absent", absent))
        await cluster.client.create(config_map("child-of-namesake", owner_of(there, uid="former-uid")))
        await cluster.client.create(config_map("child-of-there", owner_of(there)))
        await cluster.settle()
        assert await names(cluster) == ["child-of-there", "there"]

    in_cluster(main)


def test_an_owner_in_another_namespace_is_no_owner_and_said_so() -> None:
    async def main(cluster: Cluster) -> None:
        owner = await cluster.client.create(config_map("owner", namespace="other"))
        await cluster.client.create(config_map("child", owner_of(owner)))
        await cluster.settle()
        assert await names(cluster) == []
        events = await cluster.events()
        assert events == [
            (
                "OwnerRefInvalidNamespace",
                f"ownerRef [v1/ConfigMap, namespace: default, name: owner, uid: {owner.metadata.uid}] "
                'does not exist in namespace "default"',
            )
        ]

    in_cluster(main, namespaces=("default", "other"))


def test_an_object_of_the_whole_cluster_with_an_owner_in_a_namespace_stays() -> None:
    async def main(cluster: Cluster) -> None:
        absent = OwnerReference(api_version="v1", kind="ConfigMap", name="absent", uid="never-was")
        cluster_role = rbac_v1.ClusterRole(metadata=ObjectMeta(name="child", owner_references=[absent]))
        await cluster.client.create(cluster_role)
        await cluster.settle(60)
        assert await cluster.get(rbac_v1.ClusterRole, "child", None) is not None

    in_cluster(main)


def test_owners_of_kinds_that_are_not_served_are_waited_for_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def main(cluster: Cluster) -> None:
        for n in range(2):
            unknown = OwnerReference(api_version="example.com/v1", kind="Widget", name="w", uid=f"u{n}")
            await cluster.client.create(config_map(f"child-{n}", unknown))
        await cluster.settle(3600)
        assert await names(cluster) == ["child-0", "child-1"]
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert len(said) == 1 and said[0].endswith("waits until the cluster serves Widget of example.com/v1")

    in_cluster(main)


def test_a_circle_of_owners_can_be_deleted_in_the_foreground() -> None:
    async def main(cluster: Cluster) -> None:
        a = await cluster.client.create(config_map("a"))
        b = await cluster.client.create(config_map("b", owner_of(a, True)))
        await cluster.change(
            core_v1.ConfigMap, "a", lambda c: setattr(c.metadata, "owner_references", [owner_of(b, True)])
        )
        await cluster.settle()
        await cluster.client.delete(core_v1.ConfigMap, "a", "default", propagation_policy="Foreground")
        await cluster.settle(30)
        assert await names(cluster) == []

    in_cluster(main)


def test_dependents_that_were_there_before_the_collector_are_found() -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            owner = await cluster.client.create(config_map("owner"))
            await cluster.client.create(config_map("child", owner_of(owner)))
            await cluster.client.delete(core_v1.ConfigMap, "owner", "default", propagation_policy="Background")
            assert await names(cluster) == ["child"]
            collector = GarbageCollector(cluster.manager._context)
            import asyncio

            task = asyncio.create_task(collector.run())
            await cluster.settle()
            assert await names(cluster) == []
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await collector.close()

    clock.run_virtual(main())


def meta(uid: str, *owners: str, block: bool = False) -> ObjectMeta:
    refs = [OwnerReference(api_version="v1", kind="X", name=o, uid=o, block_owner_deletion=block) for o in owners]
    return ObjectMeta(name=uid, uid=uid, namespace="n", owner_references=refs)


def test_the_graph_asks_about_owners_nobody_has_seen_and_forgets_them_with_their_last_dependent() -> None:
    graph = Graph()
    look, _ = graph.observe("v1", "X", meta("child", "owner"))
    assert look == {"owner"} and graph.nodes["owner"].virtual
    assert graph.observe("v1", "X", meta("owner")) == (set(), set())
    assert not graph.nodes["owner"].virtual and graph.nodes["owner"].dependents == {"child"}
    assert graph.forget("owner") == {"child"} and graph.nodes["owner"].virtual
    graph.forget("child")
    assert graph.nodes == {}


def test_the_graph_looks_at_a_waiting_owner_when_a_reference_stops_blocking() -> None:
    graph = Graph()
    owner = meta("owner")
    owner.deletion_timestamp, owner.finalizers = "2026-01-01T00:00:00Z", [FOREGROUND]
    graph.observe("v1", "X", owner)
    look, _ = graph.observe("v1", "X", meta("child", "owner", block=True))
    assert look == {"child"} and graph.blocking(graph.nodes["owner"])
    look, _ = graph.observe("v1", "X", meta("child", "owner", block=False))
    assert look == {"owner"} and not graph.blocking(graph.nodes["owner"])
    graph.observe("v1", "X", meta("other", "owner", block=True))
    assert graph.forget("other") == {"owner"}
