from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from podling import clock
from podling.apiserver.audit import metrics
from podling.apiserver.audit.batch import BatchConfig, Batching
from podling.apiserver.audit.event import Event


class Inner:
    """Remembers when it got which batches; each takes `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.got: list[tuple[float, int]] = []
        self.closed = False

    def start(self) -> None:
        pass

    async def write(self, events: Sequence[Event]) -> bool:
        self.got.append((clock.elapsed(), len(events)))
        await asyncio.sleep(self.seconds)
        return True

    async def close(self) -> None:
        self.closed = True


def run(inner: Inner, config: BatchConfig, main: Callable[[Batching], Awaitable[None]]) -> list[tuple[float, int]]:
    async def whole() -> None:
        batching = Batching(inner, config)
        batching.start()
        await main(batching)
        await batching.close()

    clock.run_virtual(whole())
    assert inner.closed
    return inner.got


def test_a_full_batch_goes_at_once_and_the_rest_after_its_wait() -> None:
    async def main(batching: Batching) -> None:
        await batching.write([Event()] * 5)
        await asyncio.sleep(60)

    assert run(Inner(), BatchConfig(size=4, wait=30), main) == [(0.0, 4), (30.0, 1)]


def test_without_batches_each_event_goes_at_once() -> None:
    async def main(batching: Batching) -> None:
        await batching.write([Event()])
        await asyncio.sleep(1)
        await batching.write([Event()])
        await asyncio.sleep(1)

    assert run(Inner(), BatchConfig(size=1, wait=0), main) == [(0.0, 1), (1.0, 1)]


def test_what_waits_is_written_at_the_end() -> None:
    async def main(batching: Batching) -> None:
        await batching.write([Event()] * 3)

    assert sum(n for _, n in run(Inner(), BatchConfig(size=2, wait=30), main)) == 3


def test_what_does_not_fit_is_lost_and_counted() -> None:
    before = metrics.ERRORS.values.get(("buffered",), 0)

    async def main(batching: Batching) -> None:
        assert await batching.write([Event()] * 5)

    assert sum(n for _, n in run(Inner(), BatchConfig(buffer=3, size=10), main)) == 3
    assert metrics.ERRORS.values["buffered",] == before + 2


def test_batches_are_throttled_after_a_burst() -> None:
    async def main(batching: Batching) -> None:
        await batching.write([Event()] * 5)
        await asyncio.sleep(10)

    found = run(Inner(), BatchConfig(size=1, rate=2, burst=3), main)
    assert [t for t, _ in found] == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_a_slow_batch_holds_up_the_next_only_if_it_must() -> None:
    async def main(batching: Batching) -> None:
        await batching.write([Event()] * 2)
        await asyncio.sleep(20)

    assert [t for t, _ in run(Inner(5), BatchConfig(size=1), main)] == [0.0, 5.0]
    assert [t for t, _ in run(Inner(5), BatchConfig(size=1, beside=True), main)] == [0.0, 0.0]


def test_a_batch_that_breaks_the_backend_does_not_end_the_others() -> None:
    class Broken(Inner):
        async def write(self, events: Sequence[Event]) -> bool:
            first = not self.got
            await super().write(events)
            if first:
                raise RuntimeError("oh")
            return True

    before = metrics.ERRORS.values.get(("buffered",), 0)

    async def main(batching: Batching) -> None:
        await batching.write([Event()] * 2)
        await asyncio.sleep(1)

    for beside in (False, True):
        assert len(run(Broken(), BatchConfig(size=1, beside=beside), main)) == 2
    assert metrics.ERRORS.values["buffered",] == before + 2
