"""Jobs: pods that run to their end, often enough.

What counts and what follows is decided in job_rules.py. Here pods are created and deleted, and counted without a gap:
first the status says which ended pods are about to be counted (uncountedTerminatedPods), then they lose the finalizer
that kept them, then they are in the count. A crash between any two steps loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec

from podling import clock
from podling.api import batch_v1, core_v1, errors, selectors, times
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING
from podling.client.expectations import Expectations
from podling.client.informer import CONTROLLER, controller_uid, key_of
from podling.controllers import indexes
from podling.controllers import job_metrics as metrics
from podling.controllers import job_rules as rules
from podling.controllers import pods as pod_rules
from podling.controllers.base import Context, Controller, namespace_terminating
from podling.controllers.pod_control import PodControl, pod_from_template, slow_start
from podling.controllers.references import Claim, controller_of
from podling.controllers.replicaset import ORPHANS, orphan

MOST_PODS = 500


class _Backoff(msgspec.Struct):
    """Failures in a row since the last success, and when the last one was."""

    failures: int = 0
    last: datetime | None = None


class JobController(Controller):
    """See the module."""

    name = "job-controller"
    component = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._expectations = Expectations()
        self._control = PodControl(self.client, self.recorder)
        self._backoffs: dict[str, _Backoff] = {}
        self._jobs = self.watch(batch_v1.Job)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(CONTROLLER, controller_uid)
        self._pods.add_index(ORPHANS, orphan)
        self._pods.add_handler(on_add=self._pod_added, on_update=self._pod_updated, on_delete=self._pod_deleted)

    # Events

    def _owner(self, pod: core_v1.Pod) -> str | None:
        reference = controller_of(pod)
        if reference is None or reference.kind != "Job":
            return None
        job = self._jobs.lookup(reference.name, pod.metadata.namespace)
        return key_of(job) if job is not None and job.metadata.uid == reference.uid else None

    def _pod_added(self, pod: core_v1.Pod) -> None:
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.created(owner)
            self.queue.add(owner)
        elif rules.is_tracked(pod):
            # Also one that lost its owner while nobody looked: it could never be deleted.
            self._job_gone(pod)

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        owner = self._owner(new) or self._owner(old)
        if owner is not None:
            if new.metadata.deletion_timestamp is not None:
                self._expectations.deleted(owner, new.metadata.uid or "")
            self.queue.add(owner)
        elif rules.is_tracked(new):
            self._job_gone(new)

    def _pod_deleted(self, pod: core_v1.Pod) -> None:
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.deleted(owner, pod.metadata.uid or "")
            self.queue.add(owner)

    def _job_gone(self, pod: core_v1.Pod) -> None:
        """Its Job does not exist: nobody else would take our finalizer off."""
        reference = controller_of(pod)
        if reference is None or reference.kind == "Job":
            self.queue.add(f"orphan/{key_of(pod)}")

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        if key.startswith("orphan/"):
            await self._free_orphan(key.removeprefix("orphan/"))
            return
        cached = self._jobs.get(key)
        if cached is None:
            self._expectations.forget(key)
            self._backoffs.pop(key, None)
            for namespace in {key.partition("/")[0]}:
                for pod in self._pods.list(namespace):
                    if rules.is_tracked(pod) and self._owner(pod) is None:
                        self._job_gone(pod)
            return
        if cached.spec.managed_by not in (None, "kubernetes.io/job-controller"):
            return
        job = clone(cached)
        if rules.is_finished(job):
            await self._release(await self._claimed(job), set())
            return
        may_act = self._expectations.satisfied(key)
        with metrics.syncing(job) as sync:
            state = rules.look(job, await self._claimed(job))
            await self._advance(key, state, may_act, sync)

    async def _free_orphan(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is not None and rules.is_tracked(pod) and self._owner(pod) is None:
            await self._release([pod], set())

    async def _claimed(self, job: batch_v1.Job) -> list[core_v1.Pod]:
        selector = selectors.from_label_selector(job.spec.selector)
        mine = self._pods.by_index(CONTROLLER, job.metadata.uid or "")
        orphans = [p for p in self._pods.by_index(ORPHANS, job.metadata.namespace or "") if pod_rules.is_active(p)]
        if selector.empty:
            return mine
        return await Claim(self.client, job, selector).claim([*mine, *orphans])

    async def _advance(self, key: str, state: rules.State, may_act: bool, sync: metrics.Sync) -> None:
        job, now = state.job, clock.now()
        before = clone(job.status)
        if job.status.start_time is None and not job.spec.suspend:
            job.status.start_time = times.format(now)
        left = rules.deadline_left(job, now)
        if left is not None and left > 0:
            self.queue.add_after(key, left)
        verdict = self._standing(job) or rules.failure(state, now) or rules.completion(state)
        problem: Exception | None = None
        record = self._next_backoff(key, state)
        if verdict is not None:
            self._set(job, verdict, now)
            if state.active:
                problem = await self._delete_pods(key, state, state.active)
        elif may_act and job.metadata.deletion_timestamp is None:
            before_active = state.active_now
            problem = await self._manage(key, state, record)
            sync.action = metrics.acted(state.active_now - before_active)
        self._note_suspension(job, now)
        await self._track(key, state, before, verdict, record, may_act)
        if problem is not None:
            raise problem

    @staticmethod
    def _standing(job: batch_v1.Job) -> rules.Verdict | None:
        """What was decided before and waits for the last pods to end."""
        for type_ in (rules.FAILURE_TARGET, rules.SUCCESS_CRITERIA_MET):
            found = rules.condition(job, type_)
            if found is not None:
                return rules.Verdict(type_, found.reason or "", found.message or "")
        return None

    @staticmethod
    def _set(job: batch_v1.Job, verdict: rules.Verdict, now: datetime, status: str = "True") -> bool:
        """Put in a condition; whether that changed anything."""
        for found in job.status.conditions or ():
            if found.type == verdict.type and found.status == status and found.reason == verdict.reason:
                return False
        stamp = times.format(now)
        new = batch_v1.JobCondition(
            type=verdict.type,
            status=status,
            reason=verdict.reason,
            message=verdict.message,
            last_probe_time=stamp,
            last_transition_time=stamp,
        )
        job.status.conditions = [c for c in job.status.conditions or () if c.type != verdict.type] + [new]
        return True

    def _note_suspension(self, job: batch_v1.Job, now: datetime) -> None:
        suspended = rules.condition(job, rules.SUSPENDED) is not None
        if job.spec.suspend and not suspended:
            self._set(job, rules.Verdict(rules.SUSPENDED, "JobSuspended", "Job suspended"), now)
            job.status.start_time = None
            self.recorder.event(job, NORMAL, "Suspended", "Job suspended")
        elif not job.spec.suspend and suspended:
            self._set(job, rules.Verdict(rules.SUSPENDED, "JobResumed", "Job resumed"), now, "False")
            job.status.start_time = times.format(now)
            self.recorder.event(job, NORMAL, "Resumed", "Job resumed")

    # Pods

    async def _manage(self, key: str, state: rules.State, record: _Backoff) -> Exception | None:
        job = state.job
        if job.spec.suspend:
            return await self._delete_pods(key, state, state.active) if state.active else None
        wanted = rules.wanted_active(state)
        surplus = rules.to_remove(state, max(0, len(state.active) - wanted))[:MOST_PODS]
        if surplus:
            return await self._delete_pods(key, state, surplus)
        missing = wanted - len(state.active)
        if rules.only_replaces_failed(job):
            missing -= state.terminating
        if missing <= 0:
            return None
        now = clock.now()
        if not rules.per_index(job) and record.last is not None:
            wait = rules.backoff(record.failures) - (now - record.last).total_seconds()
            if wait > 0:
                self.queue.add_after(key, wait)
                return None
        return await self._create_pods(key, state, min(missing, MOST_PODS), now)

    async def _create_pods(self, key: str, state: rules.State, count: int, now: datetime) -> Exception | None:
        job = state.job
        chosen: list[int | None] = [None] * count
        if rules.is_indexed(job):
            pending, wait = rules.pending_indexes(state, count, now)
            if wait:
                self.queue.add_after(key, wait)
            chosen = list(pending)
        if not chosen:
            return None
        last = rules.last_failures(state.pods, job) if rules.per_index(job) else {}
        self._expectations.expect_creations(key, len(chosen))

        async def one(i: int) -> None:
            index = chosen[i]
            pod = make_pod(job, index, last.get(index) if index is not None else None)
            try:
                await self._control.create(pod, job)
            except errors.StatusError as error:
                if not namespace_terminating(error):
                    raise
                self._expectations.created(key)

        done, failure = await slow_start(len(chosen), one)
        if done < len(chosen):
            self._expectations.created(key, len(chosen) - done)
        state.active_now += done
        return failure

    async def _delete_pods(self, key: str, state: rules.State, pods: list[core_v1.Pod]) -> Exception | None:
        self._expectations.expect_deletions(key, [p.metadata.uid or "" for p in pods])

        async def one(pod: core_v1.Pod) -> None:
            try:
                await self._control.delete(pod, state.job)
                state.active_now -= 1
            except errors.StatusError as error:
                self._expectations.deleted(key, pod.metadata.uid or "")
                if not errors.is_not_found(error):
                    raise

        results = await asyncio.gather(*(one(p) for p in pods), return_exceptions=True)
        return next((r for r in results if isinstance(r, Exception)), None)

    def _next_backoff(self, key: str, state: rules.State) -> _Backoff:
        """The record as it is once the newly ended pods are counted; a success starts it over."""
        record = msgspec.structs.replace(self._backoffs.get(key, _Backoff()))
        now = clock.now()
        ended = [(rules.finish_time(p, now), False) for p in state.new_failed]
        ended += [(rules.finish_time(p, now), True) for p in state.new_succeeded]
        for when, succeeded in sorted(ended):
            if succeeded:
                record.failures, record.last = 0, None
            else:
                record.failures += 1
                record.last = when
        return record

    # Counting

    async def _track(
        self,
        key: str,
        state: rules.State,
        before: batch_v1.JobStatus,
        verdict: rules.Verdict | None,
        record: _Backoff,
        may_act: bool,
    ) -> None:
        job = state.job
        status = job.status
        held = rules.held_back(state) if verdict is None else set()
        self._count(state, held)
        if may_act or verdict is not None:
            # While the cache is behind, what we wrote of our own doings is the better count.
            status.active = state.active_now or None
        status.terminating = state.terminating + len(state.active) - state.active_now if verdict else state.terminating
        status.ready = state.ready if verdict is None else 0
        finished = verdict is not None and self._may_finish(state)
        if finished and verdict is not None:
            self._finish(job, verdict)
        if status != before:
            job.status = status
            await self.client.update_status(job)
            metrics.counted(before, job)
            metrics.handled(state, held)
            if finished and verdict is not None:
                metrics.finished(job, verdict)
        self._backoffs[key] = record
        await self._release(
            state.pods if finished else [p for p in state.pods if not pod_rules.is_active(p)], held, state
        )

    def _count(self, state: rules.State, held: set[str]) -> None:
        """Move what lost its finalizer into the counts, and what ended into the waiting room."""
        job, status = state.job, state.job.status
        tracked = {p.metadata.uid for p in state.pods if rules.is_tracked(p)}
        waiting = status.uncounted_terminated_pods or batch_v1.UncountedTerminatedPods()
        succeeded, failed = list(waiting.succeeded or ()), list(waiting.failed or ())
        if not rules.is_indexed(job):
            status.succeeded = ((status.succeeded or 0) + sum(u not in tracked for u in succeeded)) or None
            succeeded = [u for u in succeeded if u in tracked]
            succeeded += [p.metadata.uid or "" for p in state.new_succeeded]
        else:
            limit = job.spec.completions
            status.completed_indexes = indexes.show(i for i in state.succeeded_indexes if i < (limit or 0)) or None
            status.succeeded = len(state.succeeded_indexes) or None
            succeeded = []
        if rules.per_index(job):
            status.failed_indexes = indexes.show(state.failed_indexes - state.succeeded_indexes)
        status.failed = ((status.failed or 0) + sum(u not in tracked for u in failed)) or None
        failed = [u for u in failed if u in tracked]
        failed += [p.metadata.uid or "" for p in state.new_failed if p.metadata.uid not in held]
        status.uncounted_terminated_pods = batch_v1.UncountedTerminatedPods(
            succeeded=succeeded or None, failed=failed or None
        )

    @staticmethod
    def _may_finish(state: rules.State) -> bool:
        """Only when every pod has ended and is in the counts."""
        waiting = state.job.status.uncounted_terminated_pods or batch_v1.UncountedTerminatedPods()
        alive = any(not pod_rules.is_terminal(p) for p in state.pods)
        return not (waiting.succeeded or waiting.failed or alive)

    def _finish(self, job: batch_v1.Job, verdict: rules.Verdict) -> None:
        now = clock.now()
        if verdict.type == rules.SUCCESS_CRITERIA_MET:
            self._set(job, rules.Verdict(rules.COMPLETE, verdict.reason, verdict.message), now)
            job.status.completion_time = times.format(now)
            self.recorder.event(job, NORMAL, "Completed", "Job completed")
        else:
            self._set(job, rules.Verdict(rules.FAILED, verdict.reason, verdict.message), now)
            self.recorder.event(job, WARNING, verdict.reason, verdict.message)

    async def _release(self, pods: list[core_v1.Pod], held: set[str], state: rules.State | None = None) -> None:
        """Take the finalizer off ended pods that the stored status accounts for."""
        for pod in pods:
            if not rules.is_tracked(pod) or pod.metadata.uid in held:
                continue
            if state is not None and not _accounted(state, pod):
                continue
            patch = {"metadata": {"uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [rules.TRACKING]}}
            try:
                await self.client.patch(core_v1.Pod, pod.metadata.name or "", pod.metadata.namespace, patch)
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    raise


def _accounted(state: rules.State, pod: core_v1.Pod) -> bool:
    waiting = state.job.status.uncounted_terminated_pods or batch_v1.UncountedTerminatedPods()
    if pod.metadata.uid in {*(waiting.succeeded or ()), *(waiting.failed or ())}:
        return True
    if pod in state.ignored:
        return True
    if pod.status.phase == "Succeeded" and rules.is_indexed(state.job):
        return rules.index_of(pod) in state.succeeded_indexes
    return pod_rules.is_terminal(pod) and rules.is_finished(state.job)


def make_pod(job: batch_v1.Job, index: int | None, last: core_v1.Pod | None) -> core_v1.Pod:
    """A pod of the Job, for an index if it is Indexed."""
    pod = pod_from_template(job.spec.template, job)
    meta: Any = pod.metadata
    meta.finalizers = [*(meta.finalizers or ()), rules.TRACKING]
    if index is None:
        return pod
    meta.annotations = {
        **(meta.annotations or {}), rules.INDEX: str(index), **rules.failure_annotations(job, last),
    }  # fmt: skip
    meta.labels = {**(meta.labels or {}), rules.INDEX: str(index)}
    meta.generate_name = f"{job.metadata.name}-{index}-"
    pod.spec.hostname = f"{job.metadata.name}-{index}"
    source = core_v1.EnvVarSource(
        field_ref=core_v1.ObjectFieldSelector(field_path=f"metadata.labels['{rules.INDEX}']", api_version="v1")
    )
    for container in (*pod.spec.containers, *(pod.spec.init_containers or ())):
        if not any(e.name == "JOB_COMPLETION_INDEX" for e in container.env or ()):
            container.env = [*(container.env or ()), core_v1.EnvVar(name="JOB_COMPLETION_INDEX", value_from=source)]
    return pod
