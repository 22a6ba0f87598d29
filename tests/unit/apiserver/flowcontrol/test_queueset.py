"""Seats and fair queues of one level."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podling.apiserver.flowcontrol.queueset import CONCURRENCY_LIMIT, QUEUE_FULL, QueueSet, Request, Shape, Stats
from podling.apiserver.flowcontrol.sharding import deal, flow_hash


def level(limit: int, *shape: int) -> QueueSet:
    made = QueueSet(0.0)
    made.configure(Shape(*shape), limit, 0.0)
    return made


def request(flow: str = "", **work: Any) -> Request:
    return Request("schema", flow, Stats(), **work)


def hand_of(queues: QueueSet, flow: str) -> tuple[int, ...]:
    return deal(flow_hash("schema", flow), queues.shape.queues, queues.shape.hand)


def test_without_queues_what_finds_no_seat_is_turned_away() -> None:
    queues = level(2, 0)
    first, second, third = request(), request(), request()
    assert [queues.start(r, (), 0.0) for r in (first, second, third)] == ["", "", CONCURRENCY_LIMIT]
    queues.finish(first, 1.0)
    # Executed, but its seat is not free yet.
    assert queues.start(request(), (), 1.0) == CONCURRENCY_LIMIT
    queues.release(first, 1.0)
    assert queues.start(request(), (), 1.0) == ""
    assert (queues.dispatched, queues.rejected) == (3, 2)


def test_the_exempt_are_never_limited_but_counted() -> None:
    queues = level(0, -1)
    made = [request() for _ in range(5)]
    assert {queues.start(r, (), 0.0) for r in made} == {""}
    assert queues.demand.reset(2.0).high == 5 and not queues.idle
    for one in made:
        queues.finish(one, 2.0)
        queues.release(one, 2.0)
    assert queues.idle and queues.seats_in_use == 0


def test_queues_hold_so_many_and_not_one_more() -> None:
    queues = level(1, 1, 1, 2)
    made = [request() for _ in range(4)]
    assert [queues.start(r, (0,), 0.0) for r in made] == ["", "", "", QUEUE_FULL]
    woken: list[int] = []
    for index, one in enumerate(made):
        one.wake = lambda index=index: woken.append(index)
    queues.finish(made[0], 1.0)
    queues.release(made[0], 1.0)
    assert woken == [1] and made[1].started == 1.0 and made[2].started is None


def test_a_request_goes_where_the_least_work_waits() -> None:
    queues = level(1, 4, 2, 10)
    queues.start(request(), (0, 1), 0.0)
    for _ in range(4):
        queues.start(request(), (0, 1), 0.0)
    assert [len(q.waiting) for q in queues.queues] == [2, 2, 0, 0]
    # Two heavy ones in queue 2 weigh more than four light ones in queue 1.
    queues.start(request(initial=5), (2, 2), 0.0)
    queues.start(request(), (1, 2), 0.0)
    assert [len(q.waiting) for q in queues.queues] == [2, 3, 1, 0]


def test_flows_take_turns_however_many_one_of_them_brings() -> None:
    queues = level(1, 2, 1, 50)
    running = request("first")
    queues.start(running, (0,), 0.0)
    waiting = [request("many") for _ in range(6)] + [request("few") for _ in range(3)]
    for one in waiting:
        queues.start(one, (0,) if one.flow == "many" else (1,), 0.0)
    served = []
    now = 0.0
    while True:
        now += 0.003
        queues.finish(running, now)
        queues.release(running, now)
        found = next((r for r in waiting if r.started is not None), None)
        if found is None:
            break
        waiting.remove(found)
        running = found
        served.append(found.flow)
    assert served[0] == "few" and sorted(served[:5]) == ["few", "few", "few", "many", "many"] and len(served) == 9


def test_a_request_wider_than_the_level_is_served_alone() -> None:
    queues = level(4, 1, 1, 10)
    wide, small = request(initial=9), request()
    queues.start(small, (0,), 0.0)
    queues.start(wide, (0,), 0.0)
    assert wide.started is None and wide.stats.no_accommodation == 1
    queues.finish(small, 1.0)
    queues.release(small, 1.0)
    assert wide.started == 1.0
    after = request()
    queues.start(after, (0,), 1.0)
    assert after.started is None


def test_seats_of_the_last_phase_are_taken_from_the_start() -> None:
    queues = level(5, 1, 1, 10)
    write = request(initial=1, final=5, latency=0.02)
    queues.start(write, (0,), 0.0)
    assert queues.seats_in_use == 5
    queues.finish(write, 0.5)
    assert queues.seats_in_use == 5 and queues.executing == 0
    queues.release(write, 0.52)
    assert queues.seats_in_use == 0


def test_a_last_phase_wider_than_the_level_takes_longer_instead() -> None:
    queues = level(2, 1, 1, 10)
    queues.start(request(), (0,), 0.0)
    write = request(initial=1, final=8, latency=0.01)
    queues.start(write, (0,), 0.0)
    queues.configure(queues.shape, 4, 0.0)
    assert write.started is None
    queues.configure(queues.shape, 10, 0.0)
    assert (write.final, write.latency) == (8, 0.01)


def test_who_waits_may_go() -> None:
    queues = level(1, 1, 1, 10)
    made = [request() for _ in range(3)]
    for one in made:
        queues.start(one, (0,), 0.0)
    queues.withdraw(made[1], 1.0)
    queues.finish(made[0], 2.0)
    queues.release(made[0], 2.0)
    assert made[1].started is None and made[2].started == 2.0
    assert (queues.waiting, queues.cancelled, queues.rejected) == (0, 1, 1)


def test_more_seats_are_given_at_once() -> None:
    queues = level(1, 2, 1, 10)
    made = [request() for _ in range(4)]
    for one in made:
        queues.start(one, (0,), 0.0)
    queues.configure(queues.shape, 3, 1.0)
    assert [r.started for r in made] == [0.0, 1.0, 1.0, None]


def test_queues_that_are_too_many_go_when_they_are_empty() -> None:
    queues = level(1, 3, 1, 10)
    made = [request() for _ in range(3)]
    for index, one in enumerate(made):
        queues.start(one, (index,), 0.0)
    queues.configure(Shape(1, 1, 10), 1, 0.0)
    assert len(queues.queues) == 3
    for one in made:
        assert one.started is not None
        queues.finish(one, 1.0)
        queues.release(one, 1.0)
    assert len(queues.queues) == 1 and queues.idle


class Client:
    """Sends so many requests at once, each as soon as the one before it was answered."""

    def __init__(self, name: str, connections: int, seconds: float, *, width: int = 1) -> None:
        self.name, self.connections, self.seconds, self.width = name, connections, seconds, width


def simulate(queues: QueueSet, clients: list[Client], until: float) -> dict[str, float]:
    """Seat-seconds that each client got."""
    used: dict[str, float] = {c.name: 0.0 for c in clients}
    ends: list[tuple[float, int, Request, Client]] = []
    ticket = count()

    def send(client: Client, now: float) -> None:
        one = request(client.name, initial=client.width)

        def begin() -> None:
            assert one.started is not None
            heapq.heappush(ends, (one.started + client.seconds, next(ticket), one, client))

        one.wake = begin
        assert queues.start(one, hand_of(queues, client.name), now) == ""
        if one.started is not None and not any(e[2] is one for e in ends):
            begin()

    for client in clients:
        for _ in range(client.connections):
            send(client, 0.0)
    while ends and ends[0][0] < until:
        now, _, one, client = heapq.heappop(ends)
        used[client.name] += client.seconds * client.width
        queues.finish(one, now)
        queues.release(one, now)
        send(client, now)
    return used


CROWDS = [
    [Client("elephant", 40, 0.1), Client("mouse", 7, 0.1)],
    [Client("slow", 10, 0.5), Client("fast", 20, 0.02)],
    [Client("wide", 10, 0.1, width=3), Client("thin", 20, 0.1)],
    [Client("a", 10, 0.1), Client("b", 20, 0.2), Client("c", 40, 0.05)],
]


@pytest.mark.parametrize("clients", CROWDS)
def test_everyone_who_wants_more_than_there_is_gets_the_same(
    clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [c.name for c in clients]
    monkeypatch.setattr(f"{__name__}.hand_of", lambda _, flow: (names.index(flow),))
    used = simulate(level(6, len(clients), 1, 100), clients, 200.0)
    assert all(got == pytest.approx(6 * 200.0 / len(clients), rel=0.02) for got in used.values()), used


@pytest.mark.parametrize("clients", CROWDS)
def test_shuffled_hands_are_almost_as_fair(clients: list[Client]) -> None:
    used = simulate(level(6, 64, 6, 100), clients, 200.0)
    assert all(got == pytest.approx(6 * 200.0 / len(clients), rel=0.25) for got in used.values()), used


def test_who_wants_little_gets_it_all_and_the_others_share_the_rest() -> None:
    clients = [Client("greedy", 50, 0.1), Client("greedier", 90, 0.1), Client("modest", 1, 0.1)]
    used = simulate(level(6, 64, 6, 100), clients, 100.0)
    # One connection that never waits would use one seat all the time; it waits for the end of others' requests.
    assert used["modest"] > 45
    assert used["greedy"] == pytest.approx(used["greedier"], rel=0.12)


OPERATION = st.tuples(
    st.sampled_from(("start", "start", "start", "finish", "release", "withdraw", "configure")),
    st.integers(0, 6), st.integers(1, 5), st.floats(0, 0.5),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(OPERATION, max_size=60), st.integers(1, 6), st.integers(1, 4))
def test_the_books_are_right_whatever_happens(operations: list[Any], limit: int, queue_count: int) -> None:
    queues = level(limit, queue_count, 1, 3)
    waiting: list[Request] = []
    executing: list[Request] = []
    ended: list[Request] = []
    now = 0.0
    for what, number, size, later in operations:
        now += later
        if what == "start":
            one = request(initial=size, final=number, latency=0.01)
            if queues.start(one, (number % queue_count,), now) == "":
                waiting.append(one)
        elif what == "finish" and executing:
            ended.append(executing.pop(number % len(executing)))
            queues.finish(ended[-1], now)
        elif what == "release" and ended:
            queues.release(ended.pop(number % len(ended)), now)
        elif what == "withdraw" and waiting:
            queues.withdraw(waiting.pop(number % len(waiting)), now)
        elif what == "configure":
            queues.configure(queues.shape, size, now)
        executing += [r for r in waiting if r.started is not None]
        waiting = [r for r in waiting if r.started is None]
        check(queues, waiting, executing, ended)
    for one in executing:
        queues.finish(one, now)
    for one in executing + ended:
        queues.release(one, now)
    # Seats are free: nobody waits for nothing.
    assert queues.seats_in_use == sum(r.seats for r in waiting if r.started is not None)
    assert not waiting or any(r.started is not None for r in waiting)


def check(queues: QueueSet, waiting: list[Request], executing: list[Request], ended: list[Request]) -> None:
    assert queues.waiting == len(waiting) == sum(len(q.waiting) for q in queues.queues)
    assert queues.executing == len(executing) == sum(q.executing for q in queues.queues)
    assert queues.seats_in_use == sum(r.seats for r in executing + ended) == sum(q.seats for q in queues.queues)
    assert queues.seats_waiting == sum(r.seats for r in waiting) == queues.demand.value - queues.seats_in_use
    assert queues._active == sum(1 for q in queues.queues if q.waiting or q.executing)
    assert set(queues._busy) == {i for i, q in enumerate(queues.queues) if q.waiting}
    for queue in queues.queues:
        assert queue.work == pytest.approx(sum(r.work for r in queue.waiting))
        assert not queue.waiting or queue.next_r >= queue.waiting[0].arrived_r
