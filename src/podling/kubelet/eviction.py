"""Eviction: when the node runs out of memory, disk or process ids, it says so and gives up pods, worst first
(pkg/kubelet/eviction). The decisions are pure; `EvictionManager` looks and acts."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from podling import clock, log
from podling.api import core_v1, quantity, times
from podling.kubelet import pods, resources
from podling.kubelet.admission import Rejection
from podling.kubelet.config import EvictionThreshold
from podling.kubelet.node_status import Pressure
from podling.kubelet.status import Verdict
from podling.machinery import pod_resources

_log = log.get(__name__)

#: What a signal means for the node, and what it is called in messages.
_CONDITION = {
    "memory.available": "memory",
    "nodefs.available": "disk",
    "nodefs.inodesFree": "disk",
    "imagefs.available": "disk",
    "imagefs.inodesFree": "disk",
    "pid.available": "pid",
}
_RESOURCE = {
    "memory.available": "memory",
    "nodefs.available": "ephemeral-storage",
    "nodefs.inodesFree": "inodes",
    "imagefs.available": "ephemeral-storage",
    "imagefs.inodesFree": "inodes",
    "pid.available": "pids",
}
#: Who is evicted at once still gets a second.
IMMEDIATE_GRACE = 1


class Observation(msgspec.Struct, frozen=True):
    """Bytes, inodes or pids."""

    available: int
    capacity: int


class Usage(msgspec.Struct, frozen=True):
    """What a pod's containers use, by container name: bytes of memory, bytes of disk, processes."""

    memory: Mapping[str, int] = {}
    disk: Mapping[str, int] = {}
    processes: int = 0


def met(thresholds: Iterable[EvictionThreshold], observed: Mapping[str, Observation]) -> list[EvictionThreshold]:
    """The thresholds that what is available has fallen below."""
    return [
        t
        for t in thresholds
        if (found := observed.get(t.signal)) is not None
        and found.available < resources.threshold_amount(t, found.capacity)
    ]


def pressure(signals: Iterable[str]) -> Pressure:
    """The node's conditions under these signals."""
    kinds = {_CONDITION[s] for s in signals}
    return Pressure("memory" in kinds, "disk" in kinds, "pid" in kinds)


def _requested(pod: core_v1.Pod, resource: str) -> int:
    return pod_resources.requests(pod).get(resource, 0)


def rank(signal: str, candidates: Iterable[core_v1.Pod], usage: Mapping[str, Usage]) -> list[core_v1.Pod]:
    """Whom to evict, the first first: who uses more than it asked for, then by priority, then by how much more."""
    resource = _RESOURCE[signal]

    def order(pod: core_v1.Pod) -> tuple[bool, int, int]:
        used = usage.get(pods.uid(pod), Usage())
        if resource == "pids":
            return False, pod.spec.priority or 0, -used.processes
        amount = sum((used.memory if resource == "memory" else used.disk).values())
        over = amount - (_requested(pod, resource) if resource != "inodes" else 0)
        return over <= 0, pod.spec.priority or 0, -over

    return sorted((p for p in candidates if not pods.is_critical(p)), key=order)


