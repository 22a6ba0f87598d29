"""How full levels were, and for how long."""

from __future__ import annotations

from podling.apiserver.flowcontrol import gauges
from podling.apiserver.flowcontrol.levels import Levels
from podling.apiserver.flowcontrol.occupancy import REQUESTS, SEATS, Occupancy
from podling.apiserver.flowcontrol.queueset import QueueSet, Request, Shape, Stats
from podling.metrics import Registry, text


def shares(found: Occupancy) -> dict[float, int]:
    """Milliseconds by the upper bound of their bucket."""
    series = found.series()
    bounds = (*SEATS, float("inf")) if len(series.counts) == len(SEATS) + 1 else (*REQUESTS, float("inf"))
    return {bound: count // 10**6 for bound, count in zip(bounds, series.counts, strict=True) if count}


def test_time_is_weighed_by_the_part_that_was_in_use() -> None:
    found = Occupancy(SEATS)
    found.compare(10)
    found.stayed(0, 1.0)
    found.stayed(5, 0.25)
    found.stayed(5, 0.25)
    assert shares(found) == {0: 1000, 0.5: 500}
    found.stayed(5, 1.0)
    # What was is not compared with what comes.
    found.compare(5)
    found.stayed(5, 2.0)
    assert shares(found) == {0: 1000, 0.5: 1500, 1: 2000}
    assert found.series().sum == (0.75 + 2.0) * 1e9


def test_requests_on_their_way_through_a_level() -> None:
    level = QueueSet(0.0)
    level.configure(Shape(1, 1, 10), 2, 0.0)
    one, two, three = (Request("f", "", Stats(), initial=1, final=0, latency=0.0) for _ in range(3))
    level.start(one, (0,), 1.0)
    level.start(two, (0,), 2.0)
    level.start(three, (0,), 3.0)
    level.finish(one, 5.0)
    level.release(one, 5.0)
    level.settle(6.0)
    assert shares(level.held) == {0: 1000, 0.5: 1000, 1: 4000}
    assert shares(level.running) == {0: 1000, 0.5: 1000, 1: 4000}
    # Of ten places one was taken for two seconds.
    assert shares(level.queued) == {0: 4000, 0.1: 2000}


def test_all_of_it_is_shown_when_a_scraper_asks() -> None:
    time = 0.0
    levels, registry = Levels(10, 0.0), Registry()
    gauges.register(registry, levels, lambda: time)
    time = 3.0
    shown = text(registry)
    prefix = "apiserver_flowcontrol_"
    for line in (
        f'{prefix}priority_level_seat_utilization_count{{phase="executing",priority_level="catch-all"}} 3000000000\n',
        f'{prefix}priority_level_request_utilization_count{{phase="waiting",priority_level="catch-all"}} 3000000000\n',
        f'{prefix}demand_seats_bucket{{priority_level="catch-all",le="0.2"}} 3000000000\n',
    ):
        assert line in shown
