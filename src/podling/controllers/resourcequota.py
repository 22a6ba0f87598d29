"""ResourceQuotas: what is used of them. Admission charges what comes; here what is there is counted.

Counting follows what ends, goes or gets smaller, and what the quota limits; new objects have been charged by admission.
A count that was provoked by one of several new objects would miss the others, which are charged but not there yet. What
admission charged for something that never came is found by counting again every few minutes, as upstream does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from podling import clock
from podling.api import core_v1, quantity, registry
from podling.api.registry import Resource
from podling.api.struct import clone
from podling.client.informer import Informer
from podling.controllers.base import Context, Controller, ReconcileError
from podling.machinery import quota

_POD, _SERVICE = registry.of(core_v1.Pod), registry.of(core_v1.Service)
_CLAIM = registry.of(core_v1.PersistentVolumeClaim)

#: Seconds between two counts of everything (upstream's --resource-quota-sync-period).
RESYNC = 300.0
#: How long what is counted may take to be listed: the server of an aggregated resource may not answer.
SYNC = 10.0


class ResourceQuotaController(Controller):
    """See the module."""

    name = "resourcequota-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._quotas = self.informer(core_v1.ResourceQuota)
        self._quotas.add_handler(on_add=self.enqueue, on_update=self._quota_changed)
        self._resources = self.resources()
        self._resources.on_change(self._resources_changed)
        #: What is followed because a quota counts it.
        self._followed: dict[Resource, Informer[Any]] = {}

    def _quota_changed(self, old: core_v1.ResourceQuota, new: core_v1.ResourceQuota) -> None:
        # Not for each charge: see the module.
        if (new.spec.hard or {}) != (new.status.hard or {}) or old.spec != new.spec:
            self.enqueue(new)

    def background(self) -> list[Any]:
        return [self._resync(), self._resources.aggregated.follow(self._resources_changed)]

    def _resources_changed(self) -> None:
        """Follow what has come, if a quota counts it; what has gone may come back, and is then followed anew."""
        current = set(self._resources.all())
        for resource in [resource for resource in self._followed if resource not in current]:
            del self._followed[resource]
        for found in self._quotas.list():
            if any(name.startswith("count/") for name in found.spec.hard or ()):
                self.enqueue(found)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC)
            for found in self._quotas.list():
                self.enqueue(found)

    def _follow(self, resource: Resource) -> Informer[Any]:
        informer = self._followed.get(resource)
        if informer is not None:
            return informer
        builtin = resource in self._resources.builtin
        if resource in (_POD, _SERVICE, _CLAIM):
            informer = self.context.informers.of(resource.type)
        else:
            informer = self.context.informers.metadata_of(resource, resource.type if builtin else None)
        self._followed[resource] = informer

        def updated(old: Any, new: Any) -> None:
            if resource in (_POD, _SERVICE, _CLAIM):
                now = clock.now()
                if quota.usage(resource, old, now) != quota.usage(resource, new, now):
                    self._changed(new)

        informer.add_handler(on_update=updated, on_delete=self._changed)
        return informer

    def _changed(self, obj: Any) -> None:
        for found in self._quotas.list(obj.metadata.namespace or ""):
            self.enqueue(found)

    async def reconcile(self, key: str) -> None:
        found = self._quotas.get(key)
        if found is None or found.metadata.deletion_timestamp is not None:
            return
        hard = found.spec.hard or {}
        now, usages = clock.now(), []
        for resource in self._resources.all():
            if not resource.namespaced or not any(quota.covers(name, resource) for name in hard):
                continue
            informer = self._follow(resource)
            try:
                async with asyncio.timeout(SYNC):
                    await informer.wait_synced()
            except TimeoutError:
                raise ReconcileError(f"{resource.qualified} can't be listed, so the quota is not counted") from None
            for obj in informer.list(found.metadata.namespace or ""):
                if quota.in_scope(found.spec, resource, obj):
                    usages.append(quota.usage(resource, obj, now))
        used = {name: str(value) for name, value in quota.total(hard, usages).items()}
        if self._same(found.status.used, used) and (found.status.hard or {}) == hard:
            return
        changed = clone(found)
        changed.status.hard = dict(hard)
        changed.status.used = {**used}
        await self.client.update_status(changed)

    @staticmethod
    def _same(old: Any, new: dict[str, str]) -> bool:
        """Equal amounts, however they are written: admission and we may write them differently."""
        if old is None or old.keys() != new.keys():
            return False
        return all(quantity.parse(old[name]) == quantity.parse(new[name]) for name in new)
