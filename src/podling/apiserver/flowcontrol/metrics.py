"""apiserver_flowcontrol_*: what API Priority and Fairness did, under upstream's names."""

from __future__ import annotations

from podling.metrics import PROCESS

PREFIX = "apiserver_flowcontrol_"
BOTH = ("flow_schema", "priority_level")
_SECONDS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)

REJECTED = PROCESS.counter(
    PREFIX + "rejected_requests_total",
    "[BETA] Number of requests rejected by API Priority and Fairness subsystem",
    (*BOTH, "reason"),
)
DISPATCHED = PROCESS.counter(
    PREFIX + "dispatched_requests_total",
    "[BETA] Number of requests executed by API Priority and Fairness subsystem",
    BOTH,
)
WAITED = PROCESS.histogram(
    PREFIX + "request_wait_duration_seconds",
    "[BETA] Length of time a request spent waiting in its queue",
    ("execute", *BOTH),
    _SECONDS,
)
EXECUTED = PROCESS.histogram(
    PREFIX + "request_execution_seconds",
    "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API "
    "Priority and Fairness subsystem",
    (*BOTH, "type"),
    _SECONDS,
)
QUEUE_LENGTH = PROCESS.histogram(
    PREFIX + "request_queue_length_after_enqueue",
    "[ALPHA] Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
    BOTH,
    (0, 10, 25, 50, 100, 250, 500, 1000),
)
SEATS = PROCESS.histogram(
    PREFIX + "work_estimated_seats",
    "[ALPHA] Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority "
    "and Fairness",
    BOTH,
    (1, 2, 4, 8, 16, 32, 64, 100),
)


class Measures:
    """The cells of one schema and one level: found once, counted in often."""

    __slots__ = ("dispatched", "executed", "queue_length", "seats", "waited", "watched")

    def __init__(self, schema: str, level: str) -> None:
        self.dispatched = DISPATCHED.of(schema, level)
        self.waited = WAITED.of("true", schema, level)
        self.executed = EXECUTED.of(schema, level, "regular")
        self.watched = EXECUTED.of(schema, level, "watch")
        self.queue_length = QUEUE_LENGTH.of(schema, level)
        self.seats = SEATS.of(schema, level)
