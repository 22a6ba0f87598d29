"""The log in a SQLite file: the embedded default.

One row a version, `id = revision << 12 | position in its commit`; a deletion is a row without a value. The newest row
of a key is its present state. WAL with synchronous=FULL: a commit is acknowledged only when it is on the disk.

Who does what: the event loop checks expectations against an index of revisions in memory and numbers the commit at
once; at the end of its turn it hands all commits of the turn to the writer thread, which takes whatever waits into one
transaction (group commit: the price of a sync and of changing threads is shared); then the loop wakes the writers and
publishes the events. A reader thread with a connection of its own serves reads. If
a transaction fails (a full disk), every commit in it and behind it fails, and the index is read again from the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec

from podling import log
from podling.store.base import Compacted, Conflict, Delete, Event, KeyValue, Op, Page, Put, StoreError, Unavailable
from podling.store.memory import check_bounds
from podling.store.watching import Commits, WatchHub

T = TypeVar("T")

_log = log.get(__name__)

#: Bits of a row's id that number the operations of one commit.
_POSITION_BITS = 12
MAX_OPS = 1 << _POSITION_BITS
#: The layout of the file; a file of another one is refused.
FORMAT = 1
#: Rows that one statement writes.
_INSERT_ROWS = 32
#: Rows that compaction removes in one transaction, so that writers never wait long.
_COMPACT_ROWS = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    create_revision INTEGER NOT NULL,
    value BLOB
);
CREATE INDEX IF NOT EXISTS log_by_key ON log (key, id);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class _Version(msgspec.Struct, frozen=True, gc=False):
    """What the index knows of a key: no value, that stays on the disk."""

    create_revision: int
    mod_revision: int


class _Row(msgspec.Struct, frozen=True, gc=False):
    id: int
    key: str
    create_revision: int
    value: bytes | None


#: The class below has a method named list; these name the type.
_Rows = list[_Row]


class _Commit:
    """A commit under way."""

    def __init__(self, revision: int, rows: _Rows) -> None:
        self.revision = revision
        self.rows = rows
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()


_Batch = list[_Commit]
_Events = list[Event]


class SqliteStore:
    """Store over the SQLite file at `path`; its folder is made. One process at a time: a second one is refused.

    With `erase`, what compaction removes is overwritten in the file, and the file's log is cut off.
    """

    def __init__(self, path: str | Path, *, erase: bool = False) -> None:
        self._path = Path(path)
        self._erase = erase
        self._index: dict[str, _Version] = {}
        self._assigned = 0
        self._durable = 0
        self._compacted = 0
        self._hub = WatchHub()
        self._queue: queue.SimpleQueue[_Batch | Callable[[sqlite3.Connection], None] | None] = queue.SimpleQueue()
        #: Commits of this turn of the loop, which the writer thread does not know of yet.
        self._turn: _Batch = []
        self._failed: Unavailable | None = None
        self._closing = True
        self._lock: int | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._hub = WatchHub()
        self._queue = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(1, "store-reader")
        try:
            self._take_lock()
            self._writer_connection = await self._loop.run_in_executor(self._readers, self._prepare)
            self._reader = await self._loop.run_in_executor(self._readers, self._connect)
        except (sqlite3.Error, OSError) as error:
            self._drop_lock()
            self._readers.shutdown(wait=False)
            code = getattr(error, "sqlite_errorcode", None)
            damaged = code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
            remedy = ": restore it from a copy, or start anew in another data directory" if damaged else ""
            raise Unavailable(f"can't open the data base {self._path}: {error}{remedy}") from error
        except StoreError:
            self._drop_lock()
            self._readers.shutdown(wait=False)
            raise
        self._thread = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._thread.start()
        self._closing = False

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        self._hub.close()
        await self._loop.run_in_executor(self._readers, self._reader.close)
        self._readers.shutdown()
        self._writer_connection.close()
        self._drop_lock()

    def _take_lock(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Unavailable(f"{self._path} is in use by another process; stop that one first") from None
        self._lock = descriptor

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=64)
        connection.execute("PRAGMA busy_timeout = 10000")
        return connection

    def _prepare(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        if self._erase:
            connection.execute("PRAGMA secure_delete = ON")
        os.chmod(self._path, 0o600)
        connection.executescript(_SCHEMA)
        meta: dict[str, int] = dict(connection.execute("SELECT name, value FROM meta"))
        if meta.setdefault("format", FORMAT) != FORMAT:
            connection.close()
            raise Unavailable(
                f"{self._path} has format {meta['format']}, this podling reads format {FORMAT}: "
                "use the version that wrote it, or another data directory"
            )
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
        self._load(connection, meta)
        return connection

    def _load(self, connection: sqlite3.Connection, meta: dict[str, int]) -> None:
        """Read the index; whatever it held is forgotten."""
        rows = connection.execute("SELECT key, create_revision, value IS NULL, max(id) FROM log GROUP BY key")
        self._index = {
            key: _Version(created, row_id >> _POSITION_BITS) for key, created, gone, row_id in rows if not gone
        }
        newest = connection.execute("SELECT max(id) FROM log").fetchone()[0] or 0
        self._assigned = self._durable = max(newest >> _POSITION_BITS, meta.get("revision", 0))
        self._compacted = meta.get("compacted", 0)

    # -- reads -----------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._durable

    @property
    def compacted(self) -> int:
        return self._compacted

    async def get(self, key: str, revision: int | None = None) -> KeyValue | None:
        check_bounds(revision, self._compacted, self._durable)
        row = await self._read(
            lambda c: c.execute(
                "SELECT value, create_revision, id FROM log WHERE key = ? AND id < ? ORDER BY id DESC LIMIT 1",
                (key, _end(self._durable if revision is None else revision)),
            ).fetchone()
        )
        if row is None or row[0] is None:
            return None
        return KeyValue(key, row[0], row[1], row[2] >> _POSITION_BITS)

    async def list(
        self, prefix: str, *, start: str | None = None, limit: int | None = None, revision: int | None = None
    ) -> Page:
        check_bounds(revision, self._compacted, self._durable)
        at = self._durable if revision is None else revision
        bounds = (max(prefix, start or ""), prefix + "\U0010ffff", _end(at))
        # SQLite takes the bare columns from the row that has the max(id).
        versions = (
            "SELECT key, value, create_revision, max(id) AS newest FROM log"
            " WHERE key >= ? AND key < ? AND id < ? GROUP BY key HAVING value IS NOT NULL"
        )

        def read(connection: sqlite3.Connection) -> Page:
            rows = connection.execute(f"{versions} ORDER BY key LIMIT ?", (*bounds, -1 if limit is None else limit))
            items = [KeyValue(k, v, created, row_id >> _POSITION_BITS) for k, v, created, row_id in rows]
            remaining = 0
            if limit is not None and len(items) == limit:
                total = connection.execute(f"SELECT count(*) FROM ({versions})", bounds).fetchone()[0]
                remaining = total - len(items)
            return Page(items, at, remaining)

        return await self._read(read)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._loop.run_in_executor(self._readers, lambda: work(self._reader))
        except sqlite3.Error as error:
            raise Unavailable(f"can't read {self._path}: {error}") from error

    # -- writes ----------------------------------------------------------------------------------------------------

    async def commit(self, ops: Sequence[Op]) -> int:
        if len(ops) > MAX_OPS:
            raise StoreError(f"a commit takes at most {MAX_OPS} operations, not {len(ops)}")
        self._check_usable()
        for op in ops:
            await self._expect(op)
        # From here to the queue nothing waits: the check above holds, and commits are queued as they are numbered.
        revision = self._assigned + 1
        rows = self._rows(ops, revision)
        if not rows:
            return self._durable
        commit = _Commit(revision, rows)
        self._assigned = revision
        if not self._turn:
            self._loop.call_soon(self._hand_over)
        self._turn.append(commit)
        return await asyncio.shield(commit.done)

    def _hand_over(self) -> None:
        if self._turn:
            self._queue.put(self._turn)
            self._turn = []

    def _put(self, item: Callable[[sqlite3.Connection], None] | None) -> None:
        """Give the writer thread something to do behind all commits so far."""
        self._hand_over()
        self._queue.put(item)

    def _check_usable(self) -> None:
        if self._closing:
            raise Unavailable("the store is closed")
        if self._failed:
            raise self._failed

    async def _expect(self, op: Op) -> None:
        version = self._index.get(op.key)
        found = version.mod_revision if version else 0
        if op.expected is None or (op.expected == found and not (isinstance(op, Delete) and version is None)):
            return
        raise Conflict(op.key, await self._current(op.key, version))

    async def _current(self, key: str, version: _Version | None) -> KeyValue | None:
        # A key that is gone may be so only since a moment ago: its deletion is among what is queued.
        newest = version.mod_revision if version else self._assigned
        while self._durable < newest and not self._failed:
            await self._flushed()
        return await self.get(key) if version else None

    async def _flushed(self) -> None:
        """Wait until the writer has taken what is queued."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._put(lambda _: _call(self._loop, lambda: done.set_result(None)))
        await done

    def _rows(self, ops: Sequence[Op], revision: int) -> _Rows:
        rows: _Rows = []
        for op in ops:
            old = self._index.get(op.key)
            row_id = revision << _POSITION_BITS | len(rows)
            if isinstance(op, Put):
                created = old.create_revision if old else revision
                rows.append(_Row(row_id, op.key, created, op.value))
                self._index[op.key] = _Version(created, revision)
            elif old is not None:
                rows.append(_Row(row_id, op.key, old.create_revision, None))
                del self._index[op.key]
        return rows

    def _write_forever(self) -> None:
        """The writer thread: everything that waits goes into one transaction."""
        connection = self._writer_connection
        while True:
            batch: _Batch = []
            item = self._queue.get()
            while isinstance(item, list):
                batch += item
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._write(connection, batch)
            if item is None:
                return
            if not isinstance(item, list):
                item(connection)

    def _write(self, connection: sqlite3.Connection, batch: _Batch) -> None:
        if self._failed:
            _call(self._loop, lambda: self._refuse(batch, self._failed))
            return
        try:
            _insert(connection, [row for commit in batch for row in commit.rows])
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = Unavailable(f"can't write {self._path}: {error}; free some disk space and try again")
            self._failed = failure
            _call(self._loop, lambda: self._recover(batch, failure))
            return
        _call(self._loop, lambda: self._acknowledge(batch))

    def _acknowledge(self, batch: _Batch) -> None:
        for commit in batch:
            self._durable = commit.revision
            self._hub.publish([Event(commit.revision, row.key, row.value) for row in commit.rows])
            if not commit.done.done():
                commit.done.set_result(commit.revision)

    @staticmethod
    def _refuse(batch: _Batch, failure: Unavailable | None) -> None:
        for commit in batch:
            if not commit.done.done():
                commit.done.set_exception(failure or Unavailable("the store failed"))
                commit.done.exception()

    def _recover(self, batch: _Batch, failure: Unavailable) -> None:
        """Back to what is on the disk. What was queued meanwhile built on the failed commits and fails with them."""
        _log.error("%s", failure)
        self._refuse(batch, failure)

        def reload(connection: sqlite3.Connection) -> None:
            compacted, durable = self._compacted, self._durable
            index = self._index
            try:
                self._load(connection, dict(connection.execute("SELECT name, value FROM meta")))
            except sqlite3.Error as error:
                _log.error("can't read %s again: %s", self._path, error)
                self._index, self._compacted = index, compacted
            self._assigned = self._durable = max(self._durable, durable)
            self._failed = None

        self._put(reload)

    # -- watches and compaction ------------------------------------------------------------------------------------

    def watch(self, prefix: str, revision: int) -> AsyncIterator[Sequence[Event]]:
        return self._hub.watch(prefix, revision, lambda: self._durable, lambda: self._compacted, self._replay)

    async def _replay(self, prefix: str, after: int, upto: int) -> Commits:
        def read(connection: sqlite3.Connection) -> _Events:
            rows = connection.execute(
                "SELECT id, key, value FROM log WHERE id >= ? AND id < ? AND key >= ? AND key < ? ORDER BY id",
                (_end(after), _end(upto), prefix, prefix + "\U0010ffff"),
            )
            return [Event(row_id >> _POSITION_BITS, key, value) for row_id, key, value in rows]

        events = await self._read(read)
        if after < self._compacted:
            raise Compacted(after, self._compacted)
        return [list(commit) for _, commit in groupby(events, lambda e: e.revision)]

    async def compact(self, revision: int) -> None:
        revision = min(revision, self._durable)
        if revision <= self._compacted:
            return
        self._compacted = revision
        await self._in_writer(lambda c: self._note_compaction(c, revision))
        removed, after = True, 0
        while removed:
            removed, after = await self._in_writer(lambda c, a=after: _forget(c, _end(revision), a))  # type: ignore[misc]
        await self._in_writer(lambda c: c.executescript("PRAGMA incremental_vacuum;"))
        if self._erase:
            await self._in_writer(lambda c: c.executescript("PRAGMA wal_checkpoint(TRUNCATE);"))

    def _note_compaction(self, connection: sqlite3.Connection, revision: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (revision,))
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('revision', ?)", (revision,))
        connection.execute("COMMIT")

    async def _in_writer(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._check_usable()
        done: asyncio.Future[T] = self._loop.create_future()

        def run(connection: sqlite3.Connection) -> None:
            try:
                result = work(connection)
            except sqlite3.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                failure = Unavailable(f"can't write {self._path}: {error}")
                _call(self._loop, lambda: done.set_exception(failure))
            else:
                _call(self._loop, lambda: done.set_result(result))

        self._put(run)
        return await done


def _insert(connection: sqlite3.Connection, rows: _Rows) -> None:
    """All rows in one transaction, many rows a statement, and only one statement if they are few: each gives up the
    interpreter's lock and has to win it back from the loop."""
    if len(rows) > _INSERT_ROWS:
        connection.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), _INSERT_ROWS):
        some = rows[start : start + _INSERT_ROWS]
        places = ",".join(["(?,?,?,?)"] * len(some))
        values = [value for row in some for value in (row.id, row.key, row.create_revision, row.value)]
        connection.execute(f"INSERT INTO log (id, key, create_revision, value) VALUES {places}", values)
    if connection.in_transaction:
        connection.execute("COMMIT")


def _end(revision: int) -> int:
    """The id behind all rows of `revision`."""
    return (revision + 1) << _POSITION_BITS


def _call(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
    """Run `work` on the loop, from another thread; a loop that has ended needs no answer."""
    try:
        loop.call_soon_threadsafe(work)
    except RuntimeError:
        pass


def _forget(connection: sqlite3.Connection, end: int, after: int) -> tuple[bool, int]:
    """Remove some rows below id `end` that a newer row below it supersedes, and deletions, going on behind row `after`.

    Gives whether rows may be left, and where to go on.
    """
    rows = connection.execute(
        "SELECT id, value IS NULL OR EXISTS (SELECT 1 FROM log n WHERE n.key = log.key AND n.id > log.id AND n.id < ?)"
        " FROM log WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
        (end, after, end, _COMPACT_ROWS),
    ).fetchall()
    if not rows:
        return False, after
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("DELETE FROM log WHERE id = ?", [(row_id,) for row_id, superseded in rows if superseded])
    connection.execute("COMMIT")
    return True, rows[-1][0]
