"""Silent nodes, taints, evictions, pod ranges and pods of nodes that are gone, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from controllers.cluster import Cluster, pod, set_running
from podling import clock
from podling.api import coordination_v1, core_v1, times
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers import node_lifecycle, taints
from podling.controllers.base import Config
from podling.controllers.node_ipam import Exhausted, NodeIpamController, Ranges
from podling.controllers.node_lifecycle import NodeLifecycleController
from podling.controllers.pod_gc import PodGarbageCollector, surplus
from podling.controllers.taint_eviction import TaintEvictionController

READY = core_v1.NodeCondition(type="Ready", status="True", reason="KubeletReady")


class Heart:
    """Renews a node's Lease every ten seconds until stopped."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        meta = ObjectMeta(name=self._name, namespace="kube-node-lease")
        lease = await self._cluster.client.create(coordination_v1.Lease(metadata=meta))
        while True:
            lease = clone(lease)
            lease.spec.renew_time = times.format_micro(clock.now())
            lease = await self._cluster.client.update(lease)
            await asyncio.sleep(10)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def add_node(cluster: Cluster, name: str, **labels: str) -> Heart:
    node = core_v1.Node(metadata=ObjectMeta(name=name, labels=labels or None))
    await cluster.client.create(node)

    def ready(n: core_v1.Node) -> None:
        n.status.conditions = [clone(READY)]

    await cluster.change_status(core_v1.Node, name, ready, None)
    return Heart(cluster, name)


def in_cluster(main: Callable[[Cluster], Any], *kinds: Any, **options: Any) -> None:
    async def run() -> None:
        async with Cluster(*kinds, agents=False, namespaces=("default", "kube-node-lease"), **options) as cluster:
            await main(cluster)

    clock.run_virtual(run())


async def ready_of(cluster: Cluster, name: str) -> tuple[str, str | None, str | None]:
    node = await cluster.client.get(core_v1.Node, name)
    found = node_lifecycle.condition(node, "Ready")
    assert found is not None
    return found.status, found.reason, found.message


async def taints_of(cluster: Cluster, name: str) -> set[tuple[str, str]]:
    node = await cluster.client.get(core_v1.Node, name)
    return {(t.key, t.effect) for t in node.spec.taints or ()}


async def run_pod(cluster: Cluster, name: str, node: str, *tolerations: core_v1.Toleration) -> None:
    p = pod(name, {"app": "web"}, node=node)
    p.spec.tolerations = list(tolerations) or None
    await cluster.client.create(p)
    await cluster.change_status(core_v1.Pod, name, set_running)


def for_unreachable(seconds: int | None) -> core_v1.Toleration:
    return core_v1.Toleration(
        key=taints.UNREACHABLE, operator="Exists", effect=taints.NO_EXECUTE, toleration_seconds=seconds
    )


def test_a_node_that_beats_stays_ready_and_one_that_stops_becomes_unknown() -> None:
    async def main(cluster: Cluster) -> None:
        first, second = await add_node(cluster, "n1"), await add_node(cluster, "n2")
        await run_pod(cluster, "web", "n1")
        await cluster.settle(600)
        assert (await ready_of(cluster, "n1"))[0] == "True" and await taints_of(cluster, "n1") == set()
        began = clock.elapsed()
        await first.stop()
        await cluster.until(lambda: lost(cluster, "n1"))
        assert 40 <= clock.elapsed() - began <= 51
        assert await ready_of(cluster, "n1") == ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
        assert (await ready_of(cluster, "n2"))[0] == "True"
        await cluster.settle(11)
        assert await taints_of(cluster, "n1") == {
            (taints.UNREACHABLE, "NoSchedule"),
            (taints.UNREACHABLE, "NoExecute"),
        }
        p = await cluster.client.get(core_v1.Pod, "web", "default")
        assert [(c.type, c.status) for c in p.status.conditions or ()] == [("Ready", "False")]
        events = await cluster.events()
        assert ("RegisteredNode", "Node n1 event: Registered Node n1 in Controller") in events
        assert ("NodeNotReady", "Node n1 status is now: NodeNotReady") in events
        assert ("NodeNotReady", "Node is not ready") in events

        def ready(n: core_v1.Node) -> None:
            n.status.conditions = [clone(READY)]
            n.status.conditions[0].last_heartbeat_time = times.now()

        await cluster.change_status(core_v1.Node, "n1", ready, None)
        await cluster.settle()
        assert await taints_of(cluster, "n1") == set()
        await cluster.client.delete(core_v1.Node, "n1")
        await cluster.settle()
        assert ("RemovingNode", "Node n1 event: Removing Node n1 from Controller") in await cluster.events()
        await second.stop()

    in_cluster(main, NodeLifecycleController)


