"""The store: a revisioned log of bytes, and all that an API server needs of one.

It knows nothing of Kubernetes. Every commit gets the next revision, a number that only grows; keys keep the revision of
their last change; watches replay the log from any revision that is not compacted. The shape is etcd's, so that etcd can
serve it.

Backends: `memory`, `sqlite` (the embedded default); one contract test suite binds them all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from podling.errors import PodlingError


class StoreError(PodlingError):
    """The store refused."""


class Conflict(StoreError):
    """An expected revision was not the one found. Nothing of the commit was written.

    `current` is what the key holds now, None if it does not exist. It is durable, and so is the deletion of what is not
    there any more: whoever lost the race and looks again sees what it was lost to.
    """

    def __init__(self, key: str, current: KeyValue | None) -> None:
        super().__init__(
            f"{key}: stored at revision {current.mod_revision if current else 0}, which is not the expected one"
        )
        self.key = key
        self.current = current


class Compacted(StoreError):
    """The wanted revision is older than what the log still holds."""

    def __init__(self, wanted: int, oldest: int) -> None:
        super().__init__(f"revision {wanted} has been compacted; the oldest is {oldest}")
        self.wanted = wanted
        self.oldest = oldest


class Unavailable(StoreError):
    """The store can't answer now (disk full, closed, not reached); what was asked may be tried again later."""


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    key: str
    value: bytes
    create_revision: int
    mod_revision: int


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write `value`. `expected`: None always writes, 0 only if the key does not exist, N only at mod_revision N."""

    key: str
    value: bytes
    expected: int | None = None


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Remove the key. `expected` as in Put; a key that does not exist is a Conflict unless expected is None."""

    key: str
    expected: int | None = None


Op = Put | Delete


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change. `value` is None for a deletion."""

    revision: int
    key: str
    value: bytes | None


class Page(msgspec.Struct, frozen=True):
    """Keys in order, as they stood at `revision`. `remaining` counts the keys behind the last one."""

    items: list[KeyValue]
    revision: int
    remaining: int = 0


class Store(Protocol):
    """All methods may raise Unavailable."""

    async def open(self) -> None:
        """Make ready; a store that was not closed in order is recovered here."""

    async def close(self) -> None:
        """Finish what is being written, end the watches, release the files."""

    @property
    def revision(self) -> int:
        """The revision of the newest commit; 0 when empty."""

    @property
    def compacted(self) -> int:
        """Reads and watches below this revision raise Compacted; 0 when the log is whole."""

    async def get(self, key: str, revision: int | None = None) -> KeyValue | None: ...

    async def list(
        self, prefix: str, *, start: str | None = None, limit: int | None = None, revision: int | None = None
    ) -> Page:
        """Keys beginning with `prefix`, in byte order, from `start` (inclusive) on, at most `limit`.

        At `revision` (now, if None): a page read later at the revision of the first is consistent with it.
        """

    async def commit(self, ops: Sequence[Op]) -> int:
        """All of `ops` or none, as one revision, which is returned when it is durable. Raises Conflict."""

    def watch(self, prefix: str, revision: int) -> AsyncIterator[Sequence[Event]]:
        """Every event of keys under `prefix` with a revision above `revision`, in order, none twice, without end.

        Events of one commit come together. Raises Compacted, at the start or when the reader falls behind compaction.
        """

    async def compact(self, revision: int) -> None:
        """Forget what only revisions below `revision` need. Space is given back to the disk in the background."""
