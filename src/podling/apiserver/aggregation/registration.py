"""APIServices that are made by themselves: one for each group version that this server serves.

Those of built-in groups are made, or brought in order, once after each start (label `onstart`); those of custom
resources follow their definitions (label `true`). APIServices without the label are somebody else's. Source:
kube-aggregator's autoregister controller, kube-apiserver's crdregistration.
"""

from __future__ import annotations

import asyncio

from podling import log
from podling.api import apiextensions_v1, meta_v1
from podling.api import apiregistration_v1 as v1
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK, Request
from podling.api.struct import clone
from podling.apiserver.aggregation import priorities
from podling.apiserver.core import Core
from podling.apiserver.health import Health
from podling.client.workqueue import WorkQueue

LOG = log.get(__name__)

LABEL = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"

_PATH = "/apis/apiregistration.k8s.io/v1/apiservices"


def make(group: str, version: str, managed: str) -> v1.APIService:
    """The APIService of a group version that is served here."""
    group_priority, version_priority = priorities.default(group, version)
    spec = v1.APIServiceSpec(
        group=group or None,
        version=version,
        group_priority_minimum=group_priority,
        version_priority=version_priority,
    )
    meta = meta_v1.ObjectMeta(name=f"{version}.{group}", labels={LABEL: managed})
    return v1.APIService(metadata=meta, spec=spec)


def managed(service: v1.APIService | None) -> str:
    """The label's value, "" if there is none or if it is none that we know."""
    labels = (service.metadata.labels if service is not None else None) or {}
    value = labels.get(LABEL, "")
    return value if value in (ON_START, ALWAYS) else ""


def available(service: v1.APIService) -> bool:
    """Whether its condition Available is True."""
    return any(c.type == "Available" and c.status == "True" for c in service.status.conditions or ())


def decide(desired: v1.APIService | None, current: v1.APIService | None, *, synced: bool, at_start: bool) -> str:
    """`create`, `update`, `delete` or "".

    `synced`: it has been brought in order since the start; `at_start`: it was there at the start.
    """
    if current is None and desired is None:
        return ""
    if managed(desired) == ON_START and synced:
        return ""
    if current is None:
        return "create"
    label = managed(current)
    if not label or (label == ON_START and (synced or not at_start)):
        return ""
    if desired is None:
        return "delete"
    return "" if _same(current.spec, desired.spec) else "update"


def _same(current: v1.APIServiceSpec, desired: v1.APIServiceSpec) -> bool:
    """`group: ""` and no group are the same."""
    new = clone(current)
    new.group = new.group or None
    return new == desired


class Registration:
    """Make it before the server starts; `start` when the server has, `close` before it closes."""

    def __init__(self, app: Core, health: Health) -> None:
        self._app = app
        self._services = app.served["apiregistration.k8s.io", "v1", "apiservices"].cache
        self._definitions = app.served["apiextensions.k8s.io", "v1", "customresourcedefinitions"].cache
        self._desired: dict[str, v1.APIService] = {}
        #: By group: what each of its definitions serves.
        self._versions: dict[str, dict[str, set[str]]] = {}
        self._synced: set[str] = set()
        self._at_start: frozenset[str] = frozenset()
        self._queue: WorkQueue[str] = WorkQueue(name="autoregister")
        self._worker: asyncio.Task[None] | None = None
        #: Built-in ones that have not been seen available yet.
        self.pending: set[str] = set()
        health.add("autoregister-completion", self._completed)

    def start(self) -> None:
        """Make what is missing from now on."""
        builtin = {(r.group, r.version) for r in (s.resource for s in self._app.served.values())}
        for group, version in sorted(builtin & priorities.BUILTIN.keys()):
            service = make(group, version, ON_START)
            self._desired[service.metadata.name or ""] = service
        self.pending = set(self._desired)
        self._at_start = frozenset(self._services.entries)
        for entry in self._services.all():
            self._service_changed("ADDED", entry.object)
        for entry in self._definitions.all():
            self._definition_changed("ADDED", entry.object)
        self._services.observers.append(self._service_changed)
        self._definitions.observers.append(self._definition_changed)
        for name in self._desired:
            self._queue.add(name)
        self._worker = asyncio.get_running_loop().create_task(
            self._queue.serve(self._sync, self._failed), name="apiservice-registration"
        )

    async def close(self) -> None:
        self._queue.shutdown()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _completed(self) -> None:
        if self.pending:
            raise RuntimeError(f"missing APIService: {sorted(self.pending)}")

    # Events

    def _service_changed(self, event: str, service: v1.APIService) -> None:
        name = service.metadata.name or ""
        if name in self.pending and available(service):
            self.pending.discard(name)
        self._queue.add(name)

    def _definition_changed(self, event: str, crd: apiextensions_v1.CustomResourceDefinition) -> None:
        """The APIServices of its group follow what the definitions of the group serve now."""
        group = crd.spec.group
        mine = self._versions.setdefault(group, {})
        before = set[str]().union(*mine.values())
        mine[crd.metadata.name or ""] = {v.name for v in crd.spec.versions if v.served and event != "DELETED"}
        now = set[str]().union(*mine.values())
        for version in before - now:
            self._desired.pop(f"{version}.{group}", None)
            self._queue.add(f"{version}.{group}")
        for version in now - before:
            name = f"{version}.{group}"
            if managed(self._desired.get(name)) != ON_START:
                self._desired[name] = make(group, version, ALWAYS)
                self._queue.add(name)
        if not now:
            del self._versions[group]

    # Work

    def _failed(self, name: str, error: Exception) -> None:
        LOG.warning("the APIService %s can't be registered, trying again: %s", name, error)

    async def _sync(self, name: str) -> None:
        entry = self._services.get(name)
        current: v1.APIService | None = entry.object if entry is not None else None
        desired = self._desired.get(name)
        what = decide(desired, current, synced=name in self._synced, at_start=name in self._at_start)
        try:
            if what == "create":
                await self._send(Request("POST", _PATH, obj=clone(desired)))  # type: ignore[type-var]
            elif what == "delete":
                assert current is not None
                options = meta_v1.DeleteOptions(preconditions=meta_v1.Preconditions(uid=current.metadata.uid))
                await self._send(Request("DELETE", f"{_PATH}/{name}", obj=options))
            elif what == "update":
                assert current is not None and desired is not None
                new = clone(current)
                new.spec = clone(desired.spec)
                await self._send(Request("PUT", f"{_PATH}/{name}", obj=new))
        except StatusError as error:
            # Made, changed or deleted in the meantime: that comes here as an event.
            if error.reason not in ("AlreadyExists", "NotFound", "Conflict"):
                raise
        self._synced.add(name)

    async def _send(self, request: Request) -> None:
        request.user, request.headers = LOOPBACK, {"user-agent": "kube-apiserver"}
        await self._app.send(request)
