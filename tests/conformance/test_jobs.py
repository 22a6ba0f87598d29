"""Jobs: adoption, lifecycle, status, indexes, policies of failure and of success."""

from __future__ import annotations

from typing import Any

import pytest

from podling.runtime import fake_behaviour
from podling.runtime.base import ContainerConfig
from podling.runtime.fake_behaviour import Behaviour
from tests.conformance.whole import MERGE, Api, in_namespace, virtual, virtual_with

JOBS = in_namespace("batch/v1", "jobs")
PODS = in_namespace("v1", "pods")


def job(name: str = "j", *, image: str = "busybox", restart: str = "Never", **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": restart, "containers": [{"name": "c", "image": image}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"e2e": "job"}},
        "spec": {"template": {"metadata": {"labels": {"job": name}}, "spec": pod}, **spec},
    }


def index_of(config: ContainerConfig) -> int:
    return int(dict(config.env).get("JOB_COMPLETION_INDEX", "0"))


def by_image(config: ContainerConfig) -> Behaviour:
    """What an image's name says: `done` ends well, `odd-fails` fails for odd indexes, `first-only` ends for 0 alone."""
    done, failed, never = Behaviour(runs_for=1.0), Behaviour(runs_for=1.0, exit_code=1), Behaviour()
    index = index_of(config)
    match config.image_name.partition(":")[0]:
        case "done":
            return done
        case "fails":
            return failed
        case "fails-once":
            return failed if config.attempt == 0 else done
        case "ends-badly":
            return Behaviour(stop_exit_code=143)
        case "exit-42":
            return Behaviour(runs_for=1.0, exit_code=42)
        case "odd-fails":
            return failed if index % 2 else done
        case "first-only":
            return done if index == 0 else never
        case "second-exits-42":
            return Behaviour(runs_for=1.0, exit_code=42) if index == 1 else done
    return fake_behaviour.default_behaviour(config)


played = virtual_with(behaviour=by_image)


def condition(job_: Any, type_: str) -> Any:
    return next((c for c in job_["status"].get("conditions", ()) if c["type"] == type_ and c["status"] == "True"), None)


def complete(job_: Any) -> bool:
    return condition(job_, "Complete") is not None


def failed(job_: Any) -> bool:
    return condition(job_, "Failed") is not None


@virtual
async def test_adopts_and_releases_pods(api: Api) -> None:
    await api.post(JOBS, job(parallelism=2, completions=2, backoffLimit=6))
    await api.until(f"{JOBS}/j", lambda j: j["status"].get("active") == 2)
    pod = (await api.get(PODS, labelSelector="job=j"))["items"][0]
    path = f"{PODS}/{pod['metadata']['name']}"

    def orphan(p: Any) -> None:
        p["metadata"]["ownerReferences"] = []

    await api.change(path, orphan)
    await api.until(path, lambda p: p["metadata"].get("ownerReferences"))

    def stranger(p: Any) -> None:
        p["metadata"]["labels"] = {}

    await api.change(path, stranger)
    await api.until(path, lambda p: not p["metadata"].get("ownerReferences"))


@virtual
async def test_deletion(api: Api) -> None:
    """As many pods as wanted in parallel run; with the job in the foreground they go first."""
    await api.post(JOBS, job(parallelism=2, completions=4, backoffLimit=6))
    await api.until(PODS, lambda p: sum(i["status"]["phase"] == "Running" for i in p["items"]) == 2)
    await api.delete(f"{JOBS}/j", {"propagationPolicy": "Foreground"})
    await api.gone(f"{JOBS}/j")
    assert (await api.get(PODS, labelSelector="job=j"))["items"] == []


