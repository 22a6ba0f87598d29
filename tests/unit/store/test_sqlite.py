"""What only a store on disk can promise: to survive."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from podling.store.base import Delete, Event, Put, Unavailable
from podling.store.sqlite import SqliteStore

WRITER = """
import asyncio, os, sys
from podling.store.base import Put
from podling.store.sqlite import SqliteStore

async def write(store, worker):
    n = 0
    while True:
        n += 1
        revision = await store.commit([Put(f"/{worker}/a", str(n).encode()), Put(f"/{worker}/b", str(n).encode())])
        os.write(1, f"{worker} {n} {revision}\\n".encode())

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await asyncio.gather(*(write(store, w) for w in range(8)))

asyncio.run(main())
"""


async def reopened(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    await store.open()
    return store


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "s.db")
    for n in range(5):
        await store.commit([Put("/a", str(n).encode())])
    await store.close()
    store = await reopened(tmp_path / "s.db")
    found = await store.get("/a")
    assert found is not None and (found.value, found.create_revision, found.mod_revision) == (b"4", 1, 5)
    assert [e[0].revision for e in [x async for x in _first(store, 3)]] == [3, 4, 5]
    await store.close()


async def _first(store: SqliteStore, count: int) -> AsyncIterator[Sequence[Event]]:
    """The newest `count` commits."""
    async for events in store.watch("/", store.revision - count):
        yield events
        count -= 1
        if not count:
            return


async def test_revisions_never_go_back_even_when_all_is_deleted_and_compacted(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "s.db")
    await store.commit([Put("/a", b"1")])
    await store.commit([Delete("/a")])
    await store.compact(2)
    await store.close()
    store = await reopened(tmp_path / "s.db")
    assert (store.revision, store.compacted) == (2, 2)
    assert await store.commit([Put("/a", b"1")]) == 3
    await store.close()


async def test_the_file_shrinks_after_deletion_and_compaction(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = await reopened(path)
    for n in range(50):
        await store.commit([Put("/big", os.urandom(100_000))])
        assert store.revision == n + 1
    await store.compact(store.revision)
    await store.close()
    assert path.stat().st_size < 1_000_000


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "s.db")
    with pytest.raises(Unavailable, match="in use by another process"):
        await reopened(tmp_path / "s.db")
    await store.close()


async def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "s.db")
    await store.close()
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
    connection.close()
    with pytest.raises(Unavailable, match="format 99"):
        await reopened(tmp_path / "s.db")


async def test_a_damaged_data_base_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a data base at all" * 100)
    with pytest.raises(Unavailable, match=r"can't open .*: restore it from a copy"):
        await reopened(tmp_path / "s.db")


async def test_a_full_disk_fails_the_write_and_nothing_else(tmp_path: Path) -> None:
    store = await reopened(tmp_path / "s.db")
    await store.commit([Put("/a", b"1")])
    pages = store._writer_connection.execute("PRAGMA page_count").fetchone()[0]
    store._writer_connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    results = await asyncio.gather(
        *(store.commit([Put(f"/{n}", os.urandom(9000))]) for n in range(4)), return_exceptions=True
    )
    assert any(isinstance(r, Unavailable) for r in results)
    acknowledged = {f"/{n}" for n, r in enumerate(results) if isinstance(r, int)}
    store._writer_connection.execute("PRAGMA max_page_count = 1000000")
    await asyncio.sleep(0.05)
    await store.commit([Put("/b", b"2", expected=0)])
    assert {kv.key for kv in (await store.list("/")).items} == {"/a", "/b"} | acknowledged
    await store.close()


@pytest.mark.parametrize("round_", range(3))
async def test_kill_9_loses_no_acknowledged_write_and_shows_no_half_commit(tmp_path: Path, round_: int) -> None:
    path = tmp_path / "s.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(200 + 150 * round_)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    rest = process.stdout.read().decode().splitlines()
    process.stdout.close()
    acknowledged: dict[str, int] = {}
    newest = 0
    for line in [raw.decode() for raw in lines] + rest:
        worker, n, revision = line.split()
        acknowledged[worker] = int(n)
        newest = max(newest, int(revision))
    store = await reopened(path)
    assert store.revision >= newest
    for worker, n in acknowledged.items():
        a, b = await store.get(f"/{worker}/a"), await store.get(f"/{worker}/b")
        assert a is not None and b is not None
        assert a.value == b.value and int(a.value) >= n
    seen = [e async for e in _first(store, store.revision)] if store.revision else []
    assert [events[0].revision for events in seen] == list(range(1, store.revision + 1))
    assert all(len(events) == 2 for events in seen)
    await store.close()