async def lost(cluster: Cluster, name: str) -> bool:
    return (await ready_of(cluster, name))[0] == "Unknown"


def test_a_node_that_never_reported_is_said_to_have_never_reported() -> None:
    async def main(cluster: Cluster) -> None:
        heart = await add_node(cluster, "other")
        await cluster.client.create(core_v1.Node(metadata=ObjectMeta(name="n1")))
        await cluster.settle(55)
        assert not (await cluster.client.get(core_v1.Node, "n1")).status.conditions
        await cluster.settle(10)
        assert await ready_of(cluster, "n1") == (
            "Unknown",
            "NodeStatusNeverUpdated",
            "Kubelet never posted node status.",
        )
        await heart.stop()

    in_cluster(main, NodeLifecycleController)


def test_when_every_node_is_lost_nothing_is_evicted() -> None:
    async def main(cluster: Cluster) -> None:
        heart = await add_node(cluster, "n1")
        await run_pod(cluster, "web", "n1")
        await heart.stop()
        await cluster.settle(1000)
        assert await taints_of(cluster, "n1") == {(taints.UNREACHABLE, "NoSchedule")}
        assert len(await cluster.list(core_v1.Pod)) == 1

    in_cluster(main, NodeLifecycleController, TaintEvictionController)


def test_lost_nodes_are_tainted_one_by_one_at_the_eviction_rate() -> None:
    async def main(cluster: Cluster) -> None:
        hearts = [await add_node(cluster, f"n{i}") for i in range(6)]
        await cluster.settle(1)
        for heart in hearts[:2]:
            await heart.stop()
        counts = []
        for _ in range(8):
            await cluster.settle(10)
            found = [await taints_of(cluster, f"n{i}") for i in range(6)]
            counts.append(sum((taints.UNREACHABLE, "NoExecute") in t for t in found))
        assert counts[-1] == 2 and 1 in counts
        for heart in hearts[2:]:
            await heart.stop()

    in_cluster(main, NodeLifecycleController)


def test_cordoned_and_pressed_nodes_get_their_taints() -> None:
    async def main(cluster: Cluster) -> None:
        heart = await add_node(cluster, "n1")
        await cluster.change(core_v1.Node, "n1", lambda n: setattr(n.spec, "unschedulable", True), None)

        def pressed(n: core_v1.Node) -> None:
            n.status.conditions = [clone(READY), core_v1.NodeCondition(type="DiskPressure", status="True")]

        await cluster.change_status(core_v1.Node, "n1", pressed, None)
        await cluster.settle()
        assert await taints_of(cluster, "n1") == {
            (taints.UNSCHEDULABLE, "NoSchedule"),
            (taints.DISK_PRESSURE, "NoSchedule"),
        }
        await heart.stop()

    in_cluster(main, NodeLifecycleController)


