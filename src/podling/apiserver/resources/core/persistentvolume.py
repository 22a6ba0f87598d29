"""PersistentVolumes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from podling.api import core_v1, names, quantity, times
from podling.apiserver.resources import printing
from podling.apiserver.resources.podspec import requirements, scheduling
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    each,
    forbidden,
    immutable,
    invalid,
    not_supported,
    one_of,
    required,
)

_SPEC = Path("spec")
_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_PLAIN = frozenset(
    (
        "access_modes", "capacity", "claim_ref", "mount_options", "node_affinity",
        "persistent_volume_reclaim_policy", "storage_class_name", "volume_attributes_class_name", "volume_mode",
    )
)  # fmt: skip
_CLASS = "volume.beta.kubernetes.io/storage-class"


def access_modes(modes: Iterable[str] | None) -> str:
    """`RWO,ROX`: each once, in the usual order."""
    given = set(modes or ())
    return ",".join(short for mode, short in _MODES.items() if mode in given)


def sources(spec: core_v1.PersistentVolumeSpec) -> list[str]:
    """The attributes that say where the volume's data are."""
    return [f for f in spec.__struct_fields__ if f not in _PLAIN and getattr(spec, f) is not None]


class PersistentVolumeStrategy(Strategy[core_v1.PersistentVolume]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Capacity"),
        printing.text("Access Modes"),
        printing.text("Reclaim Policy"),
        printing.text("Status"),
        printing.text("Claim"),
        printing.text("StorageClass"),
        printing.text("VolumeAttributesClass"),
        printing.text("Reason"),
        printing.AGE,
        printing.text("VolumeMode", wide=True),
    )

    def default(self, obj: core_v1.PersistentVolume) -> None:
        obj.status.phase = obj.status.phase or "Pending"
        spec = obj.spec
        spec.persistent_volume_reclaim_policy = spec.persistent_volume_reclaim_policy or "Retain"
        spec.volume_mode = spec.volume_mode or "Filesystem"
        if spec.host_path is not None and spec.host_path.type is None:
            spec.host_path.type = ""

    def prepare_create(self, obj: core_v1.PersistentVolume, context: Context) -> None:
        now = times.format(context.now)
        obj.status = core_v1.PersistentVolumeStatus(phase="Pending", last_phase_transition_time=now)

    def validate(self, obj: core_v1.PersistentVolume) -> Findings:
        spec = obj.spec
        found: Findings = []
        if not spec.access_modes:
            found.append(required(_SPEC.child("accessModes")))
        for mode in spec.access_modes or ():
            found += one_of(_SPEC.child("accessModes"), mode, sorted(_MODES))
        if "ReadWriteOncePod" in (spec.access_modes or ()) and len(spec.access_modes or ()) > 1:
            detail = "may not use ReadWriteOncePod with other access modes"
            found.append(forbidden(_SPEC.child("accessModes"), detail))
        found += _capacity(spec, _SPEC.child("capacity"))
        policies = ("Delete", "Recycle", "Retain")
        policy = spec.persistent_volume_reclaim_policy
        found += one_of(_SPEC.child("persistentVolumeReclaimPolicy"), policy, policies)
        found += _node_affinity(spec, _SPEC.child("nodeAffinity"))
        kinds = sources(spec)
        if not kinds:
            found.append(required(_SPEC, "must specify a volume type"))
        for extra in kinds[1:]:
            found.append(forbidden(_SPEC.child(_wire(spec, extra)), "may not specify more than 1 volume type"))
        found += _paths(spec)
        if spec.storage_class_name:
            at = _SPEC.child("storageClassName")
            found += each(at, spec.storage_class_name, names.dns_subdomain(spec.storage_class_name))
        return found + one_of(_SPEC.child("volumeMode"), spec.volume_mode, ("Block", "Filesystem"))

    def validate_update(self, new: core_v1.PersistentVolume, old: core_v1.PersistentVolume) -> Findings:
        found = self.validate(new)
        for attribute in {*sources(new.spec), *sources(old.spec)}:
            if getattr(new.spec, attribute) != getattr(old.spec, attribute):
                detail = "spec.persistentvolumesource is immutable after creation"
                found.append(forbidden(_SPEC.child("persistentvolumesource"), detail))
                break
        found += immutable(new.spec.volume_mode, old.spec.volume_mode, Path("volumeMode"))
        if old.spec.node_affinity is not None:
            found += immutable(new.spec.node_affinity, old.spec.node_affinity, Path("nodeAffinity"))
        return found

    def prepare_status_update(
        self, new: core_v1.PersistentVolume, old: core_v1.PersistentVolume, context: Context
    ) -> None:
        if new.status.phase != old.status.phase:
            new.status.last_phase_transition_time = times.format(context.now)

    def row(self, obj: core_v1.PersistentVolume, now: datetime) -> list[Any]:
        spec = obj.spec
        claim = f"{spec.claim_ref.namespace or ''}/{spec.claim_ref.name or ''}" if spec.claim_ref else ""
        phase = "Terminating" if obj.metadata.deletion_timestamp else obj.status.phase or ""
        return [
            printing.name(obj.metadata),
            str((spec.capacity or {}).get("storage", "0")),
            access_modes(spec.access_modes),
            spec.persistent_volume_reclaim_policy or "",
            phase,
            claim,
            (obj.metadata.annotations or {}).get(_CLASS) or spec.storage_class_name or "",
            spec.volume_attributes_class_name or printing.UNSET,
            obj.status.reason or "",
            printing.age(obj.metadata, now),
            spec.volume_mode or printing.UNSET,
        ]


def _wire(spec: core_v1.PersistentVolumeSpec, attribute: str) -> str:
    return spec.__struct_encode_fields__[spec.__struct_fields__.index(attribute)]


def _capacity(spec: core_v1.PersistentVolumeSpec, path: Path) -> Findings:
    capacity = spec.capacity or {}
    found: Findings = []
    if not capacity:
        found.append(required(path))
    if "storage" not in capacity or len(capacity) > 1:
        found.append(not_supported(path, capacity or None, ("storage",)))
    for name, value in capacity.items():
        if quantity.parse(value).nano <= 0:
            found.append(invalid(path.key(name), str(quantity.parse(value)), "must be greater than zero"))
        else:
            found += requirements.amount(name, value, path.key(name))
    return found


def _node_affinity(spec: core_v1.PersistentVolumeSpec, path: Path) -> Findings:
    affinity = spec.node_affinity
    if affinity is None:
        if spec.local is not None:
            return [required(path, "Local volume requires node affinity")]
        return []
    if affinity.required is None:
        return [required(path.child("required"), "must specify required node constraints")]
    return scheduling.node_selector(affinity.required, path.child("required"))


def _paths(spec: core_v1.PersistentVolumeSpec) -> Findings:
    found: Findings = []
    for name, source in (("hostPath", spec.host_path), ("local", spec.local)):
        if source is None:
            continue
        at = _SPEC.child(name, "path")
        if not source.path:
            found.append(required(at))
        elif ".." in source.path.split("/"):
            found.append(invalid(at, source.path, "must not contain '..'"))
    policy = spec.persistent_volume_reclaim_policy
    if spec.host_path is not None and spec.host_path.path.rstrip("/") == "" and policy == "Recycle":
        at = _SPEC.child("persistentVolumeReclaimPolicy")
        found.append(forbidden(at, "may not be 'recycle' for a hostPath mount of '/'"))
    return found
