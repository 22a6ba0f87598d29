"""The gate of the HTTP server: seats and queues of `levels`, with futures for those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from podling import clock
from podling.api.request import User
from podling.apiserver.cache import ResourceCache
from podling.apiserver.flowcontrol import work
from podling.apiserver.flowcontrol.levels import PERIOD, Flow, Levels
from podling.apiserver.flowcontrol.limiter import Rounds, TooMany, Watermarks
from podling.apiserver.flowcontrol.metrics import REJECTED, WAITED
from podling.apiserver.flowcontrol.queueset import Request
from podling.apiserver.request_info import RequestInfo

#: The longest that a request waits, in seconds.
MAX_WAIT = 60.0


class Ticket(Request):
    """`limiter.Ticket`: a request of a flow."""

    __slots__ = ("info", "of", "user")

    def __init__(self, flow: Flow, user: User, info: RequestInfo, seats: work.Work) -> None:
        super().__init__(
            flow.schema, flow.distinguisher, flow.stats, initial=seats.initial, final=seats.final, latency=seats.latency
        )
        self.of = flow
        self.user = user
        self.info = info

    @property
    def waiting(self) -> bool:
        return self.started is None

    @property
    def headers(self) -> str:
        return self.of.headers


class Gate:
    """`limiter.Limiter`. `cache_of` gives the objects that a request is about, None if it is about none."""

    def __init__(
        self,
        levels: Levels,
        cache_of: Callable[[RequestInfo], ResourceCache | None],
        *,
        now: Callable[[], float] = clock.real_seconds,
    ) -> None:
        self.levels = levels
        self._cache_of = cache_of
        self._now = now
        self._rounds: Rounds = Rounds(self._give_back)
        self._timer: asyncio.TimerHandle | None = None
        self.executing, self.waiting = Watermarks(now), Watermarks(now)

    def serve(self) -> None:
        """Requests come from now on: levels that are idle lend to those that are not."""
        self._timer = asyncio.get_running_loop().call_later(PERIOD, self._rebalance)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _rebalance(self) -> None:
        self.levels.rebalance(self._now())
        self.serve()

    def enter(self, user: User, info: RequestInfo, query: Mapping[str, str]) -> Ticket:
        """Raises TooMany."""
        flow = self.levels.flow(user, info)
        level = flow.level
        seats = work.ONE
        if info.verb in work.ESTIMATED and not level.exempt and (cache := self._cache_of(info)) is not None:
            seats = work.estimate(info, query, cache, level.max_seats)
        ticket = Ticket(flow, user, info, seats)
        measures = flow.measures
        measures.seats.observe(ticket.seats)
        reason = level.set.start(ticket, flow.hand, self._now())
        if reason:
            WAITED.of("false", flow.schema, level.name).observe(0.0)
            raise self._refusal(flow, reason)
        if ticket.started is None:
            self.waiting.add(info, 1)
            assert ticket.queue is not None
            measures.queue_length.observe(len(ticket.queue.waiting))
        else:
            if not level.exempt:
                measures.waited.observe(0.0)
            measures.dispatched.value += 1
            self.executing.add(info, 1)
        return ticket

    async def wait(self, ticket: Any, seconds: float, lost: set[Callable[[], None]]) -> None:
        """Until it is dispatched. Raises TooMany after `seconds`."""
        if ticket.started is not None:
            self._let_in(ticket)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def gone() -> None:
            if not turn.done():
                turn.set_exception(ConnectionResetError("the client is gone"))

        def dispatched() -> None:
            if not turn.done():
                turn.set_result(None)

        ticket.wake = dispatched
        lost.add(gone)
        try:
            async with asyncio.timeout(min(seconds, MAX_WAIT)):
                await turn
        except TimeoutError:
            if ticket.started is None:
                self._withdraw(ticket)
                raise self._refusal(ticket.of, "time-out") from None
        except BaseException:
            if ticket.started is None:
                self._withdraw(ticket)
            else:
                self._let_in(ticket)
                self.leave(ticket)
            raise
        finally:
            lost.discard(gone)
        self._let_in(ticket)

    def leave(self, ticket: Any) -> None:
        """It has been served. Its seats are free when the event loop has come round, or its last work is done."""
        flow, now = ticket.of, self._now()
        flow.level.set.finish(ticket, now)
        self.executing.add(ticket.info, -1)
        measures = flow.measures
        (measures.executed if ticket.info.verb != "watch" else measures.watched).observe(now - ticket.started)
        if flow.level.exempt:
            flow.level.set.release(ticket, now)
        elif ticket.latency > 0:
            asyncio.get_running_loop().call_later(ticket.latency, self._give_back, [ticket])
        else:
            self._rounds.hold(ticket)

    def _give_back(self, tickets: list[Any]) -> None:
        now = self._now()
        for ticket in tickets:
            level = ticket.of.level
            level.set.release(ticket, now)
            if level.quiescing and level.set.idle:
                self.levels.drained(now)

    def _let_in(self, ticket: Ticket) -> None:
        """It was dispatched after it had waited."""
        started = ticket.started
        assert started is not None
        self.waiting.add(ticket.info, -1)
        self.executing.add(ticket.info, 1)
        ticket.of.measures.waited.observe(started - ticket.arrived)
        ticket.of.measures.dispatched.value += 1

    def _withdraw(self, ticket: Ticket) -> None:
        now, flow = self._now(), ticket.of
        flow.level.set.withdraw(ticket, now)
        self.waiting.add(ticket.info, -1)
        WAITED.of("false", flow.schema, flow.level.name).observe(now - ticket.arrived)

    def _refusal(self, flow: Flow, reason: str) -> TooMany:
        REJECTED.add(flow.schema, flow.level.name, reason)
        dropped = flow.level.dropped
        dropped.record(int(self._now()))
        return TooMany(flow.headers, dropped.retry_after)
