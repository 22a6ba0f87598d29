"""PodStatus from what the runtime has, by tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from podling import clock
from podling.api import core_v1
from podling.api.struct import clone, to_dict
from podling.kubelet.container_statuses import Facts, Failure
from podling.kubelet.runtime_status import PodRuntimeStatus, collect
from podling.kubelet.status import Verdict, finalize, pod_status, sort_ips
from podling.kubelet.status_manager import status_patch
from tests.unit.kubelet.node import condition
from tests.unit.kubelet.test_actions import SIDECAR, container, make_pod, sandbox, status

NOW = clock.EPOCH + timedelta(minutes=5)


def make(pod: core_v1.Pod, runtime: PodRuntimeStatus, **more: Any) -> core_v1.PodStatus:
    options = {k: more.pop(k) for k in ("verdict", "terminating") if k in more}
    facts = Facts(pod=pod, runtime=runtime, **{"old": core_v1.PodStatus(), "runtime_name": "crun", **more})
    return pod_status(facts, host_ips=("10.213.0.1",), now=NOW, **options)


@pytest.mark.parametrize(
    ("policy", "containers", "terminating", "phase"),
    [
        ("Always", (), False, "Pending"),
        ("Always", ("a:running",), False, "Pending"),
        ("Always", ("a:running", "b:running"), False, "Running"),
        ("Always", ("a:exited(1)", "b:running"), False, "Running"),
        ("Always", ("a:exited(1)", "b:exited(0)"), False, "Running"),
        ("OnFailure", ("a:exited(0)", "b:exited(0)"), False, "Succeeded"),
        ("OnFailure", ("a:exited(0)", "b:exited(1)"), False, "Running"),
        ("Never", ("a:exited(0)", "b:exited(1)"), False, "Failed"),
        ("Never", ("a:exited(0)", "b:exited(0)"), False, "Succeeded"),
        ("Always", ("a:exited(0)", "b:exited(0)"), True, "Succeeded"),
        ("Always", ("a:exited(0)", "b:exited(137)"), True, "Failed"),
        ("Always", ("a:created", "b:running"), False, "Pending"),
    ],
)
def test_phases(policy: str, containers: tuple[str, ...], terminating: bool, phase: str) -> None:
    made = make(make_pod(restartPolicy=policy), status(*containers), terminating=terminating)
    assert made.phase == phase


@pytest.mark.parametrize(
    ("inits", "policy", "containers", "phase"),
    [
        (["x"], "Always", ("x:running",), "Pending"),
        (["x"], "Always", ("x:exited(1)",), "Pending"),
        (["x"], "Never", ("x:exited(1)",), "Failed"),
        (["x"], "Always", ("x:exited(0)", "a:running", "b:running"), "Running"),
        ([SIDECAR], "Never", ("side:running", "a:exited(0)", "b:exited(0)"), "Running"),
        ([SIDECAR], "Never", ("side:exited(0)", "a:exited(0)", "b:exited(0)"), "Succeeded"),
    ],
)
def test_phases_with_init_containers(inits: list[Any], policy: str, containers: tuple[str, ...], phase: str) -> None:
    specs = [i if isinstance(i, dict) else {"name": i, "image": "i"} for i in inits]
    pod = make_pod(initContainers=specs, restartPolicy=policy)
    assert make(pod, status(*containers)).phase == phase


def test_terminal_phases_are_never_left() -> None:
    pod = make_pod()
    pod.status = core_v1.PodStatus(phase="Failed", reason="Evicted", message="why")
    made = make(pod, status("a:running", "b:running"), old=pod.status)
    assert (made.phase, made.reason, made.message) == ("Failed", "Evicted", "why")
    assert condition(made, "Ready").reason == "PodFailed"


def test_a_verdict_overrides_what_containers_say() -> None:
    made = make(make_pod(), status("a:running", "b:running"), verdict=Verdict("Evicted", "no room"))
    assert (made.phase, made.reason, made.message) == ("Failed", "Evicted", "no room")


def test_before_anything_runs() -> None:
    made = make(make_pod(), PodRuntimeStatus())
    ready = condition(made, "PodReadyToStartContainers")
    assert (ready.status, ready.reason) == ("False", "PodSandboxNotReady")
    assert condition(made, "Initialized").status == "True"
    assert condition(made, "ContainersReady").message == "containers with unready status: [a b]"
    states = [s.state for s in made.container_statuses or ()]
    assert [s.waiting.reason for s in states if s and s.waiting] == ["ContainerCreating"] * 2


def test_failures_are_shown_as_waiting_with_the_last_end() -> None:
    failures = {"a": Failure("CrashLoopBackOff", "back-off 10s")}
    made = make(make_pod(), status("a:exited(3)", "b:running"), failures=failures)
    a = (made.container_statuses or [])[0]
    assert a.state is not None and a.state.waiting is not None and a.state.waiting.reason == "CrashLoopBackOff"
    assert a.last_state is not None and a.last_state.terminated is not None
    assert a.last_state.terminated.exit_code == 3


def test_a_container_that_vanished_while_running_has_failed() -> None:
    pod = make_pod()
    before = make(pod, status("a:running", "b:running"))
    made = make(pod, status("b:running"), old=before)
    a = (made.container_statuses or [])[0]
    assert made.phase == "Running"
    assert a.restart_count == 1
    assert a.last_state is not None and a.last_state.terminated is not None
    assert (a.last_state.terminated.reason, a.last_state.terminated.exit_code) == ("ContainerStatusUnknown", 137)


def test_transition_times_stay_while_the_status_does() -> None:
    pod = make_pod()
    before = make(pod, status("a:running", "b:running"))
    for known in before.conditions or ():
        known.last_transition_time = "2025-01-01T00:00:00Z"
    made = make(pod, status("a:running"), old=before)
    assert condition(made, "Initialized").last_transition_time == "2025-01-01T00:00:00Z"
    assert condition(made, "Ready").last_transition_time == "2026-01-01T00:05:00Z"


def test_others_conditions_are_kept() -> None:
    pod = make_pod()
    pod.status = core_v1.PodStatus(conditions=[core_v1.PodCondition(type="example.com/x", status="True")])
    assert condition(make(pod, status("a:running", "b:running")), "example.com/x").status == "True"


def test_what_has_no_known_end_counts_as_failed() -> None:
    pod = make_pod()
    made = make(pod, status("a:exited(0)"), terminating=True)
    finalize(pod, made)
    assert made.phase == "Failed"
    b = (made.container_statuses or [])[1]
    assert b.state is not None and b.state.terminated is not None
    assert b.state.terminated.reason == "ContainerStatusUnknown"


@pytest.mark.parametrize(
    ("ips", "host", "expected"),
    [
        (("fd00::1", "10.0.0.1", "10.0.0.2"), ("10.213.0.1",), ["10.0.0.1", "fd00::1"]),
        (("10.0.0.1", "fd00::1"), ("fd00::9",), ["fd00::1", "10.0.0.1"]),
        ((), ("10.213.0.1",), []),
    ],
)
def test_addresses_by_family(ips: tuple[str, ...], host: tuple[str, ...], expected: list[str]) -> None:
    assert sort_ips(ips, host) == expected


def test_host_network_pods_have_the_nodes_address() -> None:
    made = make(make_pod(hostNetwork=True), collect([sandbox(ip="")], [container("a:running"), container("b:running")]))
    assert (made.pod_ip, made.host_ip) == ("10.213.0.1", "10.213.0.1")


def test_patches_hold_only_what_changed() -> None:
    pod = make_pod()
    before = make(pod, status("a:running", "b:running"))
    assert status_patch(before, clone(before)) == {}
    after = make(pod, status("a:exited(1)", "b:running"), old=before)
    patch = status_patch(before, after)
    assert set(patch) == {"conditions", "$setElementOrder/conditions", "containerStatuses"}
    assert {c["type"] for c in patch["conditions"]} == {"Ready", "ContainersReady"}


def test_patches_take_away_what_is_gone() -> None:
    before = core_v1.PodStatus(
        reason="x",
        conditions=[core_v1.PodCondition(type="PodResizePending", status="True")],
        pod_ips=[core_v1.PodIP(ip="1")],
    )
    patch = status_patch(before, core_v1.PodStatus(pod_ips=[core_v1.PodIP(ip="2")]))
    assert patch["reason"] is None
    assert patch["conditions"] == [{"$patch": "delete", "type": "PodResizePending"}]
    assert patch["podIPs"] == [{"ip": "2"}, {"$patch": "delete", "ip": "1"}]
    assert to_dict(before)["reason"] == "x"


def test_of_a_signal_only_the_exit_code_is_known() -> None:
    pod = make_pod(restartPolicy="Never")
    killed = container("a:exited(137)")
    killed = msgspec.structs.replace(killed, signal=9, reason="Error")
    made = make(pod, collect([sandbox()], [killed, container("b:running")]))
    ended = next(s.state.terminated for s in made.container_statuses or [] if s.name == "a" and s.state)
    assert ended is not None
    assert (ended.exit_code, ended.signal, ended.reason) == (137, None, "Error")
