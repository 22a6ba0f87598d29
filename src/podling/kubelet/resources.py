"""What the node is and has: capacity, allocatable, kernel and operating system, from /proc and /sys."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from podling.api import core_v1, quantity
from podling.kubelet.config import EvictionThreshold, KubeletConfig
from podling.machinery import pod_resources

KUBELET_VERSION = "v1.37.0"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Memory and storage in bytes."""

    cpus: int = 1
    memory: int = 0
    storage: int = 0
    storage_inodes: int = 0
    hugepages: Mapping[str, int] = {}
    max_pids: int = 0
    info: core_v1.NodeSystemInfo = msgspec.field(default_factory=core_v1.NodeSystemInfo)


def architecture() -> str:
    """As Kubernetes names it: amd64, arm64, ..."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    values = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            values[name] = int(words[0]) * (1024 if len(words) > 1 else 1)
    return values


def _os_image() -> str:
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def _hugepages() -> dict[str, int]:
    """Reserved bytes by resource name."""
    found = {}
    for directory in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")):
        kib = int(directory.name.removeprefix("hugepages-").removesuffix("kB"))
        count = _read(str(directory / "nr_hugepages"))
        size = quantity.of(kib * 1024, quantity.Format.BINARY_SI)
        found[f"hugepages-{size}"] = kib * 1024 * int(count or 0)
    return found


def measure(root_dir: str, runtime_version: str) -> Machine:
    """This machine. `root_dir` is on the file system that pods' ephemeral storage comes from."""
    path = root_dir
    while not os.path.isdir(path):
        path = os.path.dirname(path) or "/"
    filesystem = os.statvfs(path)
    memory = meminfo()
    return Machine(
        cpus=os.cpu_count() or 1,
        memory=memory.get("MemTotal", 0),
        storage=filesystem.f_blocks * filesystem.f_frsize,
        storage_inodes=filesystem.f_files,
        hugepages=_hugepages(),
        max_pids=int(_read("/proc/sys/kernel/pid_max") or 0),
        info=core_v1.NodeSystemInfo(
            architecture=architecture(),
            boot_id=_read("/proc/sys/kernel/random/boot_id"),
            container_runtime_version=runtime_version,
            kernel_version=platform.release(),
            kube_proxy_version="",
            kubelet_version=KUBELET_VERSION,
            machine_id=_read("/etc/machine-id"),
            operating_system="linux",
            os_image=_os_image(),
            system_uuid=_read("/sys/class/dmi/id/product_uuid") or _read("/etc/machine-id"),
            swap=core_v1.NodeSwapStatus(capacity=memory["SwapTotal"]) if memory.get("SwapTotal") else None,
        ),
    )


def capacity(machine: Machine, config: KubeletConfig) -> dict[str, str]:
    """status.capacity: what was measured, unless the configuration says otherwise."""
    binary = quantity.Format.BINARY_SI
    measured = {
        "cpu": str(quantity.of(machine.cpus)),
        "ephemeral-storage": str(quantity.of(machine.storage // 1024 * 1024, binary)),
        **{name: str(quantity.of(size, binary)) for name, size in machine.hugepages.items()},
        "memory": str(quantity.of(machine.memory, binary)),
        "pods": str(config.max_pods),
    }
    return {**measured, **config.capacity}


def threshold_amount(threshold: EvictionThreshold, total: int) -> int:
    """The threshold in the signal's own unit."""
    if threshold.value.endswith("%"):
        return int(total * float(threshold.value[:-1]) / 100)
    return quantity.parse(threshold.value).value()


_RESERVED_BY_SIGNAL = {"memory.available": "memory", "nodefs.available": "ephemeral-storage"}


def allocatable(
    total: Mapping[str, str], reserved: Mapping[str, str], thresholds: Iterable[EvictionThreshold]
) -> dict[str, str]:
    """status.allocatable: capacity less what is reserved and what hard eviction keeps free."""
    amounts = {name: quantity.parse(value) for name, value in total.items()}
    for name, value in reserved.items():
        if name in amounts:
            amounts[name] -= quantity.parse(value)
    for threshold in thresholds:
        resource = _RESERVED_BY_SIGNAL.get(threshold.signal)
        if resource in amounts and resource is not None and threshold.grace == 0:
            kept = threshold_amount(threshold, quantity.parse(total[resource]).value())
            amounts[resource] -= quantity.of(kept, amounts[resource].format)
    zero = {name: quantity.of(0, value.format) for name, value in amounts.items()}
    return {name: str(max(value, zero[name])) for name, value in amounts.items()}


def as_amounts(resources: Mapping[str, str]) -> dict[str, int]:
    """As integers, cpu in thousandths."""
    return pod_resources.amounts(resources)
