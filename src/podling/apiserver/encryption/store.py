"""A store whose values are encrypted: seen from the watch cache a store like any other.

A value that this process wrote is not decrypted when its event comes back. For each object it is remembered by which
key its newest version is encrypted, so that a write that changes nothing is done all the same if that key is not the
one that is written with now (`outdated`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from podling import clock
from podling.api import errors
from podling.api.errors import StatusError
from podling.apiserver.encryption import metrics
from podling.apiserver.encryption.identity import LABEL as PLAIN
from podling.apiserver.encryption.resource_names import GroupResource, of_key
from podling.apiserver.encryption.transformer import ENCRYPTED, Opened, Transformer, TransformError
from podling.apiserver.encryption.transformers import Transformers, described
from podling.store.base import Conflict, Event, KeyValue, Op, Page, Put, Store, Unavailable


class EncryptedStore:
    """`Store` over `inner`, which stays whose it is: it is opened and closed elsewhere."""

    def __init__(self, inner: Store, transformers: Transformers) -> None:
        self._inner = inner
        self.transformers = transformers
        #: By which key the newest version of an object is encrypted; of objects that are plain nothing is kept.
        self.labels: dict[str, str] = {}
        self._written: dict[str, tuple[Opened, bytes]] = {}

    # Life: the inner store's

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    @property
    def revision(self) -> int:
        return self._inner.revision

    @property
    def compacted(self) -> int:
        return self._inner.compacted

    async def compact(self, revision: int) -> None:
        await self._inner.compact(revision)

    # Reads. StatusError 500 for what can't be decrypted

    async def get(self, key: str, revision: int | None = None) -> KeyValue | None:
        found = await self._inner.get(key, revision)
        return await self._opened(found, newest=revision is None) if found is not None else None

    async def list(
        self, prefix: str, *, start: str | None = None, limit: int | None = None, revision: int | None = None
    ) -> Page:
        page = await self._inner.list(prefix, start=start, limit=limit, revision=revision)
        items = [await self._opened(item, newest=revision is None) for item in page.items]
        return Page(items, page.revision, page.remaining)

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[Sequence[Event]]:
        async for events in self._inner.watch(prefix, revision):
            yield [await self._event(event) for event in events]

    async def unreadable(self, prefix: str) -> Mapping[str, Sequence[str]]:
        """The keys of objects that can't be decrypted, by why not."""
        found: dict[str, Sequence[str]] = {}
        for item in (await self._inner.list(prefix)).items:
            if item.value.startswith(ENCRYPTED):
                try:
                    await self._open(item.key, item.value)
                except TransformError as error:
                    why = f"{described(item.value)}: {error}"
                    found[why] = [*found.get(why, ()), item.key]
        return found

    # Writes

    async def commit(self, ops: Sequence[Op]) -> int:
        sealed = [self._sealed(op) if isinstance(op, Put) else op for op in ops]
        try:
            return await self._inner.commit(sealed)
        except BaseException as error:
            for op in sealed:
                self._written.pop(op.key, None)
            if isinstance(error, Conflict) and error.current is not None:
                raise Conflict(error.key, await self._opened(error.current, newest=True)) from None
            raise

    # What is written with another key than now

    def outdated(self, key: str) -> bool:
        """Whether the object's newest version would be encrypted differently now."""
        return self.labels.get(key, PLAIN) != self._of(key).label

    def in_use(self) -> Counter[tuple[GroupResource, str]]:
        """How many objects of which resource are encrypted by which key."""
        return Counter((of_key(key), label) for key, label in self.labels.items())

    # How

    def _of(self, key: str) -> Transformer:
        return self.transformers.of(of_key(key))

    def _note(self, key: str, label: str) -> None:
        if label == PLAIN:
            self.labels.pop(key, None)
        else:
            self.labels[key] = label

    def _sealed(self, op: Put) -> Put:
        transformer = self._of(op.key)
        if transformer.label == PLAIN:
            return op
        began = clock.real_seconds()
        try:
            data = transformer.seal(op.value, op.key.encode())
        except TransformError as error:
            _count(op.key, "to_storage", b"", began, "Unknown")
            raise errors.internal(str(error)) from error
        _count(op.key, "to_storage", data, began)
        self._written[op.key] = Opened(op.value, transformer.label), data
        return msgspec.structs.replace(op, value=data)

    async def _opened(self, item: KeyValue, *, newest: bool) -> KeyValue:
        try:
            value, label = await self._open(item.key, item.value)
        except TransformError as error:
            raise unreadable(item.key, error) from error
        if newest:
            self._note(item.key, label)
        return item if value is item.value else msgspec.structs.replace(item, value=value)

    async def _open(self, key: str, data: bytes) -> Opened:
        transformer = self._of(key)
        if transformer.label == PLAIN and not data.startswith(ENCRYPTED):
            return Opened(data, PLAIN)
        began = clock.real_seconds()
        try:
            opened = await transformer.open(data, key.encode())
        except TransformError:
            _count(key, "from_storage", data, began, "Unknown")
            raise
        _count(key, "from_storage", data, began)
        return opened

    async def _event(self, event: Event) -> Event:
        """Raises Unavailable, after which the reader tries again: the key may be at a plugin that is away."""
        if event.value is None:
            self.labels.pop(event.key, None)
            return event
        try:
            value = await self._newest(event.key, event.value)
        except TransformError as error:
            raise Unavailable(f'unable to transform key "{event.key}": {error}') from error
        return event if value is event.value else Event(event.revision, event.key, value)

    async def _newest(self, key: str, data: bytes) -> bytes:
        mine = self._written.get(key)
        if mine is not None and mine[1] == data:
            del self._written[key]
            value, label = mine[0]
        else:
            value, label = await self._open(key, data)
        self._note(key, label)
        return value


def unreadable(key: str, error: TransformError) -> StatusError:
    """500, in upstream's words."""
    return errors.internal(f'unable to transform key "{key}": {error}')


def _count(key: str, direction: str, data: bytes, began: float, status: str = "OK") -> None:
    prefix = "identity"
    if data.startswith(ENCRYPTED):
        # The provider, its version and a KMS plugin's name; never the name of a key.
        parts = data.split(b":", 5)
        shown = parts[:5] if parts[2] == b"kms" else parts[:4]
        prefix = b":".join(shown).decode("utf-8", "replace") + ":"
    metrics.OPERATIONS.add(str(of_key(key)), direction, prefix, status)
    if status == "OK":
        metrics.DURATIONS.observe((direction, prefix), clock.real_seconds() - began)
