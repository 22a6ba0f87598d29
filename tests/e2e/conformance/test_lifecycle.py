"""How containers begin and end: init containers, restarts, hooks, probes, deadlines, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conformance.batch import Batch
from tests.e2e.conformance.client import Namespace, Object, condition, eventually
from tests.e2e.conformance.pods import AGNHOST, BUSYBOX, agnhost, netexec, once, pod, shell

pods = Batch()


@pytest.fixture(scope="module")
def running(shared: Namespace) -> Iterator[Namespace]:
    yield from pods.run(shared)


def container(space: Namespace, name: str, number: int = 0, kind: str = "containerStatuses") -> Object:
    found: Object = space.get("pods", name)["status"][kind][number]
    return found


# Termination messages

LOG = {"terminationMessagePolicy": "FallbackToLogsOnError"}
pods.add(
    once("message-file", "echo -n OK > /dev/termination-log", container=LOG),
    once("message-empty", "echo seen", container=LOG),
    once("message-log", "echo -n DONE; exit 1", container=LOG),
    once("message-user", "echo -n DONE > /dev/termination-custom-log", container={
        "terminationMessagePath": "/dev/termination-custom-log", "securityContext": {"runAsUser": 1000}}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"), [("file", "OK"), ("empty", ""), ("log", "DONE"), ("user", "DONE")], ids=lambda v: v or "none"
)
def test_a_container_leaves_a_message(running: Namespace, name: str, message: str) -> None:
    running.ended(f"message-{name}")
    assert container(running, f"message-{name}")["state"]["terminated"].get("message", "") == message


# Restarts

COUNT = "n=$(cat /v/n 2>/dev/null); n=$((n + 1)); echo $n > /v/n; "


def counted(name: str, script: str, policy: str) -> Object:
    body = shell(COUNT + script, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    return pod(name, body, restartPolicy=policy, volumes=[{"name": "v", "emptyDir": {}}])


pods.add(
    counted("policy-always", "if [ $n -lt 3 ]; then exit $((n - 1)); fi; sleep 600", "Always"),
    counted("policy-on-failure", "[ $n -ge 2 ]", "OnFailure"),
    counted("policy-never", "exit 1", "Never"),
    pod("false", shell("exit 1"), restartPolicy="Always"),
)


def test_restart_policies(running: Namespace) -> None:
    assert running.ended("policy-never")["status"]["phase"] == "Failed"
    assert container(running, "policy-never")["restartCount"] == 0
    assert running.ended("policy-on-failure")["status"]["phase"] == "Succeeded"
    assert container(running, "policy-on-failure")["restartCount"] == 1
    eventually(lambda: container(running, "policy-always")["restartCount"] == 2, 60)
    running.ready("policy-always")
    state = eventually(lambda: container(running, "policy-always")["lastState"]["terminated"])
    assert (state["exitCode"], state["reason"]) == (1, "Error")


def test_a_crash_looping_pod_tells_its_reason_and_can_be_deleted(running: Namespace) -> None:
    eventually(lambda: container(running, "false")["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    assert container(running, "false")["lastState"]["terminated"]["reason"] == "Error"
    running.delete("pods", "false")
    eventually(lambda: running.gone("pods", "false"))


# Init containers


def initialised(name: str, *scripts: str, policy: str, main: str = "sleep 600") -> Object:
    inits = [shell(script, name=f"init{n}") for n, script in enumerate(scripts, 1)]
    return pod(name, shell(main), restartPolicy=policy, initContainers=inits)


pods.add(
    initialised("init-always", "true", "true", policy="Always"),
    initialised("init-never", "true", "true", policy="Never", main="true"),
    initialised("init-never-fails", "true", "false", policy="Never"),
    initialised("init-always-fails", "false", "true", policy="Always"),
)


def test_init_containers_run_in_order_before_the_others(running: Namespace) -> None:
    running.ready("init-always")
    running.ended("init-never")
    for name in ("init-always", "init-never"):
        found = running.get("pods", name)
        assert condition(found, "Initialized") == "True"
        first, second = (s["state"]["terminated"] for s in found["status"]["initContainerStatuses"])
        assert (first["exitCode"], second["exitCode"]) == (0, 0)
        assert first["finishedAt"] <= second["startedAt"]
        assert all(s["ready"] for s in found["status"]["initContainerStatuses"])


def test_a_failed_init_container_keeps_the_others_from_starting(running: Namespace) -> None:
    found = running.ended("init-never-fails")
    assert found["status"]["phase"] == "Failed" and condition(found, "Initialized") == "False"
    assert found["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    eventually(lambda: container(running, "init-always-fails", 0, "initContainerStatuses")["restartCount"] >= 2, 60)
    found = running.get("pods", "init-always-fails")
    assert found["status"]["phase"] == "Pending"
    second, main = found["status"]["initContainerStatuses"][1], found["status"]["containerStatuses"][0]
    assert second["state"]["waiting"]["reason"] == main["state"]["waiting"]["reason"] == "PodInitializing"
    (told,) = [c for c in found["status"]["conditions"] if c["type"] == "Initialized"]
    assert told["message"] == "containers with incomplete status: [init1 init2]"
    assert told["reason"] == "ContainersNotInitialized"


# Hooks

NODE = {"kubernetes.io/hostname": "duo-1"}


def test_hooks_reach_a_handler(running: Namespace) -> None:
    (handler,) = running.run(netexec("handler", node="duo-1"))
    ip = handler["status"]["podIP"]

    def ask(what: str) -> Object:
        return {"exec": {"command": ["wget", "-qO-", f"http://{ip}:8080/echo?msg={what}"]}}

    def get(what: str) -> Object:
        return {"httpGet": {"host": ip, "port": 8080, "path": f"/echo?msg={what}"}}

    for name, hooks in {
        "exec-hook": {"postStart": ask("started-by-exec"), "preStop": ask("stopped-by-exec")},
        "http-hook": {"postStart": get("started-by-http"), "preStop": get("stopped-by-http")},
        "sleep-hook": {"preStop": {"sleep": {"seconds": 2}}},
    }.items():
        body = shell("trap exit TERM; sleep 600 & wait", lifecycle=hooks)
        running.start(pod(name, body, nodeSelector=NODE, terminationGracePeriodSeconds=15))
    for name in ("exec-hook", "http-hook", "sleep-hook"):
        running.ready(name)
    said = running.log("handler")
    assert "started-by-exec" in said and "started-by-http" in said and "stopped" not in said
    began = time.monotonic()
    for name in ("exec-hook", "http-hook", "sleep-hook"):
        running.delete("pods", name)
    for name in ("exec-hook", "http-hook"):
        eventually(lambda name=name: running.gone("pods", name))  # type: ignore[misc]
    said = running.log("handler")
    assert "stopped-by-exec" in said and "stopped-by-http" in said
    eventually(lambda: running.gone("pods", "sleep-hook"))
    assert 2 <= time.monotonic() - began < 12


# Probes


def probed(name: str, probe: Object, script: str = "", args: Any = None, kind: str = "livenessProbe") -> Object:
    probe = {"periodSeconds": 1, "failureThreshold": 1, **probe}
    body = shell(script, **{kind: probe}) if script else agnhost(*args, **{kind: probe})
    return pod(name, body)


def redirect(location: str) -> Object:
    return {"httpGet": {"path": f"/redirect?location={location}", "port": 8080}}


FAILS = "echo ok > /tmp/health; sleep 2; rm -rf /tmp/health; sleep 600"
CAT = {"exec": {"command": ["cat", "/tmp/health"]}}
LATE = {"initialDelaySeconds": 2, "failureThreshold": 5}
pods.add(
    probed("exec-fails", CAT | {"initialDelaySeconds": 1}, FAILS),
    probed("exec-works", CAT | {"initialDelaySeconds": 1}, "echo ok > /tmp/health; sleep 600"),
    probed("http-fails", {"httpGet": {"path": "/healthz", "port": 8080}, **LATE, "failureThreshold": 1},
           args=["liveness", "--healthy-for=4"]),
    probed("http-works", {"httpGet": {"path": "/", "port": 8080}, **LATE}, args=["netexec"]),
    probed("tcp-works", {"tcpSocket": {"port": 8080}, **LATE}, args=["liveness", "--healthy-for=1"]),
    probed("grpc-works", {"grpc": {"port": 5000}, **LATE}, args=["grpc-health-checking"]),
    probed("grpc-service", {"grpc": {"port": 5000, "service": "mine"}, **LATE},
           args=["grpc-health-checking", "--service=mine"]),
    probed("grpc-fails", {"grpc": {"port": 2333}, **LATE, "failureThreshold": 1}, args=["grpc-health-checking"]),
    probed("crashes-again", CAT | {"initialDelaySeconds": 1}, "sleep 600"),
    probed("ready-late", {"exec": {"command": ["true"]}, "initialDelaySeconds": 4}, "sleep 600", kind="readinessProbe"),
    probed("never-ready", {"exec": {"command": ["false"]}}, "sleep 600", kind="readinessProbe"),
    probed("redirected", redirect("%2Fhealthz") | LATE, args=["netexec"]),
    probed("redirected-away", redirect("http%3A%2F%2F0.0.0.0%2F") | LATE, args=["netexec"]),
)  # fmt: skip


@pytest.mark.parametrize("name", ["exec-fails", "http-fails", "grpc-fails"])
def test_failing_liveness_probes_restart_the_container(running: Namespace, name: str) -> None:
    eventually(lambda: container(running, name)["restartCount"] >= 1, 60)
    reasons = {event["reason"] for event in running.events(name)}
    assert {"Unhealthy", "Killing"} <= reasons


def test_readiness_waits_for_its_delay(running: Namespace) -> None:
    found = running.ready("ready-late")
    (ready,) = [c for c in found["status"]["conditions"] if c["type"] == "Ready"]
    began = found["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert int(ready["lastTransitionTime"][-3:-1]) - int(began[-3:-1]) in (4, 5, 6, -54, -55, -56)
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0


def test_containers_restart_again_and_again(running: Namespace) -> None:
    """With the back-off of 10 and 20 s between."""
    eventually(lambda: container(running, "crashes-again")["restartCount"] >= 2, 60)


WORKS = ("exec-works", "http-works", "tcp-works", "grpc-works", "grpc-service", "never-ready", "redirected")


def test_probes_that_succeed_leave_the_container_alone(running: Namespace) -> None:
    for name in (*WORKS, "redirected-away"):
        found = container(running, name)
        assert found["restartCount"] == 0 and "running" in found["state"], (name, running.events(name))
    assert condition(running.get("pods", "never-ready"), "Ready") == "False"
    said = [e for e in running.events("redirected-away") if e["reason"] == "ProbeWarning"]
    assert said and "Probe terminated redirects" in said[0]["message"]


# Deadlines, deletion


def test_a_deadline_ends_a_running_pod(running: Namespace) -> None:
    running.run(pod("deadline", shell("sleep 600")))
    running.patch("pods", "deadline", {"spec": {"activeDeadlineSeconds": 2}})
    found = running.ended("deadline", 30)["status"]
    assert (found["phase"], found["reason"]) == ("Failed", "DeadlineExceeded")
    assert found["message"] == "Pod was active on the node longer than the specified deadline"


def test_a_pod_is_seen_from_its_creation_to_its_deletion(running: Namespace) -> None:
    running.run(pod("seen", shell("trap exit TERM; sleep 600 & wait")))
    running.delete("pods", "seen", gracePeriodSeconds=30)
    assert running.get("pods", "seen")["metadata"]["deletionGracePeriodSeconds"] == 30
    eventually(lambda: running.gone("pods", "seen"), 10)


# Generations


def test_generations_count_changes_and_are_observed(running: Namespace) -> None:
    pods = [{"name": "c", "image": BUSYBOX, "command": ["sleep", "600"]}]
    (made,) = running.run(pod("generations", *pods))
    assert made["metadata"]["generation"] == 1
    for number in range(1, 500):
        toleration = [{"key": f"k{n}", "operator": "Exists"} for n in range(number)]
        if number < 20:
            running.patch("pods", "generations", {"spec": {"tolerations": toleration}}, kind="strategic")
        else:
            running.patch("pods", "generations", {"spec": {"activeDeadlineSeconds": 100000 - number}}, kind="strategic")
    assert running.get("pods", "generations")["metadata"]["generation"] == 500
    eventually(lambda: running.get("pods", "generations")["status"]["observedGeneration"] == 500)
    running.delete("pods", "generations", gracePeriodSeconds=2)
    assert running.get("pods", "generations")["metadata"]["generation"] == 501


# Logs


def test_logs_can_be_cut(running: Namespace) -> None:
    words = {"name": "c", "image": AGNHOST, "command": ["sh", "-c", "echo one; sleep 2; echo two; sleep 600"]}
    running.run(pod("talker", words))
    eventually(lambda: running.log("talker") == "one\ntwo\n")
    assert running.log("talker", tailLines=1) == "two\n"
    assert running.log("talker", limitBytes=1) == "o"
    assert running.log("talker", sinceSeconds=86400) == "one\ntwo\n"
    stamped = running.log("talker", timestamps="true").splitlines()
    assert stamped[0].endswith("Z one")
    eventually(lambda: running.log("talker", sinceSeconds=1) == "")
    assert running.log("talker", sinceTime=stamped[1].split()[0]) == "two\n"
