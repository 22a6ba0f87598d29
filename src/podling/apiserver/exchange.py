"""One request over HTTP, from its arrival to its answer: what it holds while it is served, what is counted of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from podling import clock
from podling.apiserver.request_info import truthy

if TYPE_CHECKING:
    from podling.apiserver.audit.trail import Trail
    from podling.apiserver.flowcontrol.limiter import Ticket
    from podling.apiserver.lifecycle import Flight
    from podling.apiserver.metrics import Kind
    from podling.apiserver.request_info import RequestInfo
    from podling.metrics import Cell


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def begin(exchange: Exchange) -> None:
    """It is the current one of this task from now on."""
    _current.set(exchange)


@contextmanager
def waiting() -> Iterator[None]:
    """The time of the block is a webhook's, and not this server's work."""
    exchange, began = _current.get(), clock.real_seconds()
    try:
        yield
    finally:
        if exchange is not None:
            exchange.waited += clock.real_seconds() - began


def warn(text: str) -> None:
    """The answer to the current request carries this warning, also if it is a refusal."""
    exchange = _current.get()
    if exchange is not None and text not in exchange.warnings:
        exchange.warnings = (*exchange.warnings, text)


class Exchange:
    """Filled in as more becomes known. `size` is that of the answer's body in bytes."""

    __slots__ = (
        "flight", "headers", "info", "kind", "long", "path", "query", "size", "started", "status", "ticket",
        "trail", "waited", "warnings",
    )  # fmt: skip

    def __init__(self, path: str, headers: dict[str, str]) -> None:
        self.started = clock.real_seconds()
        self.path = path
        self.headers = headers
        self.query: dict[str, str] = {}
        self.info: RequestInfo | None = None
        self.trail: Trail | None = None
        #: While it is served; None if it is long-running.
        self.flight: Flight | None = None
        #: While it holds seats or waits for them.
        self.ticket: Ticket | None = None
        self.kind: Kind | None = None
        #: Counted among the long-running requests.
        self.long: Cell | None = None
        #: Of the answer; 0 if there is none because the connection was lost.
        self.status = 200
        self.size = 0
        #: Seconds for which it was not this server's work.
        self.waited = 0.0
        #: What is wrong with how it came, such as its credentials.
        self.warnings: tuple[str, ...] = ()

    def lasts(self) -> None:
        """It is long-running, and is being served."""
        if self.kind is not None and self.kind.long_running is not None:
            self.long = self.kind.long_running
            self.long.value += 1

    def listed(self) -> None:
        """It is a watch, and all that was there at its start has been sent."""
        if self.kind is not None and truthy(self.query.get("sendInitialEvents")):
            self.kind.listed(clock.real_seconds() - self.started)

    def counted(self) -> None:
        """It is over."""
        if self.long is not None:
            self.long.value -= 1
        if self.kind is not None and self.status:
            self.kind.answered(self.status, clock.real_seconds() - self.started, self.size, self.waited)
