"""Volumes in memory."""

from __future__ import annotations

import errno
import functools
import os

from podling import mounts
from podling.api import core_v1, quantity
from podling.machinery import pod_resources
from podling.volumes.base import Context, VolumeError


def size_limit(context: Context, own: str | int | float | None = None) -> int:
    """Bytes that a volume in memory may hold: the least of the volume's own limit, the pod's memory limit (if all its
    containers have one) and the node's allocatable memory; 0 for no limit."""
    allocatable = context.lookup.node_allocatable().get("memory")
    limits = [quantity.parse(allocatable).value()] if allocatable else []
    if _all_limited(context.pod):
        limits.append(pod_resources.limits(context.pod).get("memory", 0))
    if own is not None:
        limits.append(quantity.parse(own).value())
    return min((limit for limit in limits if limit > 0), default=0)


def _all_limited(pod: core_v1.Pod) -> bool:
    if pod.spec.resources and "memory" in (pod.spec.resources.limits or {}):
        return True
    return all("memory" in ((c.resources and c.resources.limits) or {}) for c in pod.spec.containers)


def mount(directory: str, size: int, mode: int = 0o777) -> None:
    """Mount a tmpfs of at most `size` bytes (0: the kernel's default) at the existing directory, once."""
    if mounts.is_other_device(directory):
        return
    options = [f"mode={mode:o}"]
    if size:
        options.append(f"size={size}")
    if _noswap():
        options.append("noswap")
    try:
        mounts.mount("tmpfs", directory, "tmpfs", 0, ",".join(options))
    except OSError as error:
        if error.errno != errno.EINVAL or not _noswap():
            raise VolumeError(f"mount of tmpfs failed: {(error.strerror or str(error)).lower()}") from None
        mounts.mount("tmpfs", directory, "tmpfs", 0, ",".join(options[:-1]))


@functools.cache
def _noswap() -> bool:
    """Whether there is swap to keep secrets out of, and a kernel that can."""
    try:
        with open("/proc/swaps") as table:
            if len(table.readlines()) < 2:
                return False
    except OSError:
        return False
    return tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 4)
