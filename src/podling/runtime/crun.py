"""The OCI runtime's command line (crun, or runc), wherever it has to be called from.

crun refuses to work where version 1 cgroups are mixed with controllers on a version 2 mount. There it is called in a
mount namespace in which that mount is hidden: made once, pinned as a file, sharing all other mounts with the machine.
Only the short-lived OCI runtime lives in it.
"""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Sequence
from pathlib import Path

from podling import log, mounts
from podling.runtime import processes, syscalls
from podling.runtime.base import RuntimeFailure

logger = log.get(__name__)

_UNIFIED = "/sys/fs/cgroup/unified"


def find(program: str | None = None) -> str:
    """The absolute path of the OCI runtime: `program`, or crun, or runc."""
    for name in (program,) if program else ("crun", "runc"):
        path = shutil.which(name)
        if path is not None:
            return path
    raise RuntimeFailure(f"no {program or 'crun or runc'} was found in PATH: install the package crun")


class OciCli:
    """Commands of the OCI runtime `program`, whose state is under `root`."""

    def __init__(self, program: str, root: Path, pin: HybridPin | None) -> None:
        self.program = program
        self.name = os.path.basename(program)
        self._root = root
        self._pin = pin

    def close(self) -> None:
        if self._pin is not None:
            self._pin.close()

    def argv(self, *options: str) -> list[str]:
        """The command up to where a verb stands, with global `options`."""
        prefix = self._pin.prefix() if self._pin is not None else []
        return [*prefix, self.program, f"--root={self._root}", *options]

    async def _run(self, *args: str) -> None:
        code, errors = await processes.run(self.argv() + list(args))
        if code != 0:
            raise RuntimeFailure(f"{self.name} {args[0]} failed: {errors or f'exit code {code}'}")

    async def start(self, container_id: str) -> None:
        await self._run("start", container_id)

    async def run_detached(self, container_id: str, bundle: Path, pid_file: Path) -> None:
        """Create and start without conmon: for what has no output and whose exit code nobody needs."""
        await self._run("run", "--detach", f"--bundle={bundle}", f"--pid-file={pid_file}", container_id)

    async def delete(self, container_id: str) -> None:
        """Forget the container and remove its cgroup, killing what runs. Not there is no error."""
        if not (self._root / container_id).exists():
            return
        try:
            await self._run("delete", "--force", container_id)
        except RuntimeFailure as error:
            logger.debug("%s", error)
            shutil.rmtree(self._root / container_id, ignore_errors=True)

    async def version(self) -> str:
        out = os.memfd_create("version", os.MFD_CLOEXEC)
        try:
            await processes.spawn([self.program, "--version"], stdout=out).wait()
            words = os.pread(out, 4096, 0).decode().split()
        finally:
            os.close(out)
        return words[2] if len(words) > 2 else "unknown"


class HybridPin:
    """The mount namespace without the version 2 mount, pinned in `directory`, where the link `mnt` leads to it.

    Mounts of the machine that are not shared are copied when the namespace is made and not followed afterwards, so it
    is made anew when those have changed. Its propagation is otherwise untouched: what is mounted under a shared mount
    (volumes, root file systems) appears on both sides.

    Commands that were given `prefix` may enter only after that: so a new namespace takes the link over in one step, and
    the one before stays until the next is made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._link = directory / "mnt"
        self._generation = 0
        self._seen: frozenset[str] | None = None
        # The kernel says whether the table has changed since it was last asked: cheaper than reading it each time.
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.poll()
        self._changes.register(self._table, select.POLLPRI | select.POLLERR)
        self._nsenter: Sequence[str] = (shutil.which("nsenter") or "/usr/bin/nsenter", f"--mount={self._link}")

    def prefix(self) -> list[str]:
        """What to put before a command, so that it runs in the namespace."""
        if self._seen is None or self._changes.poll(0):
            seen = _unshared_mounts(str(self._directory))
            if seen != self._seen:
                self._make()
                self._seen = seen
        return list(self._nsenter)

    def close(self) -> None:
        os.close(self._table)

    def _make(self) -> None:
        if self._seen is None:
            # A namespace cannot be pinned in a mount that would propagate into the namespace itself.
            self._directory.mkdir(parents=True, exist_ok=True)
            mounts.unmount(str(self._directory))
            mounts.mount(str(self._directory), str(self._directory), flags=mounts.BIND)
            mounts.mount("none", str(self._directory), flags=mounts.PRIVATE)
        self._generation += 1
        file = self._pinned(self._generation)
        file.touch()
        syscalls.in_fresh_thread(lambda: self._hide_and_pin(file))
        new = self._directory / "new"
        new.unlink(missing_ok=True)
        new.symlink_to(file.name)
        new.rename(self._link)
        old = self._pinned(self._generation - 2)
        mounts.unmount(str(old))
        old.unlink(missing_ok=True)

    def _pinned(self, generation: int) -> Path:
        return self._directory / f"mnt.{generation}"

    def _hide_and_pin(self, file: Path) -> None:
        machine = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            mounts.mount("none", "/sys/fs/cgroup", flags=mounts.PRIVATE)
            mounts.unmount(_UNIFIED)
            # crun makes directories where the mount was; these go away with this tmpfs and the namespace.
            mounts.mount("tmpfs", _UNIFIED, "tmpfs", options="size=16m,mode=755")
            inside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(machine, syscalls.CLONE_NEWNS)
                mounts.mount(f"/proc/self/fd/{inside}", str(file), flags=mounts.BIND)
            finally:
                os.close(inside)
        finally:
            os.close(machine)


def _unshared_mounts(but: str) -> frozenset[str]:
    """The machine's mounts that do not propagate, but for those under `but`."""
    with open("/proc/self/mountinfo") as file:
        lines = file.read().splitlines()
    return frozenset(line for line in lines if " shared:" not in line and line.split(" ", 5)[4].find(but) != 0)
