"""Cron schedules by table, and CronJobs on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from controllers.cluster import Cluster
from podling import clock
from podling.api import batch_v1, core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import cron_schedule as cron
from podling.controllers import job_rules
from podling.controllers.cronjob import CronJobController


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "following"),
    [
        ("* * * * *", "2026-01-01T00:00:30", "2026-01-01T00:01"),
        ("*/15 * * * *", "2026-01-01T00:15:00", "2026-01-01T00:30"),
        ("5/20 * * * *", "2026-01-01T00:26:00", "2026-01-01T00:45"),
        ("0 9-17/4 * * *", "2026-01-01T10:00:00", "2026-01-01T13:00"),
        ("30 4 1,15 * *", "2026-01-02T00:00:00", "2026-01-15T04:30"),
        ("0 0 * * MON", "2026-01-01T00:00:00", "2026-01-05T00:00"),
        ("0 0 13 * FRI", "2026-01-01T00:00:00", "2026-01-02T00:00"),
        ("0 0 29 feb *", "2026-01-01T00:00:00", "2028-02-29T00:00"),
        ("0 0 31 * *", "2026-01-31T00:00:00", "2026-03-31T00:00"),
        ("0 12 ? * 0-2", "2026-01-01T00:00:00", "2026-01-04T12:00"),
        ("@hourly", "2026-01-01T00:59:59", "2026-01-01T01:00"),
        ("@weekly", "2026-01-01T00:00:00", "2026-01-04T00:00"),
        ("@yearly", "2026-01-01T00:00:00", "2027-01-01T00:00"),
        ("@every 1h30m", "2026-01-01T00:00:10", "2026-01-01T01:30:10"),
        ("0 0 30 2 *", "2026-01-01T00:00:00", None),
    ],
)
def test_when_it_is_time(schedule: str, after: str, following: str | None) -> None:
    assert cron.parse(schedule).next(at(after)) == (at(following) if following else None)


@pytest.mark.parametrize(
    "schedule",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "x * * * *", "@often"],
)
def test_what_means_nothing(schedule: str) -> None:
    with pytest.raises(cron.ScheduleError):
        cron.parse(schedule)


def test_time_zones_and_daylight_saving() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert cron.parse("0 9 * * *").next(at("2026-01-01T00:00:00"), berlin) == at("2026-01-01T08:00")
    assert cron.parse("0 9 * * *").next(at("2026-07-01T00:00:00"), berlin) == at("2026-07-01T07:00")
    # 02:30 does not exist on 29 March 2026.
    assert cron.parse("30 2 * * *").next(at("2026-03-29T00:00:00"), berlin) == at("2026-03-30T00:30")


def test_the_latest_of_many_missed() -> None:
    hourly = cron.parse("@hourly")
    assert cron.latest(hourly, at("2026-01-01T00:30:00"), at("2026-01-01T00:59:00")) == (None, 0)
    assert cron.latest(hourly, at("2026-01-01T00:30:00"), at("2026-01-01T01:20:00")) == (at("2026-01-01T01:00"), 1)
    found, missed = cron.latest(hourly, at("2026-01-01T00:30:00"), at("2026-02-01T07:20:00"))
    assert found == at("2026-02-01T07:00") and missed > 700


def cron_job(schedule: str = "*/5 * * * *", policy: str = "Allow", **spec: Any) -> batch_v1.CronJob:
    template = core_v1.PodTemplateSpec(
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="i")], restart_policy="Never")
    )
    return batch_v1.CronJob(
        metadata=ObjectMeta(name="tick", namespace="default"),
        spec=batch_v1.CronJobSpec(
            schedule=schedule,
            concurrency_policy=policy,
            job_template=batch_v1.JobTemplateSpec(
                metadata=ObjectMeta(labels={"a": "b"}), spec=batch_v1.JobSpec(template=template)
            ),
            **spec,
        ),
    )


def in_cluster(main: Callable[[Cluster], Any]) -> None:
    async def run() -> None:
        async with Cluster(CronJobController, agents=False) as cluster:
            await main(cluster)

    clock.run_virtual(run())


async def jobs(cluster: Cluster) -> list[str]:
    return [j.metadata.name or "" for j in await cluster.list(batch_v1.Job)]


async def end(cluster: Cluster, name: str, how: str = "Complete") -> None:
    def change(j: batch_v1.Job) -> None:
        from podling.api import times

        now = times.now()
        kinds = {"Complete": ("SuccessCriteriaMet", "Complete"), "Failed": ("FailureTarget", "Failed")}[how]
        j.status.conditions = [
            batch_v1.JobCondition(type=k, status="True", last_transition_time=now, reason="x", message="x")
            for k in kinds
        ]
        j.status.start_time = j.status.start_time or now
        if how == "Complete":
            j.status.completion_time = now

    await cluster.change_status(batch_v1.Job, name, change)


def minute(text: str) -> str:
    return f"tick-{int(at(text).timestamp()) // 60}"


def test_a_job_is_made_whenever_it_is_time() -> None:
    async def main(cluster: Cluster) -> None:
        made = await cluster.client.create(cron_job())
        await cluster.settle(290)
        assert await jobs(cluster) == []
        await cluster.settle(15)
        assert await jobs(cluster) == [minute("2026-01-01T00:05")]
        (job,) = await cluster.list(batch_v1.Job)
        (owner,) = job.metadata.owner_references or []
        assert (owner.kind, owner.uid, owner.controller) == ("CronJob", made.metadata.uid, True)
        assert (job.metadata.labels or {})["a"] == "b"
        assert (job.metadata.annotations or {})[
            "batch.kubernetes.io/cronjob-scheduled-timestamp"
        ] == "2026-01-01T00:05:00Z"
        status = (await cluster.client.get(batch_v1.CronJob, "tick", "default")).status
        assert status.last_schedule_time == "2026-01-01T00:05:00Z"
        assert [r.name for r in status.active or ()] == [job.metadata.name]
        await end(cluster, job.metadata.name or "")
        await cluster.settle(1)
        status = (await cluster.client.get(batch_v1.CronJob, "tick", "default")).status
        assert status.active is None and status.last_successful_time == "2026-01-01T00:05:05Z"
        assert await cluster.events() == [
            ("SuccessfulCreate", f"Created job {job.metadata.name}"),
            ("SawCompletedJob", f"Saw completed job: {job.metadata.name}, condition: Complete"),
        ]
        await cluster.settle(1800)
        assert len(await jobs(cluster)) == 7

    in_cluster(main)


def test_forbid_waits_and_replace_replaces() -> None:
    async def forbid(cluster: Cluster) -> None:
        await cluster.client.create(cron_job(policy="Forbid"))
        await cluster.settle(900)
        assert len(await jobs(cluster)) == 1
        assert any(r == "JobAlreadyActive" for r, _ in await cluster.events())
        await end(cluster, (await jobs(cluster))[0])
        await cluster.settle(1)
        # The missed time is made up for as soon as there is room.
        assert len(await jobs(cluster)) == 2

    async def replace(cluster: Cluster) -> None:
        await cluster.client.create(cron_job(policy="Replace"))
        await cluster.settle(905)
        assert await jobs(cluster) == [minute("2026-01-01T00:15")]

    in_cluster(forbid)
    in_cluster(replace)


def test_history_is_kept_to_its_limits() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(cron_job(successful_jobs_history_limit=2, failed_jobs_history_limit=1))
        for i in range(8):
            await cluster.settle(301)
            for job in await cluster.list(batch_v1.Job):
                if not job_rules.is_finished(job):
                    await end(cluster, job.metadata.name or "", "Complete" if i % 2 else "Failed")
        await cluster.settle(5)
        found = await cluster.list(batch_v1.Job)
        assert sum(job_rules.condition(j, "Complete") is not None for j in found) == 2
        assert sum(job_rules.condition(j, "Failed") is not None for j in found) == 1

    in_cluster(main)


def test_a_suspended_one_rests_and_what_it_missed_too_long_ago_is_not_made_up_for() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(cron_job("0 * * * *", suspend=True, starting_deadline_seconds=200))
        await cluster.settle(3600 + 600)
        assert await jobs(cluster) == []
        await cluster.change(batch_v1.CronJob, "tick", lambda c: setattr(c.spec, "suspend", False))
        await cluster.settle(10)
        assert await jobs(cluster) == []
        await cluster.settle(3000)
        assert await jobs(cluster) == [minute("2026-01-01T02:00")]

    in_cluster(main)


def test_each_time_costs_one_job_and_one_status() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(cron_job("*/5 * * * *"))
        asked: list[tuple[str, str]] = []
        send = cluster.api.send

        async def counted(request: Any) -> Any:
            if request.method in ("POST", "PUT") and "events" not in request.path:
                asked.append((request.method, request.path.rpartition("/default/")[2]))
            return await send(request)

        cluster.api.send = counted  # type: ignore[method-assign]
        await cluster.settle(310)
        assert asked == [("POST", "jobs"), ("PUT", "cronjobs/tick/status")]

    in_cluster(main)


@pytest.mark.parametrize("seconds", [2**31 - 1, 2**40, 2**63 - 1])
def test_a_deadline_beyond_all_time_is_none(seconds: int) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(cron_job(starting_deadline_seconds=seconds))
        await cluster.settle(310)
        assert await jobs(cluster) == [minute("2026-01-01T00:05")]

    in_cluster(main)
