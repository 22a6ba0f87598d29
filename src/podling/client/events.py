"""Events: what the parts of a cluster say to people, written in the background and never in anybody's way.

Repetition is folded before it reaches the server, by client-go's rules: the same text again counts up the event that is
there; ten different texts of one reason within ten minutes become one combined event; an object about which a source
says more than 25 things falls back to one every five minutes.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from podling import clock, log
from podling.api import core_v1, errors, times
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.client.base import Client, PatchType
from podling.client.workqueue import TokenBucket

V = TypeVar("V")

NORMAL = "Normal"
WARNING = "Warning"

#: Events waiting to be written; what comes when it is full is dropped (client-go's broadcaster).
QUEUE_LENGTH = 1000
CACHE_ENTRIES = 4096
AGGREGATE_EVENTS, AGGREGATE_SECONDS = 10, 600.0
SPAM_BURST, SPAM_RATE = 25, 1 / 300
#: Writing is tried this often, this many seconds apart.
TRIES, RETRY_SECONDS = 12, 10.0
#: A series that was not continued for so long is over (client-go tools/events).
SERIES_SECONDS = 360.0

_log = log.get(__name__)


class _Lru(Generic[V]):
    def __init__(self) -> None:
        self._entries: OrderedDict[Any, V] = OrderedDict()

    def get(self, key: Any) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: Any, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > CACHE_ENTRIES:
            self._entries.popitem(last=False)


class _Similar(msgspec.Struct):
    messages: set[str]
    last: datetime


class _Write(msgspec.Struct):
    """`patch` None: create the event; else count up the one that is there."""

    event: core_v1.Event
    patch: dict[str, Any] | None = None


class Correlator:
    """Decides what becomes of an event: dropped, counted up, combined or new. Pure but for the clock."""

    def __init__(self) -> None:
        self._spam: _Lru[TokenBucket] = _Lru()
        self._similar: _Lru[_Similar] = _Lru()
        self._known: _Lru[core_v1.Event] = _Lru()

    def correlate(self, event: core_v1.Event, now: datetime) -> tuple[core_v1.Event, dict[str, Any] | None] | None:
        """The event to write and, if it is there already, the patch that counts it up; None to drop it."""
        bucket = self._spam.get(_about(event))
        if bucket is None:
            bucket = TokenBucket(SPAM_RATE, SPAM_BURST)
            self._spam.put(_about(event), bucket)
        if not bucket.try_take():
            return None
        key = self._aggregate(event, now)
        known = self._known.get(key)
        if known is None:
            self._known.put(key, event)
            return event, None
        known = msgspec.structs.replace(known, count=(known.count or 1) + 1, last_timestamp=event.last_timestamp)
        known.message = event.message
        self._known.put(key, known)
        return known, {"count": known.count, "lastTimestamp": known.last_timestamp, "message": known.message}

    def _aggregate(self, event: core_v1.Event, now: datetime) -> Any:
        """The event's identity; an event like ten others becomes the combined one, in place."""
        group = (*_about(event), event.type, event.reason, event.reporting_component, event.reporting_instance)
        similar = self._similar.get(group)
        if similar is None or (now - similar.last).total_seconds() > AGGREGATE_SECONDS:
            similar = _Similar(set(), now)
            self._similar.put(group, similar)
        similar.messages.add(event.message or "")
        similar.last = now
        if len(similar.messages) < AGGREGATE_EVENTS:
            return (*group, event.message, event.involved_object.field_path)
        similar.messages.pop()
        event.message = f"(combined from similar events): {event.message}"
        return group


def _about(event: core_v1.Event) -> tuple[Any, ...]:
    source, about = event.source or core_v1.EventSource(), event.involved_object
    return (
        source.component, source.host, about.kind, about.namespace, about.name, about.uid, about.api_version,
    )  # fmt: skip


def reference(obj: Any, field_path: str | None = None) -> core_v1.ObjectReference:
    """An ObjectReference to an API object (or the reference itself)."""
    if isinstance(obj, core_v1.ObjectReference):
        return clone(obj)
    meta = obj.metadata
    return core_v1.ObjectReference(
        kind=obj.kind,
        api_version=obj.api_version,
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
        field_path=field_path,
    )


