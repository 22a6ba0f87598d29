"""What becomes of definitions: names are accepted, resources established and served, and in the end removed.

Whatever decides what is served happens at the moment when a definition's change enters the watch cache, so that who
has seen the condition Established finds the resource there. Statuses are written by one worker, one definition after
the other: names can't be given twice. It sleeps until a definition changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from podling import log
from podling.api import apiextensions_v1 as v1
from podling.api import meta_v1, registry, times
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK, Request
from podling.api.struct import clone
from podling.apiserver.admission.webhooks_client import Caller
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec
from podling.apiserver.crd import facets
from podling.apiserver.crd.served import Defined, condition, fingerprint
from podling.apiserver.handlers import delete
from podling.apiserver.handlers.subresources import Handler, of_facet
from podling.apiserver.handlers.write import write
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.resources.apiextensions.customresourcedefinition import (
    CLEANUP_FINALIZER,
    api_approval,
    set_condition,
)
from podling.store.base import Conflict
from podling.store.base import Delete as DeleteOp

if TYPE_CHECKING:
    from podling.apiserver.app import ApiServer
    from podling.apiserver.cache import ResourceCache

LOG = log.get(__name__)

#: Seconds until a status that could not be written is tried again.
_RETRY = 1.0


class Controller:
    """Tell it of each definition that has `changed` in the cache; `close` before the server closes."""

    def __init__(self, app: ApiServer, cache: ResourceCache, caller: Caller) -> None:
        self._app = app
        self._caller = caller
        self._defined: dict[str, Defined] = {}
        self._dirty: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._watched: dict[str, Any] = {}
        self._cache = cache

    async def close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    # What is served

    def changed(self, event: str, crd: v1.CustomResourceDefinition) -> None:
        """A definition came, changed or went."""
        name = crd.metadata.name or ""
        if event == "DELETED":
            self._withdraw(name)
            self._enqueue([name, *self._others(crd)])
            return
        ready = condition(crd, "NamesAccepted") or condition(crd, "Established")
        known = self._defined.get(name)
        if not ready or crd.status.accepted_names is None or _overlaps(crd):
            self._withdraw(name)
        elif known is None or known.fingerprint != fingerprint(crd):
            try:
                self._serve(name, crd)
            except Exception:
                # A definition that got past validation in an older version must not stop the server.
                LOG.exception("%s can't be served", name)
                self._withdraw(name)
        self._enqueue([name])

    def _serve(self, name: str, crd: v1.CustomResourceDefinition) -> None:
        app = self._app
        before = self._defined.get(name)
        defined = Defined(app, self._caller, crd)
        if before is not None:
            for served in before.versions:
                row = served.resource
                app.served.pop((row.group, row.version, row.name), None)
            if before.fingerprint[0] != defined.fingerprint[0]:
                # Who watches must see objects as they are to be from now on.
                for watch in before.cache.watches():
                    watch.end()
                for entry in defined.cache.entries.values():
                    entry.forget()
        qualified = f"{defined.names.plural}.{crd.spec.group}"
        app.subresources[qualified, "status"] = _STATUS
        app.subresources[qualified, "scale"] = _SCALE
        self._defined[name] = defined
        for served in defined.versions:
            app.serve(served)
        app.generation += 1

    def _withdraw(self, name: str) -> None:
        defined = self._defined.pop(name, None)
        self._watched.pop(name, None)
        if defined is None:
            return
        app = self._app
        for served in defined.versions:
            app.uninstall(served.resource)
        app.hub.drop(defined.cache.prefix)
        for subresource in ("status", "scale"):
            app.subresources.pop((f"{defined.names.plural}.{defined.crd.spec.group}", subresource), None)
        app.generation += 1

    def _others(self, crd: v1.CustomResourceDefinition) -> list[str]:
        """The other definitions of a group: they may get names that have become free."""
        return [
            other.metadata.name or ""
            for other in (entry.object for entry in self._cache.all())
            if other.spec.group == crd.spec.group and other.metadata.name != crd.metadata.name
        ]

    # Statuses

    def _enqueue(self, names: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(names))
        self._wake.set()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work(), name="custom-resources")

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                name = next(iter(self._dirty))
                del self._dirty[name]
                try:
                    await self._sync(name)
                except Exception:
                    LOG.exception("the status of %s can't be brought up to date, trying again", name)
                    asyncio.get_running_loop().call_later(_RETRY, self._enqueue, [name])

    async def _sync(self, name: str) -> None:
        entry = self._cache.get(name)
        if entry is None:
            return
        crd: v1.CustomResourceDefinition = entry.object
        if crd.metadata.deletion_timestamp:
            if CLEANUP_FINALIZER in (crd.metadata.finalizers or ()):
                await self._finalize(crd)
            return
        others = [e.object for e in self._cache.all() if e.object.spec.group == crd.spec.group and e.key != name]
        new = accepted(crd, others, times.format(self._app.now()))
        if new is not None and await self._write(new):
            self._enqueue(self._others(crd))

    async def _write(self, crd: v1.CustomResourceDefinition) -> bool:
        """Whether the status could be written; if not, the definition has changed and comes again."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd.metadata.name}/status"
        try:
            await self._app.send(Request("PUT", path, obj=crd, user=LOOPBACK, headers={"user-agent": "kube-apiserver"}))
        except StatusError as error:
            if error.reason not in ("Conflict", "NotFound"):
                raise
            return False
        return True

    # The end

    async def _finalize(self, crd: v1.CustomResourceDefinition) -> None:
        """Remove all custom objects; when the last is gone, let the definition go."""
        name, now = crd.metadata.name or "", times.format(self._app.now())
        if _overlaps(crd):
            await self._release(
                crd, "OverlappingBuiltInResource", "instances overlap with built-in resources in storage"
            )
            return
        defined = self._defined.get(name)
        if not condition(crd, "Established") or defined is None:
            await self._release(crd, "NeverEstablished", "resource was never established")
            return
        if _reason(crd, "Terminating") != "InstanceDeletionInProgress":
            new = clone(crd)
            text = "CustomResource deletion is in progress"
            set_condition(new, "Terminating", "True", "InstanceDeletionInProgress", text, now)
            # The change that this makes brings the definition here again.
            await self._write(new)
            return
        if name not in self._watched:
            self._watched[name] = defined
            defined.cache.observers.append(partial(self._one_gone, name))
        await self._delete_instances(defined)
        await self._app.hub.current()
        if not defined.cache.entries:
            await self._release(crd, "InstanceDeletionCompleted", "removed all instances")

    def _one_gone(self, name: str, event: str, obj: Any) -> None:
        if event == "DELETED" and name in self._watched and not self._watched[name].cache.entries:
            self._enqueue([name])

    async def _delete_instances(self, defined: Defined) -> None:
        """As storage does it: nobody is asked."""
        app, served = self._app, defined.storage
        options = meta_v1.DeleteOptions()
        info = RequestInfo("delete", "", served.resource.group, served.resource.version, served.resource.name)
        call = Call(app, Request("DELETE", ""), info, LOOPBACK, served)
        for entry in defined.cache.all():
            verdict = delete.decide(_Stored(served.strategy, served.stored_codec), entry.object, options, app.now())
            full = served.prefix + entry.key
            try:
                if verdict.remove:
                    await app.hub.store.commit((DeleteOp(full, entry.revision),))
                elif verdict.marked is not None:
                    verdict.marked.metadata.resource_version = None
                    value = served.stored_codec.encode(verdict.marked)
                    await write(call, full, value, verdict.marked, entry.revision)
            except Conflict:
                self._enqueue([defined.crd.metadata.name or ""])

    async def _release(self, crd: v1.CustomResourceDefinition, reason: str, message: str) -> None:
        new = clone(crd)
        set_condition(new, "Terminating", "False", reason, message, times.format(self._app.now()))
        new.metadata.finalizers = [f for f in new.metadata.finalizers or () if f != CLEANUP_FINALIZER] or None
        await self._write(new)


