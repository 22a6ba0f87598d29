"""fsGroup: a volume's files belong to the pod's group and are open to it (pkg/volume/volume_linux.go)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

_READ_WRITE = 0o660
_READ_ONLY = 0o440
_TRAVERSE = 0o110


def mask(mode: int, *, readonly: bool) -> int:
    """The permission bits that a file of type and mode `mode` gets in addition."""
    bits = _READ_ONLY if readonly else _READ_WRITE
    return bits | stat.S_ISGID | _TRAVERSE if stat.S_ISDIR(mode) else bits


def apply(path: str, group: int | None, *, readonly: bool = False, policy: str = "Always") -> None:
    """Give everything at and below `path` to `group`. With `OnRootMismatch` nothing is done if the root is right."""
    if group is None or (policy == "OnRootMismatch" and not _wrong(path, group, readonly)):
        return
    # The root comes last: if this is interrupted, the next time finds it wrong and begins again.
    for entry in _below(path):
        _change(entry, group, readonly)
    _change(path, group, readonly)


def _wrong(path: str, group: int, readonly: bool) -> bool:
    found = os.lstat(path)
    bits = mask(found.st_mode, readonly=readonly)
    return found.st_gid != group or found.st_mode & bits != bits


def _below(path: str) -> Iterator[str]:
    pending = [path]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except NotADirectoryError:
            continue
        for entry in entries:
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)


def _change(path: str, group: int, readonly: bool) -> None:
    try:
        os.lchown(path, -1, group)
        found = os.lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(path, stat.S_IMODE(found.st_mode) | mask(found.st_mode, readonly=readonly))
    except FileNotFoundError:
        # A volume in use changes under our feet.
        return
