"""CronJobs: what happens when the last job still runs, suspension, and the API."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from podling import clock
from podling.api import times
from tests.conformance.whole import MERGE, Api, in_namespace, virtual

CRONS = in_namespace("batch/v1", "cronjobs")
JOBS = in_namespace("batch/v1", "jobs")


def cron_job(policy: str, *command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "busybox", "command": list(command)}
    pod = {"restartPolicy": "OnFailure", "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "cron", "labels": {"e2e": "cron"}},
        "spec": {
            "schedule": "*/1 * * * ?",
            "concurrencyPolicy": policy,
            "jobTemplate": {"spec": {"parallelism": 1, "completions": 1, "template": {"spec": pod}}},
            **spec,
        },
    }


def active(number: int) -> Any:
    return lambda c: len(c["status"].get("active", ())) == number


@virtual
async def test_jobs_may_run_side_by_side(api: Api) -> None:
    await api.post(CRONS, cron_job("Allow", "sleep", "300"))
    await api.until(f"{CRONS}/cron", active(2))
    jobs = (await api.get(JOBS))["items"]
    assert sum(not j["status"].get("completionTime") for j in jobs) >= 2


@virtual
async def test_a_suspended_one_makes_no_jobs(api: Api) -> None:
    await api.post(CRONS, cron_job("Allow", "sleep", "300", suspend=True))
    await asyncio.sleep(300)
    assert "active" not in (await api.get(f"{CRONS}/cron"))["status"]
    assert (await api.get(JOBS))["items"] == []


@virtual
async def test_forbid_starts_none_while_one_runs(api: Api) -> None:
    await api.post(CRONS, cron_job("Forbid", "sleep", "300"))
    await api.until(f"{CRONS}/cron", active(1))
    await asyncio.sleep(200)
    assert len((await api.get(JOBS))["items"]) == 1
    assert active(1)(await api.get(f"{CRONS}/cron"))


@virtual
async def test_replace_ends_the_running_one(api: Api) -> None:
    await api.post(CRONS, cron_job("Replace", "sleep", "300"))
    first = (await api.until(f"{CRONS}/cron", active(1)))["status"]["active"][0]["name"]
    second = await api.until(
        f"{CRONS}/cron", lambda c: [a["name"] for a in c["status"].get("active", ())] not in ([], [first])
    )
    (job,) = second["status"]["active"]
    assert job["name"] != first
    await api.until(JOBS, lambda j: [i["metadata"]["name"] for i in j["items"]] == [job["name"]])


@virtual
async def test_api(api: Api) -> None:
    """Status is read, patched and updated, beside the controller's own writes."""
    path = f"{CRONS}/cron"
    await api.post(CRONS, cron_job("Allow", "sleep", "300"))
    assert (await api.get(f"{path}/status"))["metadata"]["name"] == "cron"
    now = clock.now()
    stamp = times.format(now)
    patch = {
        "metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"lastScheduleTime": stamp, "lastSuccessfulTime": stamp},
    }
    patched = await api.patch(f"{path}/status", patch, MERGE)
    assert patched["status"]["lastScheduleTime"] == stamp
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    earlier = times.format(now - timedelta(seconds=1))
    updated = await api.change(path, lambda c: c["status"].update(lastScheduleTime=earlier), "status")
    assert updated["status"]["lastScheduleTime"] == earlier
    assert (await api.get(path))["metadata"]["uid"] == updated["metadata"]["uid"]
    await api.delete(path)
    await api.gone(path)
