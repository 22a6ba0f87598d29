"""Alarms ring, once each, on every event loop that podling runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from podling import clock
from podling.client.workqueue import WorkQueue

LOOPS: list[Callable[..., Any]] = [clock.run_virtual, asyncio.run, uvloop.run]


def test_the_earliest_of_several_times_counts() -> None:
    async def main() -> list[float]:
        rung: list[float] = []
        alarm = clock.Alarm(lambda: rung.append(clock.elapsed()))
        alarm.set(5)
        alarm.set(2)
        alarm.set(9)
        await asyncio.sleep(20)
        alarm.set(1)
        alarm.cancel()
        alarm.set(3)
        await asyncio.sleep(20)
        return rung

    assert clock.run_virtual(main()) == [2, 23]


@pytest.mark.parametrize("run", LOOPS, ids=["virtual", "asyncio", "uvloop"])
def test_an_alarm_that_is_set_again_while_it_rings_rings_again(run: Callable[..., int]) -> None:
    """Also where a timer goes off before its time: whoever is woken too early sets what is left, down to nothing."""

    async def main() -> int:
        rung = 0
        woken = asyncio.Event()
        alarm = clock.Alarm(woken.set)
        for number in range(300):
            due = clock.elapsed() + 0.001 + number * 0.000013
            while (left := due - clock.elapsed()) > 1e-6:
                woken.clear()
                alarm.set(left)
                async with asyncio.timeout(5):
                    await woken.wait()
            rung += 1
        return rung

    assert run(main()) == 300


@pytest.mark.parametrize("run", LOOPS, ids=["virtual", "asyncio", "uvloop"])
def test_a_queue_takes_delays_of_almost_nothing(run: Callable[..., None]) -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for _ in range(100):
            queue.add_after("a", 0.0003)
            queue.add_after("a", 0.0001)
            assert await queue.get() == "a"
            queue.done("a")

    run(main())