def test_pods_leave_a_tainted_node_each_when_its_seconds_are_over() -> None:
    async def main(cluster: Cluster) -> None:
        heart = await add_node(cluster, "n1")
        await run_pod(cluster, "now", "n1")
        await run_pod(cluster, "later", "n1", for_unreachable(300))
        await run_pod(cluster, "never", "n1", for_unreachable(None))
        await run_pod(cluster, "sooner", "n1", for_unreachable(60))

        def taint(n: core_v1.Node) -> None:
            n.spec.taints = [core_v1.Taint(key=taints.UNREACHABLE, effect=taints.NO_EXECUTE)]

        def hold(p: core_v1.Pod) -> None:
            p.metadata.finalizers = ["example.com/hold"]

        await cluster.change(core_v1.Pod, "sooner", hold)
        await cluster.change(core_v1.Node, "n1", taint, None)
        await cluster.settle(1)
        assert await pods(cluster) == ["later", "never", "sooner"]
        await cluster.settle(60)
        gone = await cluster.client.get(core_v1.Pod, "sooner", "default")
        assert gone.metadata.deletion_timestamp
        (condition,) = [c for c in gone.status.conditions or () if c.type == "DisruptionTarget"]
        assert (condition.status, condition.reason, condition.message) == (
            "True",
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )
        await cluster.settle(235)
        assert "later" in await pods(cluster)
        await cluster.settle(10)
        assert await pods(cluster) == ["never", "sooner"]
        assert ("TaintManagerEviction", "Marking for deletion Pod default/later") in await cluster.events()
        await heart.stop()

    in_cluster(main, TaintEvictionController)


async def pods(cluster: Cluster) -> list[str]:
    return [p.metadata.name or "" for p in await cluster.list(core_v1.Pod)]


def test_a_taint_that_goes_in_time_cancels_the_eviction() -> None:
    async def main(cluster: Cluster) -> None:
        heart = await add_node(cluster, "n1")
        await run_pod(cluster, "web", "n1", for_unreachable(60))
        taint = core_v1.Taint(key=taints.UNREACHABLE, effect=taints.NO_EXECUTE)
        await cluster.change(core_v1.Node, "n1", lambda n: setattr(n.spec, "taints", [taint]), None)
        await cluster.settle(30)
        await cluster.change(core_v1.Node, "n1", lambda n: setattr(n.spec, "taints", None), None)
        await cluster.settle(100)
        assert await pods(cluster) == ["web"]
        events = await cluster.events()
        assert events == [("TaintManagerEviction", "Cancelling deletion of Pod default/web")]
        await heart.stop()

    in_cluster(main, TaintEvictionController)


def test_seconds_borne_is_the_shortest_of_what_is_used() -> None:
    a, b = (core_v1.Taint(key=k, effect=taints.NO_EXECUTE) for k in "ab")

    def tolerating(key: str, seconds: int | None) -> core_v1.Toleration:
        return core_v1.Toleration(key=key, operator="Exists", toleration_seconds=seconds)

    assert taints.seconds_borne([a, b], [tolerating("a", 10)]) == 0
    assert taints.seconds_borne([a, b], [tolerating("a", 10), tolerating("b", 5)]) == 5
    assert taints.seconds_borne([a], [tolerating("a", 10), tolerating("a", 5)]) == 10
    assert taints.seconds_borne([a, b], [tolerating("a", None), tolerating("b", None)]) is None
    assert taints.seconds_borne([a], [tolerating("a", -3)]) == 0


@pytest.mark.parametrize(
    ("nodes", "unhealthy", "state", "rate"),
    [
        (1, 0, "Normal", 0.1),
        (1, 1, "FullDisruption", 0.1),
        (3, 2, "Normal", 0.1),
        (5, 3, "PartialSegmentation", 0.0),
        (100, 60, "PartialSegmentation", 0.01),
        (100, 50, "Normal", 0.1),
    ],
)
def test_how_disrupted_a_zone_is(nodes: int, unhealthy: int, state: str, rate: float) -> None:
    zone = node_lifecycle.Zone(nodes, unhealthy)
    assert zone.state == state and node_lifecycle.eviction_rate(zone, 0.1) == rate


