"""/debug/api_priority_and_fairness/: what levels, queues and requests there are, as comma-separated tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from podling import clock
from podling.api.request import Request, User
from podling.apiserver.answer import Answer
from podling.apiserver.core import PathHandler
from podling.apiserver.flowcontrol.gate import Ticket
from podling.apiserver.flowcontrol.levels import Level, Levels
from podling.apiserver.request_info import RequestInfo

_PREFIX = "/debug/api_priority_and_fairness/"
_LEVELS = (
    "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
    "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests",
)  # fmt: skip
_QUEUES = (
    "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
    "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
)  # fmt: skip
_REQUESTS = (
    "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
    "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
)  # fmt: skip
_DETAILS = ("UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")

Row = Sequence[str]


def handlers(levels: Levels, now: Callable[[], float] = clock.real_seconds) -> dict[str, PathHandler]:
    """By their paths; `now` is the clock of the levels."""

    def serving(table: Callable[[bool], list[Row]]) -> PathHandler:
        async def answer(request: Request, info: RequestInfo, user: User) -> Answer:
            rows = table(bool(request.query.get("includeRequestDetails")))
            return Answer(body=_text(rows).encode(), headers={"content-type": "text/plain; charset=utf-8"})

        return answer

    def since(seconds: float | None) -> str:
        """The wall time of a reading of the levels' clock."""
        if seconds is None:
            return "0001-01-01T00:00:00Z"
        return _time(clock.now() - timedelta(seconds=now() - seconds))

    return {
        _PREFIX + "dump_priority_levels": serving(lambda _: _level_rows(levels)),
        _PREFIX + "dump_queues": serving(lambda _: _queue_rows(levels)),
        _PREFIX + "dump_requests": serving(lambda details: _request_rows(levels, details, since)),
    }


def _ordered(levels: Levels) -> list[Level]:
    return [levels.levels[name] for name in sorted(levels.levels)]


def _level_rows(levels: Levels) -> list[Row]:
    rows: list[Row] = [_LEVELS]
    for level in _ordered(levels):
        queues = level.set
        active = sum(1 for q in queues.queues if q.waiting)
        numbers = (queues.waiting, queues.executing, queues.dispatched, queues.rejected, 0, queues.cancelled)
        flags = (_flag(queues.idle), _flag(level.quiescing))
        rows.append((level.name, str(active), *flags, *(str(n) for n in numbers)))
    return rows


def _queue_rows(levels: Levels) -> list[Row]:
    rows: list[Row] = [_QUEUES]
    for level in _ordered(levels):
        for index, queue in enumerate(level.set.queues):
            waiting = queue.waiting
            rows.append((
                level.name, str(index), str(len(waiting)), str(queue.executing), str(queue.seats), _work(queue.next_r),
                str(sum(r.initial for r in waiting)), str(sum(r.seats for r in waiting)), _work(queue.work),
            ))  # fmt: skip
    return rows


def _request_rows(levels: Levels, details: bool, since: Callable[[float | None], str]) -> list[Row]:
    rows: list[Row] = [(*_REQUESTS, *_DETAILS) if details else _REQUESTS]

    def add(level: Level, queue: int, place: int, request: Any) -> None:
        row = (
            level.name, request.schema, str(queue), str(place), request.flow, since(request.arrived),
            str(request.initial), str(request.final), _duration(request.latency), since(request.started),
        )  # fmt: skip
        rows.append((*row, *_details(request)) if details else row)

    for level in _ordered(levels):
        for index, queue in enumerate(level.set.queues):
            for place, request in enumerate(queue.waiting):
                add(level, index, place, request)
            for request in queue.running:
                add(level, index, -1, request)
        for request in level.set.queueless:
            add(level, -1, -1, request)
    return rows


def _details(ticket: Ticket) -> Row:
    info = ticket.info
    version = f"{info.group}/{info.version}" if info.group else info.version
    return (
        ticket.user.name, info.verb, info.path, info.namespace, info.name, version, info.resource, info.subresource
    )  # fmt: skip


def _text(rows: list[Row]) -> str:
    """Columns as wide as they must be, and at least eight characters."""
    cells = [[f"{cell}," for cell in row[:-1]] + [row[-1]] for row in rows]
    widths = [max(8, *(len(row[i]) + 1 for row in cells)) for i in range(len(rows[0]) - 1)]
    lines = ["".join(c.ljust(w) for c, w in zip(row, [*widths, 0], strict=True)) for row in cells]
    return "\n".join(lines) + "\n"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _work(seat_seconds: float) -> str:
    return f"{seat_seconds:.8f}ss"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if seconds else "0s"


def _time(when: datetime) -> str:
    text = when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"
