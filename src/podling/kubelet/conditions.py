"""A pod's conditions, with upstream's reasons and messages (pkg/kubelet/status/generate.go)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from podling.api import core_v1, times
from podling.kubelet import pods
from podling.kubelet.actions import sandbox_change
from podling.kubelet.runtime_status import PodRuntimeStatus

POD_COMPLETED, POD_FAILED = "PodCompleted", "PodFailed"
_TERMINAL = {"Succeeded": POD_COMPLETED, "Failed": POD_FAILED}


def find(among: Iterable[core_v1.PodCondition] | None, type_: str) -> core_v1.PodCondition | None:
    return next((c for c in among or () if c.type == type_), None)


def _false(type_: str, reason: str, message: str = "") -> core_v1.PodCondition:
    return core_v1.PodCondition(type=type_, status="False", reason=reason or None, message=message or None)


def _true(type_: str, reason: str = "") -> core_v1.PodCondition:
    return core_v1.PodCondition(type=type_, status="True", reason=reason or None)


def _listed(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"


def ready_to_start(pod: core_v1.Pod, runtime: PodRuntimeStatus) -> core_v1.PodCondition:
    """PodReadyToStartContainers: there is a sandbox with its network."""
    change = sandbox_change(pod, runtime)
    if not change.needed:
        return _true("PodReadyToStartContainers")
    return _false("PodReadyToStartContainers", "PodSandboxNotReady", change.message)


def containers_ready(pod: core_v1.Pod, found: Sequence[core_v1.ContainerStatus], phase: str) -> core_v1.PodCondition:
    """ContainersReady: all containers and sidecars are ready."""
    by_name = {s.name: s for s in found}
    wanted = [c for c in pod.spec.init_containers or () if pods.is_sidecar(c)] + list(pod.spec.containers)
    unknown = [c.name for c in wanted if c.name not in by_name]
    unready = [c.name for c in wanted if c.name in by_name and not by_name[c.name].ready]
    if phase == "Failed" or (phase == "Succeeded" and not unknown):
        return _false("ContainersReady", _TERMINAL[phase])
    messages = []
    if unknown:
        messages.append(f"containers with unknown status: {_listed(unknown)}")
    if unready:
        messages.append(f"containers with unready status: {_listed(unready)}")
    if messages:
        return _false("ContainersReady", "ContainersNotReady", ", ".join(messages))
    return _true("ContainersReady")


def ready(
    pod: core_v1.Pod, others: Sequence[core_v1.PodCondition], containers: core_v1.PodCondition
) -> core_v1.PodCondition:
    """Ready: the containers are, and every readiness gate is open."""
    if containers.status != "True":
        return core_v1.PodCondition(
            type="Ready", status=containers.status, reason=containers.reason, message=containers.message
        )
    messages = []
    for gate in pod.spec.readiness_gates or ():
        condition = find(others, gate.condition_type)
        if condition is None:
            messages.append(f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.')
        elif condition.status != "True":
            messages.append(
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {condition.status}'
            )
    if messages:
        return _false("Ready", "ReadinessGatesNotReady", ", ".join(messages))
    return _true("Ready")


def initialized(
    pod: core_v1.Pod, old: core_v1.PodStatus, found: Sequence[core_v1.ContainerStatus], phase: str
) -> core_v1.PodCondition:
    """Initialized: all init containers are through, all sidecars have started."""
    by_name = {s.name: s for s in found}
    specs = pod.spec.init_containers or ()
    unknown = [c.name for c in specs if c.name not in by_name]
    incomplete = [c.name for c in specs if c.name in by_name and not _passed(c, by_name[c.name])]
    if phase == "Succeeded" and not unknown:
        return _true("Initialized", POD_COMPLETED)
    if any(_has_started(by_name.get(c.name)) for c in pod.spec.containers):
        return _true("Initialized")
    messages = []
    if unknown:
        messages.append(f"containers with unknown status: {_listed(unknown)}")
    if incomplete:
        messages.append(f"containers with incomplete status: {_listed(incomplete)}")
    if not messages:
        return _true("Initialized")
    before = find(old.conditions, "Initialized")
    if before is not None and before.status == "True":
        # What has been initialized stays so, also while it is restarted in place.
        return _true("Initialized")
    return _false("Initialized", "ContainersNotInitialized", ", ".join(messages))


def _passed(container: core_v1.Container, status: core_v1.ContainerStatus) -> bool:
    return bool(status.started) if pods.is_sidecar(container) else status.ready


def _has_started(status: core_v1.ContainerStatus | None) -> bool:
    """It runs, or has run before."""
    if status is None:
        return False
    if status.last_state is not None and status.last_state.terminated is not None:
        return True
    return status.state is not None and (status.state.running is not None or status.state.terminated is not None)


def all_restarting(phase: str, restarting: bool) -> core_v1.PodCondition:
    """AllContainersRestarting: a container ended in a way that restarts the whole pod in place."""
    if phase in _TERMINAL:
        return _false("AllContainersRestarting", _TERMINAL[phase])
    if not restarting:
        return core_v1.PodCondition(type="AllContainersRestarting", status="False")
    return core_v1.PodCondition(
        type="AllContainersRestarting",
        status="True",
        reason="RestartAllContainersStarted",
        message="container exited with restart policy rule",
    )


def stamp(
    condition: core_v1.PodCondition,
    old: Iterable[core_v1.PodCondition] | None,
    generation: int | None,
    now: datetime,
) -> None:
    """Fill in since when the condition has its status, and which spec it speaks of."""
    before = find(old, condition.type)
    same = before is not None and before.status == condition.status
    if before is not None and same and before.last_transition_time:
        condition.last_transition_time = before.last_transition_time
    else:
        condition.last_transition_time = times.format(now)
    if condition.observed_generation is None:
        condition.observed_generation = generation
