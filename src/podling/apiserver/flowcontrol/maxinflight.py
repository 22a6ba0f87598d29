"""The plain limit, without priorities: so many requests that read and so many that write at once, and not one more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from podling import clock
from podling.api.request import User
from podling.apiserver.flowcontrol.limiter import Rounds, TooMany, Watermarks, mutating
from podling.apiserver.request_info import RequestInfo

_MASTERS = "system:masters"


class Ticket:
    """`limiter.Ticket`: such a request never waits. `counted` if it has one of the places."""

    __slots__ = ("counted", "info")

    waiting = False
    headers = ""

    def __init__(self, info: RequestInfo, counted: bool) -> None:
        self.info = info
        self.counted = counted


class MaxInFlight:
    """`limiter.Limiter`. A limit of 0 is none; watches and `system:masters` have none."""

    def __init__(self, reading: int, writing: int, *, now: Callable[[], float] = clock.real_seconds) -> None:
        self._limits = {False: reading, True: writing}
        self._used = {False: 0, True: 0}
        self._rounds: Rounds = Rounds(self._give_back)
        self.executing, self.waiting = Watermarks(now), Watermarks(now)

    def enter(self, user: User, info: RequestInfo, query: Mapping[str, str]) -> Ticket:
        """Raises TooMany."""
        if info.verb == "watch":
            return Ticket(info, False)
        writes = mutating(info)
        limit = self._limits[writes]
        counted = not limit or self._used[writes] < limit
        if counted:
            self._used[writes] += 1
            self.executing.add(info, 1)
        elif _MASTERS not in user.groups:
            raise TooMany("", 1)
        return Ticket(info, counted)

    async def wait(self, ticket: Any, seconds: float, lost: set[Callable[[], None]]) -> None:
        """Nobody waits."""

    def serve(self) -> None:
        """Nothing changes with time."""

    def close(self) -> None:
        """Nothing is held."""

    def leave(self, ticket: Any) -> None:
        if ticket.counted:
            self.executing.add(ticket.info, -1)
            self._rounds.hold(ticket)

    def _give_back(self, tickets: list[Any]) -> None:
        for ticket in tickets:
            self._used[mutating(ticket.info)] -= 1
