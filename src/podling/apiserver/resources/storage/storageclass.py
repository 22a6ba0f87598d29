"""StorageClasses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, forbidden, immutable, not_supported, one_of, required

_MODES = ("Immediate", "WaitForFirstConsumer")
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BETA_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"


def is_default(obj: storage_v1.StorageClass) -> bool:
    annotations = obj.metadata.annotations or {}
    return "true" in (annotations.get(_DEFAULT), annotations.get(_BETA_DEFAULT))


class StorageClassStrategy(Strategy[storage_v1.StorageClass]):
    columns = (
        printing.NAME,
        printing.text("Provisioner"),
        printing.text("ReclaimPolicy"),
        printing.text("VolumeBindingMode"),
        printing.text("AllowVolumeExpansion"),
        printing.AGE,
    )

    def default(self, obj: storage_v1.StorageClass) -> None:
        obj.reclaim_policy = obj.reclaim_policy or "Delete"
        obj.volume_binding_mode = obj.volume_binding_mode or "Immediate"

    def validate(self, obj: storage_v1.StorageClass) -> Findings:
        at = Path("provisioner")
        found: Findings = []
        if not obj.provisioner:
            found.append(required(at))
        else:
            found += each(at, obj.provisioner, names.qualified_name(obj.provisioner.lower()))
        for key in obj.parameters or ():
            if not key:
                found.append(required(Path("parameters"), "field can not be empty."))
        found += one_of(Path("reclaimPolicy"), obj.reclaim_policy, ("Delete", "Retain"))
        mode = obj.volume_binding_mode
        if not mode:
            found.append(required(Path("volumeBindingMode")))
        elif mode not in _MODES:
            found.append(not_supported(Path("volumeBindingMode"), mode, _MODES))
        return found

    def validate_update(self, new: storage_v1.StorageClass, old: storage_v1.StorageClass) -> Findings:
        found: Findings = []
        if (new.parameters or {}) != (old.parameters or {}):
            found.append(forbidden(Path("parameters"), "updates to parameters are forbidden."))
        if new.provisioner != old.provisioner:
            found.append(forbidden(Path("provisioner"), "updates to provisioner are forbidden."))
        if new.reclaim_policy != old.reclaim_policy:
            found.append(forbidden(Path("reclaimPolicy"), "updates to reclaimPolicy are forbidden."))
        return found + immutable(new.volume_binding_mode, old.volume_binding_mode, Path("volumeBindingMode"))

    def row(self, obj: storage_v1.StorageClass, now: datetime) -> list[Any]:
        name = printing.name(obj.metadata)
        return [
            f"{name} (default)" if is_default(obj) else name,
            obj.provisioner,
            obj.reclaim_policy or "Delete",
            obj.volume_binding_mode or "Immediate",
            printing.go_bool(obj.allow_volume_expansion),
            printing.age(obj.metadata, now),
        ]
