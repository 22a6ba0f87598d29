"""CronJobs: a Job whenever it is time.

The name of a Job is made of its scheduled minute, so that no time is served twice, whatever the cache knows.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

from podling import clock
from podling.api import batch_v1, core_v1, errors, times
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING
from podling.client.expectations import OwnWrites
from podling.client.informer import CONTROLLER, controller_uid
from podling.controllers import cron_schedule as cron
from podling.controllers import job_rules, metrics
from podling.controllers.base import Context, Controller, namespace_terminating
from podling.controllers.references import controller_of, controller_reference, is_controlled_by

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
#: More missed starts than this are said to be too many.
MANY = 100


def job_name(cron_job: batch_v1.CronJob, at: datetime) -> str:
    return f"{cron_job.metadata.name}-{int(at.timestamp()) // 60}"


def zone_of(cron_job: batch_v1.CronJob) -> tzinfo:
    """Raises KeyError (ZoneInfoNotFoundError) or ValueError for an unknown one."""
    if not cron_job.spec.time_zone:
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(cron_job.spec.time_zone)


def surplus(jobs: list[batch_v1.Job], limit: int) -> list[batch_v1.Job]:
    """The oldest finished Jobs beyond the history limit."""
    ordered = sorted(jobs, key=lambda j: (j.status.start_time or "", j.metadata.name or ""))
    return ordered[: max(len(ordered) - limit, 0)]


def earliest(cron_job: batch_v1.CronJob, now: datetime) -> datetime:
    """The moment after which starts count as missed."""
    last = cron_job.status.last_schedule_time or cron_job.metadata.creation_timestamp
    since = times.parse(last) if last else now
    deadline = cron_job.spec.starting_deadline_seconds
    if deadline is not None:
        since = max(since, times.after(now, -deadline))
    return since


class CronJobController(Controller):
    """See the module."""

    name = "cronjob-controller"
    component = "cronjob-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._cron_jobs = self.watch(batch_v1.CronJob)
        self._own_writes = OwnWrites()
        self._jobs = self.informer(batch_v1.Job)
        self._jobs.add_index(CONTROLLER, controller_uid)
        self._jobs.add_handler(
            on_add=self._job_seen, on_update=lambda _, new: self._job_seen(new), on_delete=self._job_seen
        )

    def _job_seen(self, job: batch_v1.Job) -> None:
        reference = controller_of(job)
        if reference is not None and reference.kind == "CronJob":
            self.queue.add(f"{job.metadata.namespace}/{reference.name}")

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        cached = self._cron_jobs.get(key)
        if cached is None:
            self._own_writes.forget(key)
            return
        if self._own_writes.awaited(key, cached):
            return
        cron_job = clone(cached)
        jobs = self._jobs.by_index(CONTROLLER, cron_job.metadata.uid or "")
        await self._clean_up(cron_job, jobs)
        await self._follow(cron_job, jobs)
        if cron_job.metadata.deletion_timestamp is None and not cron_job.spec.suspend:
            await self._start_if_due(key, cron_job, jobs)
        if cron_job.status != cached.status:
            self._own_writes.note(key, await self.client.update_status(cron_job))

    async def _clean_up(self, cron_job: batch_v1.CronJob, jobs: list[batch_v1.Job]) -> None:
        spec = cron_job.spec
        failed = [j for j in jobs if job_rules.condition(j, job_rules.FAILED)]
        succeeded = [j for j in jobs if job_rules.condition(j, job_rules.COMPLETE)]
        keep_failed = spec.failed_jobs_history_limit if spec.failed_jobs_history_limit is not None else 1
        keep = spec.successful_jobs_history_limit if spec.successful_jobs_history_limit is not None else 3
        for job in (*surplus(succeeded, keep), *surplus(failed, keep_failed)):
            await self._delete(cron_job, job)

    async def _follow(self, cron_job: batch_v1.CronJob, jobs: list[batch_v1.Job]) -> None:
        """Bring status.active up to date with what became of the Jobs."""
        status = cron_job.status
        known = {r.uid for r in status.active or ()}
        present = {j.metadata.uid for j in jobs}
        for job in jobs:
            meta, finished = job.metadata, job_rules.is_finished(job)
            if finished and meta.uid in known:
                self._drop(cron_job, meta.uid)
                how = "Complete" if job_rules.condition(job, job_rules.COMPLETE) else "Failed"
                message = f"Saw completed job: {meta.name}, condition: {how}"
                self.recorder.event(cron_job, NORMAL, "SawCompletedJob", message)
            elif not finished and meta.uid not in known:
                await self._stray(cron_job, job)
            if job_rules.condition(job, job_rules.COMPLETE) and job.status.completion_time:
                status.last_successful_time = max(status.last_successful_time or "", job.status.completion_time)
        for reference in list(status.active or ()):
            if reference.uid in present:
                continue
            try:
                fresh = await self.client.get(batch_v1.Job, reference.name or "", reference.namespace)
                if fresh.metadata.uid == reference.uid:
                    continue
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    raise
            message = f"Active job went missing: {reference.name}"
            self.recorder.event(cron_job, NORMAL, "MissingJob", message)
            self._drop(cron_job, reference.uid)

    async def _stray(self, cron_job: batch_v1.CronJob, job: batch_v1.Job) -> None:
        """Ours, running, and not in the list: unless the list is only behind, somebody else made it."""
        fresh = await self.client.get(batch_v1.CronJob, cron_job.metadata.name or "", cron_job.metadata.namespace)
        if any(r.uid == job.metadata.uid for r in fresh.status.active or ()):
            return
        message = f"Saw a job that the controller did not create or forgot: {job.metadata.name}"
        self.recorder.event(cron_job, WARNING, "UnexpectedJob", message)

    @staticmethod
    def _drop(cron_job: batch_v1.CronJob, uid: str | None) -> None:
        cron_job.status.active = [r for r in cron_job.status.active or () if r.uid != uid] or None

    async def _start_if_due(self, key: str, cron_job: batch_v1.CronJob, jobs: list[batch_v1.Job]) -> None:
        found = self._schedule(cron_job)
        if found is None:
            return
        schedule, zone = found
        now = clock.now()
        at, missed = cron.latest(schedule, earliest(cron_job, now), now, zone)
        if missed > MANY:
            message = (
                f"too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock "
                "skew"
            )
            self.recorder.event(cron_job, WARNING, "TooManyMissedTimes", message)
        following = schedule.next(now, zone)
        if following is not None:
            self.queue.add_after(key, (following - now).total_seconds() + 0.1)
        if at is None:
            return
        deadline = cron_job.spec.starting_deadline_seconds
        if deadline is not None and times.after(at, deadline) < now:
            message = f"Missed scheduled time to start a job: {at.strftime('%a, %d %b %Y %H:%M:%S +0000')}"
            self.recorder.event(cron_job, WARNING, "MissSchedule", message)
            return
        if cron_job.status.last_schedule_time == times.format(at):
            return
        if any(r.name == job_name(cron_job, at) for r in cron_job.status.active or ()):
            return
        if await self._make_room(cron_job, jobs):
            await self._start(cron_job, at, zone)

    def _schedule(self, cron_job: batch_v1.CronJob) -> tuple[cron.Schedule, tzinfo] | None:
        text = cron_job.spec.schedule
        try:
            zone = zone_of(cron_job)
        except (KeyError, ValueError) as error:
            message = f'invalid timeZone: "{cron_job.spec.time_zone}": {error}'
            self.recorder.event(cron_job, WARNING, "UnknownTimeZone", message)
            return None
        try:
            return cron.parse(text), zone
        except cron.ScheduleError as error:
            message = f'unparseable schedule: "{text}" : {error}'
            self.recorder.event(cron_job, WARNING, "UnparseableSchedule", message)
            return None

    async def _make_room(self, cron_job: batch_v1.CronJob, jobs: list[batch_v1.Job]) -> bool:
        """Whether the concurrency policy lets another Job start now; with Replace, the running ones go first."""
        if cron_job.spec.concurrency_policy == "Forbid" and cron_job.status.active:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.recorder.event(cron_job, NORMAL, "JobAlreadyActive", message)
            return False
        if cron_job.spec.concurrency_policy == "Replace":
            by_uid = {j.metadata.uid: j for j in jobs}
            for reference in list(cron_job.status.active or ()):
                running = by_uid.get(reference.uid)
                if running is not None:
                    await self._delete(cron_job, running)
                self._drop(cron_job, reference.uid)
        return True

    async def _start(self, cron_job: batch_v1.CronJob, at: datetime, zone: tzinfo) -> None:
        job = make_job(cron_job, at, zone)
        try:
            made = await self.client.create(job)
            created = times.parse(made.metadata.creation_timestamp or times.now())
            metrics.CRONJOB_SKEW.of().observe((created - at).total_seconds())
            self.recorder.event(cron_job, NORMAL, "SuccessfulCreate", f"Created job {made.metadata.name}")
        except errors.StatusError as error:
            if namespace_terminating(error):
                return
            if not errors.is_already_exists(error):
                self.recorder.event(cron_job, WARNING, "FailedCreate", f"Error creating job: {error}")
                raise
            made = await self.client.get(batch_v1.Job, job.metadata.name or "", job.metadata.namespace)
            if not is_controlled_by(made, cron_job) or job_rules.is_finished(made):
                cron_job.status.last_schedule_time = times.format(at)
                return
        reference = core_v1.ObjectReference(
            kind="Job",
            api_version="batch/v1",
            name=made.metadata.name,
            namespace=made.metadata.namespace,
            uid=made.metadata.uid,
            resource_version=made.metadata.resource_version,
        )
        cron_job.status.active = [*(cron_job.status.active or ()), reference]
        cron_job.status.last_schedule_time = times.format(at)

    async def _delete(self, cron_job: batch_v1.CronJob, job: batch_v1.Job) -> None:
        name = job.metadata.name or ""
        try:
            await self.client.delete(
                batch_v1.Job, name, job.metadata.namespace, propagation_policy="Background", uid=job.metadata.uid
            )
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                self.recorder.event(cron_job, WARNING, "FailedDelete", f"Deleted job: {error}")
                raise
        self.recorder.event(cron_job, NORMAL, "SuccessfulDelete", f"Deleted job {name}")
        self._drop(cron_job, job.metadata.uid)


def make_job(cron_job: batch_v1.CronJob, at: datetime, zone: tzinfo) -> batch_v1.Job:
    """The Job of one scheduled time."""
    template: Any = clone(cron_job.spec.job_template)
    meta = template.metadata or ObjectMeta()
    stamp = at.astimezone(zone).isoformat(timespec="seconds").replace("+00:00", "Z")
    return batch_v1.Job(
        metadata=ObjectMeta(
            name=job_name(cron_job, at),
            namespace=cron_job.metadata.namespace,
            labels=meta.labels,
            annotations={**(meta.annotations or {}), SCHEDULED_AT: stamp},
            owner_references=[controller_reference(cron_job)],
        ),
        spec=template.spec or batch_v1.JobSpec(),
    )
