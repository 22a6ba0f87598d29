"""The log in memory: for tests, simulations and clusters that may be forgotten."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Sequence
from itertools import groupby

import msgspec

from podling.store.base import Compacted, Conflict, Delete, Event, KeyValue, Op, Page, Put, StoreError
from podling.store.watching import Commits, WatchHub


class _Change(msgspec.Struct, frozen=True, gc=False):
    """An event with both versions whole, so that an older state can be had by undoing it."""

    revision: int
    key: str
    new: KeyValue | None
    old: KeyValue | None

    def event(self) -> Event:
        return Event(self.revision, self.key, self.new.value if self.new else None)


class MemoryStore:
    """Keeps a sorted list of keys, the newest version of each, and the log since the last compaction."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._newest: dict[str, KeyValue] = {}
        self._log: list[_Change] = []
        self._revision = 0
        self._compacted = 0
        self._hub = WatchHub()

    async def open(self) -> None:
        self._hub = WatchHub()

    async def close(self) -> None:
        self._hub.close()

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted(self) -> int:
        return self._compacted

    async def get(self, key: str, revision: int | None = None) -> KeyValue | None:
        if revision is None or revision >= self._revision:
            self._check(revision)
            return self._newest.get(key)
        return self._at(revision, key).get(key)

    async def list(
        self, prefix: str, *, start: str | None = None, limit: int | None = None, revision: int | None = None
    ) -> Page:
        self._check(revision)
        at = self._revision if revision is None else revision
        if at == self._revision:
            first = bisect_left(self._keys, max(prefix, start or ""))
            last = bisect_left(self._keys, _after(prefix))
            chosen = self._keys[first:last] if limit is None else self._keys[first : min(last, first + limit)]
            return Page([self._newest[k] for k in chosen], at, max(0, last - first) - len(chosen))
        state = self._at(at, prefix)
        keys = sorted(k for k in state if k.startswith(prefix) and k >= (start or ""))
        chosen = keys if limit is None else keys[:limit]
        return Page([state[k] for k in chosen], at, len(keys) - len(chosen))

    async def commit(self, ops: Sequence[Op]) -> int:
        for op in ops:
            expect(op, self._newest.get(op.key))
        changes = [self._apply(op, self._revision + 1) for op in ops]
        done = [c for c in changes if c is not None]
        if done:
            self._revision += 1
            self._log.extend(done)
            self._hub.publish([c.event() for c in done])
        return self._revision

    def watch(self, prefix: str, revision: int) -> AsyncIterator[Sequence[Event]]:
        return self._hub.watch(prefix, revision, lambda: self._revision, lambda: self._compacted, self._replay)

    async def compact(self, revision: int) -> None:
        revision = min(revision, self._revision)
        if revision > self._compacted:
            self._compacted = revision
            self._log = self._log[self._first_after(revision) :]

    def _apply(self, op: Op, revision: int) -> _Change | None:
        old = self._newest.get(op.key)
        if isinstance(op, Put):
            new = KeyValue(op.key, op.value, old.create_revision if old else revision, revision)
            self._newest[op.key] = new
            if old is None:
                insort(self._keys, op.key)
            return _Change(revision, op.key, new, old)
        if old is None:
            return None
        del self._newest[op.key]
        del self._keys[bisect_left(self._keys, op.key)]
        return _Change(revision, op.key, None, old)

    def _first_after(self, revision: int) -> int:
        return bisect_left(self._log, revision + 1, key=lambda c: c.revision)

    def _at(self, revision: int, prefix: str) -> dict[str, KeyValue]:
        """The keys under `prefix` as they stood at `revision`: now, with what came later undone."""
        self._check(revision)
        state = {k: v for k, v in self._newest.items() if k.startswith(prefix)}
        for change in reversed(self._log[self._first_after(revision) :]):
            if not change.key.startswith(prefix):
                continue
            if change.old is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.old
        return state

    def _check(self, revision: int | None) -> None:
        check_bounds(revision, self._compacted, self._revision)

    async def _replay(self, prefix: str, after: int, upto: int) -> Commits:
        changes = self._log[self._first_after(after) : self._first_after(upto)]
        mine = [c.event() for c in changes if c.key.startswith(prefix)]
        return [list(commit) for _, commit in groupby(mine, lambda e: e.revision)]


def _after(prefix: str) -> str:
    """The first string behind all that begin with `prefix`."""
    return prefix + "\U0010ffff"


def expect(op: Op, current: KeyValue | None) -> None:
    """Raise Conflict unless `current` is what the operation expects."""
    found = current.mod_revision if current else 0
    if op.expected is not None and (op.expected != found or (isinstance(op, Delete) and current is None)):
        raise Conflict(op.key, current)


def check_bounds(revision: int | None, compacted: int, newest: int) -> None:
    """Raise unless `revision` can be read: not compacted, and not in the future."""
    if revision is None:
        return
    if revision < compacted:
        raise Compacted(revision, compacted)
    if revision > newest:
        raise StoreError(f"revision {revision} is in the future; the newest is {newest}")
