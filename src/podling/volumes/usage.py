"""How much is in a volume, for eviction and statistics."""

from __future__ import annotations

import os

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Bytes on disk and inodes; of the file system that holds the volume: its capacity and what is free."""

    used_bytes: int
    used_inodes: int
    capacity_bytes: int
    available_bytes: int
    inodes: int
    inodes_free: int


def measure(path: str) -> Usage:
    """Counts what is below `path` on its own file system, hard links once. Costs a walk: call it in a thread."""
    system = os.statvfs(path)
    used, inodes = _walk(path)
    return Usage(
        used,
        inodes,
        system.f_blocks * system.f_frsize,
        system.f_bavail * system.f_frsize,
        system.f_files,
        system.f_ffree,
    )


def _walk(path: str) -> tuple[int, int]:
    root = os.lstat(path)
    used, inodes, linked = root.st_blocks * 512, 1, set[int]()
    pending = [path]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if found.st_dev != root.st_dev or found.st_ino in linked:
                    continue
                if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    linked.add(found.st_ino)
                used, inodes = used + found.st_blocks * 512, inodes + 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return used, inodes
