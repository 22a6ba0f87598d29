"""In-place resize of pods (KEP-1287): what a pod asks for, what the node has granted, and what is in force.

What is asked for (the spec) is granted as a whole or not at all; what is granted is then put into force, container by
container. Pure: the worker carries it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from podling.api import core_v1
from podling.api.struct import clone, encode, to_dict
from podling.kubelet import cgroups, pods
from podling.machinery import pod_resources
from podling.runtime.base import ContainerState, ContainerStatus, Resources

#: What can be resized.
RESIZABLE = ("cpu", "memory")
#: A container's granted resources by its name.
Granted = Mapping[str, core_v1.ResourceRequirements]


class Pending(msgspec.Struct, frozen=True):
    """Why what is asked for is not granted: Deferred (not now) or Infeasible (never on this node)."""

    reason: str
    message: str


class Update(msgspec.Struct, frozen=True):
    """A running container whose cgroup must change; `restart`: only a new start can do it."""

    name: str
    container_id: str
    resources: Resources
    restart: bool
    lowers_memory: bool


def resizable(pod: core_v1.Pod) -> list[core_v1.Container]:
    return [*pod.spec.containers, *(c for c in pod.spec.init_containers or () if pods.is_sidecar(c))]


def asked(pod: core_v1.Pod) -> dict[str, core_v1.ResourceRequirements]:
    """What the spec says."""
    return {c.name: c.resources or core_v1.ResourceRequirements() for c in resizable(pod)}


def reported(pod: core_v1.Pod) -> dict[str, core_v1.ResourceRequirements]:
    """What had been granted before the node agent restarted, as far as the status tells; else what the spec says."""
    status = pod.status or core_v1.PodStatus()
    every = [*(status.container_statuses or ()), *(status.init_container_statuses or ())]
    known = {s.name: s.resources for s in every if s.resources is not None}
    return {name: _with_values_of(wanted, known.get(name)) for name, wanted in asked(pod).items()}


def _with_values_of(
    wanted: core_v1.ResourceRequirements, known: core_v1.ResourceRequirements | None
) -> core_v1.ResourceRequirements:
    return clone(known) if known is not None and _amounts(known) != _amounts(wanted) else wanted


def _amounts(resources: core_v1.ResourceRequirements) -> tuple[dict[str, int], dict[str, int]]:
    def only(given: Mapping[str, str | int | float] | None) -> dict[str, int]:
        return {k: v for k, v in pod_resources.amounts(given).items() if k in RESIZABLE}

    return only(resources.requests), only(resources.limits)


def differs(one: Granted, other: Granted) -> bool:
    """Whether they mean different amounts of anything that can be resized."""
    none = core_v1.ResourceRequirements()
    return any(_amounts(one.get(n, none)) != _amounts(other.get(n, none)) for n in one.keys() | other.keys())


def with_granted(pod: core_v1.Pod, granted: Granted) -> core_v1.Pod:
    """The pod as it is granted: `pod` itself if that is all that it asks for."""
    if not differs(granted, asked(pod)):
        return pod
    made = clone(pod)
    for container in resizable(made):
        container.resources = clone(granted.get(container.name) or core_v1.ResourceRequirements())
    return made


def decide(pod: core_v1.Pod, others: Iterable[core_v1.Pod], allocatable: Mapping[str, int]) -> Pending | None:
    """Whether the node can grant what the pod asks for; None if it can. `others` are as they are granted."""
    wanted = pod_resources.requests(pod)
    for name in RESIZABLE:
        if wanted.get(name, 0) > allocatable.get(name, 0):
            return Pending(
                "Infeasible",
                f"Node didn't have enough capacity: {name}, requested: {wanted[name]}, capacity: {allocatable[name]}",
            )
    used: dict[str, int] = {}
    for other in others:
        for name, value in pod_resources.requests(other).items():
            used[name] = used.get(name, 0) + value
    for name in RESIZABLE:
        if used.get(name, 0) + wanted.get(name, 0) > allocatable.get(name, 0):
            return Pending(
                "Deferred",
                f"Node didn't have enough resource: {name}, requested: {wanted.get(name, 0)}, "
                f"used: {used.get(name, 0)}, capacity: {allocatable.get(name, 0)}",
            )
    return None


def updates(granted: core_v1.Pod, running: Sequence[ContainerStatus], memory_capacity: int) -> list[Update]:
    """What must change to put into force what is granted."""
    found = {c.name: c for c in running if c.state is ContainerState.RUNNING}
    made = []
    for container in resizable(granted):
        status = found.get(container.name)
        if status is None:
            continue
        wanted, now = cgroups.container_resources(granted, container, memory_capacity), status.resources
        cpu = (wanted.cpu_shares, wanted.cpu_quota) != (now.cpu_shares, now.cpu_quota)
        memory = wanted.memory_limit != now.memory_limit
        if not cpu and not memory:
            continue
        policies = {p.resource_name: p.restart_policy for p in container.resize_policy or ()}
        restart = (cpu and policies.get("cpu") == "RestartContainer") or (
            memory and policies.get("memory") == "RestartContainer"
        )
        lowers = (
            memory and wanted.memory_limit > 0 and (now.memory_limit == 0 or wanted.memory_limit < now.memory_limit)
        )
        # The score is fixed when the process starts.
        in_place = msgspec.structs.replace(wanted, oom_score_adj=now.oom_score_adj)
        made.append(Update(container.name, status.id, in_place, restart, lowers))
    return made


def conditions(pending: Pending | None, in_progress: bool, error: str) -> list[core_v1.PodCondition]:
    """PodResizePending and PodResizeInProgress, as far as they hold."""
    made = []
    if pending is not None:
        made.append(
            core_v1.PodCondition(type="PodResizePending", status="True", reason=pending.reason, message=pending.message)
        )
    if in_progress or error:
        reason = "Error" if error else None
        made.append(
            core_v1.PodCondition(type="PodResizeInProgress", status="True", reason=reason, message=error or None)
        )
    return made


def described(pod: core_v1.Pod) -> str:
    """What is being resized, as events tell it."""
    containers = [{"name": c.name, "resources": to_dict(c.resources or core_v1.ResourceRequirements())}
                  for c in pod.spec.containers]  # fmt: skip
    return encode({"containers": containers, "generation": pod.metadata.generation or 0}).decode()
