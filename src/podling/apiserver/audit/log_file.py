"""Events as lines of a file that is rotated, or of standard output (plugin/pkg/audit/log).

Rotation is lumberjack's, which upstream uses: a file that would grow over its size is renamed to
`audit-2026-01-02T03-04-05.678.log`; renamed files go when there are too many, or when their names say that they are
too old, and are compressed if that is wished. Lines are written where they come from: a line into the page cache takes
less time than it would to hand it to somebody else.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import msgspec

from podling import clock, log
from podling.apiserver.audit import event as events_
from podling.apiserver.audit import metrics
from podling.apiserver.audit.event import Event
from podling.errors import PodlingError

LOG = log.get(__name__)

JSON, LEGACY = FORMATS = ("json", "legacy")
MEGABYTE = 1024 * 1024
_STAMP = "%Y-%m-%dT%H-%M-%S"


class LogFileError(PodlingError):
    """The file can't be opened."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """0 is no limit. `size` is in bytes, `age` in days."""

    size: int = 100 * MEGABYTE
    backups: int = 100
    age: int = 366
    compress: bool = False


class LogFile:
    """Writes to `path`; `-` is standard output, which is not rotated."""

    def __init__(self, path: str, format_: str = JSON, rotation: Rotation | None = None) -> None:
        self._path = Path(path)
        self._legacy = format_ == LEGACY
        self._rotation = rotation or Rotation()
        self._file: IO[bytes] | None = None
        self._size = 0
        self._tidying: asyncio.Task[None] | None = None
        self._again = False

    @property
    def _standard(self) -> bool:
        return str(self._path) == "-"

    def start(self) -> None:
        """Raises LogFileError."""
        if self._standard:
            self._file = sys.stdout.buffer
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise LogFileError(f"the audit log {self._path} can't be written: {error.strerror}") from error

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._size = os.fstat(descriptor).st_size

    async def write(self, events: Sequence[Event]) -> bool:
        lost = []
        for event in events:
            data = events_.line(event).encode("utf-8", "replace") if self._legacy else events_.as_json(event)
            try:
                self._put(data + b"\n")
            except (OSError, ValueError) as error:
                metrics.failed("log", str(error), [event])
                lost.append(event)
        return not lost

    def _put(self, data: bytes) -> None:
        """Raises OSError, and ValueError for what no file may hold."""
        limit = self._rotation.size
        if limit and not self._standard:
            if len(data) > limit:
                raise ValueError(f"write length {len(data)} exceeds maximum file size {limit}")
            if self._size + len(data) > limit:
                self._rotate()
        if self._file is None:
            self._open()
        assert self._file is not None
        self._file.write(data)
        if self._standard:
            self._file.flush()
        self._size += len(data)

    def _rotate(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        now = clock.now().astimezone(UTC)
        stamp = f"{now:{_STAMP}}.{now.microsecond // 1000:03}"
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._open()
        self._again = True
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.get_running_loop().create_task(self._tidy(), name="audit-log-backups")

    async def _tidy(self) -> None:
        while self._again:
            self._again = False
            try:
                # Compressing takes seconds.
                await asyncio.to_thread(tidy, self._path, self._rotation, clock.now())
            except OSError as error:
                LOG.error("old audit logs beside %s can't be tidied up: %s", self._path, error)

    async def close(self) -> None:
        if self._tidying is not None:
            await self._tidying
        if self._file is not None and not self._standard:
            self._file.close()
        self._file = None


def tidy(path: Path, rotation: Rotation, now: datetime) -> None:
    """Remove and compress what was rotated away from `path`. Raises OSError."""
    found = backups(path)
    kept = []
    for position, (when, stamps) in enumerate(found):
        too_many = rotation.backups and position >= rotation.backups
        too_old = rotation.age and when < now - timedelta(days=rotation.age)
        if too_many or too_old:
            for file in stamps:
                file.unlink()
        else:
            kept += stamps
    if rotation.compress:
        for file in kept:
            if file.suffix != ".gz":
                _compress(file)


def backups(path: Path) -> list[tuple[datetime, list[Path]]]:
    """What was rotated away, the newest first; a file and its compressed form count as one."""
    name = re.compile(
        rf"{re.escape(path.stem)}-(\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d)\.(\d{{3}}){re.escape(path.suffix)}(\.gz)?"
    )
    found: dict[datetime, list[Path]] = {}
    for file in path.parent.iterdir():
        if match := name.fullmatch(file.name):
            when = datetime.strptime(match[1], _STAMP).replace(microsecond=int(match[2]) * 1000, tzinfo=UTC)
            found.setdefault(when, []).append(file)
    return sorted(found.items(), reverse=True)


def _compress(file: Path) -> None:
    target = file.with_name(file.name + ".gz")
    descriptor = os.open(target, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with file.open("rb") as source, os.fdopen(descriptor, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb") as out:
        shutil.copyfileobj(source, out)
    file.unlink()
