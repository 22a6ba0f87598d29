"""ReplicaSets: as many pods as asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from controllers.cluster import Cluster, pod, selector, set_ready, template
from podling import clock
from podling.api import apps_v1, core_v1, errors, times
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers import pods as pod_rules
from podling.controllers.pod_control import slow_start
from podling.controllers.references import controller_of
from podling.controllers.replicaset import ReplicaSetController, pods_to_delete, status_of


def replica_set(replicas: int = 3, name: str = "web", **spec: Any) -> apps_v1.ReplicaSet:
    return apps_v1.ReplicaSet(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=apps_v1.ReplicaSetSpec(replicas=replicas, selector=selector(), template=template(), **spec),
    )


def in_cluster(main: Callable[[Cluster], Any], **options: Any) -> None:
    async def run() -> None:
        async with Cluster(ReplicaSetController, **options) as cluster:
            await main(cluster)

    clock.run_virtual(run())


async def status(cluster: Cluster) -> tuple[int, int, int]:
    s = (await cluster.client.get(apps_v1.ReplicaSet, "web", "default")).status
    return s.replicas, s.ready_replicas or 0, s.available_replicas or 0


def test_pods_are_created_owned_and_counted() -> None:
    async def main(cluster: Cluster) -> None:
        made = await cluster.client.create(replica_set(3))
        await cluster.until(lambda: equals(status(cluster), (3, 3, 3)))
        pods = await cluster.list(core_v1.Pod)
        assert len(pods) == 3
        for p in pods:
            assert (p.metadata.name or "").startswith("web-") and len(p.metadata.name or "") == 9
            assert p.metadata.labels == {"app": "web"}
            owner = controller_of(p)
            assert owner is not None and owner.uid == made.metadata.uid and owner.block_owner_deletion
        rs = await cluster.client.get(apps_v1.ReplicaSet, "web", "default")
        assert rs.status.fully_labeled_replicas == 3 and rs.status.observed_generation == 1
        assert rs.status.terminating_replicas == 0
        names = {p.metadata.name for p in pods}
        assert set(await cluster.events()) == {("SuccessfulCreate", f"Created pod: {n}") for n in names}

    in_cluster(main)


async def equals(value: Any, expected: Any) -> bool:
    return bool(await value == expected)


def test_it_scales_down_and_replaces_what_is_deleted_or_failed() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(replica_set(4))
        await cluster.until(lambda: equals(status(cluster), (4, 4, 4)))
        await cluster.change(apps_v1.ReplicaSet, "web", lambda rs: setattr(rs.spec, "replicas", 2))
        await cluster.until(lambda: equals(status(cluster), (2, 2, 2)))
        await cluster.settle()
        victims = await cluster.list(core_v1.Pod)
        assert len(victims) == 2
        await cluster.client.delete(core_v1.Pod, victims[0].metadata.name or "", "default")
        await cluster.change_status(
            core_v1.Pod, victims[1].metadata.name or "", lambda p: setattr(p.status, "phase", "Failed")
        )
        await cluster.settle()
        assert await status(cluster) == (2, 2, 2)
        pods = await cluster.list(core_v1.Pod)
        assert len(pods) == 3 and sum(p.status.phase == "Failed" for p in pods) == 1
        assert [r for r, _ in await cluster.events()].count("SuccessfulDelete") == 2

    in_cluster(main)


def test_orphans_that_match_are_adopted_and_strangers_released() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(pod("orphan", {"app": "web"}))
        made = await cluster.client.create(replica_set(1))
        await cluster.until(lambda: equals(status(cluster), (1, 1, 1)))
        (adopted,) = await cluster.list(core_v1.Pod)
        owner = controller_of(adopted)
        assert adopted.metadata.name == "orphan" and owner is not None and owner.uid == made.metadata.uid
        await cluster.change(core_v1.Pod, "orphan", lambda p: setattr(p.metadata, "labels", {"app": "other"}))
        await cluster.until(lambda: count(cluster, 2))
        released = await cluster.client.get(core_v1.Pod, "orphan", "default")
        assert controller_of(released) is None and not released.metadata.owner_references
        assert await status(cluster) == (1, 1, 1)

    in_cluster(main)


async def count(cluster: Cluster, number: int) -> bool:
    await cluster.settle(0.5)
    return len(await cluster.list(core_v1.Pod)) == number


def test_available_means_ready_for_min_ready_seconds() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(replica_set(2, min_ready_seconds=30))
        await cluster.until(lambda: equals(status(cluster), (2, 2, 0)))
        began = clock.elapsed()
        await cluster.until(lambda: equals(status(cluster), (2, 2, 2)))
        assert 29 <= clock.elapsed() - began <= 31

    in_cluster(main)


def test_a_refused_creation_is_said_and_repeated() -> None:
    async def main(cluster: Cluster) -> None:
        refuse = True
        create = cluster.api.send

        async def send(request: Any) -> Any:
            if refuse and request.method == "POST" and request.path.endswith("/pods"):
                raise errors.forbidden("pods", "", "web-x", "exceeded quota: q")
            return await create(request)

        cluster.api.send = send  # type: ignore[method-assign]
        await cluster.client.create(replica_set(100))
        await cluster.settle(0.2)
        rs = await cluster.client.get(apps_v1.ReplicaSet, "web", "default")
        (condition,) = rs.status.conditions or []
        message = 'pods "web-x" is forbidden: exceeded quota: q'
        assert (condition.type, condition.status, condition.reason) == ("ReplicaFailure", "True", "FailedCreate")
        assert condition.message == message
        # Slow start: one attempt a round, not a hundred.
        events = (await cluster.events())[0]
        assert events == ("FailedCreate", f"Error creating: {message}")
        refuse = False
        await cluster.until(lambda: equals(status(cluster), (100, 100, 100)))
        assert not (await cluster.client.get(apps_v1.ReplicaSet, "web", "default")).status.conditions

    in_cluster(main)


def test_slow_start_doubles_and_stops_at_the_first_failing_batch() -> None:
    async def main() -> None:
        tried: list[int] = []

        async def work(i: int) -> None:
            tried.append(i)
            if i == 4:
                raise ValueError("no")

        done, failure = await slow_start(100, work)
        assert len(tried) == 7 and done == 6 and str(failure) == "no"
        tried.clear()
        assert await slow_start(4, work) == (4, None) and tried == [0, 1, 2, 3]
        assert await slow_start(0, work) == (0, None)

    clock.run_virtual(main())


NOW = clock.EPOCH + timedelta(hours=1)


def ranked(
    name: str, *, node: str | None = "n", phase: str = "Running", ready_for: float | None = 100, **more: Any
) -> core_v1.Pod:
    p = pod(name, node=node)
    p.metadata.uid = name
    p.status.phase = phase
    p.metadata.creation_timestamp = times.format(NOW - timedelta(seconds=more.get("age", 1000)))
    if ready_for is not None:
        set_ready(p, True)
        (p.status.conditions or [])[0].last_transition_time = times.format(NOW - timedelta(seconds=ready_for))
    if "cost" in more:
        p.metadata.annotations = {pod_rules.DELETION_COST: more["cost"]}
    if "restarts" in more:
        p.status.container_statuses = [core_v1.ContainerStatus(name="c", restart_count=more["restarts"])]
    return p


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ranked("b", node=None), ranked("a")),
        (ranked("b", phase="Pending"), ranked("a", phase="Unknown")),
        (ranked("b", phase="Unknown"), ranked("a")),
        (ranked("b", ready_for=None), ranked("a")),
        (ranked("b", cost="-5"), ranked("a")),
        (ranked("b"), ranked("a", cost="5")),
        (ranked("b"), ranked("a", node="lonely")),
        (ranked("b", ready_for=10), ranked("a", ready_for=100)),
        # Of the same logarithmic age the uid decides, not the second.
        (ranked("a", ready_for=101), ranked("b", ready_for=100)),
        (ranked("b", restarts=3), ranked("a", restarts=1)),
        (ranked("b", age=100), ranked("a", age=1000)),
        # Not a number: as if it said nothing.
        (ranked("b", cost="-1"), ranked("a", cost="cheap")),
    ],
)
def test_which_pod_is_given_up_first(first: core_v1.Pod, second: core_v1.Pod) -> None:
    related = {"n": 2, "lonely": 1, "": 0}
    for order in ([first, second], [second, first]):
        assert pod_rules.deletion_order(order, related, NOW)[0] is first


def test_pods_doubled_up_on_a_node_with_their_siblings_go_first() -> None:
    alone, together = ranked("a", node="n1"), ranked("b", node="n2")
    sibling = ranked("c", node="n2")
    assert pods_to_delete([alone, together], 1, [alone, together, sibling], NOW) == [together]
    assert pods_to_delete([alone, together], 2, [], NOW) == [alone, together]


def test_a_failure_condition_names_what_could_not_be_done() -> None:
    rs = replica_set(2)
    error = ValueError("refused")
    few = status_of(rs, [], 0, error, NOW)
    assert few.conditions and few.conditions[0].reason == "FailedCreate"
    many = status_of(rs, [ranked(n) for n in "abc"], 0, error, NOW)
    assert many.conditions and many.conditions[0].reason == "FailedDelete"
    again = clone(rs)
    again.status = few
    assert status_of(again, [], 0, ValueError("other"), NOW).conditions == few.conditions
    assert status_of(again, [], 0, None, NOW).conditions is None
