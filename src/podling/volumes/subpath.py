"""subPath: a part of a volume, found without ever leaving it.

A container can fill its volume with links, and swap them while we look. So the path is resolved by the kernel in one
step (openat2 with RESOLVE_BENEATH), and what is bind-mounted is the open file itself, not its name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from podling import mounts

_OPENAT2 = 437
_AT_FDCWD = -100
_NO_MAGICLINKS = 0x02
_BENEATH = 0x08
_IN_ROOT = 0x10
_FLAGS = os.O_PATH | os.O_CLOEXEC


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def prepare(volume: str, path: str, pod_directory: str, volume_name: str, container: str, index: int) -> str:
    """A host path that shows `path` of the volume at the host path `volume`, and keeps showing just that.

    What is missing is made as directories with the volume's own mode. `index` is the mount's place among the
    container's. Raises OSError, or ValueError if the path leads out of the volume.
    """
    path = _checked(path)
    descriptor = _open_or_make(volume, path)
    try:
        target = f"{pod_directory}/volume-subpaths/{volume_name}/{container}/{index}"
        _bind(descriptor, target)
        return target
    finally:
        os.close(descriptor)


def secure_join(root: str, path: str) -> str:
    """The host path of `path` inside of `root`, as it would resolve with `root` as the root of everything."""
    try:
        descriptor = _openat2(root, path.lstrip("/") or ".", _IN_ROOT)
    except OSError:
        return os.path.join(root, os.path.normpath("/" + path)[1:])
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _checked(path: str) -> str:
    if os.path.isabs(path) or ".." in path.split("/"):
        raise ValueError(f"{path} is not a path inside of a volume")
    return os.path.normpath(path)


def _openat2(root: str, path: str, resolve: int = _BENEATH) -> int:
    """An O_PATH descriptor of `path` below `root`. The caller closes it."""
    folder = os.open(root, _FLAGS)
    try:
        how = _How(flags=_FLAGS, mode=0, resolve=resolve | _NO_MAGICLINKS)
        libc = ctypes.CDLL(None, use_errno=True)
        result = int(libc.syscall(_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)))
        if result >= 0:
            return result
        number = ctypes.get_errno()
    finally:
        os.close(folder)
    if number == errno.EXDEV:
        raise ValueError(f"{path} leads out of the volume")
    if number == errno.ENOSYS:
        return _walk(root, path)
    raise OSError(number, os.strerror(number), f"{root}/{path}")


def _walk(root: str, path: str) -> int:
    """The same on kernels without openat2: resolve first, then walk what came out without following a link."""
    base = os.path.realpath(root)
    real = os.path.realpath(f"{base}/{path}")
    if real != base and not real.startswith(base.rstrip("/") + "/"):
        raise ValueError(f"{path} leads out of the volume")
    here = os.open(base, _FLAGS)
    for part in [p for p in real[len(base) :].split("/") if p]:
        try:
            below = os.open(part, _FLAGS | os.O_NOFOLLOW, dir_fd=here)
            if stat.S_ISLNK(os.fstat(below).st_mode):
                os.close(below)
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part)
        finally:
            os.close(here)
        here = below
    return here


def _open_or_make(volume: str, path: str) -> int:
    mode = stat.S_IMODE(os.stat(volume).st_mode)
    try:
        return _openat2(volume, path)
    except FileNotFoundError:
        pass
    existing, _, _ = path.rpartition("/")
    parent = _open_or_make(volume, existing) if existing else os.open(volume, _FLAGS | os.O_DIRECTORY)
    try:
        name = path.rpartition("/")[2]
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            # Another container was faster, or it is a link to nowhere: then opening it fails.
            pass
        else:
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fchmod(made, mode)
            finally:
                os.close(made)
    finally:
        os.close(parent)
    return _openat2(volume, path)


def _bind(descriptor: int, target: str) -> None:
    source = os.fstat(descriptor)
    if os.path.lexists(target) and mounts.is_mount_point(target):
        shown = os.stat(target)
        if (shown.st_dev, shown.st_ino) == (source.st_dev, source.st_ino):
            return
        # The volume's content changed since the container's last start.
        mounts.unmount_all(target)
    os.makedirs(os.path.dirname(target), mode=0o750, exist_ok=True)
    _make_target(target, is_directory=stat.S_ISDIR(source.st_mode))
    mounts.bind(f"/proc/self/fd/{descriptor}", target)


def _make_target(target: str, *, is_directory: bool) -> None:
    if os.path.lexists(target) and os.path.isdir(target) != is_directory:
        os.rmdir(target) if os.path.isdir(target) else os.unlink(target)
    if is_directory:
        os.makedirs(target, mode=0o750, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
