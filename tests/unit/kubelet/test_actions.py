"""What to do about a pod, by tables: each row is what runs, and what follows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1
from podling.api.struct import from_dict
from podling.kubelet import pods
from podling.kubelet.actions import Actions, ProbeVerdicts, compute_actions, container_hash
from podling.kubelet.runtime_status import PodRuntimeStatus, collect
from podling.runtime.base import ContainerState, ContainerStatus, SandboxState, SandboxStatus


def make_pod(**spec: Any) -> core_v1.Pod:
    given = {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}], **spec}
    return from_dict({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": given}, core_v1.Pod)


def sandbox(name: str = "s", *, ready: bool = True, attempt: int = 0, ip: str = "10.0.0.1") -> SandboxStatus:
    return SandboxStatus(
        id=name,
        name="p",
        namespace="d",
        uid="u",
        attempt=attempt,
        state=SandboxState.READY if ready else SandboxState.NOT_READY,
        created_at=clock.EPOCH + timedelta(seconds=attempt),
        ips=(ip,) if ip else (),
    )


def container(text: str, *, sandbox_id: str = "s", image: str = "i") -> ContainerStatus:
    """`a:running`, `a:exited(3)`, `a:created`, `a:unknown`; the id is the name."""
    name, _, state = text.partition(":")
    code = int(state[7:-1]) if state.startswith("exited") else 0
    spec = core_v1.Container(name=name, image=image)
    return ContainerStatus(
        id=name,
        sandbox_id=sandbox_id,
        name=name,
        attempt=0,
        state=ContainerState(state.partition("(")[0]),
        created_at=clock.EPOCH,
        exit_code=code,
        annotations={pods.ANNOTATION_HASH: container_hash(spec)},
    )


def status(*containers: str, **more: Any) -> PodRuntimeStatus:
    return collect([sandbox(**more)], [container(c) for c in containers])


def brief(actions: Actions) -> dict[str, Any]:
    """What is asked for, without what is not."""
    shown = {
        "kill_pod": actions.kill_pod,
        "create": actions.create_sandbox,
        "init": actions.init_to_start,
        "start": actions.to_start,
        "ephemeral": actions.ephemeral_to_start,
        "kill": sorted(actions.to_kill),
        "reset": actions.reset,
    }
    return {name: value for name, value in shown.items() if value}


@pytest.mark.parametrize(
    ("policy", "containers", "expected"),
    [
        ("Always", ("a:running", "b:running"), {}),
        ("Always", (), {"start": [0, 1]}),
        ("Always", ("a:running",), {"start": [1]}),
        ("Always", ("a:exited(0)", "b:running"), {"start": [0]}),
        ("OnFailure", ("a:exited(0)", "b:running"), {}),
        ("OnFailure", ("a:exited(1)", "b:running"), {"start": [0]}),
        ("Never", ("a:exited(1)", "b:running"), {}),
        ("Never", ("a:exited(1)", "b:exited(0)"), {"kill_pod": True}),
        ("OnFailure", ("a:exited(0)", "b:exited(0)"), {"kill_pod": True}),
        ("OnFailure", ("a:exited(0)", "b:exited(1)"), {"start": [1]}),
        ("Always", ("a:created", "b:running"), {"start": [0]}),
        ("Never", ("a:unknown", "b:running"), {"start": [0], "kill": ["a"]}),
    ],
)
def test_restart_policies(policy: str, containers: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert brief(compute_actions(make_pod(restartPolicy=policy), status(*containers))) == expected


@pytest.mark.parametrize(
    ("policy", "sandboxes", "containers", "expected"),
    [
        ("Always", [], (), {"kill_pod": True, "create": True, "start": [0, 1]}),
        (
            "Always",
            [sandbox(ready=False)],
            ("a:exited(0)", "b:running"),
            {"kill_pod": True, "create": True, "start": [0, 1]},
        ),
        (
            "OnFailure",
            [sandbox(ready=False)],
            ("a:exited(0)", "b:exited(1)"),
            {"kill_pod": True, "create": True, "start": [1]},
        ),
        ("OnFailure", [sandbox(ready=False)], ("a:exited(0)", "b:exited(0)"), {"kill_pod": True}),
        ("Never", [sandbox(ready=False)], ("a:exited(0)", "b:running"), {"kill_pod": True}),
        ("Always", [sandbox(ip="")], (), {"kill_pod": True, "create": True, "start": [0, 1]}),
        (
            "Always",
            [sandbox("s", attempt=0), sandbox("t", attempt=1)],
            (),
            {"kill_pod": True, "create": True, "start": [0, 1]},
        ),
    ],
)
def test_sandboxes(
    policy: str, sandboxes: list[SandboxStatus], containers: tuple[str, ...], expected: dict[str, Any]
) -> None:
    found = collect(sandboxes, [container(c) for c in containers])
    assert brief(compute_actions(make_pod(restartPolicy=policy), found)) == expected


def test_a_new_sandbox_is_the_next_attempt() -> None:
    found = collect([sandbox(ready=False, attempt=4)], [])
    assert compute_actions(make_pod(), found).attempt == 5


SIDECAR = {"name": "side", "image": "i", "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("inits", "containers", "expected"),
    [
        (["x", "y"], (), {"init": [0]}),
        (["x", "y"], ("x:running",), {}),
        (["x", "y"], ("x:exited(0)",), {"init": [1]}),
        (["x", "y"], ("x:exited(0)", "y:running"), {}),
        (["x", "y"], ("x:exited(0)", "y:exited(0)"), {"start": [0, 1]}),
        (["x", "y"], ("y:exited(0)",), {"start": [0, 1]}),
        (["x", "y"], ("x:exited(1)",), {"init": [0]}),
        (["x", "y"], ("x:exited(1)", "a:running", "b:running"), {}),
        (["x"], ("x:created",), {"init": [0]}),
        ([SIDECAR, "y"], (), {"init": [0]}),
        ([SIDECAR, "y"], ("side:running",), {"init": [1]}),
        ([SIDECAR, "y"], ("side:running", "y:running"), {}),
        ([SIDECAR, "y"], ("side:exited(0)", "y:running"), {"init": [0]}),
        ([SIDECAR, "y"], ("side:running", "y:exited(0)"), {"start": [0, 1]}),
        ([SIDECAR], ("side:exited(1)", "a:running", "b:running"), {"init": [0]}),
        ([SIDECAR], ("a:running", "b:running"), {"init": [0]}),
        (["x", SIDECAR], ("x:exited(0)", "side:running"), {"start": [0, 1]}),
    ],
)
def test_init_containers(inits: list[Any], containers: tuple[str, ...], expected: dict[str, Any]) -> None:
    specs = [i if isinstance(i, dict) else {"name": i, "image": "i"} for i in inits]
    assert brief(compute_actions(make_pod(initContainers=specs), status(*containers))) == expected


def test_a_failed_init_container_ends_a_pod_that_never_restarts() -> None:
    pod = make_pod(initContainers=[{"name": "x", "image": "i"}], restartPolicy="Never")
    assert brief(compute_actions(pod, status("x:exited(1)"))) == {"kill_pod": True}


def test_sidecars_do_not_keep_a_pod_alive() -> None:
    pod = make_pod(initContainers=[SIDECAR], restartPolicy="Never")
    found = status("side:running", "a:exited(0)", "b:exited(0)")
    assert brief(compute_actions(pod, found)) == {"kill_pod": True}


@pytest.mark.parametrize(
    ("policy", "probes", "expected", "message"),
    [
        ("Always", ProbeVerdicts(liveness={"a": True}), {}, ""),
        (
            "Always",
            ProbeVerdicts(liveness={"a": False}),
            {"start": [0], "kill": ["a"]},
            "Container a failed liveness probe, will be restarted",
        ),
        ("Never", ProbeVerdicts(liveness={"a": False}), {"kill": ["a"]}, "Container a failed liveness probe"),
        (
            "OnFailure",
            ProbeVerdicts(startup={"a": False}),
            {"start": [0], "kill": ["a"]},
            "Container a failed startup probe, will be restarted",
        ),
    ],
)
def test_probes(policy: str, probes: ProbeVerdicts, expected: dict[str, Any], message: str) -> None:
    actions = compute_actions(make_pod(restartPolicy=policy), status("a:running", "b:running"), probes)
    assert brief(actions) == expected
    if message:
        assert actions.to_kill["a"].message == message


def test_a_sidecar_with_a_startup_probe_holds_back_the_next() -> None:
    probed = {**SIDECAR, "startupProbe": {"exec": {"command": ["x"]}}}
    pod = make_pod(initContainers=[probed, {"name": "y", "image": "i"}])
    found = status("side:running")
    assert brief(compute_actions(pod, found)) == {}
    assert brief(compute_actions(pod, found, ProbeVerdicts(startup={"side": True}))) == {"init": [1]}
    failed = compute_actions(pod, found, ProbeVerdicts(startup={"side": False}))
    assert brief(failed) == {"init": [0], "kill": ["side"]}
    assert failed.to_kill["side"].message == "Init container side failed startup probe"


def test_another_image_is_another_container() -> None:
    found = collect([sandbox()], [container("a:running", image="old"), container("b:running")])
    actions = compute_actions(make_pod(restartPolicy="Never"), found)
    assert brief(actions) == {"start": [0], "kill": ["a"]}
    assert actions.to_kill["a"].message == "Container a definition changed, will be restarted"


def test_a_pod_being_deleted_starts_nothing() -> None:
    pod = make_pod()
    pod.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    assert brief(compute_actions(pod, status("a:exited(1)", "b:running"))) == {}


def test_ephemeral_containers_start_once() -> None:
    pod = make_pod(ephemeralContainers=[{"name": "e", "image": "i"}, {"name": "f", "image": "i"}])
    assert brief(compute_actions(pod, status("a:running", "b:running", "e:exited(1)"))) == {"ephemeral": [1]}


@pytest.mark.parametrize(
    ("operator", "values", "code", "expected"),
    [
        ("In", [3], 3, {"start": [0]}),
        ("In", [3], 4, {}),
        ("NotIn", [3], 4, {"start": [0]}),
        ("NotIn", [3], 3, {}),
    ],
)
def test_restart_rules(operator: str, values: list[int], code: int, expected: dict[str, Any]) -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": operator, "values": values}}]
    a = {"name": "a", "image": "i", "restartPolicy": "Never", "restartPolicyRules": rules}
    pod = make_pod(containers=[a, {"name": "b", "image": "i"}], restartPolicy="Never")
    assert brief(compute_actions(pod, status(f"a:exited({code})", "b:running"))) == expected
