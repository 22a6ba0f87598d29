"""Hearing of files that change."""

from __future__ import annotations

import asyncio
from pathlib import Path

from podling.file_watch import contents


async def test_a_files_contents_come_each_time_when_they_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    found = contents(str(path))
    waiting = asyncio.ensure_future(anext(found))
    await asyncio.sleep(0.1)
    # Written anew, but the same; gone; another file of the folder: none of it is a change.
    path.write_text("1")
    path.unlink()
    (tmp_path / "other").write_text("x")
    await asyncio.sleep(0.2)
    assert not waiting.done()
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").rename(path)
    assert await asyncio.wait_for(waiting, 5) == b"2"
    waiting = asyncio.ensure_future(anext(found))
    await asyncio.sleep(0.1)
    path.write_text("3")
    assert await asyncio.wait_for(waiting, 5) == b"3"
    await found.aclose()  # type: ignore[attr-defined]
