"""MutatingAdmissionPolicyBindings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.admissionregistration import webhooks
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, required


class MutatingAdmissionPolicyBindingStrategy(Strategy[v1.MutatingAdmissionPolicyBinding]):
    columns = (printing.NAME, printing.text("PolicyName"), printing.text("ParamRef"), printing.AGE)

    def default(self, obj: v1.MutatingAdmissionPolicyBinding) -> None:
        webhooks.default_match(obj.spec.match_resources)

    def validate(self, obj: v1.MutatingAdmissionPolicyBinding) -> Findings:
        at = Path("spec")
        found: Findings = [] if obj.spec.policy_name else [required(at.child("policyName"))]

        return found

    def row(self, obj: v1.MutatingAdmissionPolicyBinding, now: datetime) -> list[Any]:
        reference = obj.spec.param_ref
        shown = printing.UNSET
        if reference is not None:
            name = reference.name or "*"
            shown = f"{reference.namespace or '*'}/{name}"
        return [printing.name(obj.metadata), obj.spec.policy_name or "", shown, printing.age(obj.metadata, now)]
