"""CSIDrivers: what a driver can do and wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.storage import drivers
from podling.apiserver.strategy import Column, Strategy
from podling.machinery.validation import Findings, Path, duplicate, immutable, invalid, not_supported, one_of, required

_SPEC = Path("spec")
_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_MODES = ("Persistent", "Ephemeral")
_FLAGS = ("pod_info_on_mount", "storage_capacity", "requires_republish", "se_linux_mount")


class CSIDriverStrategy(Strategy[storage_v1.CSIDriver]):
    unconditional_update = False
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
        for field in _FLAGS:
            if getattr(spec, field) is None:
                setattr(spec, field, False)
        spec.fs_group_policy = spec.fs_group_policy or "ReadWriteOnceWithFSType"
        spec.volume_lifecycle_modes = spec.volume_lifecycle_modes or ["Persistent"]

    def validate(self, obj: storage_v1.CSIDriver) -> Findings:
        spec = obj.spec
        found = drivers.driver_name(obj.metadata.name or "", Path("name"))
        for name, value in (
            ("attachedRequired", spec.attach_required),
            ("podInfoOnMount", spec.pod_info_on_mount),
            ("storageCapacity", spec.storage_capacity),
        ):
            if value is None:
                found.append(required(_SPEC.child(name)))
        found += one_of(_SPEC.child("fsGroupPolicy"), spec.fs_group_policy, _POLICIES, needed=True)
        found += _token_requests(spec.token_requests or [], _SPEC.child("tokenRequests"))
        for mode in spec.volume_lifecycle_modes or ():
            if mode not in _MODES:
                found.append(not_supported(_SPEC.child("volumeLifecycleModes"), mode, _MODES))
        seconds = spec.node_allocatable_update_period_seconds
        if seconds is not None and seconds < 10:
            at = _SPEC.child("nodeAllocatableUpdatePeriodSeconds")
            found.append(invalid(at, seconds, "must be greater than or equal to 10 seconds"))
        if spec.service_account_token_in_secrets is not None and not spec.token_requests:
            at = _SPEC.child("serviceAccountTokenInSecrets")
            detail = "must only be set when tokenRequests is configured"
            found.append(invalid(at, spec.service_account_token_in_secrets, detail))
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


def _token_requests(requests: Sequence[storage_v1.TokenRequest], path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, request in enumerate(requests):
        if request.audience in seen:
            found.append(duplicate(path.index(index).child("audience"), request.audience))
            continue
        seen.add(request.audience)
        seconds, at = request.expiration_seconds, path.index(index).child("expirationSeconds")
        if seconds is not None and seconds < 600:
            found.append(invalid(at, seconds, "may not specify a duration less than 10 minutes"))
        if seconds is not None and seconds > 1 << 32:
            found.append(invalid(at, seconds, "may not specify a duration larger than 2^32 seconds"))
    return found
