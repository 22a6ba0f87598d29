"""A watch over HTTP: its events as the chunks of one endless answer.

As long as the client keeps up, an event is one write at the moment it happens, without a task switch. For a client that
does not, events wait as references to what the cache has anyway, and are only encoded when they can be written: what a
thousand slow watchers of the same objects hold are a thousand short queues, not a thousand copies. Who is more than
MAX_BEHIND behind is cut off and has to start again from the last version it saw.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from podling.apiserver.connection import Connection
from podling.apiserver.entry import Change, Entry
from podling.apiserver.present import Framer
from podling.apiserver.watch import Watch

#: Bytes of changes that a watcher may be behind.
MAX_BEHIND = 16 * 1024 * 1024


class _Event(NamedTuple):
    type: str
    entry: Entry
    change: Change | None


class WatchStream:
    """Writes the events of `watch` to `connection`, each as `frame` makes it; calls `begun` after the first ones."""

    def __init__(
        self,
        watch: Watch,
        connection: Connection,
        transport: asyncio.Transport,
        frame: Framer,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self._watch = watch
        self._begun = begun
        self._connection = connection
        self._transport = transport
        self._frame = frame
        self._waiting: deque[_Event] = deque()
        self._behind = 0
        self._wake: asyncio.Future[None] | None = None
        self._ended = False
        self.cut_off = False

    async def run(self) -> None:
        """Until the watch ends or the client is gone (ConnectionError)."""
        watch, connection = self._watch, self._connection
        connection.on_lost.add(watch.end)
        try:
            watch.attach(self._sink, self._end)
            self._begun()
            while True:
                if self._waiting:
                    await self._catch_up()
                elif self._ended:
                    return
                else:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
        finally:
            connection.on_lost.discard(watch.end)
            watch.end()

    async def _catch_up(self) -> None:
        await self._connection.drained()
        waiting = self._waiting
        while waiting and not self._connection.paused:
            event = waiting.popleft()
            if event.change is not None:
                self._behind -= len(event.entry.wire)
            self._transport.write(self._frame(*event))

    def _sink(self, type_: str, entry: Entry, change: Change | None) -> None:
        if not self._waiting and not self._connection.paused:
            self._transport.write(self._frame(type_, entry, change))
            return
        self._waiting.append(_Event(type_, entry, change))
        if change is not None:
            self._behind += len(entry.wire)
            if self._behind > MAX_BEHIND:
                self.cut_off = True
                self._waiting.clear()
                self._watch.end()
                self._transport.abort()
        self._wake_up()

    def _end(self) -> None:
        self._ended = True
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
