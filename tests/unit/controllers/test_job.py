"""Jobs against the real API server: completions, indexes, failures, policies, suspension, and a count without gaps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from controllers.cluster import Cluster, finish, set_running
from podling import clock
from podling.api import batch_v1, core_v1
from podling.api.meta_v1 import LabelSelector, ObjectMeta
from podling.controllers import indexes
from podling.controllers import job_rules as rules
from podling.controllers.job import JobController
from podling.controllers.ttl_after_finished import TtlAfterFinishedController


def job(**spec: Any) -> batch_v1.Job:
    template = core_v1.PodTemplateSpec(
        metadata=ObjectMeta(labels={"job": "work"}),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="i")], restart_policy="Never"),
    )
    spec.setdefault("backoff_limit", 6)
    spec.setdefault("completion_mode", "NonIndexed")
    return batch_v1.Job(
        metadata=ObjectMeta(name="work", namespace="default"),
        spec=batch_v1.JobSpec(selector=LabelSelector(match_labels={"job": "work"}), template=template, **spec),
    )


class Workers:
    """Runs every pod of the cluster: `outcome(pod)` is its exit code, or None to go on running; `seconds` how long."""

    def __init__(self, cluster: Cluster, outcome: Callable[[core_v1.Pod], int | None]) -> None:
        import asyncio

        self.cluster, self.outcome, self.seconds = cluster, outcome, 1.0
        self.most = 0
        self._asyncio = asyncio
        self._tasks: set[Any] = set()
        self.pods = cluster.informers.of(core_v1.Pod)
        self.pods.add_handler(on_add=self._start, on_update=lambda _, new: self._gone(new))

    def _start(self, pod: core_v1.Pod) -> None:
        running = [p for p in self.pods.list() if p.status.phase in (None, "", "Pending", "Running")]
        self.most = max(self.most, len(running))
        self._go(self._run(pod.metadata.name or ""))

    def _gone(self, pod: core_v1.Pod) -> None:
        if pod.metadata.deletion_timestamp is not None and pod.status.phase == "Running":
            self._go(self._kill(pod.metadata.name or ""))

    def _go(self, work: Any) -> None:
        task = self._asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kill(self, name: str) -> None:
        await self._asyncio.sleep(0.5)
        await self._set(name, lambda p: finish(p, "Failed", 137))

    async def _run(self, name: str) -> None:
        await self._set(name, set_running)
        await self._asyncio.sleep(self.seconds)
        pod = await self.cluster.get(core_v1.Pod, name)
        code = self.outcome(pod) if pod is not None else None
        if code is not None:
            await self._set(name, lambda p: finish(p, "Failed" if code else "Succeeded", code))

    async def _set(self, name: str, how: Callable[[core_v1.Pod], None]) -> None:
        from podling.api import errors

        def unless_ended(p: core_v1.Pod) -> None:
            if p.status.phase not in ("Succeeded", "Failed"):
                how(p)

        try:
            await self.cluster.change_status(core_v1.Pod, name, unless_ended)
        except errors.StatusError as error:
            assert errors.is_not_found(error)


def in_cluster(main: Callable[[Cluster, Workers], Any], outcome: Callable[[core_v1.Pod], int | None]) -> None:
    async def run() -> None:
        async with Cluster(JobController, TtlAfterFinishedController, agents=False) as cluster:
            await main(cluster, Workers(cluster, outcome))

    clock.run_virtual(run())


async def current(cluster: Cluster) -> batch_v1.Job:
    return await cluster.client.get(batch_v1.Job, "work", "default")


async def finished(cluster: Cluster, timeout: float = 3600) -> batch_v1.Job:
    async def done() -> bool:
        return rules.is_finished(await current(cluster))

    await cluster.until(done, timeout)
    await cluster.settle(5)
    found = await current(cluster)
    for p in await cluster.list(core_v1.Pod):
        assert not p.metadata.finalizers
    return found


def said(found: batch_v1.Job) -> dict[str, tuple[str | None, str | None]]:
    return {c.type: (c.reason, c.message) for c in found.status.conditions or () if c.status == "True"}


def index(pod: core_v1.Pod) -> int:
    found = rules.index_of(pod)
    assert found is not None
    return found


def test_a_job_completes_with_its_parallelism_kept() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=5, parallelism=2))
        await cluster.settle(0.5)
        now = await current(cluster)
        assert (now.status.active, now.status.ready, now.status.succeeded) == (2, 2, None)
        assert now.status.start_time == "2026-01-01T00:00:00Z"
        done = await finished(cluster)
        assert workers.most == 2
        assert (done.status.succeeded, done.status.failed, done.status.active) == (5, None, None)
        assert (done.status.ready, done.status.terminating) == (0, 0)
        assert done.status.completion_time
        reached = ("CompletionsReached", "Reached expected number of succeeded pods")
        assert said(done) == {"SuccessCriteriaMet": reached, "Complete": reached}
        events = await cluster.events()
        assert events[-1] == ("Completed", "Job completed")
        assert [r for r, _ in events].count("SuccessfulCreate") == 5

    in_cluster(main, lambda pod: 0)


def test_without_completions_one_success_ends_the_work_queue() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(parallelism=3))
        done = await finished(cluster)
        assert done.status.succeeded == 3 and len(await cluster.list(core_v1.Pod)) == 3

    in_cluster(main, lambda pod: 0)


def test_failures_are_retried_ever_later_until_the_limit() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=1, backoff_limit=3))
        done = await finished(cluster)
        assert (done.status.failed, done.status.succeeded) == (4, None)
        limit = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        assert said(done) == {"FailureTarget": limit, "Failed": limit}
        created = sorted(p.metadata.creation_timestamp or "" for p in await cluster.list(core_v1.Pod))
        from podling.api import times

        seconds = [times.parse(t).timestamp() for t in created]
        assert [b - a for a, b in itertools.pairwise(seconds)] == pytest.approx([11, 21, 41], abs=1.1)
        assert limit in await cluster.events()

    in_cluster(main, lambda pod: 1)


def test_an_indexed_job_runs_each_index_and_says_which_are_done() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=5, parallelism=3, completion_mode="Indexed"))
        await cluster.settle(0.5)
        first = (await cluster.list(core_v1.Pod))[0]
        assert first.spec.hostname == "work-0" and (first.metadata.name or "").startswith("work-0-")
        assert (first.metadata.labels or {})[rules.INDEX] == "0"
        (env,) = first.spec.containers[0].env or []
        assert env.name == "JOB_COMPLETION_INDEX" and env.value_from and env.value_from.field_ref
        assert env.value_from.field_ref.field_path == "metadata.labels['batch.kubernetes.io/job-completion-index']"
        await cluster.settle(1)
        assert (await current(cluster)).status.completed_indexes == "0-2"
        done = await finished(cluster)
        assert (done.status.completed_indexes, done.status.succeeded) == ("0-4", 5)

    in_cluster(main, lambda pod: 0)


def test_with_a_limit_per_index_failing_indexes_do_not_stop_the_others() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(
            job(
                completions=4,
                parallelism=4,
                completion_mode="Indexed",
                backoff_limit=2**31 - 1,
                backoff_limit_per_index=1,
            )
        )
        done = await finished(cluster)
        assert (done.status.completed_indexes, done.status.failed_indexes) == ("0,2", "1,3")
        assert (done.status.succeeded, done.status.failed) == (2, 4)
        assert said(done)["Failed"] == ("FailedIndexes", "Job has failed indexes")

    in_cluster(main, lambda pod: index(pod) % 2)


def test_too_many_failed_indexes_end_the_job() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(
            job(
                completions=4,
                parallelism=4,
                completion_mode="Indexed",
                backoff_limit=100,
                backoff_limit_per_index=0,
                max_failed_indexes=0,
            )
        )
        done = await finished(cluster)
        assert said(done)["Failed"] == (
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        )
        assert "0" in (done.status.failed_indexes or "")

    in_cluster(main, lambda pod: 1 if index(pod) == 0 else None)


def policy(action: str) -> batch_v1.PodFailurePolicy:
    exit_code = batch_v1.PodFailurePolicyOnExitCodesRequirement(operator="In", values=[42])
    return batch_v1.PodFailurePolicy(rules=[batch_v1.PodFailurePolicyRule(action=action, on_exit_codes=exit_code)])


def test_a_failure_policy_ends_the_job_or_looks_away() -> None:
    async def fails(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=2, parallelism=2, pod_failure_policy=policy("FailJob")))
        done = await finished(cluster)
        reason, message = said(done)["Failed"]
        assert reason == "PodFailurePolicy" and message is not None
        assert "failed with exit code 42 matching FailJob rule at index 0" in message

    in_cluster(fails, lambda pod: 42)
    tries = 0

    def thrice(pod: core_v1.Pod) -> int:
        nonlocal tries
        tries += 1
        return 42 if tries <= 3 else 0

    async def ignores(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=1, backoff_limit=0, pod_failure_policy=policy("Ignore")))
        done = await finished(cluster)
        assert (done.status.succeeded, done.status.failed) == (1, None) and tries == 4

    in_cluster(ignores, thrice)


def test_fail_index_fails_the_index_at_once() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(
            job(
                completions=3,
                parallelism=3,
                completion_mode="Indexed",
                backoff_limit=100,
                backoff_limit_per_index=5,
                pod_failure_policy=policy("FailIndex"),
            )
        )
        done = await finished(cluster)
        assert (done.status.failed_indexes, done.status.completed_indexes, done.status.failed) == ("1", "0,2", 1)

    in_cluster(main, lambda pod: 42 if index(pod) == 1 else 0)


@pytest.mark.parametrize(
    "rule",
    [
        batch_v1.SuccessPolicyRule(succeeded_indexes="0"),
        batch_v1.SuccessPolicyRule(succeeded_count=1),
        batch_v1.SuccessPolicyRule(succeeded_indexes="0-2", succeeded_count=1),
    ],
)
def test_a_success_policy_ends_the_job_early(rule: batch_v1.SuccessPolicyRule) -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(
            job(
                completions=5,
                parallelism=3,
                completion_mode="Indexed",
                success_policy=batch_v1.SuccessPolicy(rules=[rule]),
            )
        )
        done = await finished(cluster)
        assert done.status.completed_indexes == "0"
        assert said(done)["Complete"] == ("SuccessPolicy", "Matched rules at index 0")
        assert (done.status.active, done.status.ready, done.status.terminating) == (None, 0, 0)

    in_cluster(main, lambda pod: 0 if index(pod) == 0 else None)


def test_a_suspended_job_has_no_pods_and_its_clock_stands_still() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=1, suspend=True, active_deadline_seconds=100))
        await cluster.settle(500)
        now = await current(cluster)
        assert said(now) == {"Suspended": ("JobSuspended", "Job suspended")} and now.status.start_time is None
        assert await cluster.list(core_v1.Pod) == []
        await cluster.change(batch_v1.Job, "work", lambda j: setattr(j.spec, "suspend", False))
        await cluster.settle(10)
        assert len(await cluster.list(core_v1.Pod)) == 1
        await cluster.change(batch_v1.Job, "work", lambda j: setattr(j.spec, "suspend", True))
        await cluster.settle(10)
        assert [p for p in await cluster.list(core_v1.Pod) if p.status.phase == "Running"] == []
        reasons = [r for r, _ in await cluster.events()]
        assert {"Suspended", "Resumed"} <= set(reasons)

    in_cluster(main, lambda pod: None)


def test_the_deadline_ends_the_job_and_its_pods() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=1, active_deadline_seconds=30))
        began = clock.elapsed()
        done = await finished(cluster)
        assert 30 <= clock.elapsed() - began <= 40
        assert said(done)["Failed"] == ("DeadlineExceeded", "Job was active longer than specified deadline")

    in_cluster(main, lambda pod: None)


def test_a_deleted_pod_is_replaced_and_counts_as_failed() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        workers.seconds = 30
        await cluster.client.create(job(completions=1))
        await cluster.settle(1)
        (pod,) = await cluster.list(core_v1.Pod)
        await cluster.client.delete(core_v1.Pod, pod.metadata.name or "", "default")
        done = await finished(cluster)
        assert (done.status.succeeded, done.status.failed) == (1, 1)

    in_cluster(main, lambda pod: 0)


def test_a_finished_job_goes_when_its_time_is_over() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=1, ttl_seconds_after_finished=100))
        await finished(cluster)
        await cluster.settle(90)
        assert (await current(cluster)).metadata.deletion_timestamp is None
        await cluster.settle(10)
        gone = await cluster.get(batch_v1.Job, "work")
        assert gone is None or gone.metadata.deletion_timestamp

    in_cluster(main, lambda pod: 0)


def test_pods_of_a_job_that_is_gone_lose_the_finalizer() -> None:
    async def main(cluster: Cluster, workers: Workers) -> None:
        await cluster.client.create(job(completions=1))
        await cluster.settle(0.5)
        await cluster.client.delete(batch_v1.Job, "work", "default", propagation_policy="Background")
        await cluster.settle(5)
        assert await cluster.get(batch_v1.Job, "work") is None
        (pod,) = await cluster.list(core_v1.Pod)
        assert not pod.metadata.finalizers

    in_cluster(main, lambda pod: 0)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("3", [3]), ("0,1", [0, 1]), ("0-2", [0, 1, 2]), ("0-3,5,7,8", [0, 1, 2, 3, 5, 7, 8])],
)
def test_indexes_as_text_and_back(text: str, numbers: list[int]) -> None:
    assert indexes.show(numbers) == text and indexes.parse(text) == set(numbers)


def test_indexes_beyond_the_limit_and_nonsense_are_left_out() -> None:
    assert indexes.parse("0-9,x,12", 3) == {0, 1, 2}


def test_a_pod_that_is_first_seen_without_its_job_can_go() -> None:
    """It lost its owner while nobody looked."""

    async def main() -> None:
        async with Cluster(JobController, agents=False) as cluster:
            meta = ObjectMeta(name="p", namespace="default", finalizers=[rules.TRACKING])
            spec = core_v1.PodSpec(containers=[core_v1.Container(name="c", image="i")])
            await cluster.client.create(core_v1.Pod(metadata=meta, spec=spec))
            await cluster.settle(5)
            assert not (await cluster.client.get(core_v1.Pod, "p", "default")).metadata.finalizers

    clock.run_virtual(main())
