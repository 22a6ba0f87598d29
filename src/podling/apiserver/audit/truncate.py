"""Events that are too big lose their objects, batches that are too big are divided (plugin/pkg/audit/truncate)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podling.apiserver.audit import metrics
from podling.apiserver.audit.backend import Backend
from podling.apiserver.audit.event import Event, as_json
from podling.apiserver.audit.policy import REQUEST, REQUEST_RESPONSE

ANNOTATION = "audit.k8s.io/truncated"


class Truncating:
    """`max_event` and `max_batch` are bytes."""

    def __init__(self, inner: Backend, max_event: int, max_batch: int) -> None:
        self._inner = inner
        self._max_event = max_event
        self._max_batch = max_batch

    def start(self) -> None:
        self._inner.start()

    async def close(self) -> None:
        await self._inner.close()

    async def write(self, events: Sequence[Event]) -> bool:
        taken, lost = True, []
        batch: list[Event] = []
        filled = 0
        for event in events:
            size = len(as_json(event))
            if size > self._max_event and event.level in (REQUEST, REQUEST_RESPONSE):
                event = shortened(event)
                size = len(as_json(event))
            if size > self._max_event:
                lost.append(event)
                continue
            if batch and filled + size > self._max_batch:
                taken = await self._inner.write(batch) and taken
                batch, filled = [], 0
            batch.append(event)
            filled += size
        if batch:
            taken = await self._inner.write(batch) and taken
        if lost:
            metrics.failed("truncate", "event is too large even after truncating", lost)
        return taken


def shortened(event: Event) -> Event:
    return msgspec.structs.replace(
        event, request_object=None, response_object=None, annotations={**event.annotations, ANNOTATION: "true"}
    )
