"""Watches on a log: what was written before is replayed by the backend, what comes after is handed on from memory.

Backends share this. A watcher joins the hub first and replays second, so nothing falls between the two; the hub only
ever sees commits that are durable, in the order of their revisions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from podling.store.base import Compacted, Event

#: Reads the events of a prefix with revisions in (after, upto], grouped by commit. Raises Compacted.
Replay = Callable[[str, int, int], Awaitable["Commits"]]
#: Events grouped by commit.
Commits = list[list[Event]]


class _Watcher:
    """A reader's queue of commits."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.commits: deque[list[Event]] = deque()
        self.wake = asyncio.Event()

    def offer(self, events: Sequence[Event]) -> None:
        mine = [e for e in events if e.key.startswith(self.prefix)]
        if mine:
            self.commits.append(mine)
            self.wake.set()


class WatchHub:
    """Hands durable commits to whoever watches."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()
        self._closed = False

    def publish(self, events: Sequence[Event]) -> None:
        """One commit's events. Call in the order of revisions, only when they are durable."""
        for watcher in self._watchers:
            watcher.offer(events)

    def close(self) -> None:
        """End all watches when they have delivered what they hold."""
        self._closed = True
        for watcher in self._watchers:
            watcher.wake.set()

    async def watch(
        self, prefix: str, after: int, durable: Callable[[], int], compacted: Callable[[], int], replay: Replay
    ) -> AsyncIterator[Sequence[Event]]:
        """See Store.watch. `durable` and `compacted` tell the log's present bounds."""
        if after < compacted():
            raise Compacted(after, compacted())
        watcher = _Watcher(prefix)
        self._watchers.add(watcher)
        try:
            upto = durable()
            if after < upto:
                for commit in await replay(prefix, after, upto):
                    yield commit
            while True:
                while watcher.commits:
                    commit = watcher.commits.popleft()
                    if commit[0].revision > max(after, upto):
                        yield commit
                if self._closed:
                    return
                watcher.wake.clear()
                await watcher.wake.wait()
        finally:
            self._watchers.discard(watcher)
