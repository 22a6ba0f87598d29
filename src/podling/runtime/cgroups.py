"""Control groups, version 1, 2 and the hybrid of both, behind one small interface.

Paths are as in the OCI spec and `SandboxConfig.cgroup_parent`: absolute from the hierarchy's root, such as
`/kubepods/burstable/pod1234`. Values are in version 1's terms (`base.Resources`); version 2's are derived from them.
Limits that this kernel or machine has no controller for are left out.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import math
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from podling import log, mounts
from podling.runtime import processes
from podling.runtime.base import Resources

logger = log.get(__name__)

ROOT = Path("/sys/fs/cgroup")

#: Version 1 shows no limit as the largest number of bytes in whole pages.
_UNLIMITED = 1 << 62


class Usage(NamedTuple):
    """Cumulative CPU in ns (and the periods of its quota), memory in bytes, page faults, processes and bytes of disk
    I/O of a cgroup and those below it."""

    cpu_ns: int = 0
    memory: int = 0
    working_set: int = 0
    rss: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    pids: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_ns: int = 0
    cache: int = 0
    mapped_file: int = 0
    swap: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


#: Nanoseconds of a clock tick, in which version 1 counts user and system time.
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _transferred(text: str, read: str, written: str) -> tuple[int, int]:
    """Bytes read and written over all devices, out of `8:0 rbytes=1 wbytes=2 ...` or lines of `8:0 Read 1`."""
    totals = {read: 0, written: 0}
    for line in text.splitlines():
        words = line.replace("=", " ").split()
        for name, value in itertools.pairwise(words):
            if name in totals and value.isdigit():
                totals[name] += int(value)
    return totals[read], totals[written]


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000) for v1's cpu.shares (2 to 262144): a curve through (2, 1), (1024, 100), (262144, 10000).

    Source: KEP-2254's conversion as revised in 2025, the one that newer runc, crun and kubelet use.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = math.log2(shares)
    return math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _write(path: Path, value: object) -> None:
    """Write a control file that may not be there (a kernel without the feature)."""
    try:
        # Not write_text: O_CREAT and O_TRUNC have no business with control files.
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        logger.debug("no %s on this machine", path)
        return
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


class Cgroups(ABC):
    """The hierarchy or hierarchies of this machine."""

    #: 1 or 2: which of them has the controllers.
    version: int
    #: Version 1 with controllers left over on a version 2 mount, which crun refuses to work with.
    hybrid = False

    @abstractmethod
    def directories(self, path: str) -> list[Path]:
        """Where the cgroup `path` is, or would be, in each hierarchy."""

    @abstractmethod
    def create(self, path: str, resources: Resources) -> None:
        """Make the cgroup and those above it, and set its limits. Existing is no error."""

    @abstractmethod
    def update(self, path: str, resources: Resources) -> None:
        """Set limits; zeros leave a value alone, negative quota and memory mean no limit."""

    @abstractmethod
    def usage(self, path: str) -> Usage: ...

    @abstractmethod
    def oom_kills(self, path: str) -> int:
        """How many of its processes the kernel killed for want of memory."""

    def exists(self, path: str) -> bool:
        return any(directory.is_dir() for directory in self.directories(path))

    def members(self, path: str) -> set[int]:
        """All processes in it and below."""
        return {
            int(pid)
            for top in self.directories(path)
            for directory, _, _ in os.walk(top)
            for pid in _read(Path(directory) / "cgroup.procs").split()
        }

    async def kill(self, path: str) -> None:
        """SIGKILL all in it and below, and wait until they are gone."""
        while pids := self.members(path):
            pidfds = list(_pidfds(pids))
            if not pidfds:
                await asyncio.sleep(0.002)  # All dead, but not yet all taken off the list.
                continue
            try:
                for pidfd in pidfds:
                    try:
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                await asyncio.gather(*(processes.exited(pidfd) for pidfd in pidfds))
            finally:
                for pidfd in pidfds:
                    os.close(pidfd)

    async def remove(self, path: str) -> None:
        """Take the cgroup and those below it away; its processes must have ended. Not there is no error."""
        for top in self.directories(path):
            for attempt in range(60):
                if _remove_tree(top):
                    break
                # The kernel lets go of dead processes a moment after their exit and tells nobody when.
                await asyncio.sleep(min(0.001 * 2**attempt, 0.05))
            else:
                logger.warning("cgroup %s is still busy; it stays behind", top)


def _pidfds(pids: set[int]) -> Iterator[int]:
    """Of those that live: zombies are listed until their parent has waited for them."""
    for pid in pids:
        try:
            if processes.start_time(pid):
                yield os.pidfd_open(pid)
        except OSError:
            continue


def _remove_tree(top: Path) -> bool:
    try:
        for directory, _, _ in os.walk(top, topdown=False):
            os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


class V1(Cgroups):
    """One hierarchy per controller."""

    version = 1

    def __init__(self, mounts: dict[str, Path], unified: Path | None = None, hybrid: bool = False) -> None:
        self._mounts = mounts
        # Where a version 2 mount stands beside, runc makes empty groups in it as well.
        self._beside = unified
        self.hybrid = hybrid

    def _at(self, controller: str, path: str) -> Path | None:
        mount = self._mounts.get(controller)
        return None if mount is None else mount / path.lstrip("/")

    def directories(self, path: str) -> list[Path]:
        mounts = [*dict.fromkeys(self._mounts.values()), *((self._beside,) if self._beside is not None else ())]
        return [mount / path.lstrip("/") for mount in mounts]

    def create(self, path: str, resources: Resources) -> None:
        for mount in dict.fromkeys(self._mounts.values()):
            (mount / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self._inherit_cpuset(path)
        self.update(path, resources)

    def _inherit_cpuset(self, path: str) -> None:
        """A new cpuset is empty, and an empty one takes no process."""
        mount = self._mounts.get("cpuset")
        if mount is None:
            return
        directory = mount
        for part in path.strip("/").split("/"):
            parent, directory = directory, directory / part
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not _read(directory / name).strip():
                    _write(directory / name, _read(parent / name).strip())

    def update(self, path: str, resources: Resources) -> None:
        if (cpu := self._at("cpu", path)) is not None:
            if resources.cpu_shares:
                _write(cpu / "cpu.shares", resources.cpu_shares)
            if resources.cpu_period:
                _write(cpu / "cpu.cfs_period_us", resources.cpu_period)
            if resources.cpu_quota:
                _write(cpu / "cpu.cfs_quota_us", max(resources.cpu_quota, -1))
        if (memory := self._at("memory", path)) is not None and resources.memory_limit:
            self._limit_memory(memory, max(resources.memory_limit, -1))
        if (pids := self._at("pids", path)) is not None and resources.pids_limit:
            _write(pids / "pids.max", resources.pids_limit if resources.pids_limit > 0 else "max")
        if (cpuset := self._at("cpuset", path)) is not None and resources.cpuset_cpus:
            _write(cpuset / "cpuset.cpus", resources.cpuset_cpus)
        if (hugetlb := self._at("hugetlb", path)) is not None:
            for size, limit in resources.hugepages.items():
                _write(hugetlb / f"hugetlb.{size}.limit_in_bytes", limit)

    @staticmethod
    def _limit_memory(memory: Path, limit: int) -> None:
        """Memory and swap together may not be limited below memory alone, so what grows is set first."""
        names = ["memory.limit_in_bytes"]
        both = _number(memory / "memory.memsw.limit_in_bytes")
        if 0 < both < _UNLIMITED:
            names.insert(0 if limit < 0 or limit > both else 1, "memory.memsw.limit_in_bytes")
        for name in names:
            _write(memory / name, limit)

    def usage(self, path: str) -> Usage:
        nowhere = Path("/nonexistent")
        memory = self._at("memory", path) or nowhere
        stat = _fields(memory / "memory.stat")
        used = _number(memory / "memory.usage_in_bytes")
        accounting = self._at("cpuacct", path) or nowhere
        quota = _fields((self._at("cpu", path) or nowhere) / "cpu.stat")
        times = _fields(accounting / "cpuacct.stat")
        blocks = (self._at("blkio", path) or nowhere) / "blkio.throttle.io_service_bytes_recursive"
        read, written = _transferred(_read(blocks), "Read", "Write")
        return Usage(
            cpu_user_ns=times.get("user", 0) * _TICK,
            cpu_system_ns=times.get("system", 0) * _TICK,
            cpu_periods=quota.get("nr_periods", 0),
            cpu_throttled_periods=quota.get("nr_throttled", 0),
            cpu_throttled_ns=quota.get("throttled_time", 0),
            cache=stat.get("total_cache", 0),
            mapped_file=stat.get("total_mapped_file", 0),
            swap=stat.get("total_swap", 0),
            read_bytes=read,
            written_bytes=written,
            cpu_ns=_number(accounting / "cpuacct.usage"),
            memory=used,
            working_set=max(used - stat.get("total_inactive_file", 0), 0),
            rss=stat.get("total_rss", 0),
            page_faults=stat.get("total_pgfault", 0),
            major_page_faults=stat.get("total_pgmajfault", 0),
            pids=_number((self._at("pids", path) or nowhere) / "pids.current"),
        )

    def oom_kills(self, path: str) -> int:
        memory = self._at("memory", path)
        if memory is None:
            return 0
        return sum(_fields(Path(each) / "memory.oom_control").get("oom_kill", 0) for each, _, _ in os.walk(memory))


class V2(Cgroups):
    """The unified hierarchy."""

    version = 2

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def directories(self, path: str) -> list[Path]:
        return [self._root / path.lstrip("/")]

    def create(self, path: str, resources: Resources) -> None:
        directory = self._root
        for part in path.strip("/").split("/"):
            self._delegate(directory)
            directory = directory / part
            directory.mkdir(exist_ok=True)
        # Its containers get cgroups of their own below it.
        self._delegate(directory)
        self.update(path, resources)

    def _delegate(self, directory: Path) -> None:
        """Let the children of `directory` have every controller that it has itself."""
        have = set(_read(directory / "cgroup.subtree_control").split())
        for controller in sorted(set(_read(directory / "cgroup.controllers").split()) - have):
            try:
                _write(directory / "cgroup.subtree_control", f"+{controller}")
            except OSError as error:
                if error.errno == errno.EBUSY and directory == self._root:
                    self._evacuate_root()
                    _write(directory / "cgroup.subtree_control", f"+{controller}")
                else:
                    logger.debug("controller %s cannot be enabled in %s: %s", controller, directory, error)

    def _evacuate_root(self) -> None:
        """Inside a container the visible root is no true root: it may hold processes or give controllers, not both."""
        inner = self._root / "init"
        inner.mkdir(exist_ok=True)
        for pid in _read(self._root / "cgroup.procs").split():
            try:
                _write(inner / "cgroup.procs", pid)
            except OSError as error:
                logger.debug("process %s stays in the root cgroup: %s", pid, error)

    def update(self, path: str, resources: Resources) -> None:
        directory = self._root / path.lstrip("/")
        for name, value in self.settings(resources, _read(directory / "cpu.max")).items():
            _write(directory / name, value)

    @staticmethod
    def settings(resources: Resources, cpu_max: str = "") -> dict[str, str]:
        """Control file -> value; `cpu_max` is the present "quota period" for what is left alone of the two."""
        settings: dict[str, str] = {}
        if resources.cpu_shares:
            settings["cpu.weight"] = str(weight(resources.cpu_shares))
        if resources.cpu_quota or resources.cpu_period:
            quota, period = (cpu_max or "max 100000").split()
            if resources.cpu_quota:
                quota = str(resources.cpu_quota) if resources.cpu_quota > 0 else "max"
            settings["cpu.max"] = f"{quota} {resources.cpu_period or period}"
        if resources.memory_limit:
            settings["memory.max"] = str(resources.memory_limit) if resources.memory_limit > 0 else "max"
        if resources.pids_limit:
            settings["pids.max"] = str(resources.pids_limit) if resources.pids_limit > 0 else "max"
        if resources.cpuset_cpus:
            settings["cpuset.cpus"] = resources.cpuset_cpus
        for size, limit in resources.hugepages.items():
            settings[f"hugetlb.{size}.max"] = str(limit)
        return settings

    def usage(self, path: str) -> Usage:
        directory = self._root / path.lstrip("/")
        stat = _fields(directory / "memory.stat")
        used = _number(directory / "memory.current")
        cpu = _fields(directory / "cpu.stat")
        read, written = _transferred(_read(directory / "io.stat"), "rbytes", "wbytes")
        return Usage(
            cpu_ns=cpu.get("usage_usec", 0) * 1000,
            cpu_user_ns=cpu.get("user_usec", 0) * 1000,
            cpu_system_ns=cpu.get("system_usec", 0) * 1000,
            cpu_periods=cpu.get("nr_periods", 0),
            cpu_throttled_periods=cpu.get("nr_throttled", 0),
            cpu_throttled_ns=cpu.get("throttled_usec", 0) * 1000,
            cache=stat.get("file", 0),
            mapped_file=stat.get("file_mapped", 0),
            swap=_number(directory / "memory.swap.current"),
            read_bytes=read,
            written_bytes=written,
            memory=used,
            working_set=max(used - stat.get("inactive_file", 0), 0),
            rss=stat.get("anon", 0),
            page_faults=stat.get("pgfault", 0),
            major_page_faults=stat.get("pgmajfault", 0),
            pids=_number(directory / "pids.current"),
        )

    def oom_kills(self, path: str) -> int:
        return _fields(self._root / path.lstrip("/") / "memory.events").get("oom_kill", 0)

    async def kill(self, path: str) -> None:
        # All at once, so that nothing can fork its way out; then wait as for version 1.
        try:
            _write(self._root / path.lstrip("/") / "cgroup.kill", 1)
        except OSError as error:
            logger.debug("cgroup.kill of %s: %s", path, error)
        await super().kill(path)


def detect(mountinfo: str | None = None, controllers_of_unified: str | None = None) -> Cgroups:
    """What this machine has, by its mounts."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    mounts: dict[str, Path] = {}
    unified: Path | None = None
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        where = Path(before.split()[4])
        if kind == "cgroup":
            mounts.update({name.removeprefix("name="): where for name in options.split(",") if name != "rw"})
        elif kind == "cgroup2":
            unified = where
    if mounts:
        if controllers_of_unified is None:
            controllers_of_unified = _read(unified / "cgroup.controllers") if unified is not None else ""
        return V1(mounts, unified, hybrid=unified is not None and bool(controllers_of_unified.strip()))
    return V2(unified or ROOT)


_FLAGS = {"nosuid": mounts.NOSUID, "nodev": mounts.NODEV, "noexec": mounts.NOEXEC}


def favor_dynamic_changes(wanted: bool) -> bool:
    """Set or clear `favordynmods` on the machine's cgroup mount; returns whether that changed anything.

    Moving a process into a cgroup otherwise waits for an RCU grace period, some 10 ms each time a container starts or
    a command is run in one. The price is a slightly dearer fork. The setting is the whole machine's, whichever mount
    it is made on (Linux 6.0 and later).
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, source, options = after.split(" ", 2)
        if kind != "cgroup2":
            continue
        names = options.split(",")
        if ("favordynmods" in names) == wanted:
            return False
        fields = before.split()
        flags = mounts.REMOUNT | (1 << 21)  # MS_RELATIME
        for name, flag in _FLAGS.items():
            flags |= flag if name in fields[5].split(",") else 0
        kept = [name for name in names if name not in ("rw", "ro", "favordynmods")]
        data = ",".join([*kept, "favordynmods"] if wanted else kept)
        try:
            mounts.mount(source, fields[4], "cgroup2", flags, data)
        except OSError as error:
            logger.debug("favordynmods is not to be had: %s", error)
            return False
        return True
    return False
