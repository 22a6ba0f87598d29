"""One watch: what it may see, what it has been told, and how it ends.

A watch is told of changes by the cache at the moment they happen, in order, and never makes the cache wait: over HTTP
its events go straight to the connection, in process into a buffer from which they are iterated; a watcher that does
not keep up is ended and has to start again from the last version it saw.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from podling.api import meta_v1, request
from podling.api.struct import encode
from podling.apiserver.codec import StructCodec
from podling.apiserver.entry import Change, Entry, View, bookmark

#: Events that an in-process watcher may be behind.
BUFFER = 100_000

_STATUS = StructCodec(meta_v1.Status, "v1")

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Scope(NamedTuple):
    """What changes can concern a watch at all: those of a namespace, of one key, of one value of the index, or all."""

    namespace: str = ""
    key: str = ""
    value: str | None = None


class Owner(Protocol):
    """Where a watch is registered: the cache of its resource."""

    def unregister(self, watch: Watch) -> None: ...


#: Takes an event: its type, the object, and the change that it came of (None for initial events and bookmarks).
Sink = Callable[[str, Entry, Change | None], None]


class Watch:
    """An AsyncIterator of `request.Event`; or, with `attach`, a source of pushed events.

    `matches` is None if everything in the scope is wanted. Changes up to `since` are not told.
    """

    def __init__(
        self,
        owner: Owner,
        scope: Scope,
        matches: Callable[[Entry], bool] | None = None,
        *,
        since: int = 0,
        bookmarks: bool = False,
        view: View | None = None,
        codec: object = None,
    ) -> None:
        self.owner = owner
        self.scope = scope
        self.matches = matches
        self.since = since
        self.bookmarks = bookmarks
        self.view = view
        self._codec = codec
        self.ended = False
        self._buffer: deque[tuple[str, Entry]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._on_end: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._revision = since

    # What the cache calls

    def notify(self, change: Change) -> None:
        """A change within the scope."""
        if change.revision <= self.since:
            return
        matches = self.matches
        new, old = change.new, change.old
        if matches is None:
            self._tell(change.type, change.gone if new is None else new, change)
            return
        was = old is not None and matches(old)
        if new is not None and matches(new):
            self._tell("MODIFIED" if was else "ADDED", new, change)
        elif was:
            self._tell("DELETED", change.gone, change)

    def initial(self, entry: Entry) -> None:
        """An object that was there already."""
        self._tell("ADDED", entry, None)

    def bookmark(self, revision: int, *, initial_events_end: bool = False) -> None:
        """All changes up to `revision` have been told."""
        annotations = {INITIAL_EVENTS_END: "true"} if initial_events_end else None
        codec = self.view.codec if self.view else self._codec
        self._tell("BOOKMARK", bookmark(codec, max(revision, self._revision), annotations), None)  # type: ignore[arg-type]

    def fail(self, status: meta_v1.Status) -> None:
        """Say why the watch can't go on, and end it."""
        self._tell("ERROR", Entry("", self._revision, encode(status), _STATUS, status), None)
        self.end()

    def _tell(self, type_: str, entry: Entry, change: Change | None) -> None:
        if self.ended:
            return
        self._revision = entry.revision
        if self._sink is not None:
            self._sink(type_, entry, change)
            return
        self._buffer.append((type_, entry))
        if len(self._buffer) > BUFFER:
            self.end()
        elif self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # Ends

    def end_after(self, seconds: float, revision: Callable[[], int]) -> None:
        """End in a while, with a last bookmark at `revision()` if they are wanted."""

        def expire() -> None:
            if self.bookmarks:
                self.bookmark(revision())
            self.end()

        self._timer = asyncio.get_running_loop().call_later(seconds, expire)

    def end(self) -> None:
        """No more events; what is buffered is still read."""
        if self.ended:
            return
        self.ended = True
        self.owner.unregister(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        if self._on_end is not None:
            self._on_end()

    # Readers

    def attach(self, sink: Sink, on_end: Callable[[], None]) -> None:
        """Give everything to `sink` from now on, what is buffered first."""
        buffered, self._buffer = self._buffer, deque()
        for type_, entry in buffered:
            sink(type_, entry, None)
        self._sink = sink
        self._on_end = on_end
        if self.ended:
            on_end()

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call this at the end of a watch that is iterated, not attached."""
        self._on_end = callback
        if self.ended:
            callback()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> request.Event:
        while not self._buffer:
            if self.ended:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        type_, entry = self._buffer.popleft()
        if type_ in ("BOOKMARK", "ERROR") or self.view is None:
            return request.Event(type_, entry.object)
        return request.Event(type_, entry.shown(self.view)[0])

    async def aclose(self) -> None:
        """The reader has seen enough."""
        self.end()
        self._buffer.clear()
