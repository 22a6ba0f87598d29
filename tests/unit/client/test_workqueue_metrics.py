"""What work queues count."""

from __future__ import annotations

import asyncio
import gc

from podling import clock
from podling.client.workqueue import WorkQueue
from tests.unit.measured import count, grows


def test_adds_retries_and_durations() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(name="counted")
        with grows("workqueue_adds_total", name_="counted", by=2):
            queue.add("a")
            queue.add("a")
            queue.add("b")
        assert count("workqueue_depth", name_="counted") == 2
        with grows("workqueue_queue_duration_seconds", name_="counted"):
            item = await queue.get()
        assert count("workqueue_depth", name_="counted") == 1
        assert count("workqueue_longest_running_processor_seconds", name_="counted") > 0
        assert count("workqueue_unfinished_work_seconds", name_="counted") > 0
        with grows("workqueue_work_duration_seconds", name_="counted"):
            queue.done(item)
        assert count("workqueue_unfinished_work_seconds", name_="counted") == 0
        with grows("workqueue_retries_total", name_="counted"):
            queue.add_rate_limited("a")
        queue.shutdown()
        await asyncio.sleep(0)

    clock.run_virtual(main())


def test_a_queue_that_is_gone_is_not_shown() -> None:
    queue: WorkQueue[str] = WorkQueue(name="passing")
    queue.add("a")
    assert count("workqueue_depth", name_="passing") == 1
    del queue
    gc.collect()
    assert count("workqueue_depth", name_="passing") == 0


def test_queues_without_a_name_are_not_counted() -> None:
    queue: WorkQueue[str] = WorkQueue()
    with grows("workqueue_adds_total", by=0):
        queue.add("a")
