"""The work queue of a reconciler: what has changed, once each, never two workers on the same key.

A key added while a worker has it is kept back until the worker is done, so no change is lost and nothing is done twice
at once. Failures come back later: per key after 5 ms, doubling to 1,000 s, and altogether not more than 10 a second
after a burst of 100 (client-go's default controller rate limiter).
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from podling import clock
from podling.client.workqueue_metrics import QueueMetrics

K = TypeVar("K", bound=Hashable)


class QueueShutDown(Exception):
    """The queue was shut down and is empty: how workers learn that work is over."""


class ItemBackoff(Generic[K]):
    """Exponential delay per item, in seconds."""

    def __init__(self, base: float = 0.005, most: float = 1000.0) -> None:
        self._base, self._most = base, most
        self._failures: dict[K, int] = {}

    def when(self, item: K) -> float:
        """The delay after one more failure."""
        failures = self._failures.get(item, 0)
        self._failures[item] = failures + 1
        # Beyond 2**60 the product would overflow long after the limit has been reached.
        return min(self._base * (1 << min(failures, 60)), self._most)

    def failures(self, item: K) -> int:
        return self._failures.get(item, 0)

    def forget(self, item: K) -> None:
        self._failures.pop(item, None)


class TokenBucket:
    """`rate` a second on average, `burst` at once; reservations may go into debt and then wait."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._tokens = float(burst)
        self._last: float | None = None

    def _refill(self) -> None:
        now = clock.elapsed()
        if self._last is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now

    def reserve(self) -> float:
        """Take a token; the seconds until it is there."""
        self._refill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def try_take(self) -> bool:
        """Take a token if there is one."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class WorkQueue(Generic[K]):
    """Deduplicated, delayed and rate-limited. Use on one event loop."""

    def __init__(
        self, *, name: str = "", base: float = 0.005, most: float = 1000.0, rate: float = 10.0, burst: int = 100
    ) -> None:
        """`name` is what metrics call it; without one it has none."""
        self._queue: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._alarms: dict[K, clock.Alarm] = {}
        self._backoff: ItemBackoff[K] = ItemBackoff(base, most)
        self._bucket = TokenBucket(rate, burst)
        self._down = False
        # Not the queue's own method: nothing would let go of the queue.
        self._metrics = QueueMetrics(name, self._queue.__len__) if name else None

    def __len__(self) -> int:
        """How many are ready to be worked on."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether nothing is ready and nobody works (delayed items may be waiting)."""
        return not self._queue and not self._processing

    def add(self, item: K) -> None:
        if self._down or item in self._dirty:
            return
        if self._metrics is not None:
            self._metrics.added(item)
        self._dirty.add(item)
        if item not in self._processing:
            self._push(item)

    def add_after(self, item: K, delay: float) -> None:
        """Add in `delay` seconds; of several for the same item the earliest counts."""
        if self._down:
            return
        if self._metrics is not None:
            self._metrics.retried()
        if delay <= 0:
            self.add(item)
            return
        alarm = self._alarms.get(item)
        if alarm is None:
            alarm = self._alarms[item] = clock.Alarm(functools.partial(self._ripe, item))
        alarm.set(delay)

    def add_rate_limited(self, item: K) -> None:
        """Add after the item's back-off: it failed."""
        self.add_after(item, max(self._backoff.when(item), self._bucket.reserve()))

    def forget(self, item: K) -> None:
        """It succeeded: its next failure starts from the shortest delay."""
        self._backoff.forget(item)

    def failures(self, item: K) -> int:
        return self._backoff.failures(item)

    async def get(self) -> K:
        """The next item; call `done` when finished with it. Raises QueueShutDown."""
        while not self._queue:
            if self._down:
                raise QueueShutDown
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._queue:
                    self._wake()
                raise
        item = self._queue.popleft()
        self._dirty.discard(item)
        self._processing.add(item)
        if self._metrics is not None:
            self._metrics.taken(item)
        return item

    def done(self, item: K) -> None:
        self._processing.discard(item)
        if self._metrics is not None:
            self._metrics.done(item)
        if item in self._dirty:
            self._push(item)

    async def serve(self, process: Callable[[K], Awaitable[None]], failed: Callable[[K, Exception], None]) -> None:
        """A worker: one item after the other until the queue is shut down. What fails comes again after its back-off;
        `failed` is told."""
        while True:
            try:
                item = await self.get()
            except QueueShutDown:
                return
            try:
                await process(item)
            except Exception as error:
                failed(item, error)
                self.add_rate_limited(item)
            else:
                self.forget(item)
            finally:
                self.done(item)

    def shutdown(self) -> None:
        """Take nothing more; workers get what is queued, then QueueShutDown."""
        self._down = True
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        while self._waiters:
            self._wake()

    def _push(self, item: K) -> None:
        self._queue.append(item)
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _ripe(self, item: K) -> None:
        self._alarms.pop(item, None)
        self.add(item)
