"""Takes away what nothing in an image store refers to: leftovers of killed processes, layers of removed images.

It works only while nobody brings in layers; if somebody does, it leaves everything for the next time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta

from podling import clock, mounts
from podling.images.index import Index
from podling.images.layout import Layout, hex_of, locked, try_locked, unlink

#: How long a broken download is kept, so that a later pull goes on where it ended.
PARTIAL_DOWNLOADS_KEPT = timedelta(hours=24)


async def sweep(layout: Layout, index: Index) -> bool:
    """Whether it was possible."""
    with try_locked(layout.active) as alone:
        if not alone:
            return False
        async with locked(layout.lock):
            doomed = _doomed(layout, index)
        await asyncio.to_thread(_delete, doomed)
        return True


def _doomed(layout: Layout, index: Index) -> list[str]:
    """Paths to delete. Layers are renamed first, so that a half deleted one is never taken for whole."""
    layers, blobs = set[str](), set[str]()
    for record in index.records():
        layers.update(hex_of(pair.diff_id) for pair in record.layers)
        layers.update([hex_of(record.fixup)] if record.fixup else [])
        blobs.update(hex_of(pair.blob) for pair in record.layers if pair.blob and not record.unpacked)
        blobs.update(hex_of(digest) for digest in (*record.manifests, record.config_blob) if digest)
    doomed = [e.path for e in os.scandir(f"{layout.root}/blobs/sha256") if e.name not in blobs]
    for entry in os.scandir(f"{layout.root}/layers"):
        if entry.name in layers:
            continue
        if len(entry.name) == 64:
            unlink(f"{layout.root}/l/{layout.short(f'sha256:{entry.name}')}")
            trash = f"{entry.path}.{os.urandom(6).hex()}.tmp"
            os.rename(entry.path, trash)
            doomed.append(trash)
        else:
            doomed.append(entry.path)
    doomed += [e.path for e in os.scandir(f"{layout.root}/l") if not os.path.exists(e.path)]
    doomed += [e.path for e in os.scandir(f"{layout.root}/ingest") if _stale(e)]
    for folder in ("images", "refs", "containers"):
        doomed += [e.path for e in os.scandir(f"{layout.root}/{folder}") if e.name.endswith(".tmp")]
    doomed += [e.path for e in os.scandir(layout.root) if e.name.startswith("generation.")]
    return doomed


def _stale(entry: os.DirEntry[str]) -> bool:
    if len(entry.name) != 64:
        return True
    age = clock.now() - datetime.fromtimestamp(entry.stat(follow_symlinks=False).st_mtime, UTC)
    return age > PARTIAL_DOWNLOADS_KEPT


def _delete(paths: list[str]) -> None:
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            for mounted in reversed(mounts.targets_below(path)):
                mounts.unmount(mounted)
            shutil.rmtree(path, ignore_errors=True)
        else:
            unlink(path)
