"""The few system calls that Python's library does not wrap: namespaces, openat2, inotify."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

IN_CLOEXEC = os.O_CLOEXEC
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOSE_WRITE = 0x00000008
IN_MOVED_TO = 0x00000080

_RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437  # The same number on every architecture that Linux got after 2019 had its tables unified.

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """unshare(2), of the calling thread."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2), of the calling thread."""
    _checked(_libc.setns(fd, kind), "setns")


def sethostname(name: str) -> None:
    """sethostname(2), in the calling thread's UTS namespace."""
    encoded = name.encode()
    _checked(_libc.sethostname(encoded, len(encoded)), name)


def call(number: int, what: str, *args: object) -> int:
    """syscall(2), for calls younger than the C library's wrappers; OSError about `what`."""
    return _checked(_libc.syscall(ctypes.c_long(number), *args), what)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """openat2(2) with RESOLVE_IN_ROOT: symbolic links and `..` cannot lead out of the directory `root_fd`."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT)
    result = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), root_fd, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
    )
    return _checked(result, path)


def inotify_init() -> int:
    """A non-blocking inotify descriptor."""
    return _checked(_libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "inotify")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    return _checked(_libc.inotify_add_watch(fd, path.encode(), mask), path)


def in_fresh_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, which ends with it: a thread that changed its namespaces cannot be reused."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="podling-namespaces")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
