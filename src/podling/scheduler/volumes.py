"""Claims, volumes and classes as the scheduler sees them, and the binding that comes before a pod's own.

A volume that was chosen for a claim is promised to it at once: the next pod must not choose it while that is being
written. Then the volumes are told their claims, the claims are told their node, and when the controllers and
provisioners have done the rest the pod is bound. All of that is heard of by events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from podling.api import core_v1, storage_v1
from podling.api.struct import clone
from podling.client.base import Client
from podling.client.events import reference
from podling.client.informer import Informer, Informers, key_of
from podling.errors import PodlingError
from podling.machinery import persistent_volumes as rules
from podling.machinery.persistent_volumes import Claim, Volume
from podling.scheduler.cache import NodeInfo
from podling.scheduler.framework import Rejection
from podling.scheduler.plugins import volume_binding
from podling.scheduler.plugins.volume_binding import Plan

#: Seconds that a pod waits for its volumes (bindTimeoutSeconds).
BIND_TIMEOUT = 600.0


class BindingFailed(PodlingError):
    """The volumes did not come; the text says why."""


class Volumes:
    """`volume_binding.Storage` over informers. `changed` is called when something did that may help a pod."""

    def __init__(self, client: Client, informers: Informers, changed: Callable[[], None]) -> None:
        self._client = client
        self._claims = informers.of(core_v1.PersistentVolumeClaim)
        self._volumes = informers.of(core_v1.PersistentVolume)
        self._classes = informers.of(storage_v1.StorageClass)
        self._changed = changed
        #: By volume: the uid of the claim that it is promised to.
        self._promised: dict[str, str] = {}
        self._waiting: set[asyncio.Event] = set()
        self._claims.add_handler(on_add=self._seen, on_update=self._updated, on_delete=self._seen)
        self._volumes.add_handler(on_add=self._seen, on_update=self._updated, on_delete=self._volume_gone)
        self._classes.add_handler(on_add=self._seen, on_update=self._updated)

    @property
    def informers(self) -> list[Informer[Any]]:
        return [self._claims, self._volumes, self._classes]

    def _seen(self, obj: Any) -> None:
        self._changed()
        self.wake()

    def _updated(self, old: Any, new: Any) -> None:
        self._seen(new)

    def _volume_gone(self, volume: Volume) -> None:
        self._promised.pop(volume.metadata.name or "", None)
        self._seen(volume)

    def wake(self) -> None:
        """Those who wait for volumes look again: also when a pod has gone."""
        for event in self._waiting:
            event.set()

    # Storage

    def claim(self, key: str) -> Claim | None:
        return self._claims.get(key)

    def volume(self, name: str) -> Volume | None:
        return self._volumes.get(name)

    def volumes(self) -> Iterable[Volume]:
        return self._volumes.list()

    def storage_class(self, name: str) -> storage_v1.StorageClass | None:
        return self._classes.get(name)

    def free(self, volume: Volume, claim: Claim) -> bool:
        holder = self._promised.get(volume.metadata.name or "")
        return holder is None or holder == claim.metadata.uid

    # Binding

    def reserve(self, pod: core_v1.Pod, node: NodeInfo) -> Plan | None:
        """What is to be bound for the pod on its node, promised to it from now on; None if that is nothing."""
        wanted = volume_binding.wanted(pod, self)
        if wanted is None or isinstance(wanted, Rejection) or not wanted.delayed:
            return None
        plan = volume_binding.plan(wanted, node, self)
        # The node was chosen a moment ago, by the same rules.
        assert isinstance(plan, Plan)
        for claim, volume in plan.static:
            self._promised[volume.metadata.name or ""] = claim.metadata.uid or ""
        return plan

    def release(self, plan: Plan) -> None:
        """It was bound, which the volumes say themselves now, or it came to nothing."""
        for _, volume in plan.static:
            self._promised.pop(volume.metadata.name or "", None)

    async def bind(self, plan: Plan, node: NodeInfo, alive: Callable[[], bool]) -> None:
        """Return when all claims of the plan are bound, as long as the pod is `alive`. BindingFailed, StatusError."""
        for claim, volume in plan.static:
            await self._hold(volume, claim)
        selected = [await self._select(claim, node.name) for claim in plan.provision]
        woken = asyncio.Event()
        self._waiting.add(woken)
        try:
            async with asyncio.timeout(BIND_TIMEOUT):
                while True:
                    woken.clear()
                    if not alive():
                        raise BindingFailed("the pod does not exist any more")
                    known = [self._look(claim, node) for claim, _ in plan.static]
                    known += [self._look(claim, node, provisioned=True) for claim in selected]
                    if all(known):
                        return
                    await woken.wait()
        except TimeoutError:
            raise BindingFailed("binding volumes: context deadline exceeded") from None
        finally:
            self._waiting.discard(woken)

    async def _hold(self, volume: Volume, claim: Claim) -> None:
        """The volume names the claim; the controller goes on from there."""
        holder = volume.spec.claim_ref
        if holder is not None and holder.uid == claim.metadata.uid:
            return
        changed = clone(volume)
        if not rules.belongs(volume, claim):
            changed.metadata.annotations = {**(changed.metadata.annotations or {}), rules.BOUND_BY_CONTROLLER: "yes"}
        changed.spec.claim_ref = reference(claim)
        await self._client.update(changed)

    async def _select(self, claim: Claim, node: str) -> Claim:
        """The claim names the node; the provisioner goes on from there."""
        annotations = claim.metadata.annotations or {}
        if annotations.get(rules.SELECTED_NODE) == node:
            return claim
        changed = clone(claim)
        changed.metadata.annotations = {**annotations, rules.SELECTED_NODE: node}
        return await self._client.update(changed)

    def _look(self, planned: Claim, node: NodeInfo, *, provisioned: bool = False) -> bool:
        """Whether the claim is bound by now. Raises BindingFailed if it won't be."""
        claim, name = self._claims.get(key_of(planned)), planned.metadata.name
        if claim is None or claim.metadata.uid != planned.metadata.uid:
            raise BindingFailed(
                f'binding volumes: could not get PVC "{name}": persistentvolumeclaim "{name}" not found'
            )
        if rules.is_bound(claim):
            volume = self._volumes.get(claim.spec.volume_name or "")
            if volume is not None and not rules.has_volume(node.labels, node.name, volume):
                shown = f'pv "{volume.metadata.name}" node affinity doesn\'t match node "{node.name}"'
                raise BindingFailed(f"binding volumes: {shown}: no matching NodeSelectorTerms")
            return volume is not None
        chosen = (claim.metadata.annotations or {}).get(rules.SELECTED_NODE)
        if provisioned and chosen != node.name and _version(claim) >= _version(planned):
            # The provisioner gave the node up: another one may do.
            raise BindingFailed(f'binding volumes: provisioning failed for PVC "{name}"')
        return False


def _version(claim: Claim) -> int:
    return int(claim.metadata.resource_version or 0)
