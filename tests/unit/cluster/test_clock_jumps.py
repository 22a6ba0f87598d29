"""The wall clock is set while a cluster runs: nodes stay ready, pods run on, and what is due by the clock is done."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from podling import clock
from podling.cluster.inprocess import Cluster
from tests.conformance.whole import Api, in_namespace, template

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def jump(by: timedelta) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, clock.VirtualLoop)
    loop.jump(by)


async def standing(api: Api) -> Any:
    """What must not change: pods and restarts, and whether nodes are ready and untainted."""
    pods = (await api.get(in_namespace("v1", "pods"), labelSelector="app=web"))["items"]
    nodes = (await api.get("/api/v1/nodes"))["items"]
    return (
        sorted((p["metadata"]["uid"], p["status"]["containerStatuses"][0]["restartCount"]) for p in pods),
        [(n["spec"].get("taints"), [c["status"] for c in n["status"]["conditions"]]) for n in nodes],
    )


@pytest.mark.parametrize("by", [-400 * DAY, -3 * HOUR, 3 * HOUR, 400 * DAY])
def test_nodes_and_pods_outlive_it(by: timedelta, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Cluster(nodes=2) as cluster:
            api = Api(cluster)
            pods = template(app="web")
            pods["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": ["true"]}}
            spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": pods}
            await api.post(in_namespace("apps/v1", "deployments"), {"metadata": {"name": "web"}, "spec": spec})
            await asyncio.sleep(60)
            before = await standing(api)
            assert len(before[0]) == 3
            jump(by)
            await asyncio.sleep(600)
            assert await standing(api) == before

    clock.run_virtual(main())
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


def test_a_cron_job_goes_on_after_the_clock_was_set_forward_and_waits_after_it_was_set_back() -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            api = Api(cluster)
            job = {"spec": {"template": {"spec": {**template()["spec"], "restartPolicy": "Never"}}}}
            cron_job = {"metadata": {"name": "tick"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": job}}
            await api.post(in_namespace("batch/v1", "cronjobs"), cron_job)

            async def last() -> str:
                return str((await api.get(in_namespace("batch/v1", "cronjobs/tick")))["status"]["lastScheduleTime"])

            await asyncio.sleep(310)
            assert await last() == "2026-01-01T00:05:00Z"
            jump(DAY)
            await asyncio.sleep(310)
            assert await last() == "2026-01-02T00:10:00Z"
            # Nothing is due twice: it goes on when the clock is where it was.
            jump(-HOUR)
            await asyncio.sleep(1800)
            assert await last() == "2026-01-02T00:10:00Z"
            await asyncio.sleep(2100)
            assert await last() == "2026-01-02T00:15:00Z"

    clock.run_virtual(main())
