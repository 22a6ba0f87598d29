"""Network namespaces: making them, pinning them as files, and doing something inside one without a new process.

A thread belongs to one network namespace; a socket stays in the one it was opened in. So a thread enters a namespace,
opens its socket or writes its sysctl, and leaves again, which takes microseconds where a child process takes
milliseconds. There must be no `await` between entering and leaving.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from podling.network.base import NetworkFailure

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise NetworkFailure(f"{what}: {os.strerror(errno)}")


@contextlib.contextmanager
def entered(path: str) -> Iterator[None]:
    """Run the block with this thread in the namespace pinned at `path`; an empty path is where the thread is."""
    if not path:
        yield
        return
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NetworkFailure(f"cannot open network namespace {path}: {error.strerror}") from error
        try:
            _check(_libc.setns(target, _CLONE_NEWNET), f"cannot enter network namespace {path}")
        finally:
            os.close(target)
        try:
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET), f"cannot leave network namespace {path}")
    finally:
        os.close(before)


def enter(path: str) -> None:
    """Move this thread into the namespace for good, and with it the threads and processes that it starts."""
    target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(target, _CLONE_NEWNET), f"cannot enter network namespace {path}")
    finally:
        os.close(target)


def create(path: str) -> None:
    """Make a network namespace and pin it at `path`, which must not be in use. Its loopback is down."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))

    def pin() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "cannot make a network namespace")
        source = b"/proc/thread-self/ns/net"
        _check(
            _libc.mount(source, os.fsencode(path), None, _MS_BIND, None), f"cannot pin a network namespace at {path}"
        )

    try:
        in_thread(pin)
    except BaseException:
        os.unlink(path)
        raise


def delete(path: str) -> None:
    """Unpin the namespace at `path`; it ends when no process is left in it. Absent is fine."""
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def is_pinned(path: str) -> bool:
    """Whether a namespace is pinned at `path` (and not just a file left over from before a reboot)."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False


def in_thread(function: Callable[[], T]) -> T:
    """Call `function` in a thread that is thrown away after it, so that what it does to its thread stays there."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def write_sysctl(name: str, value: str) -> bool:
    """Set a sysctl such as `net/ipv4/ip_forward` in this thread's namespace; whether it is now set.

    A value that is there already is not written again: a read-only /proc/sys that is right will do.
    """
    path = f"/proc/sys/{name}"
    try:
        with open(path) as file:
            if file.read().strip() == value:
                return True
        with open(path, "w") as file:
            file.write(value)
        return True
    except OSError:
        return False
