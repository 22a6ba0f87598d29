"""DaemonSets against the real API server: nodes come, go and change; updates, surges and undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controllers.cluster import Cluster, finish, selector, template
from podling import clock
from podling.api import apps_v1, core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import daemon_rules as rules
from podling.controllers import history, taints
from podling.controllers.daemonset import DaemonSetController, pod_node


def daemon_set(
    unavailable: int | str = 1, surge: int | str = 0, kind: str = "RollingUpdate", **spec: Any
) -> apps_v1.DaemonSet:
    rolling = apps_v1.RollingUpdateDaemonSet(max_surge=surge, max_unavailable=unavailable)
    strategy = apps_v1.DaemonSetUpdateStrategy(type=kind, rolling_update=rolling if kind == "RollingUpdate" else None)
    spec.setdefault("revision_history_limit", 10)
    return apps_v1.DaemonSet(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=apps_v1.DaemonSetSpec(selector=selector(), template=template(), update_strategy=strategy, **spec),
    )


def node(name: str, **labels: str) -> core_v1.Node:
    return core_v1.Node(metadata=ObjectMeta(name=name, labels=labels or None))


def in_cluster(main: Callable[[Cluster], Any], *names: str) -> None:
    async def run() -> None:
        async with Cluster(DaemonSetController) as cluster:
            cluster.agent.node = pod_node
            for name in names:
                await cluster.client.create(node(name))
            await main(cluster)

    clock.run_virtual(run())


async def where(cluster: Cluster) -> list[str]:
    return sorted(p.spec.node_name or "" for p in await cluster.list(core_v1.Pod))


async def current(cluster: Cluster) -> apps_v1.DaemonSetStatus:
    return (await cluster.client.get(apps_v1.DaemonSet, "web", "default")).status


def image(name: str) -> Callable[[apps_v1.DaemonSet], None]:
    def change(ds: apps_v1.DaemonSet) -> None:
        assert ds.spec.template.spec is not None
        ds.spec.template.spec.containers[0].image = name

    return change


async def images(cluster: Cluster) -> set[str | None]:
    return {p.spec.containers[0].image for p in await cluster.list(core_v1.Pod)}


def test_every_node_gets_one_pod_pinned_to_it() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(daemon_set())
        await cluster.settle()
        assert await where(cluster) == ["n1", "n2", "n3"]
        s = await current(cluster)
        assert (s.desired_number_scheduled, s.current_number_scheduled, s.number_ready) == (3, 3, 3)
        assert (s.number_available, s.number_unavailable, s.updated_number_scheduled) == (3, None, 3)
        pod = (await cluster.list(core_v1.Pod))[0]
        keys = {(t.key, t.effect) for t in pod.spec.tolerations or ()}
        assert (taints.NOT_READY, "NoExecute") in keys and (taints.UNSCHEDULABLE, "NoSchedule") in keys
        (revision,) = await cluster.list(apps_v1.ControllerRevision)
        hashed = (pod.metadata.labels or {})[history.LABEL]
        assert revision.metadata.name == f"web-{hashed}" and revision.revision == 1
        assert revision.data["spec"]["template"]["$patch"] == "replace"
        await cluster.client.create(node("n4"))
        await cluster.settle()
        assert await where(cluster) == ["n1", "n2", "n3", "n4"]
        victim = (await cluster.list(core_v1.Pod))[0]
        await cluster.client.delete(core_v1.Pod, victim.metadata.name or "", "default")
        await cluster.settle()
        assert await where(cluster) == ["n1", "n2", "n3", "n4"]
        assert {r for r, _ in await cluster.events()} == {"SuccessfulCreate"}

    in_cluster(main, "n1", "n2", "n3")


def test_labels_and_taints_decide_where() -> None:
    async def main(cluster: Cluster) -> None:
        ds = daemon_set()
        assert ds.spec.template.spec is not None
        ds.spec.template.spec.node_selector = {"disk": "ssd"}
        await cluster.client.create(ds)
        await cluster.settle()
        assert await where(cluster) == []

        def ssd(n: core_v1.Node) -> None:
            n.metadata.labels = {"disk": "ssd"}

        await cluster.change(core_v1.Node, "n1", ssd, None)
        await cluster.change(core_v1.Node, "n2", ssd, None)
        await cluster.settle()
        assert await where(cluster) == ["n1", "n2"]

        def tainted(effect: str) -> Callable[[core_v1.Node], None]:
            taint = core_v1.Taint(key="example.com/x", effect=effect)
            return lambda n: setattr(n.spec, "taints", [taint])

        # What runs may stay on a node that takes no new pods, and not on one that wants them gone.
        await cluster.change(core_v1.Node, "n1", tainted("NoSchedule"), None)
        await cluster.settle()
        assert await where(cluster) == ["n1", "n2"] and (await current(cluster)).number_misscheduled == 1
        await cluster.change(core_v1.Node, "n1", tainted("NoExecute"), None)
        await cluster.settle()
        assert await where(cluster) == ["n2"]
        await cluster.change(core_v1.Node, "n2", lambda n: setattr(n.metadata, "labels", None), None)
        await cluster.settle()
        assert await where(cluster) == []

    in_cluster(main, "n1", "n2", "n3")


def test_an_update_replaces_pods_within_max_unavailable_and_undo_reuses_the_revision() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(daemon_set(unavailable=1))
        await cluster.settle()
        pods = cluster.informers.of(core_v1.Pod)
        least: list[int] = []

        def look(*_: Any) -> None:
            from podling.controllers.pods import is_active, is_ready

            least.append(sum(is_active(p) and is_ready(p) for p in pods.list()))

        remove = pods.add_handler(on_update=look, on_delete=look)
        await cluster.change(apps_v1.DaemonSet, "web", image("nginx:2"))
        await cluster.settle(5)
        assert await images(cluster) == {"nginx:2"} and min(least) >= 3
        assert (await current(cluster)).updated_number_scheduled == 4
        remove()
        await cluster.change(apps_v1.DaemonSet, "web", image("nginx:1"))
        await cluster.settle(5)
        revisions = {r.revision for r in await cluster.list(apps_v1.ControllerRevision)}
        assert await images(cluster) == {"nginx:1"} and revisions == {2, 3}

    in_cluster(main, "n1", "n2", "n3", "n4")


def test_a_surge_starts_the_new_pod_before_the_old_one_goes() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(daemon_set(unavailable=0, surge=1))
        await cluster.settle()
        pods = cluster.informers.of(core_v1.Pod)
        seen: list[tuple[int, int]] = []

        def look(*_: Any) -> None:
            from podling.controllers.pods import is_active, is_ready

            alive = [p for p in pods.list() if is_active(p)]
            seen.append((sum(map(is_ready, alive)), len(alive)))

        pods.add_handler(on_update=look, on_add=look, on_delete=look)
        await cluster.change(apps_v1.DaemonSet, "web", image("nginx:2"))
        await cluster.settle(5)
        assert await images(cluster) == {"nginx:2"} and len(await cluster.list(core_v1.Pod)) == 3
        assert min(r for r, _ in seen) >= 3 and max(n for _, n in seen) == 4

    in_cluster(main, "n1", "n2", "n3")


def test_on_delete_waits_for_the_deletion() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(daemon_set(kind="OnDelete"))
        await cluster.settle()
        await cluster.change(apps_v1.DaemonSet, "web", image("nginx:2"))
        await cluster.settle(5)
        assert await images(cluster) == {"nginx:1"}
        pod = (await cluster.list(core_v1.Pod))[0]
        await cluster.client.delete(core_v1.Pod, pod.metadata.name or "", "default")
        await cluster.settle(5)
        assert await images(cluster) == {"nginx:1", "nginx:2"}

    in_cluster(main, "n1", "n2")


def test_a_failed_pod_is_replaced_and_said() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(daemon_set())
        await cluster.settle()
        (pod,) = await cluster.list(core_v1.Pod)
        await cluster.change_status(core_v1.Pod, pod.metadata.name or "", lambda p: finish(p, "Failed", 1))
        await cluster.settle()
        (again,) = await cluster.list(core_v1.Pod)
        assert again.metadata.uid != pod.metadata.uid and again.status.phase == "Running"
        message = f"Found failed daemon pod default/{pod.metadata.name} on node n1, will try to kill it"
        assert ("FailedDaemonPod", message) in await cluster.events()

    in_cluster(main, "n1")


def test_history_beyond_the_limit_goes() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(daemon_set(revision_history_limit=2))
        for i in range(2, 7):
            await cluster.settle(3)
            await cluster.change(apps_v1.DaemonSet, "web", image(f"nginx:{i}"))
        await cluster.settle(3)
        assert sorted(r.revision or 0 for r in await cluster.list(apps_v1.ControllerRevision)) == [4, 5, 6]

    in_cluster(main, "n1")


def test_limits_are_never_both_zero() -> None:
    assert rules.limits(daemon_set(0, 0), 5) == (0, 1)
    assert rules.limits(daemon_set("30%", 0), 5) == (0, 2)
    assert rules.limits(daemon_set(0, "30%"), 5) == (2, 0)
