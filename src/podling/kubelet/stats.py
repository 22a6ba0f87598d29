"""What pods and the node use: measured when somebody asks, in the shape of /stats/summary (stats/v1alpha1)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from podling import clock
from podling.api import core_v1, times
from podling.kubelet import pods, resources
from podling.runtime.base import ContainerStats, ContainerStatus, Runtime, RuntimeFailure
from podling.volumes.usage import Usage

#: A rate is taken over at least this many seconds: over less it says nothing.
SHORTEST = 1.0
_JIFFIES = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Sample(msgspec.Struct, frozen=True):
    """A running container: who it is, what it used, and how many cores' worth (in nanocores) lately."""

    pod: core_v1.Pod
    container: ContainerStatus
    stats: ContainerStats
    nano_cores: int
    log_bytes: int


class NodeSample(msgspec.Struct, frozen=True):
    """The node: CPU in nanoseconds since boot and nanocores, memory in bytes."""

    when: datetime
    cpu_ns: int
    nano_cores: int
    memory: Mapping[str, int]


class Interface(msgspec.Struct, frozen=True):
    """What went through a network interface since it was made."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def interfaces(pid: int) -> list[Interface]:
    """Of the network namespace of a process, without loopback; none if it is gone."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return []
    found = []
    for line in lines:
        name, _, rest = line.partition(":")
        values = [int(value) for value in rest.split()]
        if name.strip() != "lo" and len(values) >= 12:
            found.append(Interface(name.strip(), *values[0:4], *values[8:12]))
    return found


def pod_interfaces(samples: Sequence[Sample]) -> list[Interface]:
    """Of a pod, by any of its running containers; a pod on the node's network has none of its own."""
    if pods.is_host_network(samples[0].pod):
        return []
    return next((found for s in samples if s.container.pid and (found := interfaces(s.container.pid))), [])


class _Rate:
    """Nanocores out of a counter of nanoseconds."""

    def __init__(self) -> None:
        self._last: tuple[datetime, int] | None = None
        self._value = 0

    def update(self, when: datetime, total: int, since: datetime | None) -> int:
        """`since` is when the counter was at nothing, if that is known: the first rate is the average since then."""
        if self._last is None and since is None:
            self._last = (when, total)
        begun, before = self._last or (since or when, 0)
        seconds = (when - begun).total_seconds()
        if seconds >= SHORTEST or (self._last is None and seconds > 0):
            self._value = max(0, int((total - before) / seconds))
            self._last = (when, total)
        return self._value


class Collector:
    """Measures; remembers the last measurement of each container for the rates."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._rates: dict[str, _Rate] = {}
        self._node_rate = _Rate()

    async def containers(self, running: Iterable[tuple[core_v1.Pod, ContainerStatus]]) -> list[Sample]:
        """Of all that run now; what ends meanwhile is left out."""
        wanted = list(running)
        results = await asyncio.gather(*(self._one(pod, found) for pod, found in wanted))
        alive = {found.id for _, found in wanted}
        for gone in self._rates.keys() - alive:
            del self._rates[gone]
        return [sample for sample in results if sample is not None]

    async def _one(self, pod: core_v1.Pod, found: ContainerStatus) -> Sample | None:
        try:
            stats = await self._runtime.container_stats(found.id)
        except (RuntimeFailure, OSError):
            return None
        rate = self._rates.setdefault(found.id, _Rate())
        nano = rate.update(stats.timestamp, stats.cpu_usage_ns, found.started_at)
        try:
            logs = os.stat(found.log_path).st_size if found.log_path else 0
        except OSError:
            logs = 0
        return Sample(pod, found, stats, nano, logs)

    def node(self) -> NodeSample:
        """The machine itself, from /proc."""
        now = clock.now()
        total = _cpu_nanoseconds()
        return NodeSample(now, total, self._node_rate.update(now, total, now - _uptime()), resources.meminfo())


def _uptime() -> timedelta:
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            return timedelta(seconds=float(file.read().split()[0]))
    except OSError:
        return timedelta()


def _cpu_nanoseconds() -> int:
    """CPU time spent since boot, by all cores, other than idling."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(f) for f in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return 0
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // _JIFFIES


def filesystem(path: str, now: datetime) -> dict[str, Any]:
    """The file system that holds `path`."""
    while not os.path.isdir(path):
        path = os.path.dirname(path) or "/"
    found = os.statvfs(path)
    size = found.f_frsize
    return {
        "time": times.format(now),
        "availableBytes": found.f_bavail * size,
        "capacityBytes": found.f_blocks * size,
        "usedBytes": (found.f_blocks - found.f_bfree) * size,
        "inodesFree": found.f_ffree,
        "inodes": found.f_files,
        "inodesUsed": found.f_files - found.f_ffree,
    }


def _cpu(when: datetime, nano_cores: int, total: int) -> dict[str, Any]:
    return {"time": times.format(when), "usageNanoCores": nano_cores, "usageCoreNanoSeconds": total}


