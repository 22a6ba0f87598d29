"""A volume that is bound to a claim is not deleted before the claim."""

from __future__ import annotations

from podling.api import core_v1
from podling.api.struct import clone
from podling.controllers.base import Context, Controller

FINALIZER = "kubernetes.io/pv-protection"


class PvProtectionController(Controller):
    """See the module."""

    name = "persistentvolume-protection-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._volumes = self.watch(core_v1.PersistentVolume)

    async def reconcile(self, key: str) -> None:
        volume = self._volumes.get(key)
        if volume is None:
            return
        finalizers = volume.metadata.finalizers or []
        deleting = volume.metadata.deletion_timestamp is not None
        if deleting == (FINALIZER not in finalizers) or (deleting and volume.status.phase == "Bound"):
            return
        changed = clone(volume)
        kept = [f for f in finalizers if f != FINALIZER]
        changed.metadata.finalizers = (kept if deleting else [*kept, FINALIZER]) or None
        await self.client.update(changed)
