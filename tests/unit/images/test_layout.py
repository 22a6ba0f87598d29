"""Locks and files of the store."""

import asyncio
import os
from pathlib import Path

import pytest

from podling.images.base import ImageError
from podling.images.layout import Layout, hex_of, locked, try_locked, write_atomically


async def test_locks_exclude_tasks_too(tmp_path: Path) -> None:
    path, order = str(tmp_path / "lock"), []

    async def worker(name: str) -> None:
        async with locked(path):
            order.append(f"{name} in")
            await asyncio.sleep(0.01)
            order.append(f"{name} out")

    await asyncio.gather(*(worker(name) for name in "abc"))
    assert [entry.split()[1] for entry in order] == ["in", "out"] * 3


async def test_shared_locks_keep_the_exclusive_one_away(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    async with locked(path, shared=True), locked(path, shared=True):
        with try_locked(path) as got:
            assert not got
    with try_locked(path) as got:
        assert got


async def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    async with locked(path):
        waiting = asyncio.create_task(_take(path))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.wait_for(_take(path), 5)


async def _take(path: str) -> None:
    async with locked(path):
        pass


def test_files_appear_whole(tmp_path: Path) -> None:
    target = tmp_path / "f"
    write_atomically(str(target), b"1")
    write_atomically(str(target), b"2", sync=False)
    assert target.read_bytes() == b"2" and os.listdir(tmp_path) == ["f"]


def test_another_version_is_refused(tmp_path: Path) -> None:
    Layout(str(tmp_path)).create()
    Layout(str(tmp_path)).create()
    (tmp_path / "version").write_text("2\n")
    with pytest.raises(ImageError, match="holds an image store of version 2"):
        Layout(str(tmp_path)).create()


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc", "md5:" + "a" * 64, "sha256:" + "A" * 64])
def test_digests_cannot_be_paths(digest: str) -> None:
    with pytest.raises(ImageError, match="is no sha256 digest"):
        hex_of(digest)


def test_short_names_are_short() -> None:
    assert len(Layout("/x").short("sha256:" + "ab" * 32)) == 10
