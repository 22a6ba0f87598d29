"""Leases: who holds what, and since when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import coordination_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, invalid, nonnegative

_SPEC = Path("spec")


class LeaseStrategy(Strategy[coordination_v1.Lease]):
    create_on_update = True
    unconditional_update = False
    columns = (printing.NAME, printing.text("Holder"), printing.AGE)

    def validate(self, obj: coordination_v1.Lease) -> Findings:
        spec = obj.spec
        found: Findings = []
        seconds = spec.lease_duration_seconds
        if seconds is not None and seconds <= 0:
            found.append(invalid(_SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0"))
        return found + nonnegative(spec.lease_transitions, _SPEC.child("leaseTransitions"))

    def row(self, obj: coordination_v1.Lease, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), obj.spec.holder_identity or "", printing.age(obj.metadata, now)]
