"""/scale: how many replicas there are and should be, alike for all kinds that have them."""

from __future__ import annotations

from typing import Any

from podling.api import autoscaling_v1, meta_v1, selectors
from podling.api.errors import FieldError, invalid
from podling.api.struct import clone
from podling.apiserver import managed_fields
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec, StructCodec
from podling.apiserver.facet import Part
from podling.apiserver.strategy import Strategy
from podling.machinery.apply import Manager
from podling.machinery.field_set import FieldSet

_REPLICAS = ("f:spec", "f:replicas")


class Scale(Part):
    """autoscaling/v1 Scale of a workload."""

    kind = ("Scale", "autoscaling/v1")
    #: Where the object has its number of replicas.
    replicas_path: tuple[str, ...] = _REPLICAS

    def codec_of(self, call: Call) -> Codec:
        return StructCodec(autoscaling_v1.Scale, "autoscaling/v1")

    def show(self, obj: Any) -> autoscaling_v1.Scale:
        meta = obj.metadata
        spec, status = obj.spec, obj.status
        selector = _selector(spec.selector) if spec is not None else ""
        return autoscaling_v1.Scale(
            metadata=meta_v1.ObjectMeta(
                name=meta.name,
                namespace=meta.namespace,
                uid=meta.uid,
                resource_version=meta.resource_version,
                creation_timestamp=meta.creation_timestamp,
            ),
            spec=autoscaling_v1.ScaleSpec(replicas=(spec.replicas if spec is not None else None) or 0),
            status=autoscaling_v1.ScaleStatus(
                replicas=(status.replicas if status is not None else None) or 0, selector=selector or None
            ),
        )

    def merge(self, old: Any, shown: autoscaling_v1.Scale) -> Any:
        wanted = shown.spec.replicas or 0 if shown.spec is not None else 0
        if wanted < 0:
            finding = FieldError(
                "FieldValueInvalid",
                "spec.replicas",
                f"Invalid value: {wanted}: must be greater than or equal to 0",
            )
            raise invalid("Scale", "autoscaling", shown.metadata.name or "", [finding])
        new = clone(old)
        new.spec.replicas = wanted
        new.metadata.resource_version = shown.metadata.resource_version
        new.metadata.uid = shown.metadata.uid or new.metadata.uid
        return new

    # Who owns the number of replicas: the same entries as the object's, but of autoscaling/v1 and of that field alone.

    def entries(self, call: Call, old: Any) -> managed_fields.Entries | None:
        owners = managed_fields.decode(old.metadata.managed_fields)
        shown = managed_fields.Ownership()
        for manager, fields in owners.fields.items():
            if self.replicas_path in fields:
                shown.fields[_versioned(manager, self.kind[1])] = FieldSet([_REPLICAS])
                shown.versions[_versioned(manager, self.kind[1])] = self.kind[1]
                if manager in owners.times:
                    shown.times[_versioned(manager, self.kind[1])] = owners.times[manager]
        return managed_fields.encode(shown)

    def own_entries(
        self, call: Call, old: Any, entries: managed_fields.Entries | None
    ) -> managed_fields.Entries | None:
        owners, scaled = managed_fields.decode(old.metadata.managed_fields), managed_fields.decode(entries)
        version = call.served.resource.group_version
        replicas = FieldSet([self.replicas_path])
        for manager in list(owners.fields):
            if self.replicas_path not in owners.fields[manager]:
                continue
            if _versioned(manager, self.kind[1]) in scaled.fields:
                del scaled.fields[_versioned(manager, self.kind[1])]
            elif left := owners.fields[manager] - replicas:
                owners.fields[manager] = left
            else:
                del owners.fields[manager]
        for manager, fields in scaled.fields.items():
            if _REPLICAS in fields:
                mine = _versioned(manager, version)
                owners.fields[mine], owners.versions[mine] = replicas, version
        return managed_fields.encode(owners)


def _versioned(manager: Manager, version: str) -> Manager:
    """The same manager in another version; an applier is the same in all."""
    return manager._replace(api_version=version) if manager.operation == managed_fields.UPDATE else manager


def _selector(selector: Any) -> str:
    if selector is None:
        return ""
    if isinstance(selector, dict):
        return str(selectors.from_set(selector))
    try:
        return str(selectors.from_label_selector(selector))
    except selectors.SelectorError:
        return ""


SCALE = Scale()


def facet_of(strategy: Strategy[Any]) -> Scale:
    """What a kind's /scale shows."""
    found: Scale = strategy.scale_facet or SCALE
    return found
