"""Child processes at the cost of a vfork: posix_spawn and a pidfd in the event loop, no thread, no polling.

asyncio's own subprocesses start a thread or handle SIGCHLD for each child and set up transports; a container's start
runs two short-lived commands, and their cost is most of its latency.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

from podling.runtime import syscalls

#: The environment of helper commands: the agent's own may hold credentials, and conmon hands its own on.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


async def exited(pidfd: int) -> None:
    """Wait until the process of `pidfd` (a child or not) has ended."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(pidfd, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(pidfd)


def start_time(pid: int) -> int:
    """When `pid` was started, in clock ticks since boot; 0 if there is no such process. With the pid, an identity."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


class Child:
    """A process that was started here; `wait` it, also after `kill`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._code: int | None = None

    async def wait(self) -> int:
        """Its exit code, or the negative number of the signal that killed it."""
        if self._code is None:
            await exited(self._pidfd)
            self._reap()
        assert self._code is not None
        return self._code

    def _reap(self) -> None:
        if self._code is None:
            # By its pid, which is its own until now: waiting for a pidfd that an event loop has watched does not wait.
            result = os.waitid(os.P_PID, self.pid, os.WEXITED)
            assert result is not None
            self._code = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
            os.close(self._pidfd)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._code is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill_and_reap(self) -> None:
        """For cleaning up where nothing can be awaited: SIGKILL takes effect at once."""
        self.kill()
        self._reap()


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] = ENVIRONMENT,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str = "",
) -> Child:
    """Start `argv` (a path first). Standard streams that are not given are /dev/null; `pass_fds` keep their numbers.
    `cwd` is where it starts, if not where we are."""
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for target, source in enumerate((stdin, stdout, stderr)):
        if source is None:
            flags = os.O_RDONLY if target == 0 else os.O_WRONLY
            actions.append((os.POSIX_SPAWN_OPEN, target, "/dev/null", flags, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
    actions.extend((os.POSIX_SPAWN_DUP2, fd, fd) for fd in pass_fds)
    # An ignored SIGPIPE would be inherited by the containers, where `yes | head` then complains.
    defaults = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def start() -> int:
        if cwd:
            # posix_spawn has no such attribute, and our own directory is not to be changed: it is that of all threads.
            syscalls.unshare(syscalls.CLONE_FS)
            os.chdir(cwd)
        return os.posix_spawn(argv[0], list(argv), env, file_actions=actions, setsigmask=(), setsigdef=defaults)

    return Child(syscalls.in_fresh_thread(start) if cwd else start())


async def run(argv: Sequence[str], *, pass_fds: Sequence[int] = ()) -> tuple[int, str]:
    """Run `argv` to its end; returns (exit code, what it said on stderr)."""
    errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        child = spawn(argv, stderr=errors, pass_fds=pass_fds)
        try:
            code = await child.wait()
        except BaseException:
            child.kill_and_reap()
            raise
        return code, os.pread(errors, 65536, 0).decode(errors="replace").strip()
    finally:
        os.close(errors)
