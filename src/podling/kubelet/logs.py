"""Container logs: which container's log is meant, and reading its file in CRI's format, to the end or for ever.

A line of the file is `<time> <stdout|stderr> <F|P> <text>`; P marks a piece of a line that goes on. Files are rotated
by renaming: who follows reads the old file to its end, then begins the new one. Source: Kubernetes' design of CRI
logging and k8s.io/cri-client pkg/logs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from podling import clock
from podling.api import core_v1, errors
from podling.streaming.log_query import LogQuery

#: How much is read at once.
CHUNK = 64 * 1024
#: Seconds between looks at a file that nobody writes to: from the first look on, doubling up to the last.
FIRST_LOOK, LAST_LOOK = 0.02, 0.5


def container_id(pod: core_v1.Pod, container: str, *, previous: bool = False) -> str:
    """The container (`<runtime>://<id>`) whose log is meant, by `pod`'s status. StatusError 400 if none has one."""
    status = _container_status(pod, container)
    where = f'container "{container}" in pod "{pod.metadata.name}"'
    if status is None:
        raise errors.bad_request(f"{where} is not available")
    state = status.state or core_v1.ContainerState()
    last = status.last_state.terminated if status.last_state is not None else None
    last_id = (last.container_id if last is not None else None) or ""
    if previous:
        if not last_id:
            raise errors.bad_request(
                f'previous terminated container "{container}" in pod "{pod.metadata.name}" not found'
            )
        return last_id
    if state.running is not None:
        return status.container_id or ""
    if state.terminated is not None:
        found = state.terminated.container_id or last_id
        if not found:
            raise errors.bad_request(f"{where} is terminated")
        return found
    if last is not None:
        if not last_id:
            raise errors.bad_request(f"{where} is terminated")
        return last_id
    if state.waiting is not None:
        why = {
            "ErrImagePull": "image can't be pulled",
            "ImagePullBackOff": "trying and failing to pull image",
        }.get(state.waiting.reason or "", state.waiting.reason or "")
        raise errors.bad_request(f"{where} is waiting to start: {why}")
    raise errors.bad_request(f"{where} is waiting to start - no logs yet")


def _container_status(pod: core_v1.Pod, name: str) -> core_v1.ContainerStatus | None:
    status = pod.status
    if status is None:
        return None
    for statuses in (
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ):
        for one in statuses or ():
            if one.name == name:
                return one
    return None


class LineFilter:
    """From raw lines to what the client gets: times, stream, since and limit. Pure, but for what it remembers."""

    def __init__(self, query: LogQuery, now: datetime) -> None:
        self._timestamps = query.timestamps
        self._stream = {"Stdout": b"stdout", "Stderr": b"stderr"}.get(query.stream)
        self._left = query.limit_bytes
        self._since = query.since_time
        if query.since_seconds is not None:
            self._since = now - timedelta(seconds=query.since_seconds)
        #: Whether the next piece of a stream begins a line.
        self._begins = {b"stdout": True, b"stderr": True}

    @property
    def exhausted(self) -> bool:
        """The limit is reached."""
        return self._left is not None and self._left <= 0

    def take(self, line: bytes) -> bytes:
        """What a raw line (with its newline, unless it is the last) becomes; b"" for nothing."""
        parts = line.split(b" ", 3)
        if len(parts) < 3:
            return b""
        when, stream, tags = parts[:3]
        text = parts[3] if len(parts) > 3 else b"\n"
        if self._stream is not None and stream != self._stream:
            return b""
        if self._since is not None and _time(when) < self._since:
            return b""
        partial = tags.split(b":", 1)[0] == b"P"
        if partial:
            text = text.removesuffix(b"\n")
        if self._timestamps and self._begins.get(stream, True):
            text = _nine_digits(when) + b" " + text
        self._begins[stream] = not partial
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text


def _time(when: bytes) -> datetime:
    """To microseconds: the rest does not matter for a comparison with seconds."""
    text = when.decode("ascii", "replace")
    head, dot, fraction = text.partition(".")
    digits = len(fraction) - len(fraction.lstrip("0123456789"))
    zone = fraction[digits:] if dot else ""
    try:
        if not dot:
            return datetime.fromisoformat(text)
        return datetime.fromisoformat(f"{head}.{fraction[:digits][:6].ljust(6, '0')}{zone}")
    except ValueError:
        return clock.now()


def _nine_digits(when: bytes) -> bytes:
    """RFC 3339 with nine digits of fraction, as upstream prints it."""
    head, dot, fraction = when.partition(b".")
    digits = fraction[: len(fraction) - len(fraction.lstrip(b"0123456789"))]
    zone = fraction[len(digits) :] if dot else b""
    if not dot:
        for mark in (b"Z", b"+", b"-"):
            at = head.find(mark, 11)
            if at > 0:
                head, zone = head[:at], head[at:]
                break
    if zone in (b"+00:00", b""):
        zone = b"Z"
    return head + b"." + digits[:9].ljust(9, b"0") + zone


def tail_offset(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines of `file` begin. An unfinished last line counts."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    at, seen = end, 0
    while at > 0:
        size = min(CHUNK, at)
        at -= size
        file.seek(at)
        chunk = file.read(size)
        if at + size == end and chunk.endswith(b"\n"):
            chunk = chunk[:-1]
        index = len(chunk)
        while (index := chunk.rfind(b"\n", 0, index)) >= 0:
            seen += 1
            if seen == lines:
                return at + index + 1
    return 0


async def read(path: Path, query: LogQuery, *, running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log in the file at `path`, as `query` wants it. When following, until the container is no longer `running`.

    A file that is not there is empty (a container may not have written yet). Without `follow`, `running` is not asked.
    """
    lines = LineFilter(query, clock.now())
    file = _open(path)
    try:
        if file is not None and query.tail_lines is not None:
            file.seek(tail_offset(file, query.tail_lines))
        pending, wait = b"", FIRST_LOOK
        while not lines.exhausted:
            # Asked before reading: what a container writes before it ends is read after that.
            alive = query.follow and running()
            out, pending, moved = _drain(file, pending, lines, final=not alive)
            for piece in out:
                yield piece
            if moved:
                wait = FIRST_LOOK
                await asyncio.sleep(0)
                continue
            successor = _successor(path, file) if query.follow else None
            if successor is not None:
                if file is not None:
                    file.close()
                file, pending = successor, b""
                continue
            if not alive:
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_LOOK)
    finally:
        if file is not None:
            file.close()


def _open(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _drain(
    file: BinaryIO | None, pending: bytes, lines: LineFilter, *, final: bool
) -> tuple[Iterator[bytes], bytes, bool]:
    """One chunk of the file: what it gives out, the unfinished line at its end, and whether there was anything."""
    data = file.read(CHUNK) if file is not None else b""
    if not data:
        if final and pending:
            return iter([lines.take(pending)]), b"", True
        return iter(()), pending, False
    *whole, rest = (pending + data).split(b"\n")
    out: list[bytes] = []
    for line in whole:
        if lines.exhausted:
            break
        piece = lines.take(line + b"\n")
        if piece:
            out.append(piece)
    return iter([b"".join(out)] if out else ()), rest, True


def _successor(path: Path, file: BinaryIO | None) -> BinaryIO | None:
    """The new file at `path`, if it is not the one that is open, or that one from its start if it was truncated."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return None
    if file is None:
        return _open(path)
    mine = os.fstat(file.fileno())
    if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
        # What was written to the old file since we read its end is lost if we don't look once more.
        return _open(path) if mine.st_size <= file.tell() else None
    if there.st_size < file.tell():
        file.seek(0)
    return None
