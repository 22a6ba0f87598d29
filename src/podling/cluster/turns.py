"""One command at a time changes whether a cluster runs: `up` and `down` of the same cluster wait for each other.

Otherwise a `down` would take away what an `up` is just making, and both would report success over half a cluster. The
turn is a locked file beside the run directory, so it ends with the process that has it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podling.cluster.config import Layout


def _path(paths: Layout) -> Path:
    return paths.run.with_name(f"{paths.run.name}.turn")


@contextmanager
def turn(paths: Layout, purpose: str) -> Iterator[None]:
    """Have the turn, for `purpose` ("up" or "down"); waits for it. Raises OSError if the place can't be written."""
    path = _path(paths)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            break
        # Who had it before us took the file away.
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, purpose.encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def whose(paths: Layout) -> str:
    """What somebody has the turn for, "" if nobody has it."""
    try:
        descriptor = os.open(_path(paths), os.O_RDWR)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, 32, 0).decode() or "up"
    finally:
        os.close(descriptor)
    return ""


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
