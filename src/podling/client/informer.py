"""Informers: a local cache that follows a resource, and handlers that hear of every change, in order.

Reading costs a dict lookup and no request; a change costs one event. An informer lists once, then watches from there,
goes on where a broken watch stopped, and lists anew only when the server has forgotten that point (410). It all runs
on one event loop: a handler sees the store exactly as the change left it, and there are no locks.

Objects in the cache are shared with everyone (in process even with the server): read-only.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import random
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast

from podling import clock, log
from podling.api import errors
from podling.api.registry import Resource
from podling.api.struct import encode
from podling.client.base import Client, ListResult

T = TypeVar("T")

#: Names of an object's places in an index; [] keeps it out.
IndexFunction = Callable[[Any], list[str]]

NAMESPACE = "namespace"
CONTROLLER = "controller"
OWNER = "owner"
NODE = "node"

#: Back-off between failed lists or watches: 0.8 s doubling to 30 s, each stretched by up to its own length; a watch
#: that held for two minutes starts it over (client-go's reflector).
BACKOFF_FIRST, BACKOFF_MOST, BACKOFF_RESET = 0.8, 30.0, 120.0

_log = log.get(__name__)


def key_of(obj: Any) -> str:
    """`namespace/name`, or `name` of what is in no namespace."""
    meta = obj.metadata
    return f"{meta.namespace}/{meta.name}" if meta.namespace else str(meta.name)


def split_key(key: str) -> tuple[str | None, str]:
    """(namespace or None, name) of a key."""
    namespace, _, name = key.rpartition("/")
    return namespace or None, name


def controller_uid(obj: Any) -> list[str]:
    """The index CONTROLLER: by the uid of the managing owner."""
    return [r.uid for r in obj.metadata.owner_references or () if r.controller]


def owner_uids(obj: Any) -> list[str]:
    """The index OWNER: by the uids of all owners."""
    return [r.uid for r in obj.metadata.owner_references or ()]


def node_name(obj: Any) -> list[str]:
    """The index NODE, of pods: by spec.nodeName."""
    name = obj.spec.node_name
    return [name] if name else []


class CacheMutatedError(AssertionError):
    """Somebody changed an object that belongs to a cache: `clone()` it first."""


class _MutationDetector:
    """Remembers what each cached object looked like, to find who changes one in place. For tests: it encodes all."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Any, bytes]] = {}
        self.found: list[str] = []

    def put(self, key: str, obj: Any) -> None:
        self.check(key)
        self._seen[key] = (obj, encode(obj))

    def drop(self, key: str) -> None:
        self.check(key)
        self._seen.pop(key, None)

    def check(self, key: str) -> None:
        entry = self._seen.get(key)
        if entry is not None and encode(entry[0]) != entry[1]:
            self.found.append(f"{key}: was {entry[1].decode()}, is now {encode(entry[0]).decode()}")
            del self._seen[key]

    def check_all(self) -> None:
        for key in list(self._seen):
            self.check(key)