@virtual
async def test_lifecycle(api: Api) -> None:
    """A suspended job is patched, updated, let run, listed everywhere and deleted as a collection."""
    await api.post(JOBS, job(parallelism=2, completions=4, suspend=True))
    suspended = await api.until(f"{JOBS}/j", lambda j: condition(j, "Suspended"))
    assert condition(suspended, "Suspended")["reason"] == "JobSuspended"
    patched = await api.patch(f"{JOBS}/j", {"metadata": {"labels": {"j": "patched"}}})
    assert patched["metadata"]["labels"]["j"] == "patched"

    def update(j: Any) -> None:
        j["spec"]["suspend"] = False
        j["metadata"].setdefault("annotations", {})["updated"] = "true"

    async with api.watch(JOBS, labelSelector="e2e=job") as events:
        await api.change(f"{JOBS}/j", update)
        await events.until("MODIFIED", lambda j: j["metadata"].get("annotations", {}).get("updated") == "true")
        assert len((await api.get("/apis/batch/v1/jobs", labelSelector="j=patched"))["items"]) == 1
        options = {"propagationPolicy": "Background"}
        await api.delete(JOBS, options, labelSelector="j=patched")
        await events.until("DELETED", lambda j: j["metadata"]["labels"]["j"] == "patched")
    await api.until(PODS, lambda p: not p["items"])


@virtual
async def test_status(api: Api) -> None:
    """It is patched, updated, read; an annotation written beside it stays."""
    await api.post(JOBS, job(parallelism=2, completions=2, backoffLimit=6))
    running = await api.until(f"{JOBS}/j", lambda j: j["status"].get("ready") == 2)
    start = running["status"]["startTime"]
    extra = {"type": "CustomConditionType", "status": "True", "lastTransitionTime": start}
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": [extra]}}
    patched = await api.patch(f"{JOBS}/j/status", patch, MERGE)
    assert condition(patched, "CustomConditionType")
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    second = {**extra, "type": "AnotherConditionType"}
    updated = await api.change(f"{JOBS}/j", lambda j: j["status"]["conditions"].append(second), "status")
    assert condition(updated, "AnotherConditionType") and condition(updated, "CustomConditionType")
    shown = await api.get(f"{JOBS}/j/status")
    assert shown["metadata"]["uid"] == running["metadata"]["uid"] and shown["metadata"]["annotations"]


