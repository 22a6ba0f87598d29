"""Mode `batch`: events wait in a buffer and go on in batches, beside the requests (plugin/pkg/audit/buffered)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from podling import clock
from podling.apiserver.audit import metrics
from podling.apiserver.audit.backend import Backend
from podling.apiserver.audit.event import Event


class BatchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` is in batches a second, 0 if it is not limited; `beside`: a batch need not wait for the one before it."""

    buffer: int = 10_000
    size: int = 400
    wait: float = 30.0
    rate: float = 0.0
    burst: int = 0
    beside: bool = False


class Batching:
    """A backend before which events wait. What does not fit into the buffer is lost, and counted."""

    def __init__(self, inner: Backend, config: BatchConfig) -> None:
        self._inner = inner
        self._config = config
        self._buffer: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._closing = False
        self._tokens = float(config.burst)
        self._refilled = 0.0

    def start(self) -> None:
        self._inner.start()
        self._refilled = clock.elapsed()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="audit-batches")

    async def write(self, events: Sequence[Event]) -> bool:
        """Never waits, and never refuses."""
        for index, event in enumerate(events):
            if self._closing:
                metrics.failed("buffered", "audit backend shut down", events[index:])
                break
            if len(self._buffer) >= self._config.buffer:
                metrics.failed("buffered", "audit buffer queue blocked", events[index:])
                break
            self._buffer.append(event)
        if len(self._buffer) >= self._config.size or len(self._buffer) == len(events):
            self._filled.set()
        return True

    async def close(self) -> None:
        self._closing = True
        self._filled.set()
        if self._task is not None:
            await self._task
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._inner.close()

    async def _run(self) -> None:
        while not self._closing:
            await self._gather()
            await self._send()
        while self._buffer:
            await self._send()

    async def _gather(self) -> None:
        """Wait for a full batch, or until the first event has waited long enough."""
        while not self._buffer and not self._closing:
            self._filled.clear()
            await self._filled.wait()
        try:
            async with asyncio.timeout(self._config.wait if self._config.size > 1 else None):
                while len(self._buffer) < self._config.size and not self._closing:
                    self._filled.clear()
                    await self._filled.wait()
        except TimeoutError:
            pass

    async def _send(self) -> None:
        count = min(self._config.size, len(self._buffer))
        if not count:
            return
        await self._throttle()
        batch = [self._buffer.popleft() for _ in range(count)]
        if not self._config.beside:
            await self._write(batch)
            return
        task = asyncio.get_running_loop().create_task(self._write(batch), name="audit-batch")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _write(self, batch: Sequence[Event]) -> None:
        """A batch that breaks the backend is lost and told of; the next one is another."""
        try:
            await self._inner.write(batch)
        except Exception as error:
            metrics.failed("buffered", f"{type(error).__name__}: {error}", batch)

    async def _throttle(self) -> None:
        """A token bucket: `burst` batches at once, then `rate` a second."""
        config = self._config
        if not config.rate:
            return
        now = clock.elapsed()
        self._tokens = min(float(config.burst), self._tokens + (now - self._refilled) * config.rate)
        self._refilled = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / config.rate)