def test_every_node_gets_a_range_and_a_new_one_does_not_get_that_of_one_that_just_went() -> None:
    async def main(cluster: Cluster) -> None:
        for i in range(3):
            await cluster.client.create(core_v1.Node(metadata=ObjectMeta(name=f"n{i}")))
            await cluster.settle(0.1)
        nodes = await cluster.list(core_v1.Node, None)
        assert [n.spec.pod_cidr for n in nodes] == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]
        assert nodes[0].spec.pod_cidrs == ["10.244.0.0/24"]
        await cluster.client.delete(core_v1.Node, "n1")
        await cluster.client.create(core_v1.Node(metadata=ObjectMeta(name="n9")))
        await cluster.settle(0.1)
        assert (await cluster.client.get(core_v1.Node, "n9")).spec.pod_cidr == "10.244.3.0/24"
        await cluster.client.create(core_v1.Node(metadata=ObjectMeta(name="one-more")))
        await cluster.settle(0.1)
        assert (await cluster.client.get(core_v1.Node, "one-more")).spec.pod_cidr == "10.244.1.0/24"
        await cluster.client.create(core_v1.Node(metadata=ObjectMeta(name="too-many")))
        await cluster.settle(0.1)
        assert (await cluster.client.get(core_v1.Node, "too-many")).spec.pod_cidr is None
        assert ("CIDRNotAvailable", "Node too-many status is now: CIDRNotAvailable") in await cluster.events()

    in_cluster(main, NodeIpamController, config=Config(cluster_cidr="10.244.0.0/22"))


def test_ranges_of_both_families() -> None:
    import ipaddress

    six = Ranges(ipaddress.ip_network("fd00::/62"), 64)
    six.occupy("fd00:0:0:1::/64")
    six.occupy("10.0.0.0/24")
    assert [six.allocate() for _ in range(3)] == ["fd00::/64", "fd00:0:0:2::/64", "fd00:0:0:3::/64"]
    with pytest.raises(Exhausted):
        six.allocate()
    six.release("fd00:0:0:2::/64")
    assert six.allocate() == "fd00:0:0:2::/64"


def test_pods_of_a_node_that_is_gone_are_removed_after_quarantine() -> None:
    async def main(cluster: Cluster) -> None:
        heart = await add_node(cluster, "n1")
        await run_pod(cluster, "web", "n1")
        await run_pod(cluster, "held", "n1")
        await cluster.change(core_v1.Pod, "held", lambda p: setattr(p.metadata, "finalizers", ["example.com/hold"]))
        await heart.stop()
        await cluster.client.delete(core_v1.Node, "n1")
        await cluster.settle(35)
        assert await pods(cluster) == ["held", "web"]
        await cluster.settle(10)
        assert await pods(cluster) == ["held"]
        held = await cluster.client.get(core_v1.Pod, "held", "default")
        assert held.status.phase == "Failed" and held.metadata.deletion_timestamp
        (condition,) = [c for c in held.status.conditions or () if c.type == "DisruptionTarget"]
        assert (condition.reason, condition.message) == ("DeletionByPodGC", "PodGC: node no longer exists")

    in_cluster(main, PodGarbageCollector)


def test_ended_pods_beyond_the_threshold_go_evicted_ones_first() -> None:
    async def main(cluster: Cluster) -> None:
        heart = await add_node(cluster, "n1")
        for name, reason in (("a", None), ("b", None), ("c", "Evicted"), ("d", None)):
            await cluster.client.create(pod(name, node="n1"))

            def end(p: core_v1.Pod, reason: str | None = reason) -> None:
                p.status.phase, p.status.reason = "Failed", reason

            await cluster.change_status(core_v1.Pod, name, end)
            await cluster.settle(2)
        await cluster.settle(2)
        assert await pods(cluster) == ["b", "d"]
        await heart.stop()

    in_cluster(main, PodGarbageCollector, config=Config(terminated_pod_threshold=2))


def test_no_threshold_keeps_all() -> None:
    assert surplus([pod("a")], 0) == []


def test_taints_of_others_are_left_alone() -> None:
    node = core_v1.Node(metadata=ObjectMeta(name="n"))
    node.status.conditions = [core_v1.NodeCondition(type="Ready", status="False")]
    theirs = core_v1.Taint(key="example.com/x", effect="NoExecute")
    stale = core_v1.Taint(key=taints.UNREACHABLE, effect="NoExecute")
    node.spec.taints = [theirs, stale]
    now = clock.EPOCH + timedelta(1)
    changed = node_lifecycle.retainted(node, taints.NOT_READY, now)
    assert [(t.key, t.effect) for t in changed or ()] == [
        ("example.com/x", "NoExecute"),
        (taints.NOT_READY, "NoSchedule"),
        (taints.NOT_READY, "NoExecute"),
    ]
    node.spec.taints = changed
    assert node_lifecycle.retainted(node, "", now) is None
