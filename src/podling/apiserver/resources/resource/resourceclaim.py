"""ResourceClaims: devices that pods ask for (KEP-4381)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import resource_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.resource import claims
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, immutable


class ResourceClaimStrategy(Strategy[resource_v1.ResourceClaim]):
    has_status = True
    columns = (printing.NAME, printing.text("State"), printing.AGE)

    def default(self, obj: resource_v1.ResourceClaim) -> None:
        claims.default_spec(obj.spec)

    def prepare_create(self, obj: resource_v1.ResourceClaim, context: Context) -> None:
        obj.status = resource_v1.ResourceClaimStatus()

    def validate(self, obj: resource_v1.ResourceClaim) -> Findings:
        return claims.claim_spec(obj.spec, Path("spec"))

    def validate_update(self, new: resource_v1.ResourceClaim, old: resource_v1.ResourceClaim) -> Findings:
        return immutable(new.spec, old.spec, Path("spec"))

    def validate_status_update(self, new: resource_v1.ResourceClaim, old: resource_v1.ResourceClaim) -> Findings:
        return claims.status_update(new, old)

    def row(self, obj: resource_v1.ResourceClaim, now: datetime) -> list[Any]:
        deleted = obj.metadata.deletion_timestamp is not None
        states: list[str] = ["deleted"] if deleted else []
        if obj.status.allocation is None:
            states += [] if deleted else ["pending"]
        else:
            states += ["allocated", "reserved"] if obj.status.reserved_for else ["allocated"]
        return [printing.name(obj.metadata), ",".join(states), printing.age(obj.metadata, now)]
