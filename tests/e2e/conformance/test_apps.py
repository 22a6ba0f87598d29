"""Workloads where real pods matter: order, replacement, rollouts that fail, jobs that restart in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.conformance.client import Namespace, Object, condition, eventually
from tests.e2e.conformance.pods import BUSYBOX, agnhost, netexec, pod, port, service, shell

BAD_IMAGE = "localhost/nowhere:404"
READY = {"exec": {"command": ["test", "-f", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
TERMINATES = "trap exit TERM; sleep 3600 & wait"


def workload(name: str, container: Object, replicas: int | None = 1, **spec: Any) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}
    count = {} if replicas is None else {"replicas": replicas}
    body = {**count, "selector": {"matchLabels": labels}, "template": template, **spec}
    return {"metadata": {"name": name, "labels": labels}, "spec": body}


def stateful(name: str, replicas: int, script: str = "touch /tmp/ready; " + TERMINATES, **spec: Any) -> Object:
    return workload(name, shell(script, readinessProbe=READY), replicas, serviceName="test", **spec)


def members(space: Namespace, name: str) -> list[Object]:
    found = space.list("pods", labelSelector=f"app={name}")
    return sorted(found, key=lambda p: p["metadata"]["name"])


def names(space: Namespace, name: str) -> list[str]:
    return [p["metadata"]["name"] for p in members(space, name)]


def ready(space: Namespace, name: str) -> int:
    return sum(condition(p, "Ready") == "True" for p in members(space, name))


def test_stateful_sets_scale_in_order_and_halt_at_the_unready(space: Namespace) -> None:
    space.create("statefulsets", stateful("ss", 1))
    space.ready("ss-0")
    space.exec("ss-0", "rm", "/tmp/ready")
    eventually(lambda: ready(space, "ss") == 0)
    space.patch("statefulsets", "ss", {"spec": {"replicas": 3}})
    eventually(lambda: space.get("statefulsets", "ss")["status"]["observedGeneration"] == 2)
    assert names(space, "ss") == ["ss-0"]
    space.exec("ss-0", "touch", "/tmp/ready")
    eventually(lambda: ready(space, "ss") == 3, 60)
    made = [p["metadata"]["creationTimestamp"] for p in members(space, "ss")]
    assert made == sorted(made)
    for number in range(3):
        space.exec(f"ss-{number}", "rm", "/tmp/ready")
    eventually(lambda: ready(space, "ss") == 0)
    space.patch("statefulsets", "ss", {"spec": {"replicas": 0}})
    eventually(lambda: space.get("statefulsets", "ss")["status"]["observedGeneration"] == 3)
    assert not [p for p in members(space, "ss") if "deletionTimestamp" in p["metadata"]]
    space.exec("ss-2", "touch", "/tmp/ready")
    eventually(lambda: names(space, "ss") == ["ss-0", "ss-1"])
    space.exec("ss-1", "touch", "/tmp/ready")
    # The first of all may go without being ready again.
    eventually(lambda: names(space, "ss") == [])


def test_parallel_stateful_sets_do_not_wait(space: Namespace) -> None:
    space.create("statefulsets", stateful("burst", 3, TERMINATES, podManagementPolicy="Parallel"))
    eventually(lambda: len(names(space, "burst")) == 3)
    assert ready(space, "burst") == 0
    space.patch("statefulsets", "burst", {"spec": {"replicas": 0}})
    eventually(lambda: names(space, "burst") == [])


def test_stateful_sets_roll_from_the_highest_and_back(space: Namespace) -> None:
    space.create("statefulsets", stateful("roll", 3))
    eventually(lambda: ready(space, "roll") == 3, 60)
    before = space.get("statefulsets", "roll")["status"]["currentRevision"]

    def revisions() -> list[str]:
        return [p["metadata"]["labels"]["controller-revision-hash"] for p in members(space, "roll")]

    def update(**rolling: Any) -> None:
        body = space.get("statefulsets", "roll")["spec"]["template"]["spec"]["containers"]
        container = {"name": body[0]["name"], "env": [{"name": "V", "value": "2"}]}
        template = {"spec": {"containers": [container]}}
        space.patch("statefulsets", "roll", {"spec": {"template": template, **rolling}})

    update(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})

    def updated() -> str:
        status = space.get("statefulsets", "roll")["status"]
        assert status["updateRevision"] != before
        return str(status["updateRevision"])

    after = eventually(updated)
    eventually(lambda: revisions() == [before, before, after] and ready(space, "roll") == 3, 60)
    for name in ("roll-0", "roll-2"):
        space.delete("pods", name)
        eventually(lambda: revisions() == [before, before, after] and ready(space, "roll") == 3, 60)
    space.patch("statefulsets", "roll", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})
    eventually(lambda: revisions() == [after] * 3 and ready(space, "roll") == 3, 60)
    eventually(lambda: space.get("statefulsets", "roll")["status"]["currentRevision"] == after)
    containers = [{"name": "c", "env": None}]
    space.patch("statefulsets", "roll", {"spec": {"template": {"spec": {"containers": containers}}}})
    eventually(lambda: revisions() == [before] * 3 and ready(space, "roll") == 3, 60)
    assert len(space.list("controllerrevisions")) == 2


def test_a_stateful_pod_that_its_node_rejects_is_made_anew(space: Namespace) -> None:
    ports = [{"containerPort": 21017, "hostPort": 21017}]
    node = {"nodeName": "duo-1"}
    space.run(pod("holder", agnhost("pause", ports=ports), **node))
    body = workload("again", agnhost("pause", ports=ports), 1, serviceName="test")
    body["spec"]["template"]["spec"].update(node)
    space.create("statefulsets", body)
    seen: set[str] = set()

    def made_anew() -> bool:
        seen.update(p["metadata"]["uid"] for p in members(space, "again"))
        return len(seen) > 1

    eventually(made_anew, 60)
    space.delete("pods", "holder")
    eventually(lambda: ready(space, "again") == 1, 60)


def deployment(name: str, replicas: int, **spec: Any) -> Object:
    return workload(name, shell(TERMINATES), replicas, **spec)


def set_image(space: Namespace, kind: str, name: str, image: str) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": image}]}}
    space.patch(kind, name, {"spec": {"template": template}})


def sizes(space: Namespace, name: str) -> list[int]:
    """Replicas of the replica sets, the oldest first."""
    sets = space.list("replicasets", labelSelector=f"app={name}")
    sets.sort(key=lambda s: int(s["metadata"]["annotations"]["deployment.kubernetes.io/revision"]))
    return [s["spec"]["replicas"] for s in sets]


def test_a_deployment_that_is_scaled_mid_rollout_keeps_proportions(space: Namespace) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    space.create("deployments", deployment("web", 10, strategy=rolling))
    eventually(lambda: space.get("deployments", "web")["status"].get("availableReplicas") == 10, 60)
    set_image(space, "deployments", "web", BAD_IMAGE)
    eventually(lambda: sizes(space, "web") == [8, 5])
    eventually(lambda: space.get("deployments", "web")["status"].get("availableReplicas") == 8)
    space.patch("deployments", "web", {"spec": {"replicas": 30}})
    eventually(lambda: sizes(space, "web") == [20, 13])
    set_image(space, "deployments", "web", BUSYBOX)
    eventually(lambda: sizes(space, "web") == [0, 30] and ready(space, "web") == 30, 90)


def test_a_deployment_recreates_without_two_versions_at_once(space: Namespace) -> None:
    space.create("deployments", deployment("once", 2, strategy={"type": "Recreate"}))
    eventually(lambda: ready(space, "once") == 2)
    old = set(names(space, "once"))
    space.patch("deployments", "once", {"spec": {"template": {"metadata": {"labels": {"v": "2"}}}}})

    def over() -> bool:
        now = set(names(space, "once"))
        assert not (now & old and now - old), "both versions at once"
        return not now & old and ready(space, "once") == 2

    # Not `eventually`: what it finds wrong once stays wrong.
    while not over():
        pass


def daemon(name: str, **spec: Any) -> Object:
    return workload(name, shell(TERMINATES), None, **spec)


def test_daemon_sets_follow_nodes_and_roll_back_with_few_restarts(space: Namespace) -> None:
    space.create("daemonsets", daemon("ds"))
    eventually(lambda: ready(space, "ds") == 2)
    assert {p["spec"]["nodeName"] for p in members(space, "ds")} == {"duo-1", "duo-2"}
    uids = {p["metadata"]["uid"] for p in members(space, "ds")}
    set_image(space, "daemonsets", "ds", BAD_IMAGE)
    eventually(lambda: [1 for p in members(space, "ds") if p["spec"]["containers"][0]["image"] == BAD_IMAGE])
    set_image(space, "daemonsets", "ds", BUSYBOX)
    eventually(lambda: ready(space, "ds") == 2)
    assert len(uids & {p["metadata"]["uid"] for p in members(space, "ds")}) == 1
    space.patch("pods", names(space, "ds")[0], {"status": {"phase": "Failed"}}, sub="status")
    eventually(lambda: ready(space, "ds") == 2 and len(members(space, "ds")) == 2)
    color = {"spec": {"template": {"spec": {"nodeSelector": {f"{space.name}/color": "blue"}}}}}
    space.patch("daemonsets", "ds", color)
    eventually(lambda: names(space, "ds") == [])
    space.patch("nodes", "duo-2", {"metadata": {"labels": {f"{space.name}/color": "blue"}}})
    eventually(lambda: ready(space, "ds") == 1)
    space.patch("nodes", "duo-2", {"metadata": {"labels": {f"{space.name}/color": "green"}}})
    eventually(lambda: names(space, "ds") == [])
    space.patch("nodes", "duo-2", {"metadata": {"labels": {f"{space.name}/color": None}}})


def job(name: str, script: str, *, policy: str = "Never", mounts: bool = False, **spec: Any) -> Object:
    container = shell(script)
    template: Object = {"restartPolicy": policy, "containers": [container]}
    if mounts:
        container["volumeMounts"] = [{"name": "d", "mountPath": "/d"}]
        template["volumes"] = [{"name": "d", "emptyDir": {}}]
    return {"metadata": {"name": name}, "spec": {"template": {"spec": template}, **spec}}


def finished(space: Namespace, name: str, kind: str = "Complete") -> Object:
    def check() -> Object | None:
        body = space.get("jobs", name)
        return body if condition(body, kind) == "True" else None

    found: Object = eventually(check, 60, f"job {name} is {kind}")
    return found


def test_jobs_run_to_their_end_or_fail_by_their_rules(space: Namespace) -> None:
    once = "if [ -f /d/been ]; then exit 0; fi; touch /d/been; exit 1"
    space.create("jobs", job("local", once, policy="OnFailure", mounts=True, completions=4, parallelism=2))
    indexed = "echo $JOB_COMPLETION_INDEX $(hostname); exit 0"
    space.create("jobs", job("indexed", indexed, completions=4, parallelism=2, completionMode="Indexed"))
    per_index = "exit $((JOB_COMPLETION_INDEX % 2))"
    limits = {"completions": 4, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0}
    space.create("jobs", job("per-index", per_index, **limits))
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}
    space.create("jobs", job("fails", "exit 1", completions=4, podFailurePolicy={"rules": [rule]}))
    status = finished(space, "indexed")["status"]
    assert status["completedIndexes"] == "0-3"
    pods = space.list("pods", labelSelector="job-name=indexed")
    said = {space.log(p["metadata"]["name"]).strip() for p in pods}
    assert said == {f"{n} indexed-{n}" for n in range(4)}
    status = finished(space, "per-index", "Failed")["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1,3")
    assert (status["failed"], status["succeeded"]) == (2, 2)
    failed = finished(space, "fails", "Failed")["status"]["conditions"]
    assert {c["reason"] for c in failed} == {"PodFailurePolicy"}
    assert finished(space, "local")["status"]["succeeded"] == 4


def test_evicted_pods_of_a_job_do_not_count(space: Namespace, tmp_path: Path) -> None:
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    script = "f=/d/$JOB_COMPLETION_INDEX; test -e $f && exit 0; touch $f; trap 'exit 1' TERM; sleep 600 & wait"
    body = job("evicted", script, completions=2, parallelism=2, completionMode="Indexed", backoffLimit=0,
               podFailurePolicy={"rules": [rule]}, mounts=True)  # fmt: skip
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "d", "hostPath": {"path": str(tmp_path)}}]
    space.create("jobs", body)
    eventually(lambda: space.get("jobs", "evicted")["status"].get("ready") == 2)
    for each in space.list("pods", labelSelector="job-name=evicted"):
        name = each["metadata"]["name"]
        space.create("pods", {"metadata": {"name": name, "namespace": space.name}}, name, "eviction")
    assert "failed" not in finished(space, "evicted")["status"]


def test_replicas_tell_their_names_and_evictions_wait_for_the_budget(space: Namespace) -> None:
    body = workload("serve", netexec("x")["spec"]["containers"][0], 2)
    space.create("replicasets", body)
    eventually(lambda: ready(space, "serve") == 2)
    for name in names(space, "serve"):
        assert space.ask(name, 8080, "hostname") == name
    space.create("services", service("serve", {"app": "serve"}, port(80, 8080)))
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "serve"}}}
    space.create("poddisruptionbudgets", {"metadata": {"name": "serve"}, "spec": budget})
    eventually(lambda: space.get("poddisruptionbudgets", "serve")["status"]["expectedPods"] == 2)
    name = names(space, "serve")[0]
    eviction = {"metadata": {"name": name, "namespace": space.name}}
    answer = space.api.raw("POST", space.path("pods", name, "eviction"), json.dumps(eviction).encode())
    assert answer.status == 429
    space.patch("poddisruptionbudgets", "serve", {"spec": {"minAvailable": 1}})
    eventually(lambda: space.get("poddisruptionbudgets", "serve")["status"]["disruptionsAllowed"] == 1)
    space.create("pods", eviction, name, "eviction")
    eventually(lambda: space.gone("pods", name))
