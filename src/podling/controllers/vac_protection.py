"""A VolumeAttributesClass that a volume or a claim has, or is to get, is not deleted before it (KEP 3751)."""

from __future__ import annotations

from podling.api import core_v1, storage_v1
from podling.api.struct import clone
from podling.controllers.base import Context, Controller

FINALIZER = "kubernetes.io/vac-protection"
#: Volumes, and claims, by the classes that they name.
CLASSES = "volume-attributes-classes"


def classes_of_volume(volume: core_v1.PersistentVolume) -> list[str]:
    name = volume.spec.volume_attributes_class_name
    return [name] if name else []


def classes_of_claim(claim: core_v1.PersistentVolumeClaim) -> list[str]:
    """What it wants, has, and is being changed to."""
    changing = claim.status.modify_volume_status
    names = (
        claim.spec.volume_attributes_class_name,
        claim.status.current_volume_attributes_class_name,
        changing.target_volume_attributes_class_name if changing is not None else None,
    )
    return [name for name in dict.fromkeys(names) if name]


class VacProtectionController(Controller):
    """See the module."""

    name = "volumeattributesclass-protection-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._classes = self.watch(storage_v1.VolumeAttributesClass)
        self._volumes = self.informer(core_v1.PersistentVolume)
        self._volumes.add_index(CLASSES, classes_of_volume)
        self._volumes.add_handler(
            on_update=lambda old, new: self._left(classes_of_volume(old), classes_of_volume(new)),
            on_delete=lambda old: self._left(classes_of_volume(old), []),
        )
        self._claims = self.informer(core_v1.PersistentVolumeClaim)
        self._claims.add_index(CLASSES, classes_of_claim)
        self._claims.add_handler(
            on_update=lambda old, new: self._left(classes_of_claim(old), classes_of_claim(new)),
            on_delete=lambda old: self._left(classes_of_claim(old), []),
        )

    def _left(self, before: list[str], after: list[str]) -> None:
        for name in before:
            if name not in after:
                self.queue.add(name)

    async def reconcile(self, key: str) -> None:
        found = self._classes.get(key)
        if found is None:
            return
        finalizers = found.metadata.finalizers or []
        deleting = found.metadata.deletion_timestamp is not None
        if deleting == (FINALIZER not in finalizers):
            return
        if deleting and (self._volumes.by_index(CLASSES, key) or self._claims.by_index(CLASSES, key)):
            return
        changed = clone(found)
        kept = [f for f in finalizers if f != FINALIZER]
        changed.metadata.finalizers = (kept if deleting else [*kept, FINALIZER]) or None
        await self.client.update(changed)
