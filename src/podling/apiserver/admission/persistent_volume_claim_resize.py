"""PersistentVolumeClaimResize: a claim grows only when it is bound, and its class lets it."""

from __future__ import annotations

from podling.api import core_v1, quantity
from podling.apiserver.admission.base import UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden

_CLASS_BETA = "volume.beta.kubernetes.io/storage-class"


class PersistentVolumeClaimResize(Plugin):
    name = "PersistentVolumeClaimResize"
    operations = frozenset((UPDATE,))
    resources = frozenset(("persistentvolumeclaims",))
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        new, old = _size(attributes.obj), _size(attributes.old)
        if new is None or (old is not None and new <= old):
            return
        if attributes.old.status.phase != "Bound":
            raise forbidden(attributes, "Only bound persistent volume claims can be expanded")
        if not self._allowed(attributes.obj, attributes.old):
            why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
            raise forbidden(attributes, why + "support resize")

    def _allowed(self, new: core_v1.PersistentVolumeClaim, old: core_v1.PersistentVolumeClaim) -> bool:
        name = _class(new)
        if not name or name != _class(old):
            return False
        found = self.app.cached("storage.k8s.io", "storageclasses", name)
        return found is not None and found.allow_volume_expansion is True


def _size(claim: core_v1.PersistentVolumeClaim) -> quantity.Quantity | None:
    resources = claim.spec.resources if claim.spec is not None else None
    size = (resources.requests or {}).get("storage") if resources is not None else None
    return quantity.parse(size) if size is not None else None


def _class(claim: core_v1.PersistentVolumeClaim) -> str:
    annotations = claim.metadata.annotations or {}
    if _CLASS_BETA in annotations:
        return annotations[_CLASS_BETA]
    return (claim.spec.storage_class_name if claim.spec is not None else None) or ""
