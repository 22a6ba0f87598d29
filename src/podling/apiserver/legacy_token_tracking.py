"""The ConfigMap that says since which day uses of legacy tokens are tracked.

Made at the start, mended when its date is no date, and made again when somebody deletes it, though no more often than
every 30 minutes (upstream's limit, so that servers that disagree don't quarrel). Source: kube-apiserver's
legacytokentracking controller.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from podling import clock, log
from podling.api import core_v1, meta_v1
from podling.api.errors import StatusError
from podling.api.request import Request
from podling.api.struct import clone
from podling.apiserver.authn.legacy_token_uses import DATE
from podling.apiserver.core import Core
from podling.client.workqueue import WorkQueue

LOG = log.get(__name__)

NAMESPACE, NAME = "kube-system", "kube-apiserver-legacy-service-account-token-tracking"
SINCE = "since"
#: Seconds from one making to the next.
APART = 1800.0

_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


def mended(current: core_v1.ConfigMap | None, today: str) -> core_v1.ConfigMap | None:
    """What is to be written; None if all is well."""
    if current is None:
        return core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name=NAME, namespace=NAMESPACE), data={SINCE: today})
    if is_date((current.data or {}).get(SINCE, "")):
        return None
    new = clone(current)
    new.data = {**(new.data or {}), SINCE: today}
    return new


def is_date(text: str) -> bool:
    """Whether it is a date as 2006-01-02."""
    try:
        return datetime.strptime(text, DATE).strftime(DATE) == text
    except ValueError:
        return False


class LegacyTokenTracking:
    """`start` when the cache is loaded; `close` before the server is."""

    def __init__(self, app: Core) -> None:
        self._app = app
        self._maps = app.served["", "v1", "configmaps"].cache
        self._namespaces = app.served["", "v1", "namespaces"].cache
        self._queue: WorkQueue[str] = WorkQueue(name="legacy_token_tracking_controller")
        self._worker: asyncio.Task[None] | None = None
        self._made: float | None = None

    def start(self) -> None:
        self._maps.observers.append(self._map_changed)
        self._namespaces.observers.append(self._namespace_changed)
        self._queue.add(NAME)
        self._worker = asyncio.get_running_loop().create_task(
            self._queue.serve(self._sync, self._failed), name="legacy-token-tracking"
        )

    async def close(self) -> None:
        self._queue.shutdown()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    def _map_changed(self, event: str, changed: Any) -> None:
        if changed.metadata.name == NAME and changed.metadata.namespace == NAMESPACE:
            self._queue.add(NAME)

    def _namespace_changed(self, event: str, changed: Any) -> None:
        if changed.metadata.name == NAMESPACE and event == "ADDED":
            self._queue.add(NAME)

    def _failed(self, name: str, error: Exception) -> None:
        LOG.warning("the ConfigMap %s/%s can't be written, trying again: %s", NAMESPACE, name, error)

    async def _sync(self, name: str) -> None:
        entry = self._maps.get(f"{NAMESPACE}/{NAME}")
        current = entry.object if entry is not None else None
        new = mended(current, clock.now().strftime(DATE))
        if new is None or (current is None and self._namespaces.get(NAMESPACE) is None):
            return
        if current is None and self._made is not None:
            left = self._made + APART - clock.elapsed()
            if left > 0:
                self._queue.add_after(name, left)
                return
        headers = {"user-agent": "kube-apiserver"}
        request = (
            Request("POST", _PATH, headers=headers, obj=new)
            if current is None
            else Request("PUT", f"{_PATH}/{NAME}", headers=headers, obj=new)
        )
        try:
            await self._app.send(request)
        except StatusError as error:
            # Made, changed or deleted in the meantime: that comes here as an event.
            if error.reason not in ("AlreadyExists", "NotFound", "Conflict"):
                raise
            return
        if current is None:
            self._made = clock.elapsed()
