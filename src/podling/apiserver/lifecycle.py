"""Requests that are being served: how long each may take, and the end of all of them when the server shuts down.

Looking at the clock for every request would cost more than serving some of them: requests with the usual time limit
stand in the order in which they time out, and one timer is set for the first of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from podling.api import errors, times
from podling.api.errors import StatusError, bad_request
from podling.apiserver.cache import WatchCache
from podling.apiserver.request_info import RequestInfo

#: Subresources and verbs whose requests have no end of their own, or none that could be told beforehand.
_LONG_SUBRESOURCES = frozenset(("attach", "exec", "log", "portforward", "proxy"))
_LONG_VERBS = frozenset(("watch", "proxy"))

#: Served until the very end: probes and scrapers want to see the server shut down.
_EXEMPT = ("/readyz", "/livez", "/healthz", "/metrics")


def long_running(info: RequestInfo) -> bool:
    """Whether there is no limit to the time that a request takes."""
    return info.verb in _LONG_VERBS or info.subresource in _LONG_SUBRESOURCES


def exempt(path: str) -> bool:
    """Whether a path is served while the server shuts down."""
    return path.startswith(_EXEMPT)


def timeout_of(query: Mapping[str, str]) -> float:
    """Seconds that the client gives a request; 0 if it does not say. StatusError 400."""
    text = query.get("timeout", "")
    if not text:
        return 0.0
    try:
        return times.parse_duration(text) / 1e9
    except ValueError as error:
        raise bad_request(f"invalid timeout specified in the request URL - {error}") from None


def timed_out() -> StatusError:
    """What a request is told that took too long."""
    return errors.timeout("request did not complete within the allotted timeout", 0)


class Flight:
    """One request, from its start to `InFlight.end`. `seconds` are all that it has."""

    __slots__ = ("deadline", "expired", "seconds", "task", "timer")

    def __init__(self, task: asyncio.Task[Any], seconds: float, deadline: float) -> None:
        self.task = task
        self.seconds = seconds
        self.deadline = deadline
        self.timer: asyncio.TimerHandle | None = None
        #: Whether it was cancelled for taking too long.
        self.expired = False

    def expire(self) -> None:
        self.expired = True
        self.task.cancel()


class InFlight:
    """All requests that are not long-running; `limit` is the time in seconds that one may take."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._flights: dict[Flight, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._flights)

    def begin(self, seconds: float) -> Flight:
        """The current task serves a request that has `seconds`, if that is less than the limit and not 0."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        own = 0 < seconds < self.limit
        seconds = seconds if own else self.limit
        flight = Flight(task, seconds, loop.time() + seconds)
        if own:
            flight.timer = loop.call_at(flight.deadline, flight.expire)
        elif self._timer is None:
            self._timer = loop.call_at(flight.deadline, self._expire)
        self._flights[flight] = None
        return flight

    def end(self, flight: Flight) -> None:
        del self._flights[flight]
        if flight.timer is not None:
            flight.timer.cancel()
        if not self._flights and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drain(self, seconds: float) -> int:
        """Wait until all have ended, but not longer than that; how many have not."""
        if self._flights:
            self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._drained,), timeout=seconds)
        return len(self._flights)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """The time of the first one is up, if it is still there; look again when the next one's is."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for flight in self._flights:
            if flight.timer is not None:
                continue
            if flight.deadline > now:
                self._timer = loop.call_at(flight.deadline, self._expire)
                break
            if not flight.expired:
                flight.expire()


async def end_watches(hub: WatchCache, grace: float) -> None:
    """End all watches, spread over `grace` seconds (but 200 a second) so that not all clients come back at once."""
    watches = [watch for cache in hub.caches.values() for watch in cache.watches()]
    rate = max(200.0, len(watches) / grace) if grace > 0 else 0.0
    for number, watch in enumerate(watches):
        if rate and number and number % 20 == 0:
            await asyncio.sleep(20 / rate)
        if watch.bookmarks:
            watch.bookmark(hub.revision)
        watch.end()
