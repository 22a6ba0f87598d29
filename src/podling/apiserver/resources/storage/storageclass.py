"""StorageClasses: how volumes are made for claims."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import core_v1, storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.storage import drivers
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    forbidden,
    immutable,
    label_name,
    one_of,
    required,
)

_MODES = ("Immediate", "WaitForFirstConsumer")
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BETA_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"


def is_default(obj: storage_v1.StorageClass) -> bool:
    return drivers.is_default(obj.metadata, _DEFAULT, _BETA_DEFAULT)


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
        found = drivers.provisioner(obj.provisioner, Path("provisioner"))
        found += drivers.parameters(obj.parameters, Path("parameters"))
        found += one_of(Path("reclaimPolicy"), obj.reclaim_policy, ("Delete", "Retain"))
        found += one_of(Path("volumeBindingMode"), obj.volume_binding_mode, _MODES, needed=True)
        return found + _topologies(obj.allowed_topologies or [], Path("allowedTopologies"))

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


def _topologies(terms: Sequence[core_v1.TopologySelectorTerm], path: Path) -> Findings:
    found: Findings = []
    seen: list[dict[str, set[str]]] = []
    for index, term in enumerate(terms):
        values: dict[str, set[str]] = {}
        for position, expression in enumerate(term.match_label_expressions or ()):
            at = path.child("matchLabelExpressions").index(position)
            found += _topology(expression, at)
            if expression.key in values:
                found.append(duplicate(at.child("key"), expression.key))
            values[expression.key] = set(expression.values)
        if values in seen:
            found.append(duplicate(path.index(index).child("matchLabelExpressions"), ""))
        seen.append(values)
    return found


def _topology(expression: core_v1.TopologySelectorLabelRequirement, path: Path) -> Findings:
    found: Findings = [] if expression.values else [required(path.child("values"))]
    for index, value in enumerate(expression.values):
        if value in expression.values[:index]:
            found.append(duplicate(path.child("values").index(index), value))
    return found + label_name(expression.key, path.child("key"))