def message(threshold: EvictionThreshold, observed: Observation, pod: core_v1.Pod, usage: Usage) -> str:
    """Why the pod goes, in upstream's words."""
    resource = _RESOURCE[threshold.signal]
    binary = quantity.Format.BINARY_SI
    limit = quantity.of(resources.threshold_amount(threshold, observed.capacity), binary)
    text = (
        f"The node was low on resource: {resource}. "
        f"Threshold quantity: {limit}, available: {quantity.of(observed.available // 1024 * 1024, binary)}. "
    )
    by_container = {"memory": usage.memory, "ephemeral-storage": usage.disk}.get(resource, {})
    for container in pod.spec.containers:
        used = by_container.get(container.name, 0)
        asked = ((container.resources.requests if container.resources else None) or {}).get(resource, "0")
        if used > quantity.parse(asked).value():
            shown = quantity.of(used // 1024 * 1024, binary)
            text += (
                f"Container {container.name} was using {shown}, request is {asked}, "
                f"has larger consumption of {resource}. "
            )
    return text


def verdict(text: str, now: datetime) -> Verdict:
    """The pod's end: Failed, Evicted, and a disruption for whoever counts those."""
    condition = core_v1.PodCondition(
        type="DisruptionTarget",
        status="True",
        reason="TerminationByKubelet",
        message=text,
        last_transition_time=times.format(now),
    )
    return Verdict("Evicted", text, condition)


def storage_excess(pod: core_v1.Pod, disk: Mapping[str, int], volumes: Mapping[str, int]) -> str:
    """What of the pod's own limits on local storage it exceeds, as a message; "" if nothing. Bytes by container name
    and by volume name."""
    for volume in pod.spec.volumes or ():
        limit = volume.empty_dir.size_limit if volume.empty_dir else None
        if limit is not None and volumes.get(volume.name, 0) > quantity.parse(limit).value() > 0:
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{quantity.parse(limit)}". '
    total = pod_resources.limits(pod).get("ephemeral-storage")
    limited = [c for c in pod.spec.containers if _storage_limit(c) is not None]
    if total and len(limited) == len(pod.spec.containers) and sum(disk.values()) + sum(volumes.values()) > total:
        shown = quantity.of(total, quantity.Format.BINARY_SI)
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
    for container in limited:
        limit = _storage_limit(container)
        if limit is not None and disk.get(container.name, 0) > quantity.parse(limit).value():
            return f'Container {container.name} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def _storage_limit(container: core_v1.Container) -> str | int | float | None:
    return ((container.resources.limits if container.resources else None) or {}).get("ephemeral-storage")


def limits_storage(pod: core_v1.Pod) -> bool:
    """Whether there is a limit on local storage to be watched."""
    return any(_storage_limit(c) is not None for c in pod.spec.containers) or any(
        v.empty_dir is not None and v.empty_dir.size_limit is not None for v in pod.spec.volumes or ()
    )


def rejection(pod: core_v1.Pod, now: Pressure) -> Rejection | None:
    """Pods that a node under pressure does not take."""
    if pods.is_critical(pod) or not (now.memory or now.disk or now.pid):
        return None
    only_memory = now.memory and not now.disk and not now.pid
    if only_memory and pods.qos_class(pod) != "BestEffort":
        return None
    names = [
        n for n, on in (("MemoryPressure", now.memory), ("DiskPressure", now.disk), ("PIDPressure", now.pid)) if on
    ]
    return Rejection("Evicted", f"The node had condition: [{', '.join(names)}]. ")


def observe(root_dir: str, image_path: str) -> dict[str, Observation]:
    """The node now."""
    memory = resources.meminfo()
    found = {"memory.available": Observation(memory.get("MemAvailable", 0), memory.get("MemTotal", 0))}
    for name, path in (("nodefs", root_dir), ("imagefs", image_path)):
        while path and not os.path.isdir(path):
            path = os.path.dirname(path)
        system = os.statvfs(path or "/")
        found[f"{name}.available"] = Observation(system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize)
        if system.f_files:
            found[f"{name}.inodesFree"] = Observation(system.f_ffree, system.f_files)
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            running = int(file.read().split()[3].partition("/")[2])
        with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
            most = int(file.read())
        found["pid.available"] = Observation(most - running, most)
    except (OSError, ValueError, IndexError):
        pass
    return found


class EvictionManager:
    """Looks at the node every few seconds. `look` observes it, `usage` measures pods, `reclaim` frees disk space
    without harming anybody, `evict` ends a pod, `changed` is told of new conditions, `counted` of each eviction's
    signal."""

    def __init__(
        self,
        thresholds: Sequence[EvictionThreshold],
        transition: float,
        *,
        look: Callable[[], Awaitable[Mapping[str, Observation]]],
        candidates: Callable[[], list[core_v1.Pod]],
        usage: Callable[[list[core_v1.Pod]], Awaitable[Mapping[str, Usage]]],
        reclaim: Callable[[], Awaitable[None]],
        evict: Callable[[core_v1.Pod, Verdict, int | None], None],
        changed: Callable[[Pressure], None],
        counted: Callable[[str], None] = lambda signal: None,
    ) -> None:
        self._thresholds, self._transition = thresholds, transition
        self._look, self._candidates, self._usage = look, candidates, usage
        self._reclaim, self._evict, self._changed, self._counted = reclaim, evict, changed, counted
        self._since: dict[EvictionThreshold, float] = {}
        self._last_met: dict[str, float] = {}
        self.pressure = Pressure()

    async def check(self) -> core_v1.Pod | None:
        """Look once, and act; the pod that is evicted."""
        observed = await self._look()
        now = clock.elapsed()
        found = met(self._thresholds, observed)
        self._since = {t: self._since.get(t, now) for t in found}
        due = [t for t in found if now - self._since[t] >= t.grace]
        for threshold in due:
            self._last_met[threshold.signal] = now
        self._update_pressure(now)
        if not due:
            return None
        # Memory first: running out of it hurts most.
        due.sort(key=lambda t: _CONDITION[t.signal] != "memory")
        if any(_CONDITION[t.signal] == "disk" for t in due):
            await self._reclaim()
            observed = await self._look()
            due = [t for t in due if t in met(self._thresholds, observed)]
        return await self._evict_one(due[0], observed[due[0].signal]) if due else None

    def _update_pressure(self, now: float) -> None:
        lasting = [s for s, when in self._last_met.items() if now - when < self._transition]
        made = pressure(lasting)
        if made != self.pressure:
            self.pressure = made
            self._changed(made)

    async def _evict_one(self, threshold: EvictionThreshold, observed: Observation) -> core_v1.Pod | None:
        candidates = self._candidates()
        usage = await self._usage(candidates)
        for pod in rank(threshold.signal, candidates, usage):
            text = message(threshold, observed, pod, usage.get(pods.uid(pod), Usage()))
            _log.warning("evicting %s: %s", pods.key(pod), text)
            self._evict(pod, verdict(text, clock.now()), None if threshold.grace else IMMEDIATE_GRACE)
            self._counted(threshold.signal)
            return pod
        return None
