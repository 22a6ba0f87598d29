"""What takes events: the contract, and how a backend's failures count (pkg/server/options/audit.go)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from podling.apiserver.audit.event import Event

BATCH, BLOCKING, BLOCKING_STRICT = MODES = ("batch", "blocking", "blocking-strict")


class Backend(Protocol):
    """Events are not changed once they are here, and may be kept."""

    def start(self) -> None:
        """Begin what runs beside the requests."""

    async def write(self, events: Sequence[Event]) -> bool:
        """Whether all of them were taken. Failures are reported where they happen."""

    async def close(self) -> None:
        """Write what is left."""


class Forgiving:
    """Mode `blocking`: a request waits for its events, but does not fail with them."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def start(self) -> None:
        self._inner.start()

    async def write(self, events: Sequence[Event]) -> bool:
        await self._inner.write(events)
        return True

    async def close(self) -> None:
        await self._inner.close()


class Union:
    """Several backends, each of which gets everything."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends

    def start(self) -> None:
        for backend in self._backends:
            backend.start()

    async def write(self, events: Sequence[Event]) -> bool:
        taken = True
        for backend in self._backends:
            taken = await backend.write(events) and taken
        return taken

    async def close(self) -> None:
        for backend in self._backends:
            await backend.close()