class _Stored(NamedTuple):
    """What deletion must know of objects as they are stored."""

    strategy: Any
    codec: Codec


_STATUS = of_facet(facets.STATUS)
_SCALE: dict[str, Handler] = {"get": facets.get_scale, "update": facets.update_scale, "patch": facets.patch_scale}


def _overlaps(crd: v1.CustomResourceDefinition) -> bool:
    """Whether a built-in resource has the name: that one is served, and keeps its objects."""
    return any((row.group, row.name) == (crd.spec.group, crd.spec.names.plural) for row in registry.BUILTIN)


def _reason(crd: v1.CustomResourceDefinition, type_: str) -> str:
    return next((c.reason or "" for c in crd.status.conditions or () if c.type == type_), "")


# -- decisions --------------------------------------------------------------------------------------------------------


def accepted(
    crd: v1.CustomResourceDefinition, others: Iterable[v1.CustomResourceDefinition], now: str
) -> v1.CustomResourceDefinition | None:
    """The definition with the status that it should have, beside the others of its group; None if it has it."""
    new = clone(crd)
    names = crd.spec.names
    if crd.status.accepted_names != names:
        got, reason, message = _accept(names, crd.status.accepted_names, others)
        new.status.accepted_names = got
        set_condition(
            new, "NamesAccepted", "False" if message else "True", reason, message or "no conflicts found", now
        )
        if message and not condition(new, "Established"):
            set_condition(new, "Established", "False", "NotAccepted", "not all names are accepted", now)
    if condition(new, "NamesAccepted") and not condition(new, "Established"):
        problem = _bad_bundle(crd)
        if problem:
            set_condition(new, "Established", "False", "InvalidCABundle", problem, now)
        else:
            text = "the initial names have been accepted"
            set_condition(new, "Established", "True", "InitialNamesAccepted", text, now)
    approval = api_approval(crd)
    if approval is not None:
        set_condition(new, "KubernetesAPIApprovalPolicyConformant", *approval, now)
    return new if new != crd else None


