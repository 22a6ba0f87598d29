"""The watch cache: all reads and watches are answered from memory, and the store is only written.

One reader follows the store's log from the revision at which everything was loaded, and brings each change to the
cache of its resource. What this process wrote itself is not decoded again: the writer leaves the object here before it
commits, and the change that comes back with the same bytes takes it. A read that must be consistent waits until the
reader has come to the store's newest revision, which costs nothing when no write is under way.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

from podling import log
from podling.api import errors, meta_v1
from podling.apiserver.codec import Codec, splice
from podling.apiserver.entry import Change, Entry
from podling.apiserver.watch import Scope, Watch
from podling.errors import PodlingError
from podling.store.base import Compacted, Event, Store, Unavailable

LOG = log.get(__name__)

ROOT = "/registry/"

#: Seconds between bookmarks, and the time a read waits for a revision that has not come yet.
BOOKMARK_INTERVAL = 60.0
PATIENCE = 3.0


class Undecodable(PodlingError):
    """What is stored is no JSON."""

    def __init__(self, key: str, value: bytes) -> None:
        what = "encrypted: give the --encryption-provider-config that it was written with"
        super().__init__(f"{key} is {what if value.startswith(b'k8s:enc:') else 'damaged: it is no JSON'}")


def prefix_of(group: str, resource: str) -> str:
    """`/registry/apps/deployments/`: where the objects of a resource are stored."""
    return f"{ROOT}{group or 'core'}/{resource}/"


class ResourceCache:
    """The objects of one resource, in the order of their keys, with the latest changes and who watches them."""

    def __init__(self, prefix: str, codec: Codec, *, ring: int) -> None:
        self.prefix = prefix
        self.codec = codec
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        #: Bytes of all objects, and how many changes there were.
        self.size = 0
        self.events = 0
        #: The revision of the latest change; lists at any later revision look the same.
        self.changed = 0
        self._ring: list[Change] = []
        self._ring_size = ring
        #: Changes above this revision are all in the ring.
        self.floor = 0
        self._watches: dict[Scope, dict[Watch, None]] = {}
        self._index_of: Callable[[Any], str] | None = None
        self._index: dict[str, set[str]] = {}
        #: Told of every change at once: (event type, object).
        self.observers: list[Callable[[str, Any], None]] = []

    def index_by(self, value: Callable[[Any], str]) -> None:
        """Keep an index by `value` of each object, for lists and watches of one value. Call before there are any."""
        self._index_of = value
        for entry in self.entries.values():
            self._index.setdefault(value(entry.object), set()).add(entry.key)

    @property
    def indexed(self) -> bool:
        return self._index_of is not None

    # Reads: all at the hub's revision

    def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    def all(self) -> list[Entry]:
        """Every object, in order."""
        entries = self.entries
        return [entries[k] for k in self.keys]

    def in_namespace(self, namespace: str) -> list[Entry]:
        """The objects of a namespace, in order."""
        keys, entries = self.keys, self.entries
        # "0" is the character behind "/".
        return [entries[k] for k in keys[bisect_left(keys, namespace + "/") : bisect_left(keys, namespace + "0")]]

    def by_index(self, value: str, namespace: str = "") -> list[Entry]:
        """The objects with an index value, in order."""
        keys = sorted(self._index.get(value, ()))
        if namespace:
            keys = [k for k in keys if k.startswith(namespace + "/")]
        return [self.entries[k] for k in keys]

    def changes_after(self, revision: int) -> list[Change]:
        """What happened since; StatusError 410 if that is no longer known."""
        if revision < self.floor:
            raise errors.expired(f"too old resource version: {revision} ({self.floor})")
        return self._ring[bisect_right(self._ring, revision, key=lambda c: c.revision) :]

    # Changes: only the hub calls these

    def load(self, key: str, revision: int, value: bytes) -> None:
        """An object as it was found at start-up."""
        entry = Entry(key, revision, splice(value, revision), self.codec)
        self.entries[key] = entry
        self.keys.append(key)
        self.size += len(entry.wire)
        self.changed = max(self.changed, revision)
        if self._index_of is not None:
            self._index.setdefault(self._index_of(entry.object), set()).add(key)

    def put(self, key: str, revision: int, value: bytes, obj: Any) -> None:
        if obj is not None:
            obj.metadata.resource_version = str(revision)
        old = self.entries.get(key)
        new = Entry(key, revision, splice(value, revision), self.codec, obj)
        self.entries[key] = new
        self.size += len(new.wire) - (len(old.wire) if old is not None else 0)
        if old is None:
            keys = self.keys
            if keys and key > keys[-1]:
                keys.append(key)
            else:
                insort(keys, key)
        self._happened(Change(revision, key, old, new))

    def remove(self, key: str, revision: int) -> None:
        old = self.entries.pop(key, None)
        if old is None:
            return
        del self.keys[bisect_left(self.keys, key)]
        self.size -= len(old.wire)
        self._happened(Change(revision, key, old, None))

    def _happened(self, change: Change) -> None:
        self.changed = change.revision
        self.events += 1
        ring = self._ring
        ring.append(change)
        if len(ring) >= 2 * self._ring_size:
            self.floor = ring[-self._ring_size - 1].revision
            del ring[: -self._ring_size]
        values: Iterable[str] = ()
        if self._index_of is not None:
            values = self._reindex(change)
        for observer in self.observers:
            entry = change.new or change.old
            assert entry is not None
            observer(change.type, entry.object)
        if self._watches:
            self._hand_out(change, values)

    def _reindex(self, change: Change) -> set[str]:
        assert self._index_of is not None
        was = self._index_of(change.old.object) if change.old else None
        now = self._index_of(change.new.object) if change.new else None
        if was != now:
            if was is not None:
                keys = self._index[was]
                keys.discard(change.key)
                if not keys:
                    del self._index[was]
            if now is not None:
                self._index.setdefault(now, set()).add(change.key)
        return {v for v in (was, now) if v is not None}

    def _hand_out(self, change: Change, values: Iterable[str]) -> None:
        """Only watches that can be concerned are asked: of everything, of the namespace, the name, the index value."""
        watches = self._watches
        entry = change.new or change.old
        assert entry is not None
        scopes = [Scope(), Scope(namespace=entry.namespace), Scope(key=change.key)] if entry.namespace else [
            Scope(), Scope(key=change.key)
        ]  # fmt: skip
        scopes += [Scope(value=v) for v in values]
        for scope in scopes:
            for watch in list(watches.get(scope, ())):
                watch.notify(change)
        change.frames = {}

    # Watches

    def register(self, watch: Watch) -> None:
        self._watches.setdefault(watch.scope, {})[watch] = None

    def unregister(self, watch: Watch) -> None:
        group = self._watches.get(watch.scope)
        if group is not None and group.pop(watch, 0) is None and not group:
            del self._watches[watch.scope]

    def watches(self) -> list[Watch]:
        return [w for group in self._watches.values() for w in group]

    @property
    def capacity(self) -> int:
        """How many changes are remembered at least, once there were as many."""
        return self._ring_size

    def watchers(self, namespace: str, name: str) -> int:
        """How many watch a scope in which a change of this object is: of one value of the index, none are counted."""
        watches, scopes = self._watches, [Scope()]
        if namespace:
            scopes.append(Scope(namespace=namespace))
        if name:
            scopes.append(Scope(key=f"{namespace}/{name}" if namespace else name))
        return sum(len(watches.get(scope, ())) for scope in scopes)


class WatchCache:
    """The caches of all resources, and the reader that keeps them current."""

    def __init__(self, store: Store, *, ring: int = 4096) -> None:
        self.store = store
        #: All changes up to here are in the caches.
        self.revision = 0
        self.caches: dict[str, ResourceCache] = {}
        self._ring = ring
        self._loaded_at = 0
        self._unclaimed: dict[str, list[tuple[str, int, bytes]]] = {}
        self._written: dict[str, tuple[bytes, Any]] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = 0
        self._reader: asyncio.Task[None] | None = None
        self._bookmarks: asyncio.TimerHandle | None = None
        self._dirty: list[Watch] = []
        #: Whether an object must be written even if nothing changed, since it would be stored differently now.
        self.outdated: Callable[[str], bool] | None = None

    # Start and end

    async def start(self) -> None:
        """Load everything, then follow."""
        page = await self.store.list(ROOT)
        self.revision = self._loaded_at = page.revision
        for cache in self.caches.values():
            cache.floor = page.revision
        for kv in page.items:
            if not kv.value.startswith(b"{"):
                raise Undecodable(kv.key, kv.value)
            prefix, key = _split(kv.key)
            cached = self.caches.get(prefix)
            if cached is None:
                self._unclaimed.setdefault(prefix, []).append((key, kv.mod_revision, kv.value))
            else:
                cached.load(key, kv.mod_revision, kv.value)
        self._reader = asyncio.get_running_loop().create_task(self._follow(), name="watch-cache")

    async def close(self) -> None:
        if self._bookmarks is not None:
            self._bookmarks.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for cache in self.caches.values():
            for watch in cache.watches():
                watch.end()
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(errors.unavailable("the API server is shutting down"))
        self._waiting.clear()

    def cache(self, prefix: str, codec: Codec) -> ResourceCache:
        """The cache of a resource; made if there is none (a new custom resource)."""
        found = self.caches.get(prefix)
        if found is None:
            found = self.caches[prefix] = ResourceCache(prefix, codec, ring=self._ring)
            found.floor = self.revision
            for key, revision, value in self._unclaimed.pop(prefix, ()):
                found.load(key, revision, value)
        return found

    def drop(self, prefix: str) -> None:
        """The resource is no longer served; its watches end."""
        cache = self.caches.pop(prefix, None)
        if cache is None:
            return
        for watch in cache.watches():
            watch.end()
        self._unclaimed[prefix] = [(e.key, e.revision, e.stored) for e in cache.all()]

    # The reader

    async def _follow(self) -> None:
        while True:
            try:
                async for events in self.store.watch(ROOT, self.revision):
                    self._take(events)
                return
            except Compacted:
                LOG.warning("the store was compacted beyond revision %d: reading everything again", self.revision)
                await self._reload()
            except Unavailable as error:
                LOG.warning("the store's log can't be read, trying again: %s", error)
                await asyncio.sleep(1.0)

    def _take(self, events: Iterable[Event]) -> None:
        written, caches = self._written, self.caches
        for event in events:
            prefix, key = _split(event.key)
            cache = caches.get(prefix)
            if cache is None:
                self._take_unclaimed(prefix, key, event)
            elif event.value is None:
                cache.remove(key, event.revision)
            else:
                obj = None
                if written:
                    mine = written.get(event.key)
                    if mine is not None and mine[0] == event.value:
                        obj = mine[1]
                        del written[event.key]
                cache.put(key, event.revision, event.value, obj)
            self.revision = event.revision
        self._wake()

    def _take_unclaimed(self, prefix: str, key: str, event: Event) -> None:
        items = [i for i in self._unclaimed.get(prefix, ()) if i[0] != key]
        if event.value is not None:
            insort(items, (key, event.revision, event.value))
        self._unclaimed[prefix] = items

    async def _reload(self) -> None:
        """Changes were missed: find them by comparing."""
        page = await self.store.list(ROOT)
        found: dict[str, set[str]] = {}
        for kv in page.items:
            prefix, key = _split(kv.key)
            found.setdefault(prefix, set()).add(key)
            cache = self.caches.get(prefix)
            if cache is None:
                self._take_unclaimed(prefix, key, Event(kv.mod_revision, kv.key, kv.value))
                continue
            old = cache.get(key)
            if old is None or old.revision != kv.mod_revision:
                cache.put(key, kv.mod_revision, kv.value, None)
        for prefix, cache in self.caches.items():
            for key in [k for k in cache.keys if k not in found.get(prefix, ())]:
                cache.remove(key, page.revision)
            # What happened between is lost: who watches must list again.
            cache.floor = page.revision
            cache._ring.clear()
            for watch in cache.watches():
                watch.end()
        self.revision = page.revision
        self._wake()

    # Waiting

    async def current(self) -> None:
        """Return when everything that was committed before this call is in the caches."""
        newest = self.store.revision
        if newest > self.revision:
            await self._wait(newest)

    async def reach(self, revision: int) -> None:
        """Return when the caches have come to `revision`; StatusError 504 if they don't soon."""
        if revision <= self.revision:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._wait(revision)
        except TimeoutError:
            raise too_large(revision, self.revision) from None

    def _wait(self, revision: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ticket += 1
        heappush(self._waiting, (revision, self._ticket, future))
        return future

    def _wake(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= self.revision:
            future = heappop(waiting)[2]
            if not future.done():
                future.set_result(None)

    # Writing

    def leave(self, key: str, value: bytes, obj: Any) -> None:
        """Before a commit of `value` at `key`: the object that it encodes."""
        self._written[key] = value, obj

    def take_back(self, key: str, value: bytes) -> None:
        """The commit failed."""
        mine = self._written.get(key)
        if mine is not None and mine[0] is value:
            del self._written[key]

    # Bookmarks

    def want_bookmarks(self) -> None:
        """A watch that wants bookmarks was opened."""
        if self._bookmarks is None:
            self._bookmarks = asyncio.get_running_loop().call_later(BOOKMARK_INTERVAL, self._send_bookmarks)

    def _send_bookmarks(self) -> None:
        self._bookmarks = None
        more = False
        for cache in self.caches.values():
            for watch in cache.watches():
                if watch.bookmarks:
                    more = True
                    watch.bookmark(self.revision)
        if more:
            self.want_bookmarks()


def _split(stored_key: str) -> tuple[str, str]:
    """`/registry/apps/deployments/` and `default/web`."""
    at = stored_key.index("/", stored_key.index("/", 10) + 1) + 1
    return stored_key[:at], stored_key[at:]


def too_large(wanted: int, current: int) -> errors.StatusError:
    """504: a revision was asked for that the server has not seen."""
    error = errors.timeout(f"Too large resource version: {wanted}, current: {current}", 1)
    assert error.status.details is not None
    cause = meta_v1.StatusCause(reason="ResourceVersionTooLarge", message="Too large resource version")
    error.status.details.causes = [cause]
    return error
