"""Rotation of container logs: `0.log` of more than 10 MiB is moved aside and compressed, five files are kept
(pkg/kubelet/logs/container_log_manager.go)."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
from datetime import datetime

from podling import clock, log
from podling.runtime.base import Runtime, RuntimeFailure

_log = log.get(__name__)
_TEMPORARY = ".tmp"


def rotated_name(path: str, now: datetime) -> str:
    return f"{path}.{now:%Y%m%d-%H%M%S}"


def rotated_files(path: str) -> list[str]:
    """The rotated files of a log, the oldest first."""
    directory, name = os.path.split(path)
    try:
        found = [n for n in os.listdir(directory) if n.startswith(f"{name}.")]
    except OSError:
        return []
    return [os.path.join(directory, n) for n in sorted(found)]


class LogRotator:
    """`max_files` counts the live one."""

    def __init__(self, runtime: Runtime, *, max_size: int, max_files: int) -> None:
        self._runtime, self._max_size, self._max_files = runtime, max_size, max_files

    async def check(self, container_id: str, path: str) -> bool:
        """Rotate the log of a running container if it has grown too large; whether it was."""
        try:
            if os.stat(path).st_size < self._max_size:
                return False
        except OSError:
            return False
        await self._rotate(container_id, path)
        return True

    async def _rotate(self, container_id: str, path: str) -> None:
        self._clean(path)
        await asyncio.to_thread(self._compress, path)
        moved = rotated_name(path, clock.now())
        os.rename(path, moved)
        try:
            await self._runtime.reopen_log(container_id)
        except RuntimeFailure as error:
            # Without a new file the container would go on writing to the one that is moved: put it back.
            os.rename(moved, path)
            _log.warning("log %s is not rotated: %s", path, error)

    def _clean(self, path: str) -> None:
        """Half-made files, and those that are too many."""
        files = rotated_files(path)
        for name in [f for f in files if f.endswith(_TEMPORARY)]:
            os.unlink(name)
            files.remove(name)
        # Two more come: the one being moved, and the live one.
        for name in files[: max(0, len(files) - (self._max_files - 2))]:
            os.unlink(name)

    def _compress(self, path: str) -> None:
        """All but the newest rotated file, which the runtime may still be writing to."""
        for name in rotated_files(path):
            if name.endswith(".gz"):
                continue
            temporary = f"{name}{_TEMPORARY}"
            with open(name, "rb") as source, gzip.open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
            os.rename(temporary, f"{name}.gz")
            os.unlink(name)
