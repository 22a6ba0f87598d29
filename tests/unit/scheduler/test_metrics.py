"""What the scheduler counts."""

from __future__ import annotations

import asyncio

from podling.api import core_v1
from podling.metrics import PROCESS, text
from tests.unit.measured import count, grows
from tests.unit.scheduler.make import node, pod
from tests.unit.scheduler.test_scheduler import Cluster, virtual


def value(series: str) -> float:
    found = [line for line in text(PROCESS).splitlines() if line.startswith(f"{series} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def test_attempts_and_who_waits() -> None:
    def attempts(result: str) -> tuple[float, float]:
        labels = f'{{profile="default-scheduler",result="{result}"}}'
        return (
            value(f"scheduler_schedule_attempts_total{labels}"),
            value(f"scheduler_scheduling_attempt_duration_seconds_count{labels}"),
        )

    async def run(cluster: Cluster) -> None:
        scheduled, refused = attempts("scheduled"), attempts("unschedulable")
        tried, second = value("scheduler_pod_scheduling_attempts_count"), "scheduler_pod_scheduling_attempts_sum"
        before, preempted = value(second), value("scheduler_preemption_attempts_total")
        await cluster.create(node("a", cpu="1"), pod("p", cpu="2"))
        await asyncio.sleep(1)
        assert attempts("unschedulable") == (refused[0] + 1, refused[1] + 1)
        assert value("scheduler_preemption_attempts_total") == preempted + 1
        assert value('scheduler_pending_pods{queue="unschedulable"}') == 1
        assert value('scheduler_pending_pods{queue="active"}') == 0
        await cluster.create(node("b", cpu="4"))
        await cluster.until("p", lambda p: p.spec.node_name)
        await asyncio.sleep(1)
        assert attempts("scheduled") == (scheduled[0] + 1, scheduled[1] + 1)
        assert value("scheduler_pod_scheduling_attempts_count") == tried + 1 and value(second) == before + 2
        assert value('scheduler_pending_pods{queue="unschedulable"}') == 0

    virtual(run)


def test_extension_points_queues_and_the_whole_way() -> None:
    points, incoming = "scheduler_framework_extension_point_duration_seconds", "scheduler_queue_incoming_pods_total"
    sli = "scheduler_pod_scheduling_sli_duration_seconds"

    async def run(cluster: Cluster) -> None:
        with (
            grows(incoming, queue="active", event="UnscheduledPodAdd"),
            grows(incoming, queue="unschedulable", event="ScheduleAttemptFailure"),
            grows(points, extension_point="PreFilter", status="Success", profile="default-scheduler"),
            grows(points, extension_point="Filter", status="Unschedulable"),
            grows(points, extension_point="PostFilter", status="Unschedulable"),
            grows("scheduler_scheduling_algorithm_duration_seconds", by=0),
        ):
            await cluster.create(node("a", cpu="1"), pod("p", cpu="2"))
            await asyncio.sleep(0.5)
        assert count("scheduler_unschedulable_pods", plugin="NodeResourcesFit") == 1
        with (
            grows(incoming, queue="backoff", event="NodeAdd"),
            grows(incoming, queue="active", event="BackoffComplete"),
            grows(points, extension_point="Filter", status="Success"),
            grows(points, extension_point="Bind", status="Success"),
            grows("scheduler_scheduling_algorithm_duration_seconds"),
            grows(sli, attempts="2"),
        ):
            await cluster.create(node("b", cpu="4"))
            await cluster.until("p", lambda p: p.spec.node_name)
            await asyncio.sleep(1)
        with grows(points, extension_point="Score", status="Success"), grows(sli, attempts="1"):
            await cluster.create(node("c", cpu="4"), pod("q", cpu="1"))
            await cluster.until("q", lambda p: p.spec.node_name)
            await asyncio.sleep(1)
        assert count("scheduler_unschedulable_pods") == 0

    virtual(run)


def test_pods_with_gates_are_pending() -> None:
    async def run(cluster: Cluster) -> None:
        gated = pod("g")
        gated.spec.scheduling_gates = [core_v1.PodSchedulingGate(name="example.com/wait")]
        await cluster.create(gated)
        await asyncio.sleep(0.1)
        assert count("scheduler_pending_pods", queue="gated") == 1
        assert count("scheduler_pending_pods", queue="active") == 0

    virtual(run)
