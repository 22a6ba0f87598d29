"""The seats of one priority level, and the fair queues of those who wait for one.

Fair queuing for server requests (KEP-1040): every queue has a reading of a common meter R of work done per queue, at
which its next request starts in a world where all queues are served at once; the request that would end first there is
dispatched next. Since it is not known how long a request will take, `SERVICE` is assumed at first and put right when it
has ended. R advances with time at the rate at which a queue is being served.

Times are seconds on a clock that never goes back, and are always given. What is dispatched later than it arrived is
told by its `wake`. Queues are numbered by their place in `queues`; a level with fewer queues than before gives up those
that run empty. No request is looked at twice: sums are kept as requests come and go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from podling.apiserver.flowcontrol.demand import DemandMeter
from podling.apiserver.flowcontrol.occupancy import DEMAND, REQUESTS, SEATS, Occupancy

#: Seconds that a request is expected to take.
SERVICE = 0.003

#: Why requests are turned away.
CONCURRENCY_LIMIT, QUEUE_FULL = "concurrency-limit", "queue-full"


class Stats:
    """What one schema's requests have of a level now."""

    __slots__ = ("executing", "executing_seats", "no_accommodation", "queued", "queued_seats")

    def __init__(self) -> None:
        self.executing = self.executing_seats = self.queued = self.queued_seats = 0
        #: How often one of them was next, but the free seats were too few for it.
        self.no_accommodation = 0


class Request:
    """A request that asks for seats: `initial` of them while it executes, `final` ones for `latency` seconds after."""

    __slots__ = (
        "arrived", "arrived_r", "details", "final", "flow", "initial", "latency", "queue", "schema", "seats", "started",
        "stats", "wake", "work",
    )  # fmt: skip

    def __init__(
        self,
        schema: str,
        flow: str,
        stats: Stats,
        *,
        initial: int = 1,
        final: int = 0,
        latency: float = 0.0,
        details: Any = None,
    ) -> None:
        self.schema = schema
        self.flow = flow
        self.stats = stats
        self.initial = initial
        self.final = final
        self.latency = latency
        #: Seats that it takes from its start to its end.
        self.seats = initial if initial >= final else final
        #: Seat-seconds.
        self.work = initial * SERVICE + final * latency
        self.details = details
        self.queue: Queue | None = None
        self.arrived = self.arrived_r = 0.0
        #: When it was dispatched; None while it waits.
        self.started: float | None = None
        #: Called when it is dispatched after having waited.
        self.wake: Callable[[], None] | None = None


class Queue:
    """Requests that wait, first come, first served; and what is in progress of those that came before them."""

    __slots__ = ("executing", "next_r", "running", "seats", "waiting", "work")

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        #: R at which the next request starts in the world where all queues are served at once.
        self.next_r = 0.0
        self.executing = 0
        #: Seats in use.
        self.seats = 0
        #: Seat-seconds of all that wait.
        self.work = 0.0
        self.running: dict[Request, None] = {}

    def bound(self) -> None:
        """A request can't have started before it came, though a queue that used less than its due could claim so."""
        if self.waiting and self.next_r < self.waiting[0].arrived_r:
            self.next_r = self.waiting[0].arrived_r


class Shape(NamedTuple):
    """Without queues (0) what finds no seat is turned away; -1 is for the exempt, who always find one."""

    queues: int
    hand: int = 0
    length: int = 0


