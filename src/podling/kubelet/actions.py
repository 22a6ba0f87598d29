"""What to do about a pod now: a pure function of its spec, of what runs, and of what its probes say.

The rules are upstream's computePodActions: a pod whose sandbox is gone starts from the beginning; init containers run
one after another, the last that has begun tells how far it is; sidecars are kept running; containers that ended or
failed their probes are started again as their restart policy says; a pod with nothing left to run is killed.
"""

from __future__ import annotations

import hashlib

import msgspec

from podling.api import core_v1
from podling.kubelet import restarts
from podling.kubelet.pods import ANNOTATION_HASH, AnyContainer, is_host_network, is_sidecar
from podling.kubelet.runtime_status import PodRuntimeStatus
from podling.machinery import restart_policy
from podling.runtime.base import ContainerState, ContainerStatus, SandboxState

LIVENESS, STARTUP, POST_START, UNKNOWN = "LivenessProbe", "StartupProbe", "FailedPostStartHook", "Unknown"


class ProbeVerdicts(msgspec.Struct):
    """What the probes found, by container id: True for success, False for failure, absent while unknown."""

    liveness: dict[str, bool] = {}
    startup: dict[str, bool] = {}


class Kill(msgspec.Struct, frozen=True):
    """A running container to stop, and why: `message` for people, `reason` for choosing its grace period."""

    name: str
    message: str
    reason: str = UNKNOWN


class Actions(msgspec.Struct, kw_only=True):
    """Containers to start are indexes into their list in the spec, in the order to start them; those to kill are by
    container id. `reset`: stop and remove all containers and begin anew in the same sandbox."""

    kill_pod: bool = False
    create_sandbox: bool = False
    sandbox_id: str = ""
    attempt: int = 0
    init_to_start: list[int] = []
    to_start: list[int] = []
    ephemeral_to_start: list[int] = []
    to_kill: dict[str, Kill] = {}
    reset: str = ""

    @property
    def nothing(self) -> bool:
        return not (
            self.kill_pod
            or self.create_sandbox
            or self.init_to_start
            or self.to_start
            or self.ephemeral_to_start
            or self.to_kill
            or self.reset
        )


class SandboxChange(msgspec.Struct, frozen=True):
    """Whether a new sandbox is needed, under which attempt, in place of which, and why."""

    needed: bool
    attempt: int
    sandbox_id: str
    message: str = ""


def container_hash(container: AnyContainer) -> str:
    """What of a container's definition makes a restart necessary when it changes: its name and image."""
    text = f"{container.name}\0{container.image or ''}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def sandbox_change(pod: core_v1.Pod, status: PodRuntimeStatus) -> SandboxChange:
    """Whether the pod's sandbox must be made (anew)."""
    if not status.sandboxes:
        return SandboxChange(True, 0, "", "No pod sandbox found")
    attempt = max(s.attempt for s in status.sandboxes)
    newest = status.sandboxes[0]
    if sum(s.state is SandboxState.READY for s in status.sandboxes) > 1:
        return SandboxChange(True, attempt + 1, newest.id, "Multiple pod sandboxes are ready")
    if newest.state is not SandboxState.READY:
        return SandboxChange(True, attempt + 1, newest.id, "Pod sandbox is not ready")
    if not is_host_network(pod) and not newest.ips:
        return SandboxChange(True, attempt + 1, newest.id, "Pod sandbox has no IP address")
    return SandboxChange(False, attempt, newest.id)


def compute_actions(pod: core_v1.Pod, status: PodRuntimeStatus, probes: ProbeVerdicts | None = None) -> Actions:
    """What brings the pod nearer to its spec."""
    probes = probes or ProbeVerdicts()
    change = sandbox_change(pod, status)
    actions = Actions(
        kill_pod=change.needed, create_sandbox=change.needed, sandbox_id=change.sandbox_id, attempt=change.attempt
    )
    if change.needed:
        _from_the_beginning(pod, status, actions)
        return actions
    actions.reset = restarts.restarts_all(pod, status)
    if actions.reset:
        return actions
    actions.ephemeral_to_start = [
        i for i, c in enumerate(pod.spec.ephemeral_containers or ()) if status.find(c.name) is None
    ]
    initialized = _init_actions(pod, status, probes, actions)
    if actions.kill_pod or not initialized:
        return actions
    kept = sum(_keep(i, c, pod, status, probes, actions) for i, c in enumerate(pod.spec.containers))
    if kept == 0 and not actions.to_start:
        # Sidecars do not keep a pod alive whose own containers are done.
        actions.kill_pod = True
        actions.init_to_start = []
    return actions


def _from_the_beginning(pod: core_v1.Pod, status: PodRuntimeStatus, actions: Actions) -> None:
    if not restarts.any_may_restart(pod) and actions.attempt != 0 and status.containers:
        actions.create_sandbox = False
        return
    to_start = [i for i, c in enumerate(pod.spec.containers) if not _done(c, pod, status)]
    if not to_start and any(status.find(c.name) is not None for c in pod.spec.containers):
        actions.create_sandbox = False
        return
    if pod.spec.init_containers:
        actions.init_to_start = [0]
    else:
        actions.to_start = to_start