class Recorder:
    """Says things about objects, as `component` on `host`.

    `series`: speak as the events.k8s.io API does (eventTime and series instead of counts), as the scheduler does.
    """

    _last_name = 0

    def __init__(self, client: Client, component: str, host: str = "", *, series: bool = False) -> None:
        self._client = client
        self._component, self._host = component, host
        self._correlator = Correlator()
        self._series: _Lru[core_v1.Event] | None = _Lru() if series else None
        self._queue: asyncio.Queue[_Write] = asyncio.Queue(QUEUE_LENGTH)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def event(
        self,
        obj: Any,
        type: str,
        reason: str,
        message: str,
        *,
        action: str = "",
        related: Any = None,
        field_path: str | None = None,
        annotations: dict[str, str] | None = None,
    ) -> None:
        """Say `message` about `obj` (an API object or an ObjectReference). `type` is NORMAL or WARNING; never waits."""
        if self._closed:
            return
        now = clock.now()
        event = self._make(reference(obj, field_path), type, reason, message, now)
        event.action = action or None
        event.related = reference(related) if related is not None else None
        event.metadata.annotations = annotations
        write = self._correlate_series(event, now) if self._series is not None else self._correlate(event, now)
        if write is None:
            return
        try:
            self._queue.put_nowait(write)
        except asyncio.QueueFull:
            _log.debug("too many events at once, dropped: %s %s", reason, message)
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"events of {self._component}")

    async def flush(self) -> None:
        """Until all that was said is written."""
        await self._queue.join()

    async def close(self, *, timeout: float = 1.0) -> None:
        """Write what is waiting, for at most `timeout` seconds, and stop."""
        self._closed = True
        task, self._task = self._task, None
        if task is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._queue.join()
        except TimeoutError:
            pass
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _make(
        self, about: core_v1.ObjectReference, type_: str, reason: str, message: str, now: datetime
    ) -> core_v1.Event:
        # Two events of one instant (virtual time stands still) must differ in name.
        Recorder._last_name = max(Recorder._last_name + 1, int(now.timestamp() * 1_000_000) * 1000)
        event = core_v1.Event(
            metadata=ObjectMeta(name=f"{about.name}.{Recorder._last_name:x}", namespace=about.namespace or "default"),
            involved_object=about,
            reason=reason,
            message=message,
            type=type_,
            reporting_component=self._component,
            reporting_instance=self._host,
        )
        if self._series is not None:
            event.event_time = times.format_micro(now)
        else:
            event.source = core_v1.EventSource(component=self._component, host=self._host or None)
            event.first_timestamp = event.last_timestamp = times.format(now)
            event.count = 1
        return event

    def _correlate(self, event: core_v1.Event, now: datetime) -> _Write | None:
        decided = self._correlator.correlate(event, now)
        return _Write(*decided) if decided is not None else None

    def _correlate_series(self, event: core_v1.Event, now: datetime) -> _Write:
        """An event like one of the last minutes continues it as a series."""
        assert self._series is not None
        about, related = event.involved_object, event.related
        key = (
            event.type, event.action, event.reason, about.kind, about.namespace, about.name, about.uid,
            related.uid if related else None,
        )  # fmt: skip
        known = self._series.get(key)
        if known is not None:
            last = times.parse((known.series.last_observed_time if known.series else known.event_time) or "")
            if (now - last).total_seconds() < SERIES_SECONDS:
                count = (known.series.count or 1) + 1 if known.series else 2
                series = core_v1.EventSeries(count=count, last_observed_time=times.format_micro(now))
                known = msgspec.structs.replace(known, series=series)
                self._series.put(key, known)
                patch = {"series": {"count": count, "lastObservedTime": series.last_observed_time}}
                return _Write(known, patch)
        self._series.put(key, event)
        return _Write(event)

    async def _run(self) -> None:
        while True:
            write = await self._queue.get()
            try:
                await self._write(write)
            except Exception:
                _log.exception("an event could not be written")
            finally:
                self._queue.task_done()

    async def _write(self, write: _Write) -> None:
        for attempt in range(TRIES):
            try:
                await self._write_once(write)
                return
            except errors.StatusError as error:
                # What the server understood and refused it will refuse again.
                if error.code < 500 and error.code != 429:
                    _log.debug("event refused: %s", error)
                    return
                _log.debug("event not written: %s", error)
            await asyncio.sleep(RETRY_SECONDS * (random.random() if attempt == 0 else 1))

    async def _write_once(self, write: _Write) -> None:
        meta = write.event.metadata
        if write.patch is not None:
            try:
                await self._client.patch(
                    core_v1.Event, meta.name or "", meta.namespace, write.patch, type=PatchType.STRATEGIC
                )
                return
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    raise
        # A copy: the server takes over what it is given, and we count on.
        await self._client.create(clone(write.event))
