"""Deployments against the real API server: rollouts, undo, pause, deadlines, scaling, history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from controllers.cluster import Cluster, selector, template
from podling import clock
from podling.api import apps_v1, core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers import rollout
from podling.controllers.deployment import DeploymentController
from podling.controllers.references import controller_of
from podling.controllers.replicaset import ReplicaSetController


def deployment(
    replicas: int = 3, surge: int | str = 1, unavailable: int | str = 0, *, recreate: bool = False, **spec: Any
) -> apps_v1.Deployment:
    rolling = apps_v1.RollingUpdateDeployment(max_surge=surge, max_unavailable=unavailable)
    strategy = apps_v1.DeploymentStrategy(type="RollingUpdate", rolling_update=rolling)
    if recreate:
        strategy = apps_v1.DeploymentStrategy(type="Recreate")
    spec.setdefault("progress_deadline_seconds", 600)
    spec.setdefault("revision_history_limit", 10)
    return apps_v1.Deployment(
        metadata=ObjectMeta(name="web", namespace="default", annotations={"team": "blue"}),
        spec=apps_v1.DeploymentSpec(
            replicas=replicas, selector=selector(), template=template(), strategy=strategy, **spec
        ),
    )


def in_cluster(main: Callable[[Cluster], Any], **options: Any) -> None:
    async def run() -> None:
        async with Cluster(ReplicaSetController, DeploymentController, **options) as cluster:
            await main(cluster)

    clock.run_virtual(run())


async def current(cluster: Cluster) -> apps_v1.Deployment:
    return await cluster.client.get(apps_v1.Deployment, "web", "default")


async def complete(cluster: Cluster) -> bool:
    d = await current(cluster)
    progress = rollout.condition(d.status, "Progressing")
    return rollout.is_complete(d, d.status) and (progress is None or progress.reason == "NewReplicaSetAvailable")


async def rolled(cluster: Cluster) -> list[apps_v1.ReplicaSet]:
    """Wait for the end of the rollout; the ReplicaSets by revision."""
    await cluster.settle(0.3)
    await cluster.until(lambda: complete(cluster), 300)
    await cluster.settle(0.5)
    return sorted(await cluster.list(apps_v1.ReplicaSet), key=rollout.revision)


def image(name: str) -> Callable[[apps_v1.Deployment], None]:
    def change(d: apps_v1.Deployment) -> None:
        d.spec.template.spec.containers[0].image = name  # type: ignore[union-attr]

    return change


def test_a_deployment_comes_up_with_status_conditions_and_revision() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(3))
        (rs,) = await rolled(cluster)
        d = await current(cluster)
        hashed = (rs.metadata.labels or {})["pod-template-hash"]
        assert rs.metadata.name == f"web-{hashed}" and rs.metadata.labels == {"app": "web", "pod-template-hash": hashed}
        assert rs.spec.selector.match_labels == rs.metadata.labels
        assert (rs.metadata.annotations or {}) == {
            "team": "blue",
            "deployment.kubernetes.io/revision": "1",
            "deployment.kubernetes.io/desired-replicas": "3",
            "deployment.kubernetes.io/max-replicas": "4",
        }
        assert (d.metadata.annotations or {})["deployment.kubernetes.io/revision"] == "1"
        s = d.status
        assert (s.replicas, s.updated_replicas, s.ready_replicas, s.available_replicas) == (3, 3, 3, 3)
        assert s.unavailable_replicas is None and s.observed_generation == d.metadata.generation
        conditions = {c.type: (c.status, c.reason, c.message) for c in s.conditions or ()}
        assert conditions == {
            "Available": ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
            "Progressing": (
                "True",
                "NewReplicaSetAvailable",
                f'ReplicaSet "{rs.metadata.name}" has successfully progressed.',
            ),
        }
        assert ("ScalingReplicaSet", f"Scaled up replica set {rs.metadata.name} from 0 to 3") in await cluster.events()
        for pod in await cluster.list(core_v1.Pod):
            owner = controller_of(pod)
            assert owner is not None and owner.uid == rs.metadata.uid

    in_cluster(main)


def test_a_rollout_never_leaves_its_bounds_and_moves_everything() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(6, surge=2, unavailable=1))
        await rolled(cluster)
        seen: list[tuple[int, int]] = []
        pods = cluster.informers.of(core_v1.Pod)

        def look(*_: Any) -> None:
            from podling.controllers import pods as rules

            alive = [p for p in pods.list() if rules.is_active(p)]
            seen.append((len(alive), sum(rules.is_ready(p) for p in alive)))

        pods.add_handler(on_add=look, on_update=look, on_delete=look)
        await cluster.change(apps_v1.Deployment, "web", image("nginx:2"))
        old, new = await rolled(cluster)
        assert (old.spec.replicas, new.spec.replicas) == (0, 6)
        assert max(n for n, _ in seen) <= 8 and min(r for _, r in seen) >= 5
        images = {p.spec.containers[0].image for p in await cluster.list(core_v1.Pod)}
        assert images == {"nginx:2"}
        events = await cluster.events()
        assert ("ScalingReplicaSet", f"Scaled up replica set {new.metadata.name} from 0 to 2") in events
        assert ("ScalingReplicaSet", f"Scaled down replica set {old.metadata.name} from 6 to 5") in events

    in_cluster(main)


def test_an_undo_brings_the_old_replica_set_back_as_a_new_revision() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(2))
        (first,) = await rolled(cluster)
        await cluster.change(apps_v1.Deployment, "web", image("nginx:2"))
        await rolled(cluster)
        await cluster.change(apps_v1.Deployment, "web", image("nginx:1"))
        second, again = await rolled(cluster)
        assert again.metadata.uid == first.metadata.uid and again.spec.replicas == 2 and second.spec.replicas == 0
        notes = again.metadata.annotations or {}
        assert notes[rollout.REVISION] == "3" and notes[rollout.REVISION_HISTORY] == "1"
        assert ((await current(cluster)).metadata.annotations or {})[rollout.REVISION] == "3"

    in_cluster(main)


def test_history_beyond_the_limit_is_deleted_oldest_first() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(1, revision_history_limit=2))
        for i in range(2, 7):
            await rolled(cluster)
            await cluster.change(apps_v1.Deployment, "web", image(f"nginx:{i}"))
        sets = await rolled(cluster)
        assert [rollout.revision(rs) for rs in sets] == [4, 5, 6]

    in_cluster(main)


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(2))
        await rolled(cluster)

        def pause(d: apps_v1.Deployment) -> None:
            d.spec.paused = True
            d.spec.replicas = 4
            image("nginx:2")(d)

        await cluster.change(apps_v1.Deployment, "web", pause)
        await cluster.settle(5)
        (rs,) = await cluster.list(apps_v1.ReplicaSet)
        assert rs.spec.replicas == 4
        progress = rollout.condition((await current(cluster)).status, "Progressing")
        assert progress is not None
        assert (progress.status, progress.reason, progress.message) == (
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused",
        )
        await cluster.change(apps_v1.Deployment, "web", lambda d: setattr(d.spec, "paused", False))
        _, new = await rolled(cluster)
        assert new.spec.replicas == 4

    in_cluster(main)


def test_a_stuck_rollout_times_out_and_keeps_the_old_pods() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(3, progress_deadline_seconds=60))
        await rolled(cluster)
        cluster.agent.ready = lambda pod: pod.spec.containers[0].image != "broken"
        await cluster.change(apps_v1.Deployment, "web", image("broken"))
        await cluster.settle(55)
        progress = rollout.condition((await current(cluster)).status, "Progressing")
        assert progress is not None and progress.reason == "ReplicaSetUpdated"
        await cluster.settle(10)
        d = await current(cluster)
        progress = rollout.condition(d.status, "Progressing")
        sets = sorted(await cluster.list(apps_v1.ReplicaSet), key=rollout.revision)
        assert progress is not None
        assert (progress.status, progress.reason) == ("False", "ProgressDeadlineExceeded")
        assert progress.message == f'ReplicaSet "{sets[1].metadata.name}" has timed out progressing.'
        assert [rs.spec.replicas for rs in sets] == [3, 1] and d.status.available_replicas == 3

    in_cluster(main)


def test_recreate_stops_all_old_pods_before_it_starts_new_ones() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(3, recreate=True))
        await rolled(cluster)
        cluster.agent.stop_after = 5
        pods = cluster.informers.of(core_v1.Pod)
        mixed: list[set[str]] = []
        pods.add_handler(
            on_add=lambda _: mixed.append({p.spec.containers[0].image or "" for p in pods.list()}),
        )
        mixed.clear()
        await cluster.change(apps_v1.Deployment, "web", image("nginx:2"))
        old, new = await rolled(cluster)
        assert (old.spec.replicas, new.spec.replicas) == (0, 3)
        assert mixed and all(images == {"nginx:2"} for images in mixed)

    in_cluster(main)


def test_scaling_amid_a_rollout_is_shared_in_proportion() -> None:
    """The documented example: 10 pods, maxSurge 3, maxUnavailable 2, a broken image, then 15 replicas."""

    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(10, surge=3, unavailable=2))
        await rolled(cluster)
        cluster.agent.ready = lambda pod: pod.spec.containers[0].image != "broken"
        await cluster.change(apps_v1.Deployment, "web", image("broken"))
        await cluster.settle(3)
        sets = sorted(await cluster.list(apps_v1.ReplicaSet), key=rollout.revision)
        assert [rs.spec.replicas for rs in sets] == [8, 5]
        await cluster.change(apps_v1.Deployment, "web", lambda d: setattr(d.spec, "replicas", 15))
        await cluster.settle(3)
        sets = sorted(await cluster.list(apps_v1.ReplicaSet), key=rollout.revision)
        assert [rs.spec.replicas for rs in sets] == [11, 7]

    in_cluster(main)


def test_a_replica_set_of_another_with_the_same_name_is_stepped_around() -> None:
    async def main(cluster: Cluster) -> None:
        from podling.controllers.hashing import template_hash

        d = deployment(1)
        defaulted = await cluster.client.create(deployment(1), dry_run=True)
        hashed = template_hash(defaulted.spec.template)
        taken = apps_v1.ReplicaSet(
            metadata=ObjectMeta(name=f"web-{hashed}", namespace="default"),
            spec=apps_v1.ReplicaSetSpec(replicas=0, selector=selector("other"), template=template("other")),
        )
        await cluster.client.create(taken)
        await cluster.client.create(d)
        sets = await rolled(cluster)
        assert len(sets) == 2 and (await current(cluster)).status.collision_count == 1

    in_cluster(main)


def test_template_changes_that_mean_nothing_do_not_roll() -> None:
    a, b = template(), template()
    assert b.spec is not None and b.metadata is not None
    b.spec.containers[0].env = []
    b.metadata.labels = {**(b.metadata.labels or {}), "pod-template-hash": "x"}
    assert rollout.same_template(a, b)
    b.spec.containers[0].env = [core_v1.EnvVar(name="A")]
    assert not rollout.same_template(a, b)


def test_a_failing_replica_set_shows_in_the_deployment() -> None:
    d = deployment(2)
    rs = apps_v1.ReplicaSet(metadata=ObjectMeta(name="web-1"), spec=apps_v1.ReplicaSetSpec(replicas=2))
    rs.status.conditions = [
        apps_v1.ReplicaSetCondition(type="ReplicaFailure", status="True", reason="FailedCreate", message="quota")
    ]
    status = rollout.rollout_status(d, [rs], rs, clock.EPOCH)
    failure = rollout.condition(status, "ReplicaFailure")
    assert failure is not None and (failure.status, failure.reason, failure.message) == (
        "True",
        "FailedCreate",
        "quota",
    )
    d.status = clone(status)
    rs.status.conditions = None
    assert rollout.condition(rollout.rollout_status(d, [rs], rs, clock.EPOCH), "ReplicaFailure") is None


def test_nothing_happens_once_a_rollout_is_complete() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(deployment(3))
        await rolled(cluster)
        version = (await cluster.client.list(apps_v1.Deployment, "default")).resource_version
        await asyncio.sleep(3600)
        assert (await cluster.client.list(apps_v1.Deployment, "default")).resource_version == version

    in_cluster(main)
