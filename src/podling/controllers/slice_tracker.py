"""What was written of a service's slices and the cache does not show yet: until it does, no new plan is made of it.

Slices have generated names, so a plan made of a stale cache would create what is there already a second time.
"""

from __future__ import annotations

from collections.abc import Callable

from podling import clock
from podling.api import discovery_v1, errors
from podling.client.client import ApiClient
from podling.client.informer import Informer
from podling.controllers import slices

#: Seconds after which an event that has not come will not come.
PATIENCE = 10.0

Keys = Callable[[discovery_v1.EndpointSlice], list[str]]


class SliceTracker:
    """Writes slices for one controller and follows them in the cache.

    `keys` gives the key of the object a slice is of (none if it is not the controller's); `enqueue` is called with it
    when the cache has caught up, and when somebody else changes or deletes a slice.
    """

    def __init__(
        self,
        client: ApiClient,
        informer: Informer[discovery_v1.EndpointSlice],
        keys: Keys,
        enqueue: Callable[[str], None],
    ) -> None:
        self._client, self._informer = client, informer
        self._keys, self._enqueue = keys, enqueue
        #: By key and uid: (version to come, when it was written); version 0 awaits the deletion.
        self._awaited: dict[str, dict[str, tuple[int, float]]] = {}
        self._deferred: set[str] = set()
        informer.add_handler(on_add=self._added, on_update=self._updated, on_delete=self._deleted)

    def stale(self, key: str) -> bool:
        """Whether to wait; the key is queued again when there is nothing to wait for."""
        awaited = self._awaited.get(key)
        if not awaited:
            return False
        now = clock.elapsed()
        for uid in [u for u, (_, since) in awaited.items() if now - since > PATIENCE]:
            del awaited[uid]
        if awaited:
            self._deferred.add(key)
        return bool(awaited)

    def forget(self, key: str) -> None:
        self._awaited.pop(key, None)
        self._deferred.discard(key)

    async def apply(self, key: str, changes: slices.Changes) -> None:
        """Do what a plan says. Raises StatusError."""
        for slice_ in changes.create:
            self._await(key, await self._client.create(slice_))
        for slice_ in changes.update:
            self._await(key, await self._client.update(slice_))
        for slice_ in changes.delete:
            await self.delete(key, slice_)

    async def delete(self, key: str, slice_: discovery_v1.EndpointSlice) -> None:
        meta = slice_.metadata
        try:
            await self._client.delete(discovery_v1.EndpointSlice, meta.name or "", meta.namespace)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
            return
        if self._informer.lookup(meta.name or "", meta.namespace) is not None:
            self._awaited.setdefault(key, {})[meta.uid or ""] = (0, clock.elapsed())

    def _await(self, key: str, written: discovery_v1.EndpointSlice) -> None:
        version = int(written.metadata.resource_version or 0)
        known = self._informer.lookup(written.metadata.name or "", written.metadata.namespace)
        if known is not None and int(known.metadata.resource_version or 0) >= version:
            return
        self._awaited.setdefault(key, {})[written.metadata.uid or ""] = (version, clock.elapsed())

    def _seen(self, slice_: discovery_v1.EndpointSlice, *, gone: bool = False) -> bool:
        """Tick off what was awaited; whether it was ours."""
        ours = False
        for key in self._keys(slice_):
            awaited = self._awaited.get(key, {})
            entry = awaited.get(slice_.metadata.uid or "")
            if entry is not None:
                ours = True
                if gone or 0 < entry[0] <= int(slice_.metadata.resource_version or 0):
                    del awaited[slice_.metadata.uid or ""]
            if not awaited and key in self._deferred:
                self._deferred.discard(key)
                self._enqueue(key)
        return ours

    def _added(self, slice_: discovery_v1.EndpointSlice) -> None:
        self._seen(slice_)

    def _updated(self, old: discovery_v1.EndpointSlice, new: discovery_v1.EndpointSlice) -> None:
        if not self._seen(new):
            for key in {*self._keys(old), *self._keys(new)}:
                self._enqueue(key)

    def _deleted(self, slice_: discovery_v1.EndpointSlice) -> None:
        if not self._seen(slice_, gone=True):
            for key in self._keys(slice_):
                self._enqueue(key)
