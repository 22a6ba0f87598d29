"""The work queue: nothing lost, nothing twice at once, failures later and later."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling import clock
from podling.client.workqueue import ItemBackoff, QueueShutDown, TokenBucket, WorkQueue


def test_an_item_is_given_out_once_however_often_it_is_added() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for item in "abab":
            queue.add(item)
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert len(queue) == 0 and not queue.idle
        queue.done("a")
        queue.done("b")
        assert queue.idle

    clock.run_virtual(main())


def test_what_is_added_while_worked_on_comes_again_after_done() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle

    clock.run_virtual(main())


def test_delays_are_kept_and_the_earliest_counts() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("slow", 60)
        queue.add_after("slow", 5)
        queue.add_after("slow", 30)
        queue.add_after("now", 0)
        assert await queue.get() == "now"
        began = clock.elapsed()
        assert await queue.get() == "slow"
        assert clock.elapsed() - began == pytest.approx(5)

    clock.run_virtual(main())


def test_failures_wait_exponentially_until_forgotten() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        waits = []
        for _ in range(5):
            began = clock.elapsed()
            queue.add_rate_limited("a")
            await queue.get()
            queue.done("a")
            waits.append(round(clock.elapsed() - began, 4))
        assert waits == [0.005, 0.01, 0.02, 0.04, 0.08]
        assert queue.failures("a") == 5
        queue.forget("a")
        assert queue.failures("a") == 0

    clock.run_virtual(main())


def test_the_longest_wait_is_a_thousand_seconds() -> None:
    backoff: ItemBackoff[str] = ItemBackoff()
    assert [backoff.when("a") for _ in range(2000)][-1] == 1000.0


def test_all_failures_together_are_limited() -> None:
    async def main() -> None:
        queue: WorkQueue[int] = WorkQueue()
        for i in range(120):
            queue.add_rate_limited(i)
        for _ in range(120):
            queue.done(await queue.get())
        assert clock.elapsed() == pytest.approx(2.0, abs=0.01)

    clock.run_virtual(main())


def test_shutdown_gives_out_what_is_queued_and_wakes_waiting_workers() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()

        async def worker() -> list[str]:
            got = []
            try:
                while True:
                    got.append(await queue.get())
            except QueueShutDown:
                return got

        workers = [asyncio.create_task(worker()) for _ in range(2)]
        await asyncio.sleep(1)
        queue.add("a")
        queue.add_after("never", 10)
        queue.shutdown()
        queue.add("late")
        assert [i for got in await asyncio.gather(*workers) for i in got] == ["a"]

    clock.run_virtual(main())


def test_a_cancelled_worker_passes_its_wake_up_on() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        async with asyncio.timeout(5):
            assert await second == "a"

    clock.run_virtual(main())


def test_a_bucket_refills_at_its_rate() -> None:
    async def main() -> None:
        bucket = TokenBucket(2, 3)
        assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]
        await asyncio.sleep(1)
        assert [bucket.try_take() for _ in range(3)] == [True, True, False]
        assert bucket.reserve() == pytest.approx(0.5)

    clock.run_virtual(main())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_every_change_is_followed_by_work(steps: list[tuple[str, bool]]) -> None:
    """Whatever the order of adds and work, after the last add of a key comes one more get of it."""

    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        changed: dict[str, int] = {}
        seen: dict[str, int] = {}
        working: list[str] = []
        for step, (key, work) in enumerate(steps):
            changed[key] = step
            queue.add(key)
            if work and len(queue):
                got = await queue.get()
                assert got not in working
                seen[got] = step
                working.append(got)
            elif working:
                queue.done(working.pop(0))
        while working:
            queue.done(working.pop())
        while len(queue):
            got = await queue.get()
            seen[got] = len(steps)
            queue.done(got)
        assert all(seen[key] >= step for key, step in changed.items())

    clock.run_virtual(main())


def test_a_worker_repeats_what_fails_until_the_queue_is_shut_down() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(base=1, most=60)
        done: list[tuple[float, str]] = []
        told: list[tuple[str, str]] = []

        async def process(item: str) -> None:
            done.append((clock.elapsed(), item))
            if item == "bad" and len(done) < 5:
                raise ValueError(f"try {len(done)}")

        worker = asyncio.create_task(queue.serve(process, lambda item, error: told.append((item, str(error)))))
        queue.add("good")
        queue.add("bad")
        await asyncio.sleep(100)
        assert done == [(0, "good"), (0, "bad"), (1, "bad"), (3, "bad"), (7, "bad")]
        assert told == [("bad", "try 2"), ("bad", "try 3"), ("bad", "try 4")]
        assert queue.failures("bad") == 0 and queue.idle
        queue.shutdown()
        await worker

    clock.run_virtual(main())
