"""workqueue_*: what the work queues of controllers hold and how long it takes, under upstream's names.

A queue without a name is not counted. What only a scraper wants to know (depth, work under way) is read from the queues
when it asks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol
from weakref import WeakSet

from podling import clock
from podling.metrics import PROCESS, Read, exponential

_NAME = ("name",)
_SECONDS = exponential(10e-9, 10, 10)

ADDS = PROCESS.counter("workqueue_adds_total", "[BETA] Total number of adds handled by workqueue", _NAME)
QUEUED = PROCESS.histogram(
    "workqueue_queue_duration_seconds",
    "[BETA] How long in seconds an item stays in workqueue before being requested.",
    _NAME,
    _SECONDS,
)
WORKED = PROCESS.histogram(
    "workqueue_work_duration_seconds",
    "[BETA] How long in seconds processing an item from workqueue takes.",
    _NAME,
    _SECONDS,
)
RETRIES = PROCESS.counter("workqueue_retries_total", "[BETA] Total number of retries handled by workqueue", _NAME)


class Depth(Protocol):
    """A queue."""

    def __len__(self) -> int: ...


class QueueMetrics:
    """What one queue counts. Lives as long as its queue."""

    __slots__ = ("__weakref__", "_added", "_adds", "_queued", "_retries", "_since", "_worked", "length", "name")

    def __init__(self, name: str, length: Callable[[], int]) -> None:
        self.name, self.length = name, length
        self._adds, self._retries = ADDS.of(name), RETRIES.of(name)
        self._queued, self._worked = QUEUED.of(name), WORKED.of(name)
        #: When items were added that wait, and since when others are worked on.
        self._added: dict[Hashable, float] = {}
        self._since: dict[Hashable, float] = {}
        _queues.add(self)

    def added(self, item: Hashable) -> None:
        self._adds.value += 1
        self._added.setdefault(item, clock.real_seconds())

    def retried(self) -> None:
        self._retries.value += 1

    def taken(self, item: Hashable) -> None:
        now = clock.real_seconds()
        self._since[item] = now
        self._queued.observe(now - self._added.pop(item, now))

    def done(self, item: Hashable) -> None:
        since = self._since.pop(item, None)
        if since is not None:
            self._worked.observe(clock.real_seconds() - since)

    def under_way(self) -> list[float]:
        """For how many seconds each item has been worked on."""
        now = clock.real_seconds()
        return [now - since for since in self._since.values()]


_queues: WeakSet[QueueMetrics] = WeakSet()


def _read(value: Callable[[QueueMetrics], float]) -> Read:
    """Of all queues, those of one name together."""

    def read() -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for queue in _queues:
            found[queue.name,] = found.get((queue.name,), 0.0) + value(queue)
        return dict(sorted(found.items()))

    return read


PROCESS.gauge("workqueue_depth", "[BETA] Current depth of workqueue", _NAME, _read(lambda queue: queue.length()))
PROCESS.gauge(
    "workqueue_unfinished_work_seconds",
    "[BETA] How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large "
    "values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this "
    "increases.",
    _NAME,
    _read(lambda queue: sum(queue.under_way())),
)
PROCESS.gauge(
    "workqueue_longest_running_processor_seconds",
    "[BETA] How many seconds has the longest running processor for workqueue been running.",
    _NAME,
    _read(lambda queue: max(queue.under_way(), default=0.0)),
)
