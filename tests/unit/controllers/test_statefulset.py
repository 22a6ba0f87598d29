"""StatefulSets against the real API server: names, order, claims, updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controllers.cluster import Cluster, finish, selector, set_ready, template
from podling import clock
from podling.api import apps_v1, core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import stateful_rules as rules
from podling.controllers.statefulset import StatefulSetController


def stateful_set(replicas: int = 3, *, claims: bool = True, partition: int = 0, **spec: Any) -> apps_v1.StatefulSet:
    claim = core_v1.PersistentVolumeClaim(
        metadata=ObjectMeta(name="data"),
        spec=core_v1.PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"], resources=core_v1.VolumeResourceRequirements(requests={"storage": "1Gi"})
        ),
    )
    rolling = apps_v1.RollingUpdateStatefulSetStrategy(partition=partition)
    spec.setdefault("update_strategy", apps_v1.StatefulSetUpdateStrategy(type="RollingUpdate", rolling_update=rolling))
    spec.setdefault("pod_management_policy", "OrderedReady")
    return apps_v1.StatefulSet(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=apps_v1.StatefulSetSpec(
            replicas=replicas,
            selector=selector(),
            template=template(),
            service_name="web-svc",
            revision_history_limit=10,
            volume_claim_templates=[claim] if claims else None,
            **spec,
        ),
    )


class Diary:
    """The names of pods as they come and go."""

    def __init__(self, cluster: Cluster) -> None:
        self.events: list[str] = []
        pods = cluster.informers.of(core_v1.Pod)
        self.close = pods.add_handler(
            on_add=lambda p: self.events.append(f"+{p.metadata.name}"),
            on_delete=lambda p: self.events.append(f"-{p.metadata.name}"),
        )

    def take(self) -> list[str]:
        events, self.events[:] = list(self.events), []
        return events


def in_cluster(main: Callable[[Cluster, Diary], Any]) -> None:
    async def run() -> None:
        async with Cluster(StatefulSetController) as cluster:
            await main(cluster, Diary(cluster))

    clock.run_virtual(run())


async def names(cluster: Cluster) -> list[str]:
    return [p.metadata.name or "" for p in await cluster.list(core_v1.Pod)]


async def current(cluster: Cluster) -> apps_v1.StatefulSetStatus:
    return (await cluster.client.get(apps_v1.StatefulSet, "web", "default")).status


def image(name: str) -> Callable[[apps_v1.StatefulSet], None]:
    def change(s: apps_v1.StatefulSet) -> None:
        assert s.spec.template.spec is not None
        s.spec.template.spec.containers[0].image = name

    return change


async def images(cluster: Cluster) -> list[str | None]:
    return [p.spec.containers[0].image for p in await cluster.list(core_v1.Pod)]


def scale(to: int) -> Callable[[apps_v1.StatefulSet], None]:
    return lambda s: setattr(s.spec, "replicas", to)


def test_pods_come_in_order_each_with_name_host_and_claim() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        cluster.agent.start_after = 5
        await cluster.client.create(stateful_set(3))
        await cluster.settle(4)
        assert await names(cluster) == ["web-0"]
        await cluster.settle(20)
        assert diary.take() == ["+web-0", "+web-1", "+web-2"]
        pod = (await cluster.list(core_v1.Pod))[1]
        assert (pod.spec.hostname, pod.spec.subdomain) == ("web-1", "web-svc")
        labels = pod.metadata.labels or {}
        assert labels["statefulset.kubernetes.io/pod-name"] == "web-1"
        assert labels["apps.kubernetes.io/pod-index"] == "1"
        (volume,) = pod.spec.volumes or []
        assert volume.name == "data" and volume.persistent_volume_claim is not None
        assert volume.persistent_volume_claim.claim_name == "data-web-1"
        claims = await cluster.list(core_v1.PersistentVolumeClaim)
        assert [c.metadata.name for c in claims] == ["data-web-0", "data-web-1", "data-web-2"]
        assert claims[0].metadata.labels == {"app": "web"} and not claims[0].metadata.owner_references
        s = await current(cluster)
        assert (s.replicas, s.ready_replicas, s.available_replicas, s.current_replicas) == (3, 3, 3, 3)
        assert s.current_revision == s.update_revision == labels["controller-revision-hash"]
        events = await cluster.events()
        assert events[:2] == [
            ("SuccessfulCreate", "create Claim data-web-0 Pod web-0 in StatefulSet web success"),
            ("SuccessfulCreate", "create Pod web-0 in StatefulSet web successful"),
        ]

    in_cluster(main)


def test_scaling_down_goes_from_the_end_and_keeps_the_claims() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(3))
        await cluster.settle(2)
        diary.take()
        cluster.agent.stop_after = 3
        await cluster.change(apps_v1.StatefulSet, "web", scale(1))
        await cluster.settle(4)
        assert diary.take() == ["-web-2"]
        await cluster.settle(5)
        assert diary.take() == ["-web-1"] and await names(cluster) == ["web-0"]
        assert len(await cluster.list(core_v1.PersistentVolumeClaim)) == 3
        assert ("SuccessfulDelete", "delete Pod web-2 in StatefulSet web successful") in await cluster.events()

    in_cluster(main)


def test_an_unready_pod_stops_scaling_up_and_down() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(3))
        await cluster.settle(2)
        await cluster.change_status(core_v1.Pod, "web-0", lambda p: set_ready(p, False))
        await cluster.change(apps_v1.StatefulSet, "web", scale(4))
        await cluster.settle(5)
        assert await names(cluster) == ["web-0", "web-1", "web-2"]
        await cluster.change(apps_v1.StatefulSet, "web", scale(1))
        await cluster.settle(5)
        assert await names(cluster) == ["web-0", "web-1", "web-2"]
        await cluster.change_status(core_v1.Pod, "web-0", lambda p: set_ready(p, True))
        await cluster.settle(5)
        assert await names(cluster) == ["web-0"]

    in_cluster(main)


def test_scaling_down_halts_while_several_pods_are_unready() -> None:
    """The lowest of the unready could go, but it is not its turn."""

    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(3))
        await cluster.settle(2)
        for number in range(3):
            await cluster.change_status(core_v1.Pod, f"web-{number}", lambda p: set_ready(p, False))
        await cluster.change(apps_v1.StatefulSet, "web", scale(0))
        await cluster.settle(5)
        assert await names(cluster) == ["web-0", "web-1", "web-2"]
        await cluster.change_status(core_v1.Pod, "web-2", lambda p: set_ready(p, True))
        await cluster.settle(5)
        assert await names(cluster) == ["web-0", "web-1"]

    in_cluster(main)


def test_parallel_sets_do_not_wait() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        cluster.agent.ready = lambda pod: False
        await cluster.client.create(stateful_set(3, pod_management_policy="Parallel"))
        await cluster.settle(2)
        assert await names(cluster) == ["web-0", "web-1", "web-2"]
        await cluster.change(apps_v1.StatefulSet, "web", scale(0))
        await cluster.settle(2)
        assert await names(cluster) == []

    in_cluster(main)


def test_a_lost_pod_comes_back_under_its_name_and_claim() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(2))
        await cluster.settle(2)
        before = await cluster.client.get(core_v1.Pod, "web-0", "default")
        await cluster.client.delete(core_v1.Pod, "web-0", "default")
        await cluster.settle(2)
        after = await cluster.client.get(core_v1.Pod, "web-0", "default")
        assert after.metadata.uid != before.metadata.uid and after.spec.volumes == before.spec.volumes
        await cluster.change_status(core_v1.Pod, "web-1", lambda p: finish(p, "Failed", 1))
        await cluster.settle(2)
        assert (await cluster.client.get(core_v1.Pod, "web-1", "default")).status.phase == "Running"
        message = "StatefulSet default/web is recreating failed Pod web-1"
        assert ("RecreatingFailedPod", message) in await cluster.events()

    in_cluster(main)


def test_an_update_goes_from_the_end_one_by_one() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(3))
        await cluster.settle(2)
        old = (await current(cluster)).current_revision
        diary.take()
        await cluster.change(apps_v1.StatefulSet, "web", image("nginx:2"))
        await cluster.settle(5)
        assert diary.take() == ["-web-2", "+web-2", "-web-1", "+web-1", "-web-0", "+web-0"]
        assert await images(cluster) == ["nginx:2"] * 3
        s = await current(cluster)
        assert s.current_revision == s.update_revision != old and s.current_replicas == 3
        await cluster.change(apps_v1.StatefulSet, "web", image("nginx:1"))
        await cluster.settle(5)
        assert (await current(cluster)).current_revision == old
        revisions = await cluster.list(apps_v1.ControllerRevision)
        assert sorted(r.revision or 0 for r in revisions) == [2, 3]

    in_cluster(main)


def test_a_broken_update_stops_at_the_first_pod() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(3))
        await cluster.settle(2)
        cluster.agent.ready = lambda pod: pod.spec.containers[0].image != "broken"
        await cluster.change(apps_v1.StatefulSet, "web", image("broken"))
        await cluster.settle(10)
        assert await images(cluster) == ["nginx:1", "nginx:1", "broken"]
        # As documented: an ordered set waits for the broken pod, which has to be deleted by hand.
        await cluster.change(apps_v1.StatefulSet, "web", image("nginx:1"))
        await cluster.settle(10)
        assert await images(cluster) == ["nginx:1", "nginx:1", "broken"]
        await cluster.client.delete(core_v1.Pod, "web-2", "default")
        await cluster.settle(5)
        assert await images(cluster) == ["nginx:1"] * 3

    in_cluster(main)


def test_a_partition_holds_the_lower_pods_back_even_when_they_are_made_anew() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(3, partition=2))
        await cluster.settle(2)
        await cluster.change(apps_v1.StatefulSet, "web", image("nginx:2"))
        await cluster.settle(5)
        assert await images(cluster) == ["nginx:1", "nginx:1", "nginx:2"]
        await cluster.client.delete(core_v1.Pod, "web-0", "default")
        await cluster.settle(2)
        assert await images(cluster) == ["nginx:1", "nginx:1", "nginx:2"]
        s = await current(cluster)
        assert (s.current_replicas, s.updated_replicas) == (2, 1)

        def release(found: apps_v1.StatefulSet) -> None:
            assert found.spec.update_strategy and found.spec.update_strategy.rolling_update
            found.spec.update_strategy.rolling_update.partition = 0

        await cluster.change(apps_v1.StatefulSet, "web", release)
        await cluster.settle(5)
        assert await images(cluster) == ["nginx:2"] * 3

    in_cluster(main)


def test_on_delete_waits_for_the_deletion() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(2, update_strategy=apps_v1.StatefulSetUpdateStrategy(type="OnDelete")))
        await cluster.settle(2)
        await cluster.change(apps_v1.StatefulSet, "web", image("nginx:2"))
        await cluster.settle(5)
        assert await images(cluster) == ["nginx:1"] * 2
        await cluster.client.delete(core_v1.Pod, "web-0", "default")
        await cluster.settle(5)
        assert await images(cluster) == ["nginx:2", "nginx:1"]

    in_cluster(main)


def test_ordinals_may_start_elsewhere() -> None:
    async def main(cluster: Cluster, diary: Diary) -> None:
        await cluster.client.create(stateful_set(2, ordinals=apps_v1.StatefulSetOrdinals(start=5)))
        await cluster.settle(2)
        assert await names(cluster) == ["web-5", "web-6"]

    in_cluster(main)


@pytest.mark.parametrize(
    ("deleted", "scaled", "condemned", "owner"),
    [
        ("Retain", "Retain", False, None),
        ("Retain", "Retain", True, None),
        ("Delete", "Retain", False, "StatefulSet"),
        ("Delete", "Retain", True, "StatefulSet"),
        ("Retain", "Delete", False, None),
        ("Retain", "Delete", True, "Pod"),
        ("Delete", "Delete", False, "StatefulSet"),
        ("Delete", "Delete", True, "Pod"),
    ],
)
def test_whom_a_claim_goes_with(deleted: str, scaled: str, condemned: bool, owner: str | None) -> None:
    policy = apps_v1.StatefulSetPersistentVolumeClaimRetentionPolicy(when_deleted=deleted, when_scaled=scaled)
    s = stateful_set(persistent_volume_claim_retention_policy=policy)
    s.metadata.uid = "set"
    pod = core_v1.Pod(metadata=ObjectMeta(name="web-0", uid="pod"))
    found = rules.claim_owners(s, pod, [], condemned=condemned)
    assert [o.kind for o in found] == ([owner] if owner else [])
    assert rules.claim_owners(s, pod, found, condemned=condemned) == found
