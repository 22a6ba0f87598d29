"""The gate: futures of those who wait, and seats that are given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from apiserver.flowcontrol.test_levels import limited, schema
from podling import clock
from podling.api.request import User
from podling.apiserver.flowcontrol.gate import Gate
from podling.apiserver.flowcontrol.levels import PERIOD, Levels
from podling.apiserver.flowcontrol.limiter import TooMany, Watermark
from podling.apiserver.flowcontrol.maxinflight import MaxInFlight
from podling.apiserver.request_info import resolve

ANN, BOB = User("ann", ("system:authenticated",)), User("bob", ("system:authenticated",))
ADMIN = User("admin", ("system:masters",))
GET = resolve("GET", "/api/v1/namespaces/default/pods/p", {})
PUT = resolve("PUT", "/api/v1/namespaces/default/pods/p", {})
UIDS = "X-Kubernetes-PF-FlowSchema-UID: uid-of-anns\r\nX-Kubernetes-PF-PriorityLevel-UID: uid-of-mine\r\n"


def virtual(test: Callable[[Gate], Awaitable[None]]) -> Callable[[], None]:
    """A gate on virtual time whose level `mine`, Ann's, has one seat and four queues for five."""

    def run() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            levels = Levels(6, loop.time())
            # Five shares are catch-all's, who has the other seats.
            levels.digest([limited("mine", 1, borrowingLimitPercent=0)], [schema("anns", "mine", "ann")], loop.time())
            assert levels.levels["mine"].limit == 1
            await test(Gate(levels, lambda _: None, now=loop.time))

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def through(gate: Any, user: User = ANN, info: Any = GET, *, work: float = 0.0, patience: float = 15.0) -> float:
    """Come in, work and leave; gives when it was let in."""
    ticket = gate.enter(user, info, {})
    if ticket.waiting:
        await gate.wait(ticket, patience, set())
    began = asyncio.get_running_loop().time()
    try:
        if work:
            await asyncio.sleep(work)
    finally:
        gate.leave(ticket)
    return began


@virtual
async def test_who_finds_no_seat_waits_for_one(gate: Gate) -> None:
    began = await asyncio.gather(*(through(gate, work=1.0) for _ in range(4)))
    assert sorted(began) == [0.0, 1.0, 2.0, 3.0]
    await asyncio.sleep(0.01)
    assert gate.levels.levels["mine"].set.idle


@virtual
async def test_a_seat_stays_taken_until_the_event_loop_has_come_round(gate: Gate) -> None:
    tickets = []
    gate.leave(gate.enter(ANN, GET, {}))
    # The first is served, and yet this one waits: both are of one round.
    tickets.append(gate.enter(ANN, GET, {}))
    assert tickets[0].waiting
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not tickets[0].waiting
    # Others are not held up by it, and the exempt never are.
    assert not gate.enter(BOB, GET, {}).waiting
    gate.leave(gate.enter(ADMIN, GET, {}))
    assert not gate.enter(ADMIN, GET, {}).waiting


@virtual
async def test_who_waits_too_long_may_come_again(gate: Gate) -> None:
    first = asyncio.create_task(through(gate, work=60.0))
    await asyncio.sleep(0)
    with pytest.raises(TooMany) as caught:
        await through(gate, patience=15.0)
    assert asyncio.get_running_loop().time() == 15.0
    assert (caught.value.headers, caught.value.retry_after) == (UIDS, 1)
    assert str(caught.value) == "Too many requests, please try again later."
    assert gate.waiting.read_only.value == 0
    await first


@virtual
async def test_nobody_waits_longer_than_a_minute(gate: Gate) -> None:
    gate.enter(ANN, GET, {})
    with pytest.raises(TooMany):
        await through(gate, patience=3600.0)
    assert asyncio.get_running_loop().time() == 60.0


@virtual
async def test_full_queues_turn_away_and_say_when_to_come_again(gate: Gate) -> None:
    gate.enter(ANN, GET, {})
    for _ in range(10):
        # A hand of two queues, for five each.
        assert gate.enter(ANN, GET, {}).waiting
    seconds = []
    for _ in range(6):
        for _ in range(10):
            with pytest.raises(TooMany) as caught:
                gate.enter(ANN, GET, {})
        seconds.append(caught.value.retry_after)
        await asyncio.sleep(1)
    assert seconds == [1, 2, 2, 4, 4, 4]


