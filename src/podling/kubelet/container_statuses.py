"""Runtime status -> status.containerStatuses, with upstream's states, reasons and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from podling.api import core_v1, quantity, times
from podling.api.scalars import Quantity
from podling.api.struct import clone
from podling.kubelet import pods, restarts
from podling.kubelet.pods import AnyContainer
from podling.kubelet.runtime_status import PodRuntimeStatus
from podling.runtime.base import ContainerState, ContainerStatus

CONTAINER_CREATING, POD_INITIALIZING = "ContainerCreating", "PodInitializing"
STATUS_UNKNOWN = "ContainerStatusUnknown"
RESTARTING_ALL = "RestartingAllContainers"
_RESTARTING_ALL_MESSAGE = "The container is removed because RestartAllContainers in place"

#: Below these, cgroups cannot tell the difference and the status keeps what was asked for (thousandths of a core).
_MIN_CPU_REQUEST, _MIN_CPU_LIMIT = 2, 10


class Failure(msgspec.Struct, frozen=True):
    """Why a container is not running: reason and message of its waiting state."""

    reason: str
    message: str


class Facts(msgspec.Struct, kw_only=True):
    """What the statuses are made from. `readiness` and `startup` are probe results by container id, `probed` the names
    of the containers that have such a probe; `failures` are by container name; `image_refs` by image id.
    `runtime_name` stands before `://` in container ids, as it does in the version that the node shows.
    `restarting_all`: the pod is being restarted in place."""

    pod: core_v1.Pod
    runtime: PodRuntimeStatus
    old: core_v1.PodStatus
    runtime_name: str
    failures: Mapping[str, Failure] = {}
    readiness: Mapping[str, bool] = {}
    startup: Mapping[str, bool] = {}
    image_refs: Mapping[str, str] = {}
    restarting_all: bool = False


def statuses(
    facts: Facts, containers: Sequence[AnyContainer], old: Sequence[core_v1.ContainerStatus] | None, *, init: bool
) -> list[core_v1.ContainerStatus]:
    """One status per container: init containers in their order, others by name."""
    before = {status.name: status for status in old or ()}
    made: dict[str, core_v1.ContainerStatus] = {}
    for container in containers:
        newest, previous = _newest_two(facts.runtime, container.name)
        known = before.get(container.name)
        if newest is None:
            status = _missing(facts, container, known)
        else:
            status = _converted(facts, container, newest, known)
            if previous is not None:
                status.last_state = _converted(facts, container, previous, known).state
        made[container.name] = status
    for container in containers:
        _explain_waiting(facts, container, made, init=init)
    return list(made.values()) if init else [made[name] for name in sorted(made)]


def _newest_two(runtime: PodRuntimeStatus, name: str) -> tuple[ContainerStatus | None, ContainerStatus | None]:
    found = [c for c in runtime.containers if c.name == name][:2]
    return (found[0] if found else None), (found[1] if len(found) > 1 else None)


def _default(facts: Facts, container: AnyContainer) -> core_v1.ContainerStatus:
    reason = POD_INITIALIZING if facts.pod.spec.init_containers else CONTAINER_CREATING
    return core_v1.ContainerStatus(
        name=container.name,
        image=container.image or "",
        state=core_v1.ContainerState(waiting=core_v1.ContainerStateWaiting(reason=reason)),
        last_state=core_v1.ContainerState(),
        volume_mounts=_volume_mounts(container),
    )


def _volume_mounts(container: AnyContainer) -> list[core_v1.VolumeMountStatus] | None:
    made = []
    for mount in container.volume_mounts or ():
        status = core_v1.VolumeMountStatus(name=mount.name, mount_path=mount.mount_path)
        if mount.read_only:
            recursive = mount.recursive_read_only not in (None, "Disabled")
            status.read_only = True
            status.recursive_read_only = "Enabled" if recursive else "Disabled"
        made.append(status)
    return made or None


def _missing(facts: Facts, container: AnyContainer, known: core_v1.ContainerStatus | None) -> core_v1.ContainerStatus:
    """The runtime has no such container: not made yet, or removed."""
    status = _default(facts, container)
    if known is None:
        return status
    old_state = known.state or core_v1.ContainerState()
    if old_state.terminated is not None and not facts.restarting_all:
        return clone(known)
    status.restart_count = known.restart_count
    status.last_state = clone(known.last_state) if known.last_state else core_v1.ContainerState()
    if facts.restarting_all:
        return _restarting(status, known)
    if old_state.running is None or status.last_state.terminated is not None:
        return status
    # It ran when it was last seen: it must have ended, or the pod would look as if it had never begun.
    status.last_state.terminated = core_v1.ContainerStateTerminated(
        reason=STATUS_UNKNOWN,
        message="The container could not be located when the pod was deleted.  The container used to be Running",
        exit_code=137,
    )
    if facts.pod.metadata.deletion_timestamp is None:
        status.restart_count += 1
    return status


def _restarting(status: core_v1.ContainerStatus, known: core_v1.ContainerStatus) -> core_v1.ContainerStatus:
    old_state = known.state or core_v1.ContainerState()
    if old_state.waiting is not None:
        if old_state.waiting.reason == RESTARTING_ALL:
            status.state = clone(old_state)
        return status
    status.state = core_v1.ContainerState(
        waiting=core_v1.ContainerStateWaiting(reason=RESTARTING_ALL, message=_RESTARTING_ALL_MESSAGE)
    )
    ended = old_state.terminated or core_v1.ContainerStateTerminated(
        reason=RESTARTING_ALL, message=_RESTARTING_ALL_MESSAGE, exit_code=137
    )
    status.last_state = core_v1.ContainerState(terminated=clone(ended))
    status.restart_count = known.restart_count + 1
    return status


def _converted(
    facts: Facts, container: AnyContainer, found: ContainerStatus, known: core_v1.ContainerStatus | None
) -> core_v1.ContainerStatus:
    container_id = f"{facts.runtime_name}://{found.id}"
    status = core_v1.ContainerStatus(
        name=found.name,
        restart_count=found.attempt,
        image=found.image_name or container.image or "",
        image_id=facts.image_refs.get(found.image, found.image),
        container_id=container_id,
        state=core_v1.ContainerState(),
        last_state=core_v1.ContainerState(),
        volume_mounts=_volume_mounts(container),
    )
    if known is not None:
        _carry_over(status, known, container_id)
    match found.state:
        case ContainerState.RUNNING:
            started = times.format(found.started_at) if found.started_at else None
            status.state = core_v1.ContainerState(running=core_v1.ContainerStateRunning(started_at=started))
        case ContainerState.EXITED:
            status.state = core_v1.ContainerState(terminated=_terminated(facts, found, container_id))
        case ContainerState.UNKNOWN if known is not None and known.state is not None and known.state.running:
            status.state = core_v1.ContainerState(
                terminated=core_v1.ContainerStateTerminated(
                    reason=STATUS_UNKNOWN,
                    message="The container could not be located when the pod was terminated",
                    exit_code=137,
                )
            )
            status.restart_count = known.restart_count + 1
        case _:
            status.state = core_v1.ContainerState(waiting=core_v1.ContainerStateWaiting())
    _resources(facts, container, found, status)
    if found.user is not None:
        status.user = core_v1.ContainerUser(linux=_linux_user(facts.pod, *found.user))
    if container.lifecycle is not None and container.lifecycle.stop_signal:
        status.stop_signal = container.lifecycle.stop_signal
    return status


def _carry_over(status: core_v1.ContainerStatus, known: core_v1.ContainerStatus, container_id: str) -> None:
    """What only the last status remembers, once the runtime has removed the container before this one."""
    old_state = known.state or core_v1.ContainerState()
    if known.container_id != container_id and old_state.terminated is not None:
        status.last_state = core_v1.ContainerState(terminated=clone(old_state.terminated))
    elif known.last_state is not None and known.last_state.terminated is not None:
        status.last_state = clone(known.last_state)


def _terminated(facts: Facts, found: ContainerStatus, container_id: str) -> core_v1.ContainerStateTerminated:
    return core_v1.ContainerStateTerminated(
        exit_code=found.exit_code,
        reason=found.reason or None,
        message=facts.runtime.messages.get(found.id) or found.message or None,
        started_at=times.format(found.started_at) if found.started_at else None,
        finished_at=times.format(found.finished_at) if found.finished_at else None,
        container_id=container_id,
    )


def _linux_user(pod: core_v1.Pod, uid: int, gid: int) -> core_v1.LinuxContainerUser:
    security = pod.spec.security_context
    groups = [gid, *((security.supplemental_groups if security else None) or ())]
    if security is not None and security.fs_group is not None:
        groups.append(security.fs_group)
    return core_v1.LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=list(dict.fromkeys(groups)))


def _resources(facts: Facts, container: AnyContainer, found: ContainerStatus, status: core_v1.ContainerStatus) -> None:
    """What is allocated, and what is in force: cgroup values where they say more than the spec."""
    allocated = container.resources or core_v1.ResourceRequirements()
    status.allocated_resources = dict(allocated.requests) if allocated.requests else None
    actual = clone(allocated)
    if found.state is ContainerState.RUNNING:
        in_force = found.resources
        if actual.limits:
            if in_force.cpu_quota > 0 and in_force.cpu_period > 0:
                milli = in_force.cpu_quota * 1000 // in_force.cpu_period
                _set_cpu(actual.limits, milli, _MIN_CPU_LIMIT)
            if in_force.memory_limit > 0 and "memory" in actual.limits:
                _set_amount(actual.limits, "memory", quantity.of(in_force.memory_limit, quantity.Format.BINARY_SI))
        if actual.requests and in_force.cpu_shares > 0:
            _set_cpu(actual.requests, -(-in_force.cpu_shares * 1000 // 1024), _MIN_CPU_REQUEST)
    status.resources = actual


def _set_cpu(amounts: dict[str, Quantity], milli: int, smallest: int) -> None:
    if "cpu" in amounts and (milli > smallest or quantity.parse(amounts["cpu"]).milli() > smallest):
        _set_amount(amounts, "cpu", quantity.of_milli(milli))


def _set_amount(amounts: dict[str, Quantity], name: str, value: quantity.Quantity) -> None:
    """As the spec writes it, if it means the same."""
    if quantity.parse(amounts[name]) != value:
        amounts[name] = str(value)


def _explain_waiting(
    facts: Facts, container: AnyContainer, made: dict[str, core_v1.ContainerStatus], *, init: bool
) -> None:
    """A container that should be started and could not is waiting, and says why."""
    found = facts.runtime.find(container.name)
    status = made[container.name]
    once = init and not pods.is_sidecar(container)
    if once and found is not None and found.state is ContainerState.EXITED and found.exit_code == 0:
        return
    if once and found is None and _was_initialized(facts):
        if status.state is not None and status.state.waiting is not None:
            status.state = core_v1.ContainerState(
                terminated=core_v1.ContainerStateTerminated(
                    reason="Completed",
                    message="Unable to get init container status from container runtime and pod has been initialized, "
                    "treat it as exited normally",
                    exit_code=0,
                )
            )
        return
    failure = facts.failures.get(container.name)
    if failure is None or not restarts.should_start(container, facts.pod, facts.runtime):
        return
    if status.state is not None and status.state.terminated is not None:
        status.last_state = status.state
    waiting = core_v1.ContainerStateWaiting(reason=failure.reason, message=failure.message or None)
    status.state = core_v1.ContainerState(waiting=waiting)


def _was_initialized(facts: Facts) -> bool:
    return any(
        found is not None and found.state is not ContainerState.UNKNOWN
        for found in (facts.runtime.active(c.name) for c in facts.pod.spec.containers)
    )
