"""Sees to it that the FlowSchemas and PriorityLevelConfigurations of every cluster are there and as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from podling import log
from podling.api import errors, flowcontrol_v1, registry
from podling.api.errors import StatusError
from podling.api.request import Request
from podling.apiserver.cache import ResourceCache
from podling.apiserver.core import Core
from podling.apiserver.entry import Change, Entry
from podling.apiserver.flowcontrol import bootstrap
from podling.apiserver.watch import Scope, Watch

LOG = log.get(__name__)

MANAGER = "api-priority-and-fairness-config-producer-v1"
KINDS = (flowcontrol_v1.PriorityLevelConfiguration, flowcontrol_v1.FlowSchema)
#: Seconds until what failed is tried again.
_RETRY = 1.0


def cache_of(app: Core, kind: type[Any]) -> ResourceCache:
    row = registry.of(kind)
    return app.served[row.group, row.version, row.name].cache


class Producer:
    """Looks at all of them at its start and whenever one has changed; calls `done` when they are as they should be."""

    def __init__(self, app: Core, done: Callable[[], None]) -> None:
        self._app = app
        self._done = done
        self._changed = asyncio.Event()
        self._watches: list[Watch] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        for kind in KINDS:
            cache = cache_of(self._app, kind)
            watch = Watch(cache, Scope())
            watch.attach(self._noticed, lambda: None)
            cache.register(watch)
            self._watches.append(watch)
        self._changed.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="flowcontrol-producer")

    async def close(self) -> None:
        for watch in self._watches:
            watch.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _noticed(self, type_: str, entry: Entry, change: Change | None) -> None:
        if type_ != "ADDED":
            self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._ensure()
                self._done()
            except StatusError as error:
                LOG.warning("the objects of API Priority and Fairness can't be kept, trying again: %s", error)
                self._changed.set()
                await asyncio.sleep(_RETRY)

    async def _ensure(self) -> None:
        caches = {kind: cache_of(self._app, kind) for kind in KINDS}
        for wanted in bootstrap.objects():
            entry = caches[type(wanted)].get(wanted.metadata.name)
            obj = bootstrap.decide(wanted, entry.object if entry else None)
            if obj is not None:
                await self._write("PUT" if entry else "POST", obj)
        for cache in caches.values():
            for entry in cache.all():
                if bootstrap.obsolete(entry.object):
                    await self._write("DELETE", entry.object)

    async def _write(self, method: str, obj: Any) -> None:
        path = registry.of(type(obj)).collection_path("")
        if method != "POST":
            path = f"{path}/{obj.metadata.name}"
        body = obj if method != "DELETE" else None
        try:
            await self._app.send(Request(method, path, {"fieldManager": MANAGER}, obj=body))
        except StatusError as error:
            # Someone else was faster: their change brings us here again.
            if not (errors.is_conflict(error) or errors.is_already_exists(error) or errors.is_not_found(error)):
                raise
