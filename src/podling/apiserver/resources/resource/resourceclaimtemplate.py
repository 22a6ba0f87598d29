"""ResourceClaimTemplates: of which each pod gets a claim of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import resource_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.resource import claims
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, annotations_, immutable, labels

_SPEC = Path("spec")


class ResourceClaimTemplateStrategy(Strategy[resource_v1.ResourceClaimTemplate]):
    columns = (printing.NAME, printing.AGE)

    def default(self, obj: resource_v1.ResourceClaimTemplate) -> None:
        claims.default_spec(obj.spec.spec)

    def validate(self, obj: resource_v1.ResourceClaimTemplate) -> Findings:
        meta, at = obj.spec.metadata, _SPEC.child("metadata")
        found: Findings = []
        if meta is not None:
            found += annotations_(meta.annotations, at.child("annotations"))
            found += labels(meta.labels, at.child("labels"))
        return found + claims.claim_spec(obj.spec.spec, _SPEC.child("spec"))

    def validate_update(
        self, new: resource_v1.ResourceClaimTemplate, old: resource_v1.ResourceClaimTemplate
    ) -> Findings:
        return immutable(new.spec, old.spec, _SPEC)

    def row(self, obj: resource_v1.ResourceClaimTemplate, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), printing.age(obj.metadata, now)]
