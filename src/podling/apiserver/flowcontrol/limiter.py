"""What the HTTP server asks before it serves a request: come in, wait, or come again later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from podling.api.request import User
from podling.apiserver.request_info import RequestInfo

_READS = frozenset(("get", "list", "watch"))


class TooMany(Exception):
    """429: the request is turned away. `headers` are lines of the answer, `retry_after` is in seconds."""

    def __init__(self, headers: str, retry_after: int) -> None:
        super().__init__("Too many requests, please try again later.")
        self.headers = headers
        self.retry_after = retry_after


class Ticket(Protocol):
    """A request that was let in, or waits."""

    @property
    def waiting(self) -> bool: ...

    @property
    def headers(self) -> str:
        """Lines for its answer."""


class Limiter(Protocol):
    """`enter`; `wait` if the ticket says so; when the request has been served (a watch: begun), `leave`."""

    def enter(self, user: User, info: RequestInfo, query: Mapping[str, str]) -> Ticket:
        """Raises TooMany."""

    async def wait(self, ticket: Ticket, seconds: float, lost: set[Callable[[], None]]) -> None:
        """Until it is its turn. Raises TooMany after `seconds`; ConnectionResetError if one of `lost` is called."""

    def leave(self, ticket: Ticket) -> None:
        """It may be left only once, by who was let in."""

    def serve(self) -> None:
        """Requests come from now on."""

    def close(self) -> None:
        """None come any more."""

    @property
    def executing(self) -> Watermarks: ...

    @property
    def waiting(self) -> Watermarks: ...


def mutating(info: RequestInfo) -> bool:
    """Of which kind a request is, `mutating` or `readOnly`."""
    return info.verb not in _READS


class Watermark:
    """The most requests of a kind that there were at once in the last second."""

    __slots__ = ("_before", "_high", "_now", "_second", "value")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.value = 0
        self._high = self._before = 0
        self._second = 0

    def add(self, delta: int) -> None:
        second = int(self._now())
        if second != self._second:
            self._turn(second)
        self.value += delta
        if self.value > self._high:
            self._high = self.value

    def read(self) -> int:
        """Of the last full second, or of this one if there was more."""
        self._turn(int(self._now()))
        return max(self._before, self._high)

    def _turn(self, second: int) -> None:
        if second != self._second:
            self._before = self._high if second == self._second + 1 else self.value
            self._high = self.value
            self._second = second


class Watermarks:
    """Of both kinds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.mutating, self.read_only = Watermark(now), Watermark(now)

    def add(self, info: RequestInfo, delta: int) -> None:
        (self.mutating if info.verb not in _READS else self.read_only).add(delta)

    def read(self) -> dict[tuple[str, ...], float]:
        """By the label `request_kind`."""
        return {("mutating",): self.mutating.read(), ("readOnly",): self.read_only.read()}


class Rounds:
    """Calls back when the event loop has come round once: what is taken now is given back then."""

    def __init__(self, back: Callable[[list[Ticket]], None]) -> None:
        self._back = back
        self._held: list[Ticket] = []

    def hold(self, ticket: Ticket) -> None:
        if not self._held:
            asyncio.get_running_loop().call_soon(self._come_round)
        self._held.append(ticket)

    def _come_round(self) -> None:
        held, self._held = self._held, []
        self._back(held)
