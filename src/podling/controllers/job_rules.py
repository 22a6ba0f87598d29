"""What becomes of a Job: which pods count, which indexes are done, when it has failed or succeeded.

All pure. A pod that ended is counted once: its finalizer stays until the count that includes it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from podling.api import batch_v1, core_v1, times
from podling.api.numbers import is_decimal
from podling.controllers import indexes
from podling.controllers import pods as pod_rules

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"

COMPLETE, FAILED, SUSPENDED = "Complete", "Failed", "Suspended"
FAILURE_TARGET, SUCCESS_CRITERIA_MET = "FailureTarget", "SuccessCriteriaMet"

#: Wait before a failed pod is replaced: 10 s, doubling to 10 minutes.
BACKOFF_FIRST, BACKOFF_MOST = 10.0, 600.0


class Verdict(msgspec.Struct, frozen=True):
    """A condition that a Job gets, with the words that go with it."""

    type: str
    reason: str
    message: str


def is_indexed(job: batch_v1.Job) -> bool:
    return job.spec.completion_mode == "Indexed"


def per_index(job: batch_v1.Job) -> bool:
    return job.spec.backoff_limit_per_index is not None and is_indexed(job)


def parallelism(job: batch_v1.Job) -> int:
    return job.spec.parallelism if job.spec.parallelism is not None else 1


def only_replaces_failed(job: batch_v1.Job) -> bool:
    return job.spec.pod_replacement_policy == "Failed" or (
        job.spec.pod_replacement_policy is None and job.spec.pod_failure_policy is not None
    )


def condition(job: batch_v1.Job, type_: str) -> batch_v1.JobCondition | None:
    """The condition if it is True."""
    return next((c for c in job.status.conditions or () if c.type == type_ and c.status == "True"), None)


def is_finished(job: batch_v1.Job) -> bool:
    return condition(job, COMPLETE) is not None or condition(job, FAILED) is not None


def index_of(pod: core_v1.Pod) -> int | None:
    value = (pod.metadata.annotations or {}).get(INDEX, "")
    return int(value) if is_decimal(value) else None


def is_tracked(pod: core_v1.Pod) -> bool:
    return TRACKING in (pod.metadata.finalizers or ())


def has_failed(pod: core_v1.Pod, job: batch_v1.Job) -> bool:
    """Failed, or deleted before it could end (unless the Job waits for the real end)."""
    if pod.status.phase == "Failed":
        return True
    if only_replaces_failed(job):
        return False
    return pod.metadata.deletion_timestamp is not None and pod.status.phase != "Succeeded"


def finish_time(pod: core_v1.Pod, now: datetime) -> datetime:
    """When the last container ended; else when the pod was deleted or became unready."""
    ends = [
        times.parse(s.state.terminated.finished_at)
        for s in pod.status.container_statuses or ()
        if s.state and s.state.terminated and s.state.terminated.finished_at
    ]
    if ends:
        return max(ends)
    if pod.metadata.deletion_timestamp:
        return times.parse(pod.metadata.deletion_timestamp)
    ready = pod_rules.condition(pod, "Ready")
    if ready is not None and ready.status == "False" and ready.last_transition_time:
        return times.parse(ready.last_transition_time)
    return now


def match_policy(policy: batch_v1.PodFailurePolicy | None, pod: core_v1.Pod) -> tuple[str, str]:
    """(action, message) of the first rule that fits a failed pod; ("Count", "") if none does."""
    return (matched_rule(policy, pod) if policy is not None else None) or ("Count", "")


def matched_rule(policy: batch_v1.PodFailurePolicy, pod: core_v1.Pod) -> tuple[str, str] | None:
    """The same; None if no rule fits."""
    if pod.status.phase != "Failed":
        return None
    for number, rule in enumerate(policy.rules):
        message = _match_exit_code(rule, pod, number) if rule.on_exit_codes else _match_condition(rule, pod, number)
        if message:
            return rule.action, message
    return None


def _match_exit_code(rule: batch_v1.PodFailurePolicyRule, pod: core_v1.Pod, number: int) -> str:
    wanted = rule.on_exit_codes
    assert wanted is not None
    for status in (*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ())):
        ended = status.state.terminated if status.state else None
        if ended is None or not ended.exit_code:
            continue
        if wanted.container_name and wanted.container_name != status.name:
            continue
        if (ended.exit_code in wanted.values) == (wanted.operator == "In"):
            return (
                f"Container {status.name} for pod {pod.metadata.namespace}/{pod.metadata.name} failed with exit code "
                f"{ended.exit_code} matching {rule.action} rule at index {number}"
            )
    return ""


def _match_condition(rule: batch_v1.PodFailurePolicyRule, pod: core_v1.Pod, number: int) -> str:
    for pattern in rule.on_pod_conditions or ():
        for found in pod.status.conditions or ():
            if found.type == pattern.type and found.status == (pattern.status or "True"):
                return (
                    f"Pod {pod.metadata.namespace}/{pod.metadata.name} has condition {found.type} "
                    f"matching {rule.action} rule at index {number}"
                )
    return ""


class State(msgspec.Struct):
    """A Job and its pods, as one reconciliation sees them."""

    job: batch_v1.Job
    pods: list[core_v1.Pod]
    active: list[core_v1.Pod] = []
    #: Ended, tracked and in no count yet.
    new_succeeded: list[core_v1.Pod] = []
    new_failed: list[core_v1.Pod] = []
    #: Failed, but by the failure policy not counted.
    ignored: list[core_v1.Pod] = []
    succeeded_indexes: set[int] = set()
    failed_indexes: set[int] = set()
    succeeded: int = 0
    failed: int = 0
    terminating: int = 0
    ready: int = 0
    #: Active pods after what was just created and deleted.
    active_now: int = 0
    #: A rule of the failure policy ended the Job.
    policy_message: str = ""


def look(job: batch_v1.Job, pods: list[core_v1.Pod]) -> State:
    """Sort a Job's pods."""
    state = State(job, pods)
    status = job.status
    uncounted = status.uncounted_terminated_pods or batch_v1.UncountedTerminatedPods()
    known = {*(uncounted.succeeded or ()), *(uncounted.failed or ())}
    state.active = [p for p in pods if pod_rules.is_active(p)]
    state.active_now = len(state.active)
    state.ready = sum(pod_rules.is_ready(p) for p in state.active)
    state.terminating = sum(pod_rules.is_terminating(p) for p in pods)
    limit = job.spec.completions if is_indexed(job) else None
    state.succeeded_indexes = indexes.parse(status.completed_indexes, limit) if is_indexed(job) else set()
    state.failed_indexes = indexes.parse(status.failed_indexes, limit) if per_index(job) else set()
    for pod in pods:
        if not is_tracked(pod) or pod.metadata.uid in known:
            continue
        if pod.status.phase == "Succeeded":
            _count_success(state, pod)
        elif has_failed(pod, job):
            _count_failure(state, pod)
    if is_indexed(job):
        state.succeeded = len(state.succeeded_indexes)
    else:
        state.succeeded = (status.succeeded or 0) + len(state.new_succeeded) + len(uncounted.succeeded or ())
    state.failed = (status.failed or 0) + len(state.new_failed) + len(uncounted.failed or ())
    return state


