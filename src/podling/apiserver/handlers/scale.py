"""/scale: how many replicas there are and should be, alike for all kinds that have them."""

from __future__ import annotations

from typing import Any

from podling.api import autoscaling_v1, meta_v1, selectors
from podling.api.errors import FieldError, invalid
from podling.api.struct import clone
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec, StructCodec
from podling.apiserver.facet import Part


class Scale(Part):
    """autoscaling/v1 Scale of a workload."""

    kind = ("Scale", "autoscaling/v1")

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
