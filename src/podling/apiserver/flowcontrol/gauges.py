"""apiserver_flowcontrol_*: what the levels are like now, read from them when a scraper asks."""

from __future__ import annotations

from collections.abc import Callable

from podling import clock
from podling.apiserver.flowcontrol.levels import Level, Levels
from podling.apiserver.flowcontrol.metrics import BOTH, PREFIX
from podling.apiserver.flowcontrol.occupancy import DEMAND, REQUESTS, SEATS
from podling.apiserver.flowcontrol.queueset import Stats
from podling.metrics import Labels, Read, ReadSeries, Registry, Series

#: Name, help text, what it is of a level.
_OF_LEVELS: tuple[tuple[str, str, Callable[[Level], float]], ...] = (
    (
        "nominal_limit_seats",
        "[BETA] Nominal number of execution seats configured for each priority level",
        lambda level: level.nominal,
    ),
    (
        "lower_limit_seats",
        "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
        lambda level: level.lowest,
    ),
    (
        "upper_limit_seats",
        "[ALPHA] Configured upper bound on number of execution seats available to each priority level",
        lambda level: level.highest,
    ),
    (
        "current_limit_seats",
        "[ALPHA] current derived number of execution seats available to each priority level",
        lambda level: level.limit,
    ),
    (
        "demand_seats_high_watermark",
        "[ALPHA] High watermark, over last adjustment period, of demand_seats",
        lambda level: level.demand.high,
    ),
    (
        "demand_seats_average",
        "[ALPHA] Time-weighted average, over last adjustment period, of demand_seats",
        lambda level: level.demand.average,
    ),
    (
        "demand_seats_stdev",
        "[ALPHA] Time-weighted standard deviation, over last adjustment period, of demand_seats",
        lambda level: level.demand.deviation,
    ),
    ("demand_seats_smoothed", "[ALPHA] Smoothed seat demands", lambda level: level.smoothed),
    ("target_seats", "[ALPHA] Seat allocation targets", lambda level: level.target),
    ("current_r", "[ALPHA] R(time of last change)", lambda level: level.set.r),
)
#: The same of the requests of one schema in one level.
_OF_FLOWS: tuple[tuple[str, str, Callable[[Stats], float]], ...] = (
    (
        "current_executing_requests",
        "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API "
        "Priority and Fairness subsystem",
        lambda stats: stats.executing,
    ),
    (
        "current_executing_seats",
        "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any "
        "stage otherwise) requests in the API Priority and Fairness subsystem",
        lambda stats: stats.executing_seats,
    ),
    (
        "current_inqueue_requests",
        "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        lambda stats: stats.queued,
    ),
    (
        "current_inqueue_seats",
        "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness subsystem",
        lambda stats: stats.queued_seats,
    ),
)


def _ratios(registry: Registry, levels: Levels, now: Callable[[], float]) -> None:
    """How full the levels were, and for how long."""

    def of(read: Callable[[Level], dict[Labels, Series]]) -> ReadSeries:
        def shown() -> dict[Labels, Series]:
            found: dict[Labels, Series] = {}
            for level in levels.levels.values():
                level.set.settle(now())
                found.update(read(level))
            return found

        return shown

    weighed = "[ALPHA] Observations, at the end of every nanosecond, of"
    registry.histogram(
        PREFIX + "priority_level_seat_utilization",
        f"{weighed} utilization of seats for any stage of execution (but only initial stage for WATCHes)",
        ("phase", "priority_level"),
        SEATS,
        of(lambda level: {("executing", level.name): level.set.held.series()}),
    )
    registry.histogram(
        PREFIX + "priority_level_request_utilization",
        f"{weighed} number of requests (as a fraction of the relevant limit) waiting or in any stage of execution (but "
        "only initial stage for WATCHes)",
        ("phase", "priority_level"),
        REQUESTS,
        of(
            lambda level: {
                ("executing", level.name): level.set.running.series(),
                ("waiting", level.name): level.set.queued.series(),
            }
        ),
    )
    registry.histogram(
        PREFIX + "demand_seats",
        f"{weighed} (the number of seats each priority level could use) / (nominal number of seats for that level)",
        ("priority_level",),
        DEMAND,
        of(lambda level: {(level.name,): level.set.wanted.series()}),
    )


def register(registry: Registry, levels: Levels, now: Callable[[], float] = clock.real_seconds) -> None:
    """What the levels are like now is shown in `registry`."""

    def of_levels(value: Callable[[Level], float]) -> Read:
        return lambda: {(level.name,): value(level) for level in levels.levels.values()}

    def of_flows(value: Callable[[Stats], float]) -> Read:
        return lambda: {
            (schema, level.name): value(stats)
            for level in levels.levels.values()
            for schema, stats in level.stats.items()
        }

    for name, help_, of_level in _OF_LEVELS:
        registry.gauge(PREFIX + name, help_, ("priority_level",), of_levels(of_level))
    for name, help_, of_flow in _OF_FLOWS:
        registry.gauge(PREFIX + name, help_, BOTH, of_flows(of_flow))
    _ratios(registry, levels, now)
    registry.counter(
        PREFIX + "request_dispatch_no_accommodation_total",
        "[ALPHA] Number of times a dispatch attempt resulted in a non accommodation due to lack of available seats",
        BOTH,
        of_flows(lambda stats: stats.no_accommodation),
    )
    registry.gauge(
        PREFIX + "seat_fair_frac",
        "[ALPHA] Fair fraction of server's concurrency to allocate to each priority level that can use it",
        (),
        lambda: {(): levels.fraction},
    )