@virtual
async def test_a_client_that_is_gone_waits_no_longer(gate: Gate) -> None:
    gate.enter(ANN, GET, {})
    ticket = gate.enter(ANN, GET, {})
    lost: set[Callable[[], None]] = set()
    waiting = asyncio.create_task(gate.wait(ticket, 15.0, lost))
    await asyncio.sleep(0)
    for callback in list(lost):
        callback()
    with pytest.raises(ConnectionResetError):
        await waiting
    assert not lost and gate.levels.levels["mine"].set.waiting == 0


@virtual
async def test_who_is_cancelled_at_the_moment_of_its_turn_gives_the_seat_back(gate: Gate) -> None:
    first, second, third = gate.enter(ANN, GET, {}), gate.enter(ANN, GET, {}), gate.enter(ANN, GET, {})
    next_ = asyncio.create_task(gate.wait(third, 15.0, set()))
    waiting = asyncio.create_task(gate.wait(second, 15.0, set()))
    await asyncio.sleep(0)
    gate.leave(first)
    gate._give_back(gate._rounds._held)
    gate._rounds._held = []
    assert not second.waiting
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await next_
    assert not third.waiting and gate.executing.read_only.value == 1


@virtual
async def test_the_exempt_come_in_while_others_flood(gate: Gate) -> None:
    flood = [asyncio.create_task(through(gate, BOB, work=0.5)) for _ in range(5)]
    flood += [asyncio.create_task(through(gate, ANN, work=0.5)) for _ in range(9)]
    await asyncio.sleep(0.1)
    assert await through(gate, ADMIN) == pytest.approx(0.1)
    await asyncio.gather(*flood)


@virtual
async def test_idle_levels_lend_every_ten_seconds(gate: Gate) -> None:
    gate.serve()
    tickets = [gate.enter(BOB, GET, {}) for _ in range(5)]
    assert gate.levels.levels["catch-all"].limit == 5
    with pytest.raises(TooMany):
        gate.enter(BOB, GET, {})
    gate.levels.levels["mine"].lendable = 100
    gate.levels.digest([limited("mine", 1, lendablePercent=100)], [], 0.0)
    await asyncio.sleep(PERIOD + 1)
    assert gate.levels.levels["catch-all"].limit == 6
    gate.close()
    for ticket in tickets:
        gate.leave(ticket)


@virtual
async def test_a_level_without_an_object_goes_with_its_last_request(gate: Gate) -> None:
    ticket = gate.enter(ANN, GET, {})
    gate.levels.digest([], [], 0.0)
    assert "mine" in gate.levels.levels
    gate.leave(ticket)
    await asyncio.sleep(0.01)
    assert "mine" not in gate.levels.levels


def test_plain_limits() -> None:
    async def main() -> None:
        limits = MaxInFlight(2, 1, now=asyncio.get_running_loop().time)
        reads = [limits.enter(ANN, GET, {}) for _ in range(2)]
        with pytest.raises(TooMany) as caught:
            limits.enter(ANN, GET, {})
        assert (caught.value.headers, caught.value.retry_after) == ("", 1)
        write = limits.enter(ANN, PUT, {})
        with pytest.raises(TooMany):
            limits.enter(ANN, PUT, {})
        limits.leave(limits.enter(ADMIN, PUT, {}))
        assert limits.executing.read() == {("mutating",): 1, ("readOnly",): 2}
        limits.leave(write)
        await asyncio.sleep(0.01)
        limits.leave(limits.enter(ANN, PUT, {}))
        for ticket in reads:
            limits.leave(ticket)

    clock.run_virtual(main())


def test_a_limit_of_nothing_is_none() -> None:
    async def main() -> None:
        limits = MaxInFlight(0, 1, now=asyncio.get_running_loop().time)
        for _ in range(1000):
            limits.enter(ANN, GET, {})

    clock.run_virtual(main())


def test_watermarks_are_of_the_last_second() -> None:
    now = 10.0
    mark = Watermark(lambda: now)
    for delta in (1, 1, 1, -1, -1):
        mark.add(delta)
    assert mark.read() == 3
    now = 11.2
    mark.add(1)
    # Of the second before: three; of this one so far: two.
    assert mark.read() == 3
    now = 12.5
    assert mark.read() == 2
    mark.add(-2)
    now = 20.0
    assert mark.read() == 0
