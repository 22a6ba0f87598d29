"""Claims are bound to volumes, and volumes whose claim is gone are kept or deleted.

A binding is written in four steps: the volume names the claim, and is Bound; the claim names the volume, and is Bound.
Whatever step is the last one done, the next look at either of them goes on from there. Claims of a class that waits for
the first consumer are bound to volumes that are reserved for them only: everything else is the scheduler's to choose.
Volumes are provisioned by others, whom an annotation on the claim calls.
"""

from __future__ import annotations

import re

from podling.api import core_v1, errors, storage_v1
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING, reference
from podling.client.informer import key_of
from podling.controllers.base import Context, Controller, NotYet, ReconcileError, unchanged
from podling.machinery import persistent_volumes as rules
from podling.machinery.persistent_volumes import Claim, Volume

#: Indices: claims that are not bound by their class; claims by the volume they name; volumes by the claim they name.
_UNBOUND, _NAMED, _HELD = "unbound", "named", "held"
_PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
#: hostPath volumes are for trying things out: only what lies here is ever removed.
_REMOVABLE = re.compile(r"/tmp/.+")


def _unbound(claim: Claim) -> list[str]:
    bound = rules.annotated(claim, rules.BIND_COMPLETED) or claim.spec.volume_name
    return [] if bound else [rules.class_of(claim)]


def _named(claim: Claim) -> list[str]:
    return [claim.spec.volume_name] if claim.spec.volume_name else []


def _held(volume: Volume) -> list[str]:
    holder = volume.spec.claim_ref
    return [f"{holder.namespace}/{holder.name}"] if holder is not None else []


