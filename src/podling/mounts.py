"""mount(2), umount2(2) and the mount table: what Python's os module leaves out.

The calls take microseconds, so they run where they are called. Failures are OSError with the target's path.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from typing import Any

RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
REMOUNT = 0x20
NOATIME = 0x400
BIND = 0x1000
MOVE = 0x2000
REC = 0x4000
UNBINDABLE = 0x20000
PRIVATE = 0x40000
SLAVE = 0x80000
SHARED = 0x100000

DETACH = 0x2


@functools.cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result != 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). An empty `fstype` or `options` is passed as NULL."""
    _check(
        _libc().mount(
            os.fsencode(source),
            os.fsencode(target),
            fstype.encode() or None,
            flags,
            os.fsencode(options) or None,
        ),
        target,
    )


def bind(source: str, target: str, *, readonly: bool = False, recursive: bool = True) -> None:
    """Make `source` (a directory or file) visible at `target`, which exists. Read-only takes a second call."""
    mount(source, target, flags=BIND | (REC if recursive else 0))
    if readonly:
        try:
            remount_readonly(target)
        except OSError:
            unmount(target)
            raise


def remount_readonly(target: str) -> None:
    """Make the bind mount at `target` read-only, keeping the flags it inherited (the kernel insists in userns)."""
    flags = os.statvfs(target).f_flag
    kept = sum(bit for bit in (NOSUID, NODEV, NOEXEC) if flags & bit)
    mount("none", target, flags=REMOUNT | BIND | RDONLY | kept)


def unmount(target: str) -> bool:
    """Unmount what is on top at `target`, lazily if it is busy; False if nothing is mounted there."""
    encoded = os.fsencode(target)
    for flags in (0, DETACH):
        try:
            _check(_libc().umount2(encoded, flags), target)
            return True
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return False
            if error.errno != errno.EBUSY or flags:
                raise
    return False


def unmount_all(target: str) -> None:
    """Unmount everything that is stacked at `target` itself."""
    while unmount(target):
        pass


def is_mount_point(path: str) -> bool:
    """Whether something is mounted at `path`, bind mounts of the same file system included (by the mount table)."""
    real = os.path.realpath(path)
    try:
        inside, parent = os.lstat(real), os.lstat(os.path.dirname(real))
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(inside.st_mode) and (inside.st_dev != parent.st_dev or inside.st_ino == parent.st_ino):
        return True
    return real in targets_below(real)


def is_other_device(path: str) -> bool:
    """Whether the file system at the directory `path` is another one than its parent's: a mount point for certain.

    Two stats; but bind mounts within a file system are not seen (`is_mount_point` reads the whole table for them).
    """
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(os.path.abspath(path))).st_dev
    except FileNotFoundError:
        return False


def targets_below(prefix: str) -> list[str]:
    """Mount points at or below `prefix`, in the order they were mounted (unmount in reverse)."""
    below = prefix.rstrip("/") + "/"
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            target = unescape(line.split(" ", 5)[4])
            if target == prefix or target.startswith(below):
                found.append(target)
    return found


def unescape(text: str) -> str:
    r"""The mount table's octal escapes (\040 for a space) undone."""
    if "\\" not in text:
        return text
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, plain)
    return text


def sync_filesystem(path: str) -> None:
    """syncfs(2): what was written to the file system that holds `path` is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _check(_libc().syncfs(descriptor), path)
    finally:
        os.close(descriptor)
