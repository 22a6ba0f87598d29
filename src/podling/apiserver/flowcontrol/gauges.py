"""apiserver_flowcontrol_*: what the levels are like now, read from them when a scraper asks."""

from __future__ import annotations

from collections.abc import Callable

from podling.apiserver.flowcontrol.levels import Level, Levels
from podling.apiserver.flowcontrol.metrics import BOTH, PREFIX
from podling.apiserver.flowcontrol.queueset import Stats
from podling.metrics import Read, Registry

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


def register(registry: Registry, levels: Levels) -> None:
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