class PersistentVolumeController(Controller):
    """Keys are `namespace/name` of claims and `name` of volumes."""

    name = "persistentvolume-binder-controller"
    component = "persistentvolume-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = self.watch(core_v1.PersistentVolumeClaim, self._claim_changed)
        self._claims.add_index(_UNBOUND, _unbound)
        self._claims.add_index(_NAMED, _named)
        self._volumes = self.watch(core_v1.PersistentVolume, self._volume_changed)
        self._volumes.add_index(_HELD, _held)
        self._classes = self.watch(storage_v1.StorageClass, self._class_changed)

    def _claim_changed(self, claim: Claim) -> None:
        self.enqueue(claim)
        for volume in self._volumes.by_index(_HELD, key_of(claim)):
            self.enqueue(volume)

    def _volume_changed(self, volume: Volume) -> None:
        self.enqueue(volume)
        for key in _held(volume):
            self.queue.add(key)
        for claim in self._claims.by_index(_NAMED, volume.metadata.name or ""):
            self.enqueue(claim)
        if volume.spec.claim_ref is None:
            self._wake(rules.class_of(volume))

    def _class_changed(self, found: storage_v1.StorageClass) -> None:
        # Claims without a class may get this one as the default.
        self._wake(found.metadata.name or "")
        self._wake("")

    def _wake(self, storage_class: str) -> None:
        for claim in self._claims.by_index(_UNBOUND, storage_class):
            self.enqueue(claim)

    async def reconcile(self, key: str) -> None:
        if "/" in key:
            claim = self._claims.get(key)
            if claim is not None:
                await self._sync_claim(claim)
        else:
            volume = self._volumes.get(key)
            if volume is not None:
                await self._sync_volume(volume)

    # Claims

    async def _sync_claim(self, claim: Claim) -> None:
        if rules.annotated(claim, rules.BIND_COMPLETED):
            await self._sync_bound(claim)
        elif claim.spec.volume_name:
            await self._sync_asking(claim)
        elif claim.metadata.deletion_timestamp is None:
            await self._sync_open(claim)

    async def _sync_open(self, claim: Claim) -> None:
        """A claim that takes any volume that fits."""
        found = self._classes.get(rules.class_of(claim)) if rules.class_of(claim) else None
        delayed = rules.delays(claim, found)
        volume = rules.best_match(claim, self._volumes.list(), delayed=delayed)
        if volume is not None:
            await self._bind(volume, claim)
            return
        if not rules.has_class(claim) and (default := rules.default_class(self._classes.list())):
            changed = clone(claim)
            changed.spec.storage_class_name = default
            await self.client.update(changed)
            return
        if delayed:
            text = "waiting for first consumer to be created before binding"
            self.recorder.event(claim, NORMAL, "WaitForFirstConsumer", text)
        elif rules.class_of(claim):
            claim = await self._call_provisioner(claim, found)
        else:
            text = "no persistent volumes available for this claim and no storage class is set"
            self.recorder.event(claim, NORMAL, "FailedBinding", text)
        await self._claim_phase(claim, "Pending")

    async def _call_provisioner(self, claim: Claim, found: storage_v1.StorageClass | None) -> Claim:
        """Volumes are provisioned by others; they look for their names in the annotations."""
        if found is None:
            text = f'storageclass.storage.k8s.io "{rules.class_of(claim)}" not found'
            self.recorder.event(claim, WARNING, "ProvisioningFailed", text)
            return claim
        who = found.provisioner
        if who.startswith("kubernetes.io/"):
            self.recorder.event(claim, WARNING, "ProvisioningFailed", f"no volume plugin matched name: {who}")
            return claim
        annotations = claim.metadata.annotations or {}
        if any(annotations.get(name) != who for name in _PROVISIONERS):
            changed = clone(claim)
            changed.metadata.annotations = {**annotations, **dict.fromkeys(_PROVISIONERS, who)}
            claim = await self.client.update(changed)
        text = (
            f"Waiting for a volume to be created either by the external provisioner '{who}' or manually by the system "
            "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly "
            "registered."
        )
        self.recorder.event(claim, NORMAL, "ExternalProvisioning", text)
        return claim

    async def _sync_asking(self, claim: Claim) -> None:
        """A claim that names its volume."""
        name = claim.spec.volume_name or ""
        volume = self._volumes.get(name)
        if volume is not None and rules.belongs(volume, claim):
            await self._bind(volume, claim)
            return
        if volume is not None and volume.spec.claim_ref is None:
            problem = rules.misfit(volume, claim)
            if not problem:
                await self._bind(volume, claim)
                return
            text = f'Cannot bind to requested volume "{name}": {problem}'
            self.recorder.event(claim, WARNING, "VolumeMismatch", text)
        elif volume is not None:
            text = f'volume "{name}" already bound to a different claim.'
            self.recorder.event(claim, WARNING, "FailedBinding", text)
        await self._claim_phase(claim, "Pending")

    async def _sync_bound(self, claim: Claim) -> None:
        """A claim that was bound: to a volume that may have been taken from it."""
        name = claim.spec.volume_name
        if not name:
            text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            await self._lose(claim, "ClaimLost", text)
            return
        volume = self._volumes.get(name)
        if volume is None:
            text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            await self._lose(claim, "ClaimLost", text)
        elif volume.spec.claim_ref is None or volume.spec.claim_ref.uid == claim.metadata.uid:
            await self._bind(volume, claim)
        else:
            text = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lose(claim, "ClaimMisbound", text)

    async def _lose(self, claim: Claim, reason: str, text: str) -> None:
        if claim.status.phase != "Lost":
            await self._claim_phase(claim, "Lost")
            self.recorder.event(claim, WARNING, reason, text)

    async def _claim_phase(self, claim: Claim, phase: str, volume: Volume | None = None) -> None:
        changed = clone(claim)
        status = changed.status
        if volume is None:
            status.access_modes = status.capacity = None
        else:
            status.access_modes = volume.spec.access_modes
            if status.phase != "Bound" or not status.capacity:
                # Later the volume may grow, which is told by whoever makes it.
                status.capacity = volume.spec.capacity
            status.current_volume_attributes_class_name = volume.spec.volume_attributes_class_name or None
        status.phase = phase
        if changed != claim:
            await self.client.update_status(changed)

    # Binding

    async def _bind(self, volume: Volume, claim: Claim) -> None:
        volume = await self._volume_phase(await self._hold(volume, claim), "Bound")
        await self._claim_phase(await self._name(claim, volume), "Bound", volume)

    @staticmethod
    def _annotate(obj: Claim | Volume, *names: str) -> None:
        obj.metadata.annotations = {**(obj.metadata.annotations or {}), **dict.fromkeys(names, "yes")}

    async def _hold(self, volume: Volume, claim: Claim) -> Volume:
        """The volume names the claim."""
        holder = volume.spec.claim_ref
        if holder is not None and rules.belongs(volume, claim) and holder.uid == claim.metadata.uid:
            return volume
        changed = clone(volume)
        changed.spec.claim_ref = reference(claim)
        if not rules.belongs(volume, claim):
            self._annotate(changed, rules.BOUND_BY_CONTROLLER)
        return await self.client.update(changed)

    async def _name(self, claim: Claim, volume: Volume) -> Claim:
        """The claim names the volume."""
        if claim.spec.volume_name == volume.metadata.name and rules.annotated(claim, rules.BIND_COMPLETED):
            return claim
        changed = clone(claim)
        if claim.spec.volume_name != volume.metadata.name:
            changed.spec.volume_name = volume.metadata.name
            self._annotate(changed, rules.BOUND_BY_CONTROLLER)
        self._annotate(changed, rules.BIND_COMPLETED)
        return await self.client.update(changed)

    # Volumes

    async def _sync_volume(self, volume: Volume) -> None:
        holder = volume.spec.claim_ref
        if holder is None or not holder.uid:
            await self._volume_phase(volume, "Available")
            return
        claim = self._claims.get(f"{holder.namespace}/{holder.name}")
        if claim is not None and claim.metadata.uid != holder.uid:
            claim = None
        if claim is None and not await self._is_gone(holder):
            # The claim is so new that the cache does not know it.
            raise NotYet(f"the claim of volume {volume.metadata.name} is not in the cache yet")
        if claim is None:
            await self._release(volume)
        elif not claim.spec.volume_name:
            self.enqueue(claim)
        elif claim.spec.volume_name == volume.metadata.name:
            await self._volume_phase(volume, "Bound")
        elif rules.annotated(volume, rules.PROVISIONED_BY) and volume.spec.persistent_volume_reclaim_policy == "Delete":
            await self._release(volume)
        else:
            await self._unbind(volume)

    async def _is_gone(self, holder: core_v1.ObjectReference) -> bool:
        """What can't be undone is not done on the cache's word."""
        try:
            found = await self.client.get(core_v1.PersistentVolumeClaim, holder.name or "", holder.namespace)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return True
            raise
        return found.metadata.uid != holder.uid

    async def _volume_phase(self, volume: Volume, phase: str, message: str = "") -> Volume:
        if volume.status.phase == phase:
            return volume
        changed = clone(volume)
        changed.status.phase, changed.status.message = phase, message or None
        return await self.client.update_status(changed)

    async def _unbind(self, volume: Volume) -> None:
        """The claim found another volume: this one is free again, or stays reserved if that was its author's wish."""
        changed = clone(volume)
        annotations = changed.metadata.annotations or {}
        if annotations.pop(rules.BOUND_BY_CONTROLLER, None) is not None:
            changed.spec.claim_ref = None
            changed.metadata.annotations = annotations or None
        elif changed.spec.claim_ref is not None:
            changed.spec.claim_ref.uid = None
        await self._volume_phase(await self.client.update(changed), "Available")

    async def _release(self, volume: Volume) -> None:
        """The claim is gone: what happens is the volume's policy."""
        if volume.status.phase not in ("Released", "Failed"):
            volume = await self._volume_phase(volume, "Released")
        match volume.spec.persistent_volume_reclaim_policy:
            case "Delete":
                await self._delete(volume)
            case "Recycle":
                await self._fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")

    async def _delete(self, volume: Volume) -> None:
        meta, spec = volume.metadata, volume.spec
        provisioner = (meta.annotations or {}).get(rules.PROVISIONED_BY, "kubernetes.io/")
        if meta.deletion_timestamp is not None or not provisioner.startswith("kubernetes.io/"):
            # It goes already, or who made it deletes it.
            return
        if spec.host_path is None:
            text = f'error getting deleter volume plugin for volume "{meta.name}": no deletable volume plugin matched'
            await self._fail(volume, "VolumeFailedDelete", text)
            return
        path = spec.host_path.path
        if not _REMOVABLE.fullmatch(path) or ".." in path.split("/"):
            text = f"host_path deleter only supports /tmp/.+ but received provided {path}"
            await self._fail(volume, "VolumeFailedDelete", text)
            return
        fresh = await unchanged(self.client, volume)
        if fresh is None or fresh.metadata.deletion_timestamp is not None:
            return
        remove = self.context.config.remove_directory
        if remove is not None:
            try:
                await remove(path)
            except OSError as error:
                await self._fail(volume, "VolumeFailedDelete", str(error))
                raise ReconcileError(f"{path} could not be removed: {error}") from error
        await self.client.delete(core_v1.PersistentVolume, meta.name or "", uid=meta.uid)

    async def _fail(self, volume: Volume, reason: str, text: str) -> None:
        if volume.status.phase != "Failed":
            await self._volume_phase(volume, "Failed", text)
            self.recorder.event(volume, WARNING, reason, text)
