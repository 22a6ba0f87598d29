"""Hearing of changes in a folder: inotify(7)."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator
from typing import Any

from podling import log

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
#: An editor writes a file in several steps: this long after the first of them it is read.
SETTLE = 0.05

_log = log.get(__name__)


@functools.cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


class FolderWatch:
    """A context: tells when something changes in `directory`. Without inotify (or the folder) it only waits."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1
        self._changed = asyncio.Event()

    def __enter__(self) -> FolderWatch:
        fd = _libc().inotify_init1(_NONBLOCK | _CLOEXEC)
        if fd < 0:
            return self
        mask = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
        if _libc().inotify_add_watch(fd, os.fsencode(self._directory), mask) < 0:
            _log.debug("%s cannot be watched", self._directory)
            os.close(fd)
            return self
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._read)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        try:
            os.read(self._fd, 65536)
        except BlockingIOError:
            return
        self._changed.set()

    async def changed(self, timeout: float) -> None:
        """Until something has changed, at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
                await asyncio.sleep(SETTLE)
        except TimeoutError:
            pass
        self._changed.clear()


async def contents(path: str, timeout: float = 3600.0) -> AsyncIterator[bytes]:
    """What is in a file, each time when that has changed; a file that can't be read has not.

    Looked at after `timeout` seconds in any case: not every file system tells.
    """
    known = _read(path)
    with FolderWatch(os.path.dirname(path) or ".") as folder:
        while True:
            await folder.changed(timeout)
            now = _read(path)
            if now is not None and now != known:
                known = now
                yield now


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        _log.warning("%s can't be read: %s", path, error.strerror)
        return None
