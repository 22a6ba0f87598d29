"""Learning that containers ended: conmon writes a container's exit code into a file named by its id.

The directory is watched with inotify, so nothing polls; exits that happened while nobody watched are in it as well.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from podling.runtime import syscalls

_EVENT = struct.Struct("iIII")


class Exit(NamedTuple):
    code: int
    finished_at: datetime


def read(directory: Path, container_id: str) -> Exit | None:
    """How the container ended, or None if it has not. The file's time of writing is the time of the exit."""
    path = directory / container_id
    try:
        code, when = path.read_text().strip(), path.stat().st_mtime
    except FileNotFoundError:
        return None
    if not code.isdigit():
        return None
    return Exit(int(code), datetime.fromtimestamp(when, UTC))


class Watch:
    """Calls `on_exit(container id)` for each exit file that appears."""

    def __init__(self, directory: Path, on_exit: Callable[[str], None]) -> None:
        self._directory = directory
        self._on_exit = on_exit
        self._fd = -1

    def start(self) -> None:
        self._fd = syscalls.inotify_init()
        # conmon writes to another name and renames; older ones wrote in place.
        mask = syscalls.IN_MOVED_TO | syscalls.IN_CLOSE_WRITE
        syscalls.inotify_add_watch(self._fd, str(self._directory), mask)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        data = os.read(self._fd, 65536)
        at = 0
        while at < len(data):
            _, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + length].rstrip(b"\0").decode()
            at += length
            if name and not name.startswith("."):
                self._on_exit(name)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
