"""What the scheduler counts."""

from __future__ import annotations

import asyncio

from podling.metrics import PROCESS, text
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