def _count_success(state: State, pod: core_v1.Pod) -> None:
    if is_indexed(state.job):
        index = index_of(pod)
        if index is None or index >= (state.job.spec.completions or 0) or index in state.succeeded_indexes:
            state.ignored.append(pod)
            return
        state.succeeded_indexes.add(index)
    state.new_succeeded.append(pod)


def _count_failure(state: State, pod: core_v1.Pod) -> None:
    action, message = match_policy(state.job.spec.pod_failure_policy, pod)
    if action == "FailJob" and not state.policy_message:
        state.policy_message = message
    index = index_of(pod)
    if action == "Ignore":
        state.ignored.append(pod)
        return
    if per_index(state.job) and index is not None and index < (state.job.spec.completions or 0):
        over = failures_of(pod) + 1 > (state.job.spec.backoff_limit_per_index or 0)
        if action == "FailIndex" or over:
            state.failed_indexes.add(index)
    state.new_failed.append(pod)


def failures_of(pod: core_v1.Pod) -> int:
    """How often the pod's index had failed before it."""
    value = (pod.metadata.annotations or {}).get(FAILURES, "0")
    return int(value) if is_decimal(value) else 0


def success_by_policy(state: State) -> Verdict | None:
    """The first rule of the success policy that is met."""
    policy = state.job.spec.success_policy
    if policy is None or not is_indexed(state.job):
        return None
    for number, rule in enumerate(policy.rules):
        wanted = indexes.parse(rule.succeeded_indexes, state.job.spec.completions)
        relevant = state.succeeded_indexes & wanted if rule.succeeded_indexes else state.succeeded_indexes
        needed = rule.succeeded_count if rule.succeeded_count is not None else len(wanted)
        if len(relevant) >= needed:
            return Verdict(SUCCESS_CRITERIA_MET, "SuccessPolicy", f"Matched rules at index {number}")
    return None


def failure(state: State, now: datetime) -> Verdict | None:
    """Why the Job has failed, if it has."""
    job = state.job
    if state.policy_message:
        return Verdict(FAILURE_TARGET, "PodFailurePolicy", state.policy_message)
    limit = job.spec.backoff_limit if job.spec.backoff_limit is not None else 6
    if state.failed > limit or _restarted_too_often(state, limit):
        return Verdict(FAILURE_TARGET, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if deadline_left(job, now) is not None and (deadline_left(job, now) or 0) <= 0:
        return Verdict(FAILURE_TARGET, "DeadlineExceeded", "Job was active longer than specified deadline")
    if per_index(job):
        most = job.spec.max_failed_indexes
        if most is not None and len(state.failed_indexes) > most:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return Verdict(FAILURE_TARGET, "MaxFailedIndexesExceeded", message)
        done = len(state.succeeded_indexes | state.failed_indexes)
        if state.failed_indexes and done >= (job.spec.completions or 0):
            return Verdict(FAILURE_TARGET, "FailedIndexes", "Job has failed indexes")
    return None


def _restarted_too_often(state: State, limit: int) -> bool:
    template = state.job.spec.template.spec
    if template is None or template.restart_policy != "OnFailure":
        return False
    count = 0
    for pod in state.pods:
        if pod.status.phase in ("Running", "Pending"):
            statuses = (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ()))
            count += sum(s.restart_count for s in statuses)
    return count > 0 if limit == 0 else count >= limit


