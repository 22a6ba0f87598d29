"""Events live for an hour after their last write (upstream's --event-ttl), then they are removed.

Writes come in the order of time, so what is written last expires last: a dict in the order of the last write is the
whole schedule, and one timer, for the oldest, is all that waits. Without events there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from podling import clock, log
from podling.api import times
from podling.apiserver.cache import ResourceCache, WatchCache
from podling.apiserver.entry import Entry
from podling.store.base import Conflict, Delete, StoreError

LOG = log.get(__name__)

TTL = timedelta(hours=1)
#: What expires within so many seconds of each other is removed together, in commits of at most so many events.
TOGETHER = 1.0
BATCH = 500
#: Seconds until the next attempt when the store does not answer.
RETRY = 5.0


class _Metadata(msgspec.Struct):
    creation: str | None = msgspec.field(default=None, name="creationTimestamp")


class _Series(msgspec.Struct):
    observed: str | None = msgspec.field(default=None, name="lastObservedTime")


class _Times(msgspec.Struct):
    """The times in an event: its last write is not written down, and was no earlier than any of them."""

    metadata: _Metadata
    last: str | None = msgspec.field(default=None, name="lastTimestamp")
    event: str | None = msgspec.field(default=None, name="eventTime")
    series: _Series | None = None


_decoder = msgspec.json.Decoder(_Times)


def last_write(wire: bytes, now: datetime) -> datetime:
    """When a stored event was written last, as far as it tells; never in the future, `now` if it tells nothing."""
    found = _decoder.decode(wire)
    texts = (found.metadata.creation, found.last, found.event, found.series.observed if found.series else None)
    known = []
    for text in texts:
        try:
            if text:
                known.append(times.parse(text))
        except ValueError:
            continue
    return min(max(known, default=now), now)


class EventTtl:
    """`start` when the cache is loaded; `close` before the store is."""

    def __init__(self, hub: WatchCache, cache: ResourceCache, ttl: timedelta = TTL) -> None:
        self._hub = hub
        self._cache = cache
        self._ttl = ttl
        #: When each event was written last, the oldest first.
        self._written: dict[str, datetime] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sweep: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Take in what is there, and follow every write from now on."""
        now = clock.now()
        found = [(last_write(entry.wire, now), entry.key) for entry in self._cache.all()]
        self._written = {key: written for written, key in sorted(found)}
        self._cache.observers.append(self._changed)
        self._wait()

    async def close(self) -> None:
        """Remove nothing more."""
        self._closed = True
        if self._changed in self._cache.observers:
            self._cache.observers.remove(self._changed)
        if self._timer is not None:
            self._timer.cancel()
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.gather(self._sweep, return_exceptions=True)

    def _changed(self, kind: str, event: Any) -> None:
        key = f"{event.metadata.namespace}/{event.metadata.name}"
        self._written.pop(key, None)
        if kind != "DELETED":
            self._written[key] = clock.now()
            self._wait()

    def _wait(self, at_least: float = 0.0) -> None:
        """Set the timer for the oldest, unless it is set already: then that event was even older."""
        if self._timer is not None or self._sweep is not None or self._closed or not self._written:
            return
        oldest = next(iter(self._written.values()))
        delay = (oldest + self._ttl - clock.now()).total_seconds() + TOGETHER
        self._timer = asyncio.get_running_loop().call_later(max(delay, at_least), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._sweep = asyncio.get_running_loop().create_task(self._remove_expired(), name="event-ttl")
        self._sweep.add_done_callback(self._swept)

    def _swept(self, sweep: asyncio.Task[None]) -> None:
        self._sweep = None
        if sweep.cancelled():
            return
        error = sweep.exception()
        if error is not None:
            LOG.warning("expired events could not be removed, trying again: %s", error)
        self._wait(RETRY if error is not None else 0.0)

    async def _remove_expired(self) -> None:
        while expired := self._expired(clock.now() - self._ttl):
            await self._remove(expired)
            # What was removed has to come back through the cache before it leaves the schedule.
            await self._hub.current()

    def _expired(self, until: datetime) -> list[Entry]:
        """The oldest events, a batch at most."""
        found: list[Entry] = []
        for key, written in list(islice(self._written.items(), BATCH)):
            if written > until:
                break
            entry = self._cache.get(key)
            if entry is None:
                del self._written[key]
            else:
                found.append(entry)
        return found

    async def _remove(self, entries: Iterable[Entry]) -> None:
        """Delete these versions; one that is no longer the newest stays, all of them or none in one commit."""
        left = {self._cache.prefix + entry.key: entry.revision for entry in entries}
        while left:
            try:
                await self._hub.store.commit([Delete(key, revision) for key, revision in left.items()])
                return
            except Conflict as error:
                if left.pop(error.key, None) is None:
                    raise StoreError(f"a conflict about {error.key}, which was not to be removed") from error
