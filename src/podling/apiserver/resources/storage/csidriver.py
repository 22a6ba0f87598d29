"""CSIDrivers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Column, Strategy
from podling.machinery.validation import Findings, Path, immutable, invalid, not_supported, one_of, required

_SPEC = Path("spec")
_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


class CSIDriverStrategy(Strategy[storage_v1.CSIDriver]):
    columns = (
        printing.NAME,
        Column("AttachRequired", type="boolean"),
        Column("PodInfoOnMount", type="boolean"),
        Column("StorageCapacity", type="boolean"),
        printing.text("TokenRequests"),
        Column("RequiresRepublish", type="boolean"),
        printing.text("Modes"),
        printing.AGE,
    )

    def default(self, obj: storage_v1.CSIDriver) -> None:
        spec = obj.spec
        if spec.attach_required is None:
            spec.attach_required = True
        for field in ("pod_info_on_mount", "storage_capacity", "requires_republish", "se_linux_mount"):
            if getattr(spec, field) is None:
                setattr(spec, field, False)
        spec.fs_group_policy = spec.fs_group_policy or "ReadWriteOnceWithFSType"
        spec.volume_lifecycle_modes = spec.volume_lifecycle_modes or ["Persistent"]

    def validate(self, obj: storage_v1.CSIDriver) -> Findings:
        found = one_of(_SPEC.child("fsGroupPolicy"), obj.spec.fs_group_policy, _POLICIES, needed=True)
        for mode in obj.spec.volume_lifecycle_modes or ():
            if mode not in ("Ephemeral", "Persistent"):
                at = _SPEC.child("volumeLifecycleModes")
                found.append(not_supported(at, mode, ("Ephemeral", "Persistent")))
        for index, request in enumerate(obj.spec.token_requests or ()):
            seconds = request.expiration_seconds
            if seconds is not None and seconds < 600:
                at = _SPEC.child("tokenRequests").index(index).child("expirationSeconds")
                found.append(invalid(at, seconds, "may not specify a duration less than 10 minutes"))
        if obj.spec.attach_required is None:
            found.append(required(_SPEC.child("attachedRequired")))
        return found

    def validate_update(self, new: storage_v1.CSIDriver, old: storage_v1.CSIDriver) -> Findings:
        found = self.validate(new)
        for name, attribute in (
            ("attachedRequired", "attach_required"),
            ("fsGroupPolicy", "fs_group_policy"),
            ("volumeLifecycleModes", "volume_lifecycle_modes"),
        ):
            found += immutable(getattr(new.spec, attribute), getattr(old.spec, attribute), _SPEC.child(name))
        return found

    def row(self, obj: storage_v1.CSIDriver, now: datetime) -> list[Any]:
        spec = obj.spec
        return [
            printing.name(obj.metadata),
            spec.attach_required is not False,
            bool(spec.pod_info_on_mount),
            bool(spec.storage_capacity),
            printing.joined((r.audience for r in spec.token_requests or ()), printing.UNSET),
            bool(spec.requires_republish),
            printing.joined(spec.volume_lifecycle_modes or ()),
            printing.age(obj.metadata, now),
        ]