def deadline_left(job: batch_v1.Job, now: datetime) -> float | None:
    """Seconds until activeDeadlineSeconds are over; None if there is no deadline or the Job is not running."""
    seconds = job.spec.active_deadline_seconds
    if seconds is None or job.status.start_time is None or job.spec.suspend:
        return None
    return seconds - (now - times.parse(job.status.start_time)).total_seconds()


def completion(state: State) -> Verdict | None:
    """Whether enough pods have succeeded."""
    job = state.job
    if by_policy := success_by_policy(state):
        return by_policy
    if job.spec.completions is None:
        done = state.succeeded > 0 and not state.active
    else:
        done = state.succeeded >= job.spec.completions and not state.active
    if done:
        return Verdict(SUCCESS_CRITERIA_MET, "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def wanted_active(state: State) -> int:
    """How many pods should run now."""
    job = state.job
    if job.spec.completions is None:
        return len(state.active) if state.succeeded > 0 else parallelism(job)
    left = job.spec.completions - state.succeeded - len(state.failed_indexes - state.succeeded_indexes)
    return max(0, min(left, parallelism(job)))


def to_remove(state: State, at_least: int) -> list[core_v1.Pod]:
    """Active pods that must go: doubled, finished or unknown indexes first, then by the usual ranking."""
    job = state.job
    chosen: list[core_v1.Pod] = []
    rest = state.active
    if is_indexed(job):
        rest, seen = [], set[int]()
        for pod in sorted(state.active, key=lambda p: p.metadata.creation_timestamp or ""):
            index = index_of(pod)
            bad = index is None or index >= (job.spec.completions or 0) or index in seen
            if bad or index in state.succeeded_indexes or index in state.failed_indexes:
                chosen.append(pod)
            else:
                rest.append(pod)
                if index is not None:
                    seen.add(index)
    if len(chosen) < at_least:
        from podling import clock

        chosen += pod_rules.deletion_order(rest, {}, clock.now())[: at_least - len(chosen)]
    return chosen


def pending_indexes(state: State, count: int, now: datetime) -> tuple[list[int], float]:
    """The next indexes to start pods for, and the seconds until another may start (0 if none waits)."""
    job = state.job
    busy = {i for p in state.active if (i := index_of(p)) is not None}
    if only_replaces_failed(job):
        busy |= {i for p in state.pods if pod_rules.is_terminating(p) and (i := index_of(p)) is not None}
    last = last_failures(state.pods, job) if per_index(job) else {}
    found: list[int] = []
    wait = 0.0
    for index in range(job.spec.completions or 0):
        if index in busy or index in state.succeeded_indexes or index in state.failed_indexes:
            continue
        pod = last.get(index)
        if pod is not None:
            delay = backoff(failures_of(pod) + 1) - (now - finish_time(pod, now)).total_seconds()
            if delay > 0:
                wait = min(wait, delay) if wait else delay
                continue
        found.append(index)
        if len(found) >= count:
            break
    return found, wait


def last_failures(pods: Iterable[core_v1.Pod], job: batch_v1.Job) -> dict[int, core_v1.Pod]:
    """The most often failed pod of each index."""
    found: dict[int, core_v1.Pod] = {}
    for pod in pods:
        index = index_of(pod)
        if index is None or not has_failed(pod, job):
            continue
        if index not in found or failures_of(pod) > failures_of(found[index]):
            found[index] = pod
    return found


def held_back(state: State) -> set[str]:
    """With a limit per index: the failed pods that must stay until their replacement knows how often it failed."""
    if not per_index(state.job) or is_finished(state.job):
        return set()
    busy = {i for p in state.active if (i := index_of(p)) is not None}
    done = busy | state.succeeded_indexes | state.failed_indexes
    return {p.metadata.uid or "" for i, p in last_failures(state.pods, state.job).items() if i not in done}


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(BACKOFF_FIRST * 2 ** min(failures - 1, 30), BACKOFF_MOST) if failures > 0 else 0.0


def failure_annotations(job: batch_v1.Job, last: core_v1.Pod | None) -> dict[str, str]:
    """What a replacement must know of its index."""
    if not per_index(job):
        return {}
    if last is None:
        return {FAILURES: "0"}
    ignored = int((last.metadata.annotations or {}).get(IGNORED_FAILURES, "0") or 0)
    action, _ = match_policy(job.spec.pod_failure_policy, last)
    if action == "Ignore":
        return {FAILURES: str(failures_of(last)), IGNORED_FAILURES: str(ignored + 1)}
    notes = {FAILURES: str(failures_of(last) + 1)}
    return notes | ({IGNORED_FAILURES: str(ignored)} if ignored else {})
