"""hostPath volumes: a path of the node itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from podling.volumes.base import Context, Ready, StaticPlugin, VolumeError

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "Directory": (stat.S_ISDIR, "a directory"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class HostPathPlugin(StaticPlugin):
    name = "kubernetes.io/host-path"

    async def setup(self, context: Context) -> Ready:
        source = context.volume.host_path
        assert source is not None
        return Ready(prepare(source.path, source.type or ""))


def prepare(path: str, type_: str) -> str:
    """`path`, checked against its type and made where the type says so. Raises VolumeError."""
    path = os.path.normpath(path)
    if not type_:
        # No check is made; what is missing becomes a directory, as container runtimes have always done.
        os.makedirs(path, mode=0o755, exist_ok=True) if not os.path.lexists(path) else None
        return path
    if type_ not in _CHECKS:
        raise VolumeError(f"{type_} is an invalid volume type")
    check, what = _CHECKS[type_]
    if not os.path.lexists(path):
        if type_ == "DirectoryOrCreate":
            os.makedirs(path, mode=0o755)
        elif type_ == "FileOrCreate":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    try:
        right = check(os.stat(path).st_mode)
    except OSError:
        right = False
    if not right:
        raise VolumeError(f"hostPath type check failed: {path} is not {what}")
    return path