def _done(container: core_v1.Container, pod: core_v1.Pod, status: PodRuntimeStatus) -> bool:
    """It ended, and its policy says that this was that."""
    found = status.find(container.name)
    if found is None or found.state is not ContainerState.EXITED:
        return False
    return not restart_policy.restarts_after(container, pod.spec, found.exit_code)


def _changed(container: AnyContainer, status: ContainerStatus) -> bool:
    known = status.annotations.get(ANNOTATION_HASH)
    return known is not None and known != container_hash(container)


def _keep(
    index: int,
    container: core_v1.Container,
    pod: core_v1.Pod,
    status: PodRuntimeStatus,
    probes: ProbeVerdicts,
    actions: Actions,
) -> bool:
    """Whether the container runs and should go on; else notes what is to be done."""
    found = status.find(container.name)
    if found is None or found.state is not ContainerState.RUNNING:
        if restarts.should_start(container, pod, status):
            actions.to_start.append(index)
            if found is not None and found.state is ContainerState.UNKNOWN:
                message = 'Container is in "unknown" state, try killing it before restart'
                actions.to_kill[found.id] = Kill(container.name, message)
        return False
    # A container killed for its probes ends by a signal: that counts as a failure.
    restart = restart_policy.restarts_after(container, pod.spec, 137)
    if _changed(container, found):
        message, reason, restart = f"Container {container.name} definition changed", UNKNOWN, True
    elif probes.liveness.get(found.id) is False:
        message, reason = f"Container {container.name} failed liveness probe", LIVENESS
    elif probes.startup.get(found.id) is False:
        message, reason = f"Container {container.name} failed startup probe", STARTUP
    else:
        return True
    if restart:
        message += ", will be restarted"
        actions.to_start.append(index)
    actions.to_kill[found.id] = Kill(container.name, message, reason)
    return False


def has_initialized(pod: core_v1.Pod, status: PodRuntimeStatus) -> bool:
    """Whether a container of the current sandbox proves that all init containers were through."""
    for container in pod.spec.containers:
        found = status.active(container.name)
        if found is not None and found.state is not ContainerState.UNKNOWN:
            return True
    return False


def _init_actions(pod: core_v1.Pod, status: PodRuntimeStatus, probes: ProbeVerdicts, actions: Actions) -> bool:
    """Notes what the init containers need; whether the pod is initialized.

    Goes backwards: those that completed may have been cleaned up, so the last that is known tells how far the pod is.
    """
    specs = pod.spec.init_containers or []
    if not specs:
        return True
    initialized = has_initialized(pod, status)
    reached = initialized
    for index in range(len(specs) - 1, -1, -1):
        container = specs[index]
        found = status.active(container.name) or status.find(container.name)
        if found is None:
            if reached and is_sidecar(container):
                actions.init_to_start.append(index)
            continue
        if reached and not is_sidecar(container):
            continue
        verdict = _init_action(index, container, pod, found, probes, actions, reached=reached)
        if verdict is None:
            actions.kill_pod = True
            actions.init_to_start = []
            return False
        if verdict:
            if index == len(specs) - 1:
                initialized = True
            elif not reached:
                actions.init_to_start.append(index + 1)
        reached = True
    if not reached:
        actions.init_to_start.append(0)
    actions.init_to_start = sorted(set(actions.init_to_start))
    return initialized


def _init_action(
    index: int,
    container: core_v1.Container,
    pod: core_v1.Pod,
    found: ContainerStatus,
    probes: ProbeVerdicts,
    actions: Actions,
    *,
    reached: bool,
) -> bool | None:
    """Whether the next may start; None if the pod has failed."""
    match found.state:
        case ContainerState.CREATED:
            actions.init_to_start.append(index)
            return False
        case ContainerState.RUNNING:
            return is_sidecar(container) and _sidecar_action(index, container, found, probes, actions)
        case ContainerState.EXITED if is_sidecar(container):
            actions.init_to_start.append(index)
            return False
        case ContainerState.EXITED if found.exit_code == 0:
            return True
    exit_code = found.exit_code if found.state is ContainerState.EXITED else 137
    if not is_sidecar(container) and not restart_policy.restarts_after(container, pod.spec, exit_code):
        return None
    if found.state is ContainerState.UNKNOWN:
        message = 'Init container is in "unknown" state, try killing it before restart'
        actions.to_kill[found.id] = Kill(container.name, message)
    actions.init_to_start.append(index)
    return False


def _sidecar_action(
    index: int, container: core_v1.Container, found: ContainerStatus, probes: ProbeVerdicts, actions: Actions
) -> bool:
    """A running sidecar: whether it has started up, as its startup probe says."""

    def restart(message: str, reason: str = UNKNOWN) -> None:
        actions.to_kill[found.id] = Kill(container.name, f"Init container {container.name} {message}", reason)
        actions.init_to_start.append(index)

    if container.startup_probe is not None:
        started = probes.startup.get(found.id)
        if started is None:
            return False
        if not started:
            restart("failed startup probe", STARTUP)
            return False
    if _changed(container, found):
        restart("definition changed")
    elif container.liveness_probe is not None and probes.liveness.get(found.id) is False:
        restart("failed liveness probe", LIVENESS)
    return True
