"""A whole cluster in a test, on virtual time: what users of fakes have asked for, for years."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.api import apps_v1, core_v1, errors
from podling.client.base import PatchType
from podling.cluster.inprocess import Cluster

EXAMPLES = Path(__file__).parent.parent.parent.parent / "examples"

Test = Callable[[Cluster], Coroutine[Any, Any, None]]


def virtual(test: Test, *, nodes: int = 1) -> float:
    """Run `test` in a cluster of its own; gives the virtual seconds that it took."""

    async def main() -> float:
        async with Cluster(nodes=nodes) as cluster:
            began = clock.elapsed()
            await test(cluster)
            return clock.elapsed() - began

    return clock.run_virtual(main())


def pod(name: str, command: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "busybox", "command": command or ["sleep", "infinity"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {"containers": [container], **spec},
    }


def test_the_example_of_the_readme_runs() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.apply(EXAMPLES / "web.yaml")
        await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.available_replicas == 2)
        pods = (await cluster.client.list(core_v1.Pod, "default")).items
        assert {p.spec.node_name for p in pods} == {"node-1", "node-2"}

    virtual(run, nodes=2)


def test_a_deployment_heals() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.apply(EXAMPLES / "web.yaml")
        await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.available_replicas == 2)
        first = (await cluster.client.list(core_v1.Pod, "default")).items[0]
        await cluster.client.delete(core_v1.Pod, first.metadata.name or "", "default")
        await cluster.gone(core_v1.Pod, first.metadata.name or "")
        await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.available_replicas == 2)

    virtual(run)


def test_deleting_a_deployment_takes_its_pods_along() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.apply(EXAMPLES / "web.yaml")
        await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.available_replicas == 2)
        await cluster.client.delete(apps_v1.Deployment, "web", "default", propagation_policy="Foreground")
        await cluster.gone(apps_v1.Deployment, "web")
        assert (await cluster.client.list(apps_v1.ReplicaSet, "default")).items == []
        assert (await cluster.client.list(core_v1.Pod, "default")).items == []

    virtual(run)


def test_crash_loops_back_off_for_hours_in_no_time() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.apply(pod("crash", ["false"]))
        await asyncio.sleep(3600)
        status = (await cluster.client.get(core_v1.Pod, "crash", "default")).status
        container = (status.container_statuses or [])[0]
        # At 0, 10, 30, 70, 150, 310 s, and from then on every 300 s.
        assert container.restart_count == 16
        assert container.state is not None and container.state.waiting is not None
        assert container.state.waiting.reason == "CrashLoopBackOff"
        assert "back-off 5m0s restarting failed container=c pod=crash_default" in (
            container.state.waiting.message or ""
        )

    assert virtual(run) == pytest.approx(3600, abs=5)


def test_a_namespace_goes_with_all_that_is_in_it() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        await cluster.until(core_v1.ServiceAccount, "default", lambda _: True, namespace="team")
        await cluster.apply(pod("p"), namespace="team")
        await cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}, namespace="team")
        await cluster.until(core_v1.Pod, "p", lambda p: p.status.phase == "Running", namespace="team")
        await cluster.client.delete(core_v1.Namespace, "team")
        await cluster.gone(core_v1.Namespace, "team")
        assert (await cluster.client.list(core_v1.ConfigMap, "team")).items == []

    virtual(run)


def test_finalizers_hold_what_is_deleted() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "finalizers": ["example.com/hold"]}}
        )
        await cluster.client.delete(core_v1.ConfigMap, "c", "default")
        held = await cluster.client.get(core_v1.ConfigMap, "c", "default")
        assert held.metadata.deletion_timestamp
        await cluster.client.patch(
            core_v1.ConfigMap, "c", "default", {"metadata": {"finalizers": None}}, type=PatchType.MERGE
        )
        await cluster.gone(core_v1.ConfigMap, "c")

    virtual(run)


def test_a_lost_node_is_noticed_and_its_pods_are_replaced() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.apply(EXAMPLES / "web.yaml")
        await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.available_replicas == 2)
        await cluster.nodes["node-1"].close()
        await cluster.until(
            core_v1.Node,
            "node-1",
            lambda n: any(c.type == "Ready" and c.status == "Unknown" for c in n.status.conditions or ()),
        )
        await asyncio.sleep(400)
        alive = [
            p
            for p in (await cluster.client.list(core_v1.Pod, "default")).items
            if not p.metadata.deletion_timestamp and p.spec.node_name == "node-2"
        ]
        assert len(alive) == 2
        del cluster.nodes["node-1"]

    virtual(run, nodes=2)


def test_what_is_refused_says_why() -> None:
    async def run(cluster: Cluster) -> None:
        with pytest.raises(errors.StatusError, match="Required value"):
            await cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}})
        with pytest.raises(ValueError, match="no such kind"):
            await cluster.apply({"apiVersion": "v1", "kind": "Nonsense"})
        with pytest.raises(TimeoutError, match="is not so after 5 s"):
            await cluster.apply(pod("p"))
            await cluster.until(core_v1.Pod, "p", lambda p: p.status.phase == "Failed", seconds=5)

    virtual(run)


def test_a_pod_that_must_not_run_as_root_runs() -> None:
    async def run(cluster: Cluster) -> None:
        body = pod("careful")
        body["spec"]["securityContext"] = {"runAsNonRoot": True}
        await cluster.apply(body)
        await cluster.until(core_v1.Pod, "careful", lambda p: p.status.phase == "Running", seconds=5)

    virtual(run)


def test_the_same_seed_gives_the_same_run() -> None:
    def names(seed: int) -> list[str]:
        async def main() -> list[str]:
            async with Cluster() as cluster:
                await cluster.apply(EXAMPLES / "web.yaml")
                await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.available_replicas == 2)
                return sorted(p.metadata.name or "" for p in (await cluster.client.list(core_v1.Pod, "default")).items)

        return clock.run_virtual(main(), seed=seed)

    assert names(1) == names(1)
    assert names(1) != names(2)
