"""User namespaces: a pod whose root is nobody on the machine (`hostUsers: false`).

The sandbox's namespaces are made inside a user namespace that maps the container's ids 0 to 65535 to a range of its
own. Volumes are mounted with their owners shifted by the kernel (idmapped mounts); the root file system is an overlay,
which the kernel cannot shift, so the owners of its files are changed once.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from podling import mounts
from podling.runtime import copying, processes, syscalls
from podling.runtime.base import RuntimeFailure
from podling.runtime.spec import USER_RANGE

SIZE = USER_RANGE
#: The last range must stay below the largest id.
_RANGES = range(2, 65000)


def choose_base(taken: Collection[int]) -> int:
    """The first id on the machine of a range that no other sandbox has; by chance, for the ranges of other agents on
    this machine are not known."""
    while True:
        base = random.choice(_RANGES) * SIZE
        if base not in taken:
            return base


async def make(directory: Path, kinds: Sequence[str], base: int) -> None:
    """Pin a user namespace that maps to `base`, and new namespaces of `kinds` that belong to it, in `directory`.

    A user namespace cannot be made by a thread, so a process makes them all and waits for its ids to be mapped.
    """
    directory.mkdir(parents=True, exist_ok=True)
    unshare, cat = shutil.which("unshare") or "/usr/bin/unshare", shutil.which("cat") or "/bin/cat"
    child_in, feed = os.pipe2(os.O_CLOEXEC)
    answer, child_out = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(answer, False)
    try:
        try:
            argv = [unshare, "--user", *(f"--{kind}" for kind in kinds), cat]
            child = processes.spawn(argv, stdin=child_in, stdout=child_out)
        finally:
            os.close(child_in)
            os.close(child_out)
        try:
            os.write(feed, b".")
            if await copying.read(answer) != b".":
                raise RuntimeFailure("failed to create user namespace: the kernel does not allow it")
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{child.pid}/{name}").write_text(f"0 {base} {SIZE}\n")
            for kind in ("user", *kinds):
                (directory / kind).touch()
                mounts.mount(f"/proc/{child.pid}/ns/{kind}", str(directory / kind), flags=mounts.BIND)
        finally:
            child.kill_and_reap()
    finally:
        os.close(feed)
        os.close(answer)


def shift_owners(root: str, base: int) -> None:
    """Give the files of the root file system to the pod's ids, set-id bits and all."""
    for directory, directories, files in os.walk(root):
        paths = [os.path.join(directory, name) for name in (*directories, *files)]
        for path in [directory, *paths] if directory == root else paths:
            status = os.lstat(path)
            if status.st_uid < SIZE and status.st_gid < SIZE:
                os.lchown(path, base + status.st_uid, base + status.st_gid)
                if status.st_mode & 0o6000 and not os.path.islink(path):
                    os.chmod(path, status.st_mode & 0o7777)


_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # On every architecture.
_AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE, _MOVE_FROM_EMPTY_PATH = 0x1000, 0x8000, 1, 4
_MOUNT_ATTR_IDMAP = 0x100000


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_shifted(source: str, target: str, user_namespace: str) -> None:
    """Bind `source` with all below it at `target`, owners mapped as `user_namespace` (a pinned file) says."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = syscalls.call(_OPEN_TREE, source, -100, os.fsencode(source), flags)
    try:
        with open(user_namespace) as namespace:
            attributes = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, namespace.fileno())
            flags, size = _AT_EMPTY_PATH | _AT_RECURSIVE, ctypes.c_size_t(ctypes.sizeof(attributes))
            syscalls.call(_MOUNT_SETATTR, source, tree, b"", flags, ctypes.byref(attributes), size)
        syscalls.call(_MOVE_MOUNT, target, tree, b"", -100, os.fsencode(target), _MOVE_FROM_EMPTY_PATH)
    except OSError as error:
        raise RuntimeFailure(f'failed to map the owners of volume "{source}": {error.strerror}') from error
    finally:
        os.close(tree)