def _accept(
    wanted: v1.CustomResourceDefinitionNames,
    had: v1.CustomResourceDefinitionNames | None,
    others: Iterable[v1.CustomResourceDefinition],
) -> tuple[v1.CustomResourceDefinitionNames, str, str]:
    """The names that it gets, with the condition's reason, and its message if not all could be had."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        taken = other.status.accepted_names
        if taken is not None:
            resources |= {taken.plural, taken.singular or "", *(taken.short_names or ())}
            kinds |= {taken.kind, taken.list_kind or ""}
    got = clone(had) if had is not None else v1.CustomResourceDefinitionNames()
    got.plural, got.kind = got.plural or "", got.kind or ""
    reason, message = "NoConflicts", ""

    def claim(attribute: str, used: set[str], conflict: str) -> None:
        nonlocal reason, message
        name = getattr(wanted, attribute) or ""
        if name != (getattr(had, attribute, "") or "") and name in used:
            reason, message = conflict, f'"{name}" is already in use'
        else:
            setattr(got, attribute, getattr(wanted, attribute))

    claim("plural", resources, "PluralConflict")
    claim("singular", resources, "SingularConflict")
    mine = set((had.short_names if had is not None else None) or ())
    taken_names = [f'"{n}" is already in use' for n in wanted.short_names or () if n not in mine and n in resources]
    if taken_names:
        reason = "ShortNamesConflict"
        message = taken_names[0] if len(taken_names) == 1 else f"[{', '.join(taken_names)}]"
    else:
        got.short_names = wanted.short_names
    claim("kind", kinds, "KindConflict")
    claim("list_kind", kinds, "ListKindConflict")
    got.categories = wanted.categories
    return got, reason, message


def _bad_bundle(crd: v1.CustomResourceDefinition) -> str:
    """What is wrong with the certificates that the conversion webhook is to be trusted by."""
    conversion = crd.spec.conversion
    config = conversion.webhook.client_config if conversion is not None and conversion.webhook is not None else None
    if config is None or not config.ca_bundle:
        return ""
    import base64
    import ssl

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=base64.b64decode(config.ca_bundle).decode())
    except (ValueError, ssl.SSLError):
        return "The conversion webhook CABundle is invalid"
    return ""