def _memory(samples: Sequence[Sample]) -> dict[str, Any]:
    stats = [s.stats for s in samples]
    return {
        "time": times.format(stats[0].timestamp),
        "usageBytes": sum(s.memory_usage for s in stats),
        "workingSetBytes": sum(s.memory_working_set for s in stats),
        "rssBytes": sum(s.memory_rss for s in stats),
        "pageFaults": sum(s.memory_page_faults for s in stats),
        "majorPageFaults": sum(s.memory_major_page_faults for s in stats),
    }


def default_interface(routes: str) -> str:
    """The interface of the default route in the text of /proc/net/route; "" without one."""
    for line in routes.splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == words[7] == "00000000":
            return words[0]
    return ""


def _node_interfaces() -> list[Interface]:
    """The node's, that of the default route first."""
    try:
        with open("/proc/self/net/route", encoding="ascii") as file:
            default = default_interface(file.read())
    except OSError:
        default = ""
    return sorted(interfaces(os.getpid()), key=lambda i: i.name != default)


def _network(when: datetime, found: Sequence[Interface]) -> dict[str, Any]:
    """The first interface stands for the whole, as cluster tools expect."""
    each = [
        {"name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors}
        for i in found
    ]
    return {"time": times.format(when), **each[0], "interfaces": each}


def volume_summary(name: str, usage: Usage, when: datetime) -> dict[str, Any]:
    return {
        "name": name,
        "time": times.format(when),
        "availableBytes": usage.available_bytes,
        "capacityBytes": usage.capacity_bytes,
        "usedBytes": usage.used_bytes,
        "inodesFree": usage.inodes_free,
        "inodes": usage.inodes,
        "inodesUsed": usage.used_inodes,
    }


def container_summary(sample: Sample) -> dict[str, Any]:
    found, stats = sample.container, sample.stats
    when = times.format(stats.timestamp)
    return {
        "name": found.name,
        "startTime": times.format(found.started_at) if found.started_at else None,
        "cpu": _cpu(stats.timestamp, sample.nano_cores, stats.cpu_usage_ns),
        "memory": _memory([sample]),
        "rootfs": {"time": when, "usedBytes": stats.rootfs_used, "inodesUsed": stats.rootfs_inodes},
        "logs": {"time": when, "usedBytes": sample.log_bytes},
    }


def pod_summary(samples: Sequence[Sample], volumes: Mapping[str, Usage], *, brief: bool) -> dict[str, Any]:
    """All running containers of one pod, and what its own volumes hold."""
    pod = samples[0].pod
    when = samples[0].stats.timestamp
    cores, total = sum(s.nano_cores for s in samples), sum(s.stats.cpu_usage_ns for s in samples)
    containers = [container_summary(s) for s in samples]
    summary: dict[str, Any] = {
        "podRef": {"name": pods.name(pod), "namespace": pods.namespace(pod), "uid": pods.uid(pod)},
        "startTime": pod.status.start_time if pod.status else None,
        "containers": containers,
        "cpu": _cpu(when, cores, total),
        "memory": _memory(samples),
    }
    if brief:
        for each in containers:
            del each["rootfs"], each["logs"]
        return summary
    used = sum(s.stats.rootfs_used + s.log_bytes for s in samples)
    network = pod_interfaces(samples)
    if network:
        summary["network"] = _network(when, network)
    if volumes:
        summary["volume"] = [volume_summary(name, usage, when) for name, usage in sorted(volumes.items())]
        used += sum(usage.used_bytes for usage in volumes.values())
    summary["ephemeral-storage"] = {"time": times.format(when), "usedBytes": used}
    summary["process_stats"] = {"process_count": sum(s.stats.pids for s in samples)}
    return summary


def node_summary(name: str, started: str, sample: NodeSample, root_dir: str, *, brief: bool) -> dict[str, Any]:
    memory = sample.memory
    total, available = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
    summary: dict[str, Any] = {
        "nodeName": name,
        "startTime": started,
        "cpu": _cpu(sample.when, sample.nano_cores, sample.cpu_ns),
        "memory": {
            "time": times.format(sample.when),
            "availableBytes": available,
            "usageBytes": total - memory.get("MemFree", 0),
            "workingSetBytes": total - available,
            "rssBytes": memory.get("AnonPages", 0),
        },
    }
    if not brief:
        summary["fs"] = filesystem(root_dir, sample.when)
        summary["rlimit"] = {"time": times.format(sample.when), **_processes()}
        network = _node_interfaces()
        if network:
            summary["network"] = _network(sample.when, network)
    return summary


def _processes() -> dict[str, int]:
    """How many processes the node has, and may have."""
    with open("/proc/loadavg", encoding="ascii") as file:
        running = int(file.read().split()[3].partition("/")[2])
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        return {"maxpid": int(file.read()), "curproc": running}


def by_pod(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each pod."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(pods.uid(sample.pod), []).append(sample)
    return list(groups.values())