@played
async def test_an_indexed_job_runs_each_index_once(api: Api) -> None:
    await api.post(JOBS, job(image="done", parallelism=2, completions=4, completionMode="Indexed", backoffLimit=6))
    found = await api.until(f"{JOBS}/j", complete)
    assert found["status"]["completedIndexes"] == "0-3"
    pods = (await api.get(PODS, labelSelector="job=j"))["items"]
    indexes = [p["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for p in pods]
    assert sorted(indexes) == ["0", "1", "2", "3"]
    assert sorted(p["spec"]["hostname"] for p in pods) == ["j-0", "j-1", "j-2", "j-3"]
    assert all(p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] in indexes for p in pods)


@played
async def test_an_exit_code_can_fail_the_whole_job(api: Api) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    wanted = job(image="exit-42", parallelism=2, completions=4, backoffLimit=6, podFailurePolicy={"rules": [rule]})
    await api.post(JOBS, wanted)
    found = await api.until(f"{JOBS}/j", failed)
    assert condition(found, "Failed")["reason"] == "PodFailurePolicy"
    assert condition(found, "FailureTarget")["reason"] == "PodFailurePolicy"
    assert not any(found["status"].get(f) for f in ("active", "ready", "terminating"))


@played
async def test_disruptions_may_not_count(api: Api) -> None:
    """Each index is evicted once; the job goes on as if nothing had been."""
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    spec = {"parallelism": 2, "completions": 2, "backoffLimit": 0, "completionMode": "Indexed"}
    await api.post(JOBS, job(image="ends-badly", podFailurePolicy={"rules": [rule]}, **spec))
    pods = (await api.until(PODS, lambda p: sum(i["status"]["phase"] == "Running" for i in p["items"]) == 2))["items"]
    for pod in pods:
        meta = {"name": pod["metadata"]["name"], "namespace": "default"}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        await api.post(f"{PODS}/{meta['name']}/eviction", eviction)
    gone = {p["metadata"]["uid"] for p in pods}
    again = await api.until(
        PODS,
        lambda p: [i["status"]["phase"] for i in p["items"] if i["metadata"]["uid"] not in gone] == ["Running"] * 2,
    )
    assert len(again["items"]) >= 2
    found = await api.get(f"{JOBS}/j")
    assert not failed(found) and not found["status"].get("failed")


@played
async def test_indexes_have_back_off_limits_of_their_own(api: Api) -> None:
    spec = {"parallelism": 2, "completions": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
    await api.post(JOBS, job(image="odd-fails", **spec))
    status = (await api.until(f"{JOBS}/j", failed))["status"]
    assert (status["failedIndexes"], status["completedIndexes"]) == ("1,3", "0,2")
    assert (status["failed"], status["succeeded"]) == (4, 2)
    assert condition({"status": status}, "Failed")["reason"] == "FailedIndexes"


@played
async def test_an_exit_code_can_fail_an_index(api: Api) -> None:
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}
    spec = {"parallelism": 2, "completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
    await api.post(JOBS, job(image="second-exits-42", podFailurePolicy={"rules": [rule]}, **spec))
    status = (await api.until(f"{JOBS}/j", failed))["status"]
    assert (status["failedIndexes"], status["completedIndexes"]) == ("1", "0")
    assert (status["failed"], status["succeeded"]) == (1, 1)


@played
async def test_too_many_failed_indexes_end_the_job(api: Api) -> None:
    spec = {"parallelism": 1, "completions": 4, "completionMode": "Indexed"}
    limits = {"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}
    await api.post(JOBS, job(image="fails", **spec, **limits))
    found = await api.until(f"{JOBS}/j", failed)
    assert condition(found, "Failed")["reason"] == "MaxFailedIndexesExceeded"
    status = found["status"]
    assert (status["failedIndexes"], status["failed"]) == ("0", 1)
    assert not any(status.get(f) for f in ("active", "ready", "terminating", "succeeded"))


@pytest.mark.parametrize(
    ("image", "rule", "completed"),
    [
        ("done", {"succeededIndexes": "0-4"}, None),
        ("first-only", {"succeededCount": 1}, "0"),
        ("first-only", {"succeededIndexes": "0"}, "0"),
    ],
    ids=["all", "count", "indexes"],
)
@played
async def test_a_success_policy_ends_the_job(api: Api, image: str, rule: dict[str, Any], completed: str | None) -> None:
    spec = {"parallelism": 2, "completions": 5, "completionMode": "Indexed", "backoffLimit": 5}
    await api.post(JOBS, job(image=image, successPolicy={"rules": [rule]}, **spec))
    found = await api.until(f"{JOBS}/j", complete)
    for type_ in ("SuccessCriteriaMet", "Complete"):
        wanted = "SuccessPolicy" if completed else "CompletionsReached"
        assert condition(found, type_)["reason"] in (wanted, "SuccessPolicy")
    assert not any(found["status"].get(f) for f in ("active", "ready", "terminating"))
    if completed is not None:
        assert found["status"]["completedIndexes"] == completed
    else:
        assert found["status"]["completedIndexes"] == "0-4"


@played
async def test_tasks_that_fail_once_are_restarted_in_place(api: Api) -> None:
    await api.post(JOBS, job(image="fails-once", restart="OnFailure", parallelism=2, completions=4, backoffLimit=6))
    await api.until(f"{JOBS}/j", complete)
    pods = (await api.get(PODS, labelSelector="job=j"))["items"]
    assert [p["status"]["phase"] for p in pods] == ["Succeeded"] * 4
    assert [p["status"]["containerStatuses"][0]["restartCount"] for p in pods] == [1] * 4