class QueueSet:
    """`limit` is the number of seats now."""

    def __init__(self, now: float) -> None:
        self.shape = Shape(0)
        self.limit = 0
        self.queues: list[Queue] = []
        #: Those that hold waiting requests, by their number.
        self._busy: dict[int, Queue] = {}
        #: How many have waiting or executing requests.
        self._active = 0
        self.demand = DemandMeter(now)
        #: For metrics: seats in use and wanted, requests that execute and wait.
        self.held, self.wanted = Occupancy(SEATS), Occupancy(DEMAND)
        self.running, self.queued = Occupancy(REQUESTS), Occupancy(REQUESTS)
        self.r = 0.0
        self._r_at = now
        self._robin = 0
        self._enqueued = 0
        self.waiting = self.executing = 0
        self.seats_in_use = self.seats_waiting = 0
        self.dispatched = self.rejected = self.cancelled = 0
        #: Executing without having had a queue.
        self.queueless: dict[Request, None] = {}

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.executing

    def configure(self, shape: Shape, limit: int, now: float) -> None:
        """Other queues, another number of seats. Queues are added at once and given up when they run empty."""
        self._advance(now)
        if shape.queues > 0:
            self.queues += [Queue() for _ in range(shape.queues - len(self.queues))]
        self.shape, self.limit = shape, limit
        self.held.compare(limit)
        self.running.compare(limit)
        self.queued.compare(shape.queues * shape.length)
        self._dispatch_all(now)

    # A request's way

    def start(self, request: Request, hand: tuple[int, ...], now: float) -> str:
        """Dispatch it or let it wait in one of the queues of its hand. Gives why it is turned away, or ""."""
        self._advance(now)
        request.arrived, request.arrived_r = now, self.r
        if self.shape.queues < 1:
            if not self._fits(request.seats):
                self.rejected += 1
                return CONCURRENCY_LIMIT
            self._begin(request, None, now)
            return ""
        number = self._shard(hand)
        queue = self.queues[number]
        if self.waiting == 0 and self._fits(request.seats):
            # Nobody to be fair to: what enqueueing and dispatching at once would come to.
            if not queue.executing:
                queue.next_r = self.r
            self._robin = number
            self._begin(request, queue, now)
            return ""
        if self.seats_in_use >= self.limit and len(queue.waiting) >= self.shape.length:
            self.rejected += 1
            return QUEUE_FULL
        self._enqueue(request, number, now)
        self._dispatch_all(now)
        return ""

    def finish(self, request: Request, now: float) -> None:
        """It has been executed; its seats stay taken until `release`."""
        self._advance(now)
        self.executing -= 1
        request.stats.executing -= 1
        queue = request.queue
        if queue is None:
            del self.queueless[request]
            return
        del queue.running[request]
        queue.executing -= 1
        if not queue.executing and not queue.waiting:
            self._active -= 1
        started = request.started
        assert started is not None
        queue.next_r -= request.initial * (SERVICE - (now - started))
        queue.bound()

    def release(self, request: Request, now: float) -> None:
        """Its seats are free, and go to who waits."""
        self._advance(now)
        self.seats_in_use -= request.seats
        request.stats.executing_seats -= request.seats
        queue = request.queue
        if queue is not None:
            queue.seats -= request.seats
            if len(self.queues) > self.shape.queues and not queue.executing and not queue.waiting:
                self._give_up(queue)
        self.demand.set(self.seats_in_use + self.seats_waiting, now)
        if self.waiting:
            self._dispatch_all(now)

    def withdraw(self, request: Request, now: float) -> None:
        """It does not want to wait any longer. It must not have been dispatched."""
        self._advance(now)
        queue = request.queue
        assert queue is not None and request.started is None
        queue.waiting.remove(request)
        self._left(request, queue)
        if not queue.waiting and not queue.executing:
            self._active -= 1
        self.rejected += 1
        self.cancelled += 1
        queue.bound()
        self.demand.set(self.seats_in_use + self.seats_waiting, now)
        self._dispatch_all(now)

    # What it takes

    def _advance(self, now: float) -> None:
        """Bring R to `now`: nothing has changed since it was last brought somewhere."""
        if self._active:
            rate = min(self.seats_in_use + self.seats_waiting, self.limit) / self._active
            self.r += rate * (now - self._r_at)
        if (seconds := now - self._r_at) > 0:
            self.held.stayed(self.seats_in_use, seconds)
            self.wanted.stayed(self.seats_in_use + self.seats_waiting, seconds)
            self.running.stayed(self.executing, seconds)
            self.queued.stayed(self.waiting, seconds)
        self._r_at = now

    def settle(self, now: float) -> None:
        """Bring what is measured to `now`, though nothing changes."""
        self._advance(now)

    def _shard(self, hand: tuple[int, ...]) -> int:
        """The queue of the hand with the least work waiting; the first one looked at is another one each time."""
        size = len(hand)
        offset = self._enqueued % size
        self._enqueued += 1
        best = hand[offset]
        if self.waiting:
            queues = self.queues
            for index in range(1, size):
                other = hand[(offset + index) % size]
                if queues[other].work < queues[best].work:
                    best = other
        return best

    def _fits(self, seats: int) -> bool:
        if self.shape.queues < 0:
            return True
        if seats > self.limit:
            # Wider than the level: alone or never.
            return self.executing == 0
        return self.seats_in_use + seats <= self.limit

    def _enqueue(self, request: Request, number: int, now: float) -> None:
        queue = self.queues[number]
        if not queue.waiting and not queue.executing:
            queue.next_r = self.r
            self._active += 1
        queue.waiting.append(request)
        queue.work += request.work
        self._busy[number] = queue
        request.queue = queue
        self.waiting += 1
        self.seats_waiting += request.seats
        request.stats.queued += 1
        request.stats.queued_seats += request.seats
        queue.bound()
        self.demand.set(self.seats_in_use + self.seats_waiting, now)

    def _left(self, request: Request, queue: Queue) -> None:
        """A request waits no longer."""
        queue.work -= request.work
        if not queue.waiting:
            queue.work = 0.0
            self._busy = {number: q for number, q in self._busy.items() if q is not queue}
        self.waiting -= 1
        self.seats_waiting -= request.seats
        request.stats.queued -= 1
        request.stats.queued_seats -= request.seats

    def _begin(self, request: Request, queue: Queue | None, now: float) -> None:
        request.started = now
        self.executing += 1
        self.seats_in_use += request.seats
        self.dispatched += 1
        stats = request.stats
        stats.executing += 1
        stats.executing_seats += request.seats
        if queue is None:
            self.queueless[request] = None
        else:
            request.queue = queue
            queue.running[request] = None
            if not queue.executing and not queue.waiting:
                self._active += 1
            queue.executing += 1
            queue.seats += request.seats
            queue.next_r += request.work
        self.demand.set(self.seats_in_use + self.seats_waiting, now)

    def _dispatch_all(self, now: float) -> None:
        while self.waiting and self.seats_in_use < self.limit and self._dispatch(now):
            pass

    def _dispatch(self, now: float) -> bool:
        """Dispatch the request that would end first, if there are seats enough for it."""
        count, robin = len(self.queues), self._robin
        number, queue = min(
            self._busy.items(),
            key=lambda item: (item[1].next_r + item[1].waiting[0].work, (item[0] - robin - 1) % count),
        )
        request = queue.waiting[0]
        if not self._fits(request.seats):
            request.stats.no_accommodation += 1
            return False
        if request.final > self.limit:
            # The same work on the seats that there are.
            request.latency *= request.final / self.limit
            request.final = self.limit
        self._robin = number
        queue.waiting.popleft()
        self._left(request, queue)
        if not queue.waiting and not queue.executing:
            # `_begin` counts the queue as active again.
            self._active -= 1
        self._begin(request, queue, now)
        queue.bound()
        if request.wake is not None:
            request.wake()
        return True

    def _give_up(self, queue: Queue) -> None:
        """There are more queues than there should be, and this one is empty."""
        index = next((i for i, q in enumerate(self.queues) if q is queue), None)
        if index is None:
            return
        del self.queues[index]
        if self._robin >= index:
            self._robin -= 1
        self._busy = {i: q for i, q in enumerate(self.queues) if q.waiting}
