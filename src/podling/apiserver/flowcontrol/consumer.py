"""Keeps the levels as the API objects say, and the objects' condition `Dangling` as it is."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from podling import clock, log
from podling.api import errors, flowcontrol_v1, registry, times
from podling.api.errors import StatusError
from podling.api.request import Request
from podling.apiserver.core import Core
from podling.apiserver.entry import Change, Entry
from podling.apiserver.flowcontrol.levels import Levels, sound
from podling.apiserver.flowcontrol.producer import KINDS, cache_of
from podling.apiserver.watch import Scope, Watch

LOG = log.get(__name__)

MANAGER = "api-priority-and-fairness-config-consumer-v1"
#: A schema's condition is written this often in a minute, and then waits: servers that disagree must not fight.
_UPDATES_PER_MINUTE = 6
_RETRY = 1.0

#: status, reason and message of the condition.
Dangling = tuple[str, str, str]


def dangling(schema: flowcontrol_v1.FlowSchema, levels: set[str]) -> Dangling | None:
    """The condition that a schema should have while there are these levels; None if it has it."""
    name = schema.spec.priority_level_configuration.name or ""
    said = f'This FlowSchema references the PriorityLevelConfiguration object named "{name}"'
    if name in levels:
        wanted = "False", "Found", f"{said} and it exists"
    else:
        wanted = "True", "NotFound", f"{said} but there is no such object"
    found = next((c for c in schema.status.conditions or () if c.type == "Dangling"), None)
    if found is not None and (found.status, found.reason, found.message) == wanted:
        return None
    return wanted


class Consumer:
    """`now` is the clock of the levels."""

    def __init__(self, app: Core, levels: Levels, *, now: Callable[[], float] = clock.real_seconds) -> None:
        self._app = app
        self._levels = levels
        self._now = now
        self._digesting = False
        self._statuses = asyncio.Event()
        self._written: dict[str, deque[float]] = {}
        self._watches: list[Watch] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._digest()
        for kind in KINDS:
            cache = cache_of(self._app, kind)
            watch = Watch(cache, Scope())
            watch.attach(self._noticed, lambda: None)
            cache.register(watch)
            self._watches.append(watch)
        self._task = asyncio.get_running_loop().create_task(self._keep_statuses(), name="flowcontrol-consumer")

    async def close(self) -> None:
        for watch in self._watches:
            watch.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _noticed(self, type_: str, entry: Entry, change: Change | None) -> None:
        if type_ == "MODIFIED" and change is not None and _same_spec(change):
            self._statuses.set()
        elif not self._digesting:
            self._digesting = True
            asyncio.get_running_loop().call_soon(self._digest)

    def _objects(self, kind: type[Any]) -> list[Any]:
        return [entry.object for entry in cache_of(self._app, kind).all()]

    def _digest(self) -> None:
        self._digesting = False
        levels, schemas = (self._objects(kind) for kind in KINDS)
        self._levels.digest(levels, schemas, self._now())
        self._statuses.set()

    # The condition

    async def _keep_statuses(self) -> None:
        while True:
            await self._statuses.wait()
            self._statuses.clear()
            known = {o.metadata.name for o in self._objects(KINDS[0]) if sound(o)}
            for schema in self._objects(KINDS[1]):
                wanted = dangling(schema, known)
                if wanted is not None and self._may_write(schema.metadata.name):
                    await self._write(schema.metadata.name, wanted)

    def _may_write(self, name: str) -> bool:
        """Not more often than that; else it is looked at again in a while."""
        loop = asyncio.get_running_loop()
        written = self._written.setdefault(name, deque(maxlen=_UPDATES_PER_MINUTE))
        if len(written) == _UPDATES_PER_MINUTE and loop.time() - written[0] < 60:
            loop.call_later(random.randrange(30, 75), self._statuses.set)
            return False
        written.append(loop.time())
        return True

    async def _write(self, name: str, wanted: Dangling) -> None:
        status, reason, message = wanted
        condition = {
            "type": "Dangling",
            "status": status,
            "lastTransitionTime": times.now(),
            "reason": reason,
            "message": message,
        }
        row = registry.of(KINDS[1])
        body = {
            "apiVersion": row.group_version,
            "kind": row.kind,
            "metadata": {"name": name},
            "status": {"conditions": [condition]},
        }
        headers = {"content-type": "application/apply-patch+yaml"}
        query = {"fieldManager": MANAGER, "force": "true"}
        path = row.path(name, None, "status")
        try:
            await self._app.send(Request("PATCH", path, query, headers=headers, obj=body))
        except StatusError as error:
            if not errors.is_not_found(error):
                LOG.warning("the condition of the FlowSchema %s can't be written, trying again: %s", name, error)
                asyncio.get_running_loop().call_later(_RETRY, self._statuses.set)


def _same_spec(change: Change) -> bool:
    return change.old is not None and change.new is not None and change.old.object.spec == change.new.object.spec
