"""The machine as the runtime finds and sets it up: what it can give to containers, and its run directory's mount."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from podling import mounts
from podling.runtime import capabilities, cgroups, spec
from podling.runtime.base import Mount, RuntimeFailure


def share(run_dir: Path) -> None:
    """Make `run_dir` a shared mount, so that what is mounted in it later is seen in other mount namespaces too."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split(" ", 5)[4] == str(run_dir):
            break
    else:
        mounts.mount(str(run_dir), str(run_dir), flags=mounts.BIND)
    mounts.mount("none", str(run_dir), flags=mounts.SHARED)


def remove_tree(directory: Path) -> None:
    """Unmount what is mounted in `directory`, then remove it; OSError, and nothing removed, if a mount stays: it could
    be somebody's volume."""
    for target in reversed(mounts.targets_below(str(directory))):
        mounts.unmount_all(target)
    if left := mounts.targets_below(str(directory)):
        raise OSError(errno.EBUSY, "still mounted", left[0])
    shutil.rmtree(directory, ignore_errors=True)


def check_propagation(volumes: Iterable[Mount]) -> None:
    """What a container mounts in a Bidirectional volume can reach the machine only if its place there is shared."""
    for volume in volumes:
        if volume.propagation == "rshared":
            point, tags = _mount_of(os.path.realpath(volume.host_path))
            if not any(tag.startswith("shared:") for tag in tags):
                raise RuntimeFailure(f'path "{volume.host_path}" is mounted on "{point}" but it is not a shared mount')


def _mount_of(path: str) -> tuple[str, list[str]]:
    """(mount point, propagation tags) of the mount that `path` is on."""
    best: tuple[str, list[str]] = ("/", [])
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.partition(" - ")[0].split()
        point = mounts.unescape(fields[4])
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, fields[6:])
    return best


def look(groups: cgroups.Cgroups, seccomp_directory: Path) -> spec.Node:
    own = capabilities.own()
    adjustment = int(Path("/proc/self/oom_score_adj").read_text())
    apparmor = Path("/sys/module/apparmor/parameters/enabled")
    roots = groups.directories("/") if groups.version == 1 else []
    hugetlb = any((path / "hugetlb.2MB.limit_in_bytes").exists() for path in roots)
    swap = any((path / "memory.memsw.limit_in_bytes").exists() for path in roots)
    return spec.Node(
        cgroup_version=groups.version,
        capabilities=own,
        # Without this capability nothing may be protected more than the node agent itself is.
        oom_score_adj_min=-1000 if "SYS_RESOURCE" in own else adjustment,
        apparmor=apparmor.exists() and apparmor.read_text().strip() == "Y",
        swap_accounting=swap,
        hugetlb=hugetlb or (groups.version == 2 and Path("/sys/kernel/mm/hugepages").is_dir()),
        seccomp_directory=str(seccomp_directory),
    )
