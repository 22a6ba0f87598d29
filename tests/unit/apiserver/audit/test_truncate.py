from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podling.api.struct import encode
from podling.apiserver.audit import metrics
from podling.apiserver.audit.event import Event
from podling.apiserver.audit.truncate import Truncating


class Inner:
    def __init__(self) -> None:
        self.got: list[list[Event]] = []

    def start(self) -> None:
        pass

    async def write(self, events: Sequence[Event]) -> bool:
        self.got.append(list(events))
        return True

    async def close(self) -> None:
        pass


BIG = Event(level="RequestResponse", request_object=msgspec.Raw(b'"%s"' % (b"x" * 500)))


async def test_objects_go_first_and_that_is_noted() -> None:
    inner = Inner()
    assert await Truncating(inner, 400, 10_000).write([BIG])
    ((event,),) = inner.got
    assert event.request_object is None and event.annotations == {"audit.k8s.io/truncated": "true"}
    assert BIG.request_object is not None and not BIG.annotations


async def test_what_is_still_too_big_is_lost_and_counted() -> None:
    inner = Inner()
    before = metrics.ERRORS.values.get(("truncate",), 0)
    await Truncating(inner, 100, 10_000).write([BIG])
    assert inner.got == [] and metrics.ERRORS.values["truncate",] == before + 1


async def test_batches_are_divided() -> None:
    inner = Inner()
    size = len(encode(Event()))
    await Truncating(inner, size, 2 * size).write([Event()] * 5)
    assert [len(batch) for batch in inner.got] == [2, 2, 1]
