"""job_controller_*: what the Job controller did, under upstream's names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from podling import clock
from podling.api import batch_v1
from podling.controllers import job_rules
from podling.metrics import PROCESS, exponential

SYNC_DURATIONS = PROCESS.histogram(
    "job_controller_job_sync_duration_seconds",
    "[STABLE] The time it took to sync a job",
    ("action", "completion_mode", "result"),
    exponential(0.004, 2, 15),
)
SYNCS = PROCESS.counter(
    "job_controller_job_syncs_total", "[STABLE] The number of job syncs", ("action", "completion_mode", "result")
)
FINISHED = PROCESS.counter(
    "job_controller_jobs_finished_total",
    "[STABLE] The number of finished jobs",
    ("completion_mode", "reason", "result"),
)
PODS_FINISHED = PROCESS.counter(
    "job_controller_job_pods_finished_total",
    "[STABLE] The number of finished Pods that are fully tracked",
    ("completion_mode", "result"),
)
FAILURES_HANDLED = PROCESS.counter(
    "job_controller_pod_failures_handled_by_failure_policy_total",
    "[BETA] The number of failed Pods handled by failure policy with respect to the failure policy action applied "
    "based on the matched rule. Possible values of the action label correspond to the possible values for the failure "
    'policy rule action, which are: "FailJob", "Ignore" and "Count".',
    ("action",),
)
#: What a sync did.
RECONCILING, TRACKING, CREATED, DELETED = "reconciling", "tracking", "pods_created", "pods_deleted"


class Sync:
    """One look at a Job."""

    action = RECONCILING


def acted(more: int) -> str:
    """What a sync did that left so many more active pods."""
    return CREATED if more > 0 else DELETED if more < 0 else TRACKING


@contextmanager
def syncing(job: batch_v1.Job) -> Iterator[Sync]:
    """In the block a Job is brought to what it should be."""
    sync, began, result = Sync(), clock.real_seconds(), "error"
    try:
        yield sync
        result = "success"
    finally:
        labels = sync.action, _mode(job), result
        SYNCS.add(*labels)
        SYNC_DURATIONS.observe(labels, clock.real_seconds() - began)


def counted(before: batch_v1.JobStatus, job: batch_v1.Job) -> None:
    """The Job's status was written: pods that are in its counts now and were not before are fully tracked."""
    for result, old, new in (
        ("succeeded", before.succeeded, job.status.succeeded), ("failed", before.failed, job.status.failed),
    ):  # fmt: skip
        if (more := (new or 0) - (old or 0)) > 0:
            PODS_FINISHED.add(_mode(job), result, by=more)


def handled(state: job_rules.State, held: set[str]) -> None:
    """The failures of these pods were judged by the Job's failure policy, and are written down."""
    policy = state.job.spec.pod_failure_policy
    if policy is None:
        return
    for pod in (*state.new_failed, *state.ignored):
        if pod.metadata.uid not in held and (rule := job_rules.matched_rule(policy, pod)) is not None:
            FAILURES_HANDLED.add(rule[0])


def finished(job: batch_v1.Job, verdict: job_rules.Verdict) -> None:
    """The Job has ended, and its status says so."""
    result = "succeeded" if verdict.type == job_rules.SUCCESS_CRITERIA_MET else "failed"
    FINISHED.add(_mode(job), verdict.reason, result)


def _mode(job: batch_v1.Job) -> str:
    return "Indexed" if job_rules.is_indexed(job) else "NonIndexed"
