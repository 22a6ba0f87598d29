"""Finished Jobs go ttlSecondsAfterFinished later."""

from __future__ import annotations

from datetime import datetime

from podling import clock
from podling.api import batch_v1, errors, times
from podling.controllers import job_rules, metrics
from podling.controllers.base import Context, Controller


def seconds_left(job: batch_v1.Job, now: datetime) -> float | None:
    """Until the Job may go; None if it never does."""
    ttl = job.spec.ttl_seconds_after_finished
    done = job_rules.condition(job, job_rules.COMPLETE) or job_rules.condition(job, job_rules.FAILED)
    if ttl is None or done is None or job.metadata.deletion_timestamp is not None:
        return None
    return ttl - (now - times.parse(done.last_transition_time or times.format(now))).total_seconds()


class TtlAfterFinishedController(Controller):
    """See the module."""

    name = "ttl-after-finished-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = self.watch(batch_v1.Job)

    async def reconcile(self, key: str) -> None:
        job = self._jobs.get(key)
        left = seconds_left(job, clock.now()) if job is not None else None
        if job is None or left is None:
            return
        if left > 0:
            self.queue.add_after(key, left)
            return
        meta = job.metadata
        # The ttl may have been changed a moment ago: the server's word counts, not the cache's.
        try:
            fresh = await self.client.get(batch_v1.Job, meta.name or "", meta.namespace)
            if fresh.metadata.uid != meta.uid or (seconds_left(fresh, clock.now()) or 0) > 0:
                return
            await self.client.delete(
                batch_v1.Job,
                meta.name or "",
                meta.namespace,
                propagation_policy="Foreground",
                uid=meta.uid,
                resource_version=fresh.metadata.resource_version,
            )
            metrics.TTL_DURATIONS.of().observe(-(seconds_left(job, clock.now()) or 0.0))
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