class Store(Generic[T]):
    """Objects by key, and the indexes over them."""

    def __init__(self) -> None:
        self._objects: dict[str, T] = {}
        self._functions: dict[str, IndexFunction] = {NAMESPACE: lambda o: [o.metadata.namespace or ""]}
        self._indexes: dict[str, dict[str, dict[str, T]]] = {NAMESPACE: {}}

    def get(self, key: str) -> T | None:
        return self._objects.get(key)

    def keys(self) -> list[str]:
        return list(self._objects)

    def list(self, namespace: str | None = None) -> list[T]:
        if namespace is None:
            return list(self._objects.values())
        return self.by_index(NAMESPACE, namespace)

    def by_index(self, index: str, value: str) -> builtins.list[T]:
        return list(self._indexes[index].get(value, {}).values())

    def __len__(self) -> int:
        return len(self._objects)

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index by `function`; the same name again is the same index."""
        if name in self._functions:
            return
        self._functions[name] = function
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            self._enter(name, function, key, obj)

    def put(self, key: str, obj: T) -> T | None:
        """Store, and return what was there."""
        old = self.remove(key)
        self._objects[key] = obj
        for name, function in self._functions.items():
            self._enter(name, function, key, obj)
        return old

    def remove(self, key: str) -> T | None:
        old = self._objects.pop(key, None)
        if old is not None:
            for name, function in self._functions.items():
                index = self._indexes[name]
                for value in function(old):
                    members = index.get(value)
                    if members is not None:
                        members.pop(key, None)
                        if not members:
                            del index[value]
        return old

    def _enter(self, name: str, function: IndexFunction, key: str, obj: T) -> None:
        index = self._indexes[name]
        for value in function(obj):
            index.setdefault(value, {})[key] = obj


class _Handler(Generic[T]):
    __slots__ = ("on_add", "on_delete", "on_update")

    def __init__(
        self,
        on_add: Callable[[T], None] | None,
        on_update: Callable[[T, T], None] | None,
        on_delete: Callable[[T], None] | None,
    ) -> None:
        self.on_add, self.on_update, self.on_delete = on_add, on_update, on_delete


class Informer(Generic[T]):
    """The cache of one resource, or of the part of it that the selectors name.

    Handlers are plain functions and must not wait: they put keys into queues. One that is added late hears on_add for
    all that is there already. on_update also comes for objects that were deleted and made again between two watches,
    with another uid.
    """

    def __init__(
        self,
        client: Client,
        kind: type[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        detect_mutations: bool | None = None,
    ) -> None:
        self._client = client
        self._kind = kind
        self._scope: dict[str, Any] = {"label_selector": label_selector, "field_selector": field_selector}
        self._namespace = namespace
        self._store: Store[T] = Store()
        self._handlers: list[_Handler[T]] = []
        self._synced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if detect_mutations is None:
            detect_mutations = bool(os.environ.get("PODLING_DETECT_CACHE_MUTATIONS"))
        self._detector = _MutationDetector() if detect_mutations else None
        #: Where the next watch goes on; "" means list first.
        self.resource_version = ""

    # Reading

    def get(self, key: str) -> T | None:
        """By `namespace/name`, or `name` of what is in no namespace."""
        return self._store.get(key)

    def lookup(self, name: str, namespace: str | None = None) -> T | None:
        return self._store.get(f"{namespace}/{name}" if namespace else name)

    def list(self, namespace: str | None = None) -> list[T]:
        """All objects, or those of one namespace, in no particular order."""
        return self._store.list(namespace)

    def by_index(self, index: str, value: str) -> builtins.list[T]:
        """The objects that an index files under `value`; KeyError if no such index was added."""
        return self._store.by_index(index, value)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def synced(self) -> bool:
        """Whether the first list is in the store and all handlers have heard of it."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    # Wiring

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index by `function`; the same name again is the same index."""
        self._store.add_index(name, function)

    def add_handler(
        self,
        *,
        on_add: Callable[[T], None] | None = None,
        on_update: Callable[[T, T], None] | None = None,
        on_delete: Callable[[T], None] | None = None,
    ) -> Callable[[], None]:
        """Hear of on_add(new), on_update(old, new), on_delete(last known). Returns what removes the handler."""
        handler = _Handler(on_add, on_update, on_delete)
        self._handlers.append(handler)
        if on_add is not None:
            for obj in self._store.list():
                self._call(on_add, obj)

        def remove() -> None:
            if handler in self._handlers:
                self._handlers.remove(handler)

        return remove

    def start(self) -> None:
        """Begin to follow the resource; needs a running event loop. Again does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"informer {self._name}")

    async def close(self) -> None:
        """Stop. Raises CacheMutatedError if the detector is on and found something."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.check_mutations()

    def check_mutations(self) -> None:
        """Raise CacheMutatedError if an object of the cache was changed in place (only with the detector on)."""
        if self._detector is not None:
            self._detector.check_all()
            if self._detector.found:
                raise CacheMutatedError(f"cached {self._name} changed in place: " + "; ".join(self._detector.found))

    # Following

    @property
    def _name(self) -> str:
        return self._kind.qualified if isinstance(self._kind, Resource) else self._kind.__name__

    async def _run(self) -> None:
        backoff = BACKOFF_FIRST
        while True:
            began = clock.elapsed()
            try:
                if not self.resource_version:
                    await self._list()
                heard = await self._watch()
                if heard or clock.elapsed() - began >= 1:
                    backoff = BACKOFF_FIRST
                    continue
            except errors.StatusError as error:
                if errors.is_expired(error):
                    listed, self.resource_version = bool(self.resource_version), ""
                    if listed:
                        continue
                else:
                    _log.debug("%s: %s", self._name, error)
            except Exception:
                _log.exception("following %s failed", self._name)
            if clock.elapsed() - began >= BACKOFF_RESET:
                backoff = BACKOFF_FIRST
            await asyncio.sleep(backoff * (1 + random.random()))
            backoff = min(backoff * 2, BACKOFF_MOST)

    async def _list(self) -> None:
        # A custom resource's definition may come and go: nothing there is nothing, until the watch says otherwise.
        result: ListResult[T] = await self._client.list(self._kind, self._namespace, **self._scope)
        items, version = list(result.items), result.resource_version
        while result.continue_:
            result = await self._client.list(self._kind, self._namespace, continue_=result.continue_, **self._scope)
            items += result.items
            version = result.resource_version or version
        self._replace(items)
        self.resource_version = version
        self._synced.set()

    async def _watch(self) -> bool:
        """Follow one watch to its end; whether anything came."""
        heard = False
        events = self._client.watch(self._kind, self._namespace, resource_version=self.resource_version, **self._scope)
        async for event in events:
            heard = True
            obj = event.object
            if event.type in ("ADDED", "MODIFIED"):
                self._put(obj)
            elif event.type == "DELETED":
                self._remove(key_of(obj), obj)
            version = cast(Any, obj).metadata.resource_version
            if version:
                self.resource_version = version
        return heard

    def _replace(self, items: Iterable[T]) -> None:
        """Make the store what a list says, telling handlers of the difference."""
        gone = set(self._store.keys())
        for obj in items:
            gone.discard(key_of(obj))
            self._put(obj)
        for key in gone:
            self._remove(key, None)

    def _put(self, obj: T) -> None:
        key = key_of(obj)
        before = self._store.get(key)
        if before is not None and _version(before) == _version(obj):
            return
        if self._detector is not None:
            self._detector.put(key, obj)
        old = self._store.put(key, obj)
        for handler in tuple(self._handlers):
            if old is None:
                if handler.on_add is not None:
                    self._call(handler.on_add, obj)
            elif handler.on_update is not None:
                self._call(handler.on_update, old, obj)

    def _remove(self, key: str, final: T | None) -> None:
        """`final` is the object as it was deleted, if the watch said so."""
        if self._detector is not None:
            self._detector.drop(key)
        old = self._store.remove(key)
        if old is None:
            return
        for handler in tuple(self._handlers):
            if handler.on_delete is not None:
                self._call(handler.on_delete, final if final is not None else old)

    def _call(self, function: Callable[..., None], *objects: T) -> None:
        try:
            function(*objects)
        except Exception:
            _log.exception("a handler of %s failed on %s", self._name, key_of(objects[-1]))


def _version(obj: Any) -> tuple[Any, Any]:
    return obj.metadata.resource_version, obj.metadata.uid


class Informers:
    """The informers of a process, each shared by all who ask for the same thing."""

    def __init__(self, client: Client, *, detect_mutations: bool | None = None) -> None:
        self.client = client
        self._detect = detect_mutations
        self._informers: dict[tuple[Any, ...], Informer[Any]] = {}
        self._started = False

    def of(
        self, kind: type[T], *, namespace: str | None = None, label_selector: str = "", field_selector: str = ""
    ) -> Informer[T]:
        """The informer of a class, or of a `registry.Resource` (then its objects are known by metadata only)."""
        key = (kind, namespace, label_selector, field_selector)
        informer = self._informers.get(key)
        if informer is None:
            informer = self._informers[key] = Informer(
                self.client,
                kind,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                detect_mutations=self._detect,
            )
            if self._started:
                informer.start()
        return informer

    def metadata_of(self, resource: Resource, kind: type[Any] | None) -> Informer[Any]:
        """An informer that knows at least the metadata: that of the class `kind`, if somebody else has it already."""
        if kind is not None and (kind, None, "", "") in self._informers:
            return self.of(kind)
        return self.of(cast(Any, resource))

    def start(self) -> None:
        """Start all there are, and from now on each that is asked for."""
        self._started = True
        for informer in self._informers.values():
            informer.start()

    async def wait_synced(self) -> None:
        """Until all that were asked for so far have listed."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    async def drop(self, informer: Informer[Any]) -> None:
        """Close one and forget it: its resource is gone."""
        for key, known in list(self._informers.items()):
            if known is informer:
                del self._informers[key]
        await informer.close()

    async def close(self) -> None:
        """Stop all. Raises CacheMutatedError if the detector is on and found something."""
        informers, self._informers = list(self._informers.values()), {}
        results = await asyncio.gather(*(i.close() for i in informers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
