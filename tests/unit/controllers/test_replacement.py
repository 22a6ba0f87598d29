"""Pods that their node rejects: replaced at once a few times, then ever more seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.cluster.inprocess import Cluster
from podling.controllers import replacement
from podling.controllers.replacement import FREE, Replacements, delay, is_rejected
from tests.conformance.whole import Api, in_namespace


def pod(uid: str, phase: str, *, ran: bool) -> core_v1.Pod:
    state = core_v1.ContainerState(
        running=core_v1.ContainerStateRunning(started_at="2026-01-01T00:00:00Z") if ran else None,
        waiting=None if ran else core_v1.ContainerStateWaiting(reason="ContainerCreating"),
    )
    shown = core_v1.ContainerStatus(name="c", image="i", image_id="", ready=False, restart_count=0, state=state)
    return core_v1.Pod(metadata=ObjectMeta(uid=uid), status=core_v1.PodStatus(phase=phase, container_statuses=[shown]))


@pytest.mark.parametrize(
    ("phase", "ran", "rejected"),
    [("Failed", False, True), ("Failed", True, False), ("Running", True, False), ("Pending", False, False)],
)
def test_who_was_rejected(phase: str, ran: bool, rejected: bool) -> None:
    assert is_rejected(pod("a", phase, ran=ran)) == rejected


def test_delays_double_up_to_five_minutes() -> None:
    found = [delay(rounds) for rounds in range(FREE, FREE + 11)]
    assert found == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300] and delay(10**6) == 300


def on_virtual_time(main: Callable[[], Any]) -> None:
    clock.run_virtual(main())


def test_a_pod_that_runs_or_another_spec_ends_the_row() -> None:
    async def main() -> None:
        found = Replacements()
        rejected: list[core_v1.Pod] = []

        def another() -> float:
            rejected.append(pod(f"r{len(rejected)}", "Failed", ran=False))
            return found.wait("k", 1, rejected)

        assert [another() for _ in range(FREE + 1)] == [0.0] * FREE + [1.0]
        # All that is rejected while one waits belongs to the same round.
        assert another() == 1.0
        await asyncio.sleep(1)
        assert found.wait("k", 1, rejected) == 2.0
        assert found.wait("k", 2, rejected) == 0.0, "another spec"
        while another() == 0.0:
            pass
        assert found.wait("k", 1, [*rejected, pod("runs", "Running", ran=True)]) == 0.0
        # It goes on running, which ends no further row.
        runs = pod("runs", "Running", ran=True)
        assert found.wait("k", 1, [*rejected, runs]) == 0.0
        for n in range(FREE + 1):
            rejected.append(pod(f"s{n}", "Failed", ran=False))
            last = found.wait("k", 1, [*rejected, runs])
        assert last == 1.0

    on_virtual_time(main)


@pytest.mark.parametrize("kind", ["ReplicaSet", "StatefulSet", "ReplicationController"])
def test_a_set_whose_pods_do_not_fit_their_node_does_not_flood_the_cluster(kind: str) -> None:
    spec: dict[str, Any] = {"nodeName": "node", "nodeSelector": {"a": "b"}}
    spec["containers"] = [{"name": "c", "image": "busybox"}]
    template = {"metadata": {"labels": {"app": "w"}}, "spec": spec}
    selector: dict[str, Any] = {"app": "w"} if kind == "ReplicationController" else {"matchLabels": {"app": "w"}}
    version = "v1" if kind == "ReplicationController" else "apps/v1"

    async def main() -> None:
        async with Cluster() as cluster:
            api = Api(cluster)
            body = {"selector": selector, "template": template, "replicas": 2}
            if kind == "StatefulSet":
                body["serviceName"] = "s"
            obj = {"kind": kind, "apiVersion": version, "metadata": {"name": "w"}, "spec": body}
            await api.post(in_namespace(version, f"{kind.lower()}s"), obj)
            made: set[str] = set()
            for _ in range(600):
                await asyncio.sleep(1)
                made |= {p["metadata"]["uid"] for p in (await api.get(in_namespace("v1", "pods")))["items"]}
            assert FREE < len(made) <= 2 * (FREE + 11)
            # As soon as the node takes them, they run: within the longest wait.
            await api.patch("/api/v1/nodes/node", {"metadata": {"labels": {"a": "b"}}})

            def runs(found: Any) -> bool:
                return sum(p["status"].get("phase") == "Running" for p in found["items"]) == 2

            await api.until(in_namespace("v1", "pods"), runs, seconds=replacement.MOST + 10)

    on_virtual_time(main)
