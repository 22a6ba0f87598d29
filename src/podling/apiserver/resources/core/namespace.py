"""Namespaces: their own finalizers in spec, and a phase that says whether they are going."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, each, invalid

_FINALIZERS = Path("spec").child("finalizers")
_STANDARD = ("kubernetes", "orphan", "foregroundDeletion")
_NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceStrategy(Strategy[core_v1.Namespace]):
    has_status = True
    selectable_fields = ("status.phase", "name")
    columns = (printing.NAME, printing.text("Status"), printing.AGE)

    def default(self, obj: core_v1.Namespace) -> None:
        if obj.metadata.name:
            _label(obj)
        obj.status.phase = obj.status.phase or "Active"

    def prepare_create(self, obj: core_v1.Namespace, context: Context) -> None:
        obj.status = core_v1.NamespaceStatus(phase="Active")
        if "kubernetes" not in (obj.spec.finalizers or ()):
            obj.spec.finalizers = [*(obj.spec.finalizers or ()), "kubernetes"]
        _label(obj)

    def validate(self, obj: core_v1.Namespace) -> Findings:
        found: Findings = []
        for finalizer in obj.spec.finalizers or ():
            found += _finalizer(finalizer, _FINALIZERS)
        return found

    def prepare_update(self, new: core_v1.Namespace, old: core_v1.Namespace, context: Context) -> None:
        if context.subresource != "finalize":
            new.spec.finalizers = old.spec.finalizers
        new.status = old.status
        _label(new)

    def validate_update(self, new: core_v1.Namespace, old: core_v1.Namespace) -> Findings:
        return []

    def validate_finalize(self, new: core_v1.Namespace, old: core_v1.Namespace) -> Findings:
        """namespaces/finalize: whose work is done."""
        found: Findings = []
        for index, finalizer in enumerate(new.spec.finalizers or ()):
            found += _finalizer(finalizer, _FINALIZERS.index(index))
        return found

    def validate_status_update(self, new: core_v1.Namespace, old: core_v1.Namespace) -> Findings:
        at = Path("status").child("Phase")
        if new.metadata.deletion_timestamp is None:
            if new.status.phase != "Active":
                detail = "may only be 'Active' if `deletionTimestamp` is empty"
                return [invalid(at, new.status.phase, detail)]
        elif new.status.phase != "Terminating":
            detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
            return [invalid(at, new.status.phase, detail)]
        return []

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.dns_label(name, prefix=prefix)

    def delays_deletion(self, obj: core_v1.Namespace) -> bool:
        return bool(obj.metadata.finalizers or obj.spec.finalizers)

    def mark_deleting(self, obj: core_v1.Namespace) -> None:
        obj.status.phase = "Terminating"

    def fields(self, obj: core_v1.Namespace) -> dict[str, str]:
        return {"status.phase": obj.status.phase or "", "name": obj.metadata.name or ""}

    def row(self, obj: core_v1.Namespace, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), obj.status.phase or "", printing.age(obj.metadata, now)]


def _label(namespace: core_v1.Namespace) -> None:
    name = namespace.metadata.name
    if name and (namespace.metadata.labels or {}).get(_NAME_LABEL) != name:
        namespace.metadata.labels = {**(namespace.metadata.labels or {}), _NAME_LABEL: name}


def _finalizer(value: str, path: Path) -> Findings:
    found = each(path, value, names.qualified_name(value))
    if "/" not in value and value not in _STANDARD:
        detail = "name is neither a standard finalizer name nor is it fully qualified"
        found.append(invalid(path, value, detail))
    return found
