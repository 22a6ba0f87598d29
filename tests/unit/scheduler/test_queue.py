"""Who is tried next, and when one is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from podling import clock
from podling.scheduler.cache import PodInfo
from podling.scheduler.queue import Happened, Queue
from tests.unit.scheduler.make import pod


def virtual(test: Coroutine[Any, Any, None]) -> None:
    clock.run_virtual(test)


async def next_name(queue: Queue) -> str:
    waiting = await queue.get()
    assert waiting is not None
    return waiting.info.pod.metadata.name or ""


def test_the_most_important_first_then_the_oldest() -> None:
    async def run() -> None:
        queue = Queue()
        for name, priority in (("a", 0), ("b", 10), ("c", 0)):
            queue.put(PodInfo(pod(name, priority=priority)))
        assert [await next_name(queue) for _ in range(3)] == ["b", "a", "c"]

    virtual(run())


def test_backoff_doubles_up_to_ten_seconds() -> None:
    async def run() -> None:
        queue = Queue()
        queue.put(PodInfo(pod("a")))
        waits = []
        for _ in range(6):
            waiting = await queue.get()
            assert waiting is not None
            began = clock.elapsed()
            queue.retry(waiting, None)
            waiting = await queue.get()
            assert waiting is not None
            waits.append(clock.elapsed() - began)
            queue._waiting[waiting.info.uid] = waiting
            queue._activate(waiting, "UnschedulableTimeout")
        assert waits == [1, 2, 4, 8, 10, 10]

    virtual(run())


def test_only_what_helps_wakes_a_refused_pod() -> None:
    async def run() -> None:
        queue = Queue()
        queue.put(PodInfo(pod("a")))
        waiting = await queue.get()
        assert waiting is not None
        queue.retry(waiting, {"NodeAffinity"})
        await asyncio.sleep(20)
        queue.happened(Happened.POD_GONE)
        getting = asyncio.create_task(next_name(queue))
        await asyncio.sleep(1)
        assert not getting.done()
        queue.happened(Happened.NODE_CHANGED)
        assert await getting == "a"
        assert clock.elapsed() == 21

    virtual(run())


def test_after_five_minutes_a_refused_pod_is_tried_anyway() -> None:
    async def run() -> None:
        queue = Queue()
        queue.put(PodInfo(pod("a")))
        waiting = await queue.get()
        assert waiting is not None
        queue.retry(waiting, {"NodeResourcesFit"})
        assert await next_name(queue) == "a"
        assert clock.elapsed() == 300

    virtual(run())


def test_a_removed_pod_is_not_tried() -> None:
    async def run() -> None:
        queue = Queue()
        queue.put(PodInfo(pod("a")))
        queue.put(PodInfo(pod("b")))
        queue.remove("uid-a")
        assert await next_name(queue) == "b"
        assert len(queue) == 0

    virtual(run())
