"""ResourceQuota: what would use more of a namespace than its quotas allow is refused, all else is charged at once.

A charge is a write of the quota's status before the object itself is written, so a request that follows finds it there.
Requests for one namespace that come while a charge is being written wait, and are then charged together: a burst of
creates costs a few writes of the quota, not one each. Should the object not come to be after all, the controller's next
count gives back what was charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from podling import clock
from podling.api import core_v1, errors, quantity, registry
from podling.api.errors import StatusError
from podling.api.quantity import Quantity
from podling.api.request import Request
from podling.api.struct import clone
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden
from podling.machinery import quota
from podling.machinery.quota import Usage

if TYPE_CHECKING:
    from podling.apiserver.cache import ResourceCache
    from podling.apiserver.core import Core

#: How often a charge is tried when somebody else writes the quota at the same time.
ATTEMPTS = 16
#: Seconds that a charged object is waited for: a request that takes longer has failed.
PATIENCE = 5.0
#: Kinds that no quota counts (upstream's ignored resources that are stored).
_IGNORED = frozenset(("events",))
_QUOTAS = "resourcequotas"
_RESOURCE = registry.of(core_v1.ResourceQuota)


class _Request(msgspec.Struct, eq=False):
    """A write that waits for its charge. `decided` with an `error` is a refusal."""

    attributes: Attributes
    decided: bool = False
    error: BaseException | None = None


class _Namespace(msgspec.Struct, eq=False):
    """One namespace that is being charged: who waits, and the lock of who does it."""

    lock: asyncio.Lock
    waiting: list[_Request] = []


class ResourceQuota(Plugin):
    name = "ResourceQuota"
    subresources = None
    validates = True

    def __init__(self, app: Core) -> None:
        super().__init__(app)
        self._namespaces: dict[str, _Namespace] = {}
        #: Charged and not written yet: {(qualified resource, key): (until when it is waited for, keys of quotas)}.
        self._coming: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}
        self._observed: dict[str, tuple[ResourceCache, Callable[[str, Any], None]]] = {}

    def handles(self, attributes: Attributes) -> bool:
        resource, subresource, operation = attributes.resource, attributes.subresource, attributes.operation
        if operation not in self.operations or not resource.namespaced or resource.qualified in _IGNORED:
            return False
        match resource.qualified:
            case "pods":
                return (operation, subresource) in ((CREATE, ""), (UPDATE, "resize"))
            case "services":
                return subresource in ("", "status")
            case "persistentvolumeclaims":
                return subresource in ("", "status")
            case "resourcequotas" if operation == UPDATE:
                return subresource == "status"
        return operation == CREATE and not subresource

    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation == UPDATE and attributes.qualified == _QUOTAS:
            self._check_count(attributes)
        elif self._quotas(attributes.namespace):
            await self._evaluate(attributes)

    async def close(self) -> None:
        for cache, observer in self._observed.values():
            cache.observers.remove(observer)
        self._observed.clear()

    def _quotas(self, namespace: str) -> list[core_v1.ResourceQuota]:
        served = self.app.lookup("", _QUOTAS, version="v1")
        if served is None or not served.cache.keys or not namespace:
            return []
        return [entry.object for entry in served.cache.in_namespace(namespace)]

    # Charging

    async def _evaluate(self, attributes: Attributes) -> None:
        """Wait for the charge; who comes first does it for all that wait. Raises the refusal."""
        name = attributes.namespace
        namespace = self._namespaces.get(name)
        if namespace is None:
            namespace = self._namespaces[name] = _Namespace(asyncio.Lock(), [])
        mine = _Request(attributes)
        namespace.waiting.append(mine)
        try:
            async with namespace.lock:
                if not mine.decided:
                    await self._charge_all(namespace, name)
        finally:
            if mine in namespace.waiting:
                namespace.waiting.remove(mine)
            if not namespace.waiting and not namespace.lock.locked() and self._namespaces.get(name) is namespace:
                del self._namespaces[name]
        if mine.error is not None:
            raise mine.error

    async def _charge_all(self, namespace: _Namespace, name: str) -> None:
        batch, namespace.waiting = namespace.waiting, []
        try:
            if self.app.store.revision > self.app.hub.revision:
                await self.app.hub.current()
            await self._charge(batch, self._quotas(name), ATTEMPTS)
        finally:
            # If this one was cancelled, the next in line goes on with the rest.
            namespace.waiting[:0] = [request for request in batch if not request.decided]

    async def _charge(self, batch: Sequence[_Request], quotas: list[core_v1.ResourceQuota], attempts: int) -> None:
        """Decide upon all of `batch`, in order, each on top of those before it."""
        used = {q.metadata.name or "": _amounts(q.status.used) for q in quotas}
        before = dict(used)
        charged: list[_Request] = []
        for request in batch:
            try:
                charges = check(request.attributes, quotas, used, self.app.now())
            except StatusError as error:
                request.error, request.decided = error, True
                continue
            if not charges or request.attributes.dry_run:
                request.decided = True
                continue
            used |= charges
            charged.append(request)
            self._expect(request.attributes, charges)
        failed: list[str] = []
        why: StatusError | None = None
        for found in quotas:
            name = found.metadata.name or ""
            if used[name] != before[name]:
                try:
                    await self._write(found, used[name])
                except StatusError as error:
                    failed.append(name)
                    why = error
        if why is None or attempts <= 1:
            for request in charged:
                request.error, request.decided = why, True
            return
        await self.app.hub.current()
        namespace = charged[0].attributes.namespace
        # What was written already is not charged twice: only the quotas that failed are looked at again.
        await self._charge(charged, [q for q in self._quotas(namespace) if q.metadata.name in failed], attempts - 1)

    async def _write(self, found: core_v1.ResourceQuota, used: Usage) -> None:
        changed = clone(found)
        changed.status.used = {name: str(value) for name, value in used.items()}
        meta = found.metadata
        path = _RESOURCE.path(meta.name or "", meta.namespace, "status")
        await self.app.send(Request("PUT", path, headers={"user-agent": "podling/quota-admission"}, obj=changed))

    # What was charged and is not there yet

    def _expect(self, attributes: Attributes, charges: Iterable[str]) -> None:
        """Note a charged object until it comes through the cache."""
        resource = attributes.resource
        served = self.app.lookup(resource.group, resource.name, version=resource.version)
        if served is None:
            return
        qualified = resource.qualified
        if qualified not in self._observed:
            observer = partial(self._came, qualified)
            served.cache.observers.append(observer)
            self._observed[qualified] = served.cache, observer
        name = attributes.obj.metadata.name or attributes.name
        key = qualified, f"{attributes.namespace}/{name}"
        before = self._coming[key][1] if key in self._coming else ()
        charged = tuple(f"{attributes.namespace}/{charge}" for charge in charges)
        self._coming[key] = clock.elapsed() + PATIENCE, before + charged

    def _came(self, qualified: str, kind: str, obj: Any) -> None:
        if self._coming:
            self._coming.pop((qualified, f"{obj.metadata.namespace}/{obj.metadata.name}"), None)

    def _check_count(self, attributes: Attributes) -> None:
        """409 for a count that lowers what is used while a charged object is on its way, which it may have missed."""
        if not self._coming:
            return
        old, new = _amounts(attributes.old.status.used), _amounts(attributes.obj.status.used)
        if all(name in new and new[name] >= value for name, value in old.items()):
            return
        now = clock.elapsed()
        self._coming = {key: found for key, found in self._coming.items() if found[0] > now}
        key = f"{attributes.namespace}/{attributes.name}"
        if any(key in keys for _, keys in self._coming.values()):
            why = "objects that are charged to it are being written; count again"
            raise errors.conflict(_QUOTAS, "", attributes.name, why)


def check(
    attributes: Attributes, quotas: Iterable[core_v1.ResourceQuota], used: Mapping[str, Usage], now: Any
) -> dict[str, Usage]:
    """What the quotas that the write concerns would have used after it, by their names; {} if it costs nothing.

    `used` is what they have now. StatusError 403 if that is too much, or can't be told.
    """
    resource, obj, old = attributes.resource, attributes.obj, attributes.old
    concerned = []
    for found in quotas:
        names = [n for n in found.status.hard or {} if quota.covers(n, resource)]
        if not names or not quota.in_scope(found.spec, resource, obj):
            continue
        _check_said(attributes, found, names)
        if any(name not in used[found.metadata.name or ""] for name in names):
            why = f"status unknown for quota: {found.metadata.name}, resources: {','.join(sorted(names))}"
            raise forbidden(attributes, why)
        concerned.append(found)
    if not concerned:
        return {}
    whole = quota.usage(resource, obj, now)
    more = whole if attributes.operation == CREATE else _more(whole, quota.usage(resource, old, now))
    result: dict[str, Usage] = {}
    for found in concerned:
        counted_before = attributes.operation == UPDATE and quota.in_scope(found.spec, resource, old)
        delta = more if counted_before else whole
        after = _charged(attributes, found, {k: v for k, v in delta.items() if v}, used[found.metadata.name or ""])
        if after is not None:
            result[found.metadata.name or ""] = after
    return result


def _check_said(attributes: Attributes, found: core_v1.ResourceQuota, names: Iterable[str]) -> None:
    """403 if containers of a pod leave out what the quota limits."""
    if attributes.qualified != "pods":
        return
    missing = quota.unsaid(names, attributes.obj)
    if missing:
        texts = "; ".join(f"{name} for: {','.join(containers)}" for name, containers in missing.items())
        raise forbidden(attributes, f"failed quota: {found.metadata.name}: must specify {texts}")


def _charged(attributes: Attributes, found: core_v1.ResourceQuota, delta: Usage, used: Usage) -> Usage | None:
    """`used` with what is asked for, None if that is nothing. StatusError 403 if it is too much."""
    hard = _amounts(found.status.hard)
    asked = {name: value for name, value in delta.items() if name in hard}
    if not asked:
        return None
    after = {**used, **{name: used[name] + value for name, value in asked.items()}}
    exceeded = sorted(name for name in asked if after[name] > hard[name])
    if exceeded and attributes.subresource != "status":
        raise forbidden(
            attributes,
            f"exceeded quota: {found.metadata.name}, requested: {_show(asked, exceeded)}, "
            f"used: {_show(used, exceeded)}, limited: {_show(hard, exceeded)}",
        )
    return after


def _more(new: Usage, old: Usage) -> Usage:
    """What `new` uses beyond `old`."""
    return {
        name: value - old[name] if name in old else value for name, value in new.items() if value > old.get(name, 0)
    }


def _amounts(given: Mapping[str, Any] | None) -> dict[str, Quantity]:
    return {name: quantity.parse(value) for name, value in (given or {}).items()}


def _show(amounts: Usage, names: Iterable[str]) -> str:
    return ",".join(f"{name}={amounts[name]}" for name in names)
