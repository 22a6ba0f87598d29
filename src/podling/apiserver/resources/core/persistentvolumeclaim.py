"""PersistentVolumeClaims."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, quantity
from podling.api.struct import clone
from podling.apiserver.resources import printing
from podling.apiserver.resources.core.persistentvolume import access_modes
from podling.apiserver.resources.podspec import updates, volumes
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, forbidden, immutable, required

_SPEC = Path("spec")
_CLASS = "volume.beta.kubernetes.io/storage-class"


class PersistentVolumeClaimStrategy(Strategy[core_v1.PersistentVolumeClaim]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Status"),
        printing.text("Volume"),
        printing.text("Capacity"),
        printing.text("Access Modes"),
        printing.text("StorageClass"),
        printing.text("VolumeAttributesClass"),
        printing.AGE,
        printing.text("VolumeMode", wide=True),
    )

    def default(self, obj: core_v1.PersistentVolumeClaim) -> None:
        obj.status.phase = obj.status.phase or "Pending"
        obj.spec.volume_mode = obj.spec.volume_mode or "Filesystem"

    def prepare_create(self, obj: core_v1.PersistentVolumeClaim, context: Context) -> None:
        obj.status = core_v1.PersistentVolumeClaimStatus(phase="Pending")
        source = obj.spec.data_source
        if source is not None and obj.spec.data_source_ref is None:
            obj.spec.data_source_ref = core_v1.TypedObjectReference(
                kind=source.kind, api_group=source.api_group, name=source.name
            )

    def validate(self, obj: core_v1.PersistentVolumeClaim) -> Findings:
        return volumes.claim_spec(obj.spec, _SPEC)

    def validate_update(self, new: core_v1.PersistentVolumeClaim, old: core_v1.PersistentVolumeClaim) -> Findings:
        found = self.validate(new)
        changed, before = clone(new.spec), clone(old.spec)
        if not before.volume_name:
            before.volume_name = changed.volume_name
        if before.storage_class_name is None and changed.storage_class_name is not None:
            before.storage_class_name = changed.storage_class_name
        bound = new.status.phase == "Bound"
        size, old_size = _storage(new.spec), _storage(old.spec)
        if bound and changed.resources is not None and before.resources is not None:
            changed.resources.requests = before.resources.requests
        if bound and changed.volume_attributes_class_name is not None:
            changed.volume_attributes_class_name = before.volume_attributes_class_name
        if changed != before:
            detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName"
            lines = updates.difference(before, changed)
            found.append(forbidden(_SPEC, f"{detail} for bound claims\n{lines}"))
        at = _SPEC.child("resources", "requests", "storage")
        if size < old_size:
            status = quantity.parse((old.status.capacity or {}).get("storage", "0"))
            if size <= status:
                found.append(forbidden(at, "field can not be less than status.capacity"))
        found += immutable(new.spec.volume_mode, old.spec.volume_mode, Path("volumeMode"))
        return found

    def validate_status_update(
        self, new: core_v1.PersistentVolumeClaim, old: core_v1.PersistentVolumeClaim
    ) -> Findings:
        if not new.spec.access_modes:
            return [required(Path("Spec").child("accessModes"))]
        return []

    def row(self, obj: core_v1.PersistentVolumeClaim, now: datetime) -> list[Any]:
        spec, status = obj.spec, obj.status
        bound = bool(spec.volume_name)
        return [
            printing.name(obj.metadata),
            "Terminating" if obj.metadata.deletion_timestamp else status.phase or "",
            spec.volume_name or "",
            str((status.capacity or {}).get("storage", "0")) if bound else "",
            access_modes(status.access_modes) if bound else "",
            (obj.metadata.annotations or {}).get(_CLASS) or spec.storage_class_name or "",
            spec.volume_attributes_class_name or printing.UNSET,
            printing.age(obj.metadata, now),
            (spec.volume_mode or printing.UNSET),
        ]


def _storage(spec: core_v1.PersistentVolumeClaimSpec) -> quantity.Quantity:
    requests = (spec.resources.requests if spec.resources else None) or {}
    return quantity.parse(requests.get("storage", "0"))
