"""Plugins of storage: claims and volumes are protected while they are used, and claims get the default class."""

from __future__ import annotations

from typing import Any

from podling.apiserver.admission.base import CREATE, Attributes, Plugin

_PROTECTION = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_DEFAULT_BETA = "storageclass.beta.kubernetes.io/is-default-class"
_CLASS_BETA = "volume.beta.kubernetes.io/storage-class"


class StorageObjectInUseProtection(Plugin):
    name = "StorageObjectInUseProtection"
    operations = frozenset((CREATE,))
    resources = frozenset(_PROTECTION)
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        meta, finalizer = attributes.obj.metadata, _PROTECTION[attributes.qualified]
        if finalizer not in (meta.finalizers or []):
            meta.finalizers = [*(meta.finalizers or []), finalizer]


class DefaultStorageClass(Plugin):
    name = "DefaultStorageClass"
    operations = frozenset((CREATE,))
    resources = frozenset(("persistentvolumeclaims",))
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        claim = attributes.obj
        if claim.spec is None or claim.spec.storage_class_name is not None:
            return
        if _CLASS_BETA in (claim.metadata.annotations or {}):
            return
        served = self.app.lookup("storage.k8s.io", "storageclasses")
        classes = [e.object for e in served.cache.all()] if served is not None else []
        defaults = [c for c in classes if _is_default(c)]
        if defaults:
            # Of several defaults the newest counts; of equally new ones the first by name.
            newest = max(c.metadata.creation_timestamp or "" for c in defaults)
            chosen = min(c.metadata.name for c in defaults if (c.metadata.creation_timestamp or "") == newest)
            claim.spec.storage_class_name = chosen


def _is_default(storage_class: Any) -> bool:
    annotations = storage_class.metadata.annotations or {}
    return annotations.get(_DEFAULT) == "true" or annotations.get(_DEFAULT_BETA) == "true"
