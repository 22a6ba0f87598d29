"""MutatingAdmissionPolicyBindings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.apiserver.resources.admissionregistration import policies
from podling.apiserver.resources.admissionregistration.mutatingadmissionpolicy import OPERATIONS
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings


class MutatingAdmissionPolicyBindingStrategy(Strategy[v1.MutatingAdmissionPolicyBinding]):
    unconditional_update = False
    columns = policies.BINDING_COLUMNS

    def default(self, obj: v1.MutatingAdmissionPolicyBinding) -> None:
        policies.default_match(obj.spec.match_resources)

    def validate(self, obj: v1.MutatingAdmissionPolicyBinding) -> Findings:
        at = policies.SPEC.child("matchResources")
        return policies.binding(obj) + policies.operations(obj.spec.match_resources, OPERATIONS, at)

    def row(self, obj: v1.MutatingAdmissionPolicyBinding, now: datetime) -> list[Any]:
        return policies.binding_row(obj, now)
