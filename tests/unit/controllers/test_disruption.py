"""Disruption budgets: what may be taken away, with the eviction API of the real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controllers.cluster import Cluster, pod, selector, set_ready, template
from podling import clock
from podling.api import apps_v1, core_v1, errors, policy_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import disruption
from podling.controllers.deployment import DeploymentController
from podling.controllers.disruption import DisruptionController
from podling.controllers.replicaset import ReplicaSetController


def budget(**spec: Any) -> policy_v1.PodDisruptionBudget:
    return policy_v1.PodDisruptionBudget(
        metadata=ObjectMeta(name="guard", namespace="default"),
        spec=policy_v1.PodDisruptionBudgetSpec(selector=selector(), **spec),
    )


def in_cluster(main: Callable[[Cluster], Any]) -> None:
    async def run() -> None:
        async with Cluster(ReplicaSetController, DeploymentController, DisruptionController) as cluster:
            await main(cluster)

    clock.run_virtual(run())


async def deploy(cluster: Cluster, replicas: int) -> None:
    rolling = apps_v1.RollingUpdateDeployment(max_surge=1, max_unavailable=1)
    d = apps_v1.Deployment(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=apps_v1.DeploymentSpec(
            replicas=replicas,
            selector=selector(),
            template=template(),
            strategy=apps_v1.DeploymentStrategy(type="RollingUpdate", rolling_update=rolling),
        ),
    )
    await cluster.client.create(d)
    await cluster.settle()


async def current(cluster: Cluster) -> policy_v1.PodDisruptionBudgetStatus:
    await cluster.settle(0.5)
    return (await cluster.client.get(policy_v1.PodDisruptionBudget, "guard", "default")).status


def counts(s: policy_v1.PodDisruptionBudgetStatus) -> tuple[Any, ...]:
    return s.expected_pods, s.desired_healthy, s.current_healthy, s.disruptions_allowed


@pytest.mark.parametrize(
    ("spec", "numbers"),
    [
        ({"min_available": 3}, (4, 3, 4, 1)),
        ({"min_available": "50%"}, (4, 2, 4, 2)),
        ({"max_unavailable": 1}, (4, 3, 4, 1)),
        ({"max_unavailable": "30%"}, (4, 2, 4, 2)),
        ({"max_unavailable": 0}, (4, 4, 4, 0)),
        ({"min_available": 5}, (4, 5, 4, 0)),
    ],
)
def test_how_many_may_go(spec: dict[str, Any], numbers: tuple[int, ...]) -> None:
    async def main(cluster: Cluster) -> None:
        await deploy(cluster, 4)
        await cluster.client.create(budget(**spec))
        s = await current(cluster)
        assert counts(s) == numbers
        (condition,) = s.conditions or []
        allowed = numbers[3] > 0
        assert (condition.type, condition.status) == ("DisruptionAllowed", str(allowed))
        assert condition.reason == ("SufficientPods" if allowed else "InsufficientPods")
        assert s.observed_generation == 1

    in_cluster(main)


def test_an_unready_pod_uses_the_allowance_up_and_scaling_changes_it() -> None:
    async def main(cluster: Cluster) -> None:
        await deploy(cluster, 3)
        await cluster.client.create(budget(max_unavailable=1))
        assert counts(await current(cluster)) == (3, 2, 3, 1)
        name = (await cluster.list(core_v1.Pod))[0].metadata.name or ""
        await cluster.change_status(core_v1.Pod, name, lambda p: set_ready(p, False))
        assert counts(await current(cluster)) == (3, 2, 2, 0)
        await cluster.change_status(core_v1.Pod, name, lambda p: set_ready(p, True))
        await cluster.change(apps_v1.Deployment, "web", lambda d: setattr(d.spec, "replicas", 5))
        assert counts(await current(cluster)) == (5, 4, 5, 1)

    in_cluster(main)


def test_evictions_are_let_through_one_by_one() -> None:
    async def main(cluster: Cluster) -> None:
        await deploy(cluster, 3)
        await cluster.client.create(budget(min_available=2))
        await current(cluster)
        cluster.agent.ready = lambda pod: False
        first, second, _ = [p.metadata.name or "" for p in await cluster.list(core_v1.Pod)]

        async def evict(name: str) -> None:
            eviction = policy_v1.Eviction(metadata=ObjectMeta(name=name, namespace="default"))
            await cluster.client.post(core_v1.Pod, name, "default", "eviction", eviction)

        await evict(first)
        with pytest.raises(errors.StatusError) as caught:
            await evict(second)
        assert caught.value.code == 429
        assert counts(await current(cluster))[2:] == (2, 0)
        cluster.agent.ready = lambda pod: True
        for p in await cluster.list(core_v1.Pod):
            await cluster.change_status(core_v1.Pod, p.metadata.name or "", lambda p: set_ready(p, True))
        assert counts(await current(cluster))[2:] == (3, 1)
        await evict(second)

    in_cluster(main)


def test_a_promise_that_is_not_kept_runs_out() -> None:
    async def main(cluster: Cluster) -> None:
        await deploy(cluster, 3)
        await cluster.client.create(budget(min_available=2))
        await current(cluster)
        name = (await cluster.list(core_v1.Pod))[0].metadata.name or ""

        def promise(b: policy_v1.PodDisruptionBudget) -> None:
            from podling.api import times

            b.status.disrupted_pods = {name: times.now()}

        await cluster.change_status(policy_v1.PodDisruptionBudget, "guard", promise)
        assert counts(await current(cluster))[2:] == (2, 0)
        await cluster.settle(125)
        s = await current(cluster)
        assert counts(s)[2:] == (3, 1) and s.disrupted_pods is None
        message = "Pod was expected by PDB default/guard to be deleted but it wasn't"
        assert ("NotDeleted", message) in await cluster.events()

    in_cluster(main)


def test_a_target_that_was_spared_is_no_longer_one() -> None:
    async def main(cluster: Cluster) -> None:
        await deploy(cluster, 1)
        name = (await cluster.list(core_v1.Pod))[0].metadata.name or ""

        def target(p: core_v1.Pod) -> None:
            from podling.api import times

            condition = core_v1.PodCondition(type="DisruptionTarget", status="True", last_transition_time=times.now())
            p.status.conditions = [*(p.status.conditions or ()), condition]

        await cluster.change_status(core_v1.Pod, name, target)
        await cluster.settle(130)
        found = await cluster.client.get(core_v1.Pod, name, "default")
        assert {c.type: c.status for c in found.status.conditions or ()}["DisruptionTarget"] == "False"

    in_cluster(main)


def test_pods_without_an_owner_are_said_where_their_number_is_needed() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(pod("bare", {"app": "web"}))
        await cluster.client.create(budget(max_unavailable=1))
        assert (await current(cluster)).disruptions_allowed == 0
        assert "UnmanagedPods" in {r for r, _ in await cluster.events()}

    in_cluster(main)


def test_no_limits_and_no_pods() -> None:
    assert disruption.expected(budget(), 3, 0) == disruption.Expected(3, 0)
    assert disruption.expected(budget(max_unavailable=5), 3, 3) == disruption.Expected(3, 0)
