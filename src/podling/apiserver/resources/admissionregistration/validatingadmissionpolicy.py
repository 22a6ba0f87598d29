"""ValidatingAdmissionPolicies. Their expressions are checked by the admission plugin that evaluates them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.admissionregistration import webhooks
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, not_supported, required

_SPEC = Path("spec")


class ValidatingAdmissionPolicyStrategy(Strategy[v1.ValidatingAdmissionPolicy]):
    has_status = True
    columns = (printing.NAME, printing.number("Validations"), printing.text("ParamKind"), printing.AGE)

    def default(self, obj: v1.ValidatingAdmissionPolicy) -> None:
        obj.spec.failure_policy = obj.spec.failure_policy or "Fail"
        webhooks.default_match(obj.spec.match_constraints)

    def validate(self, obj: v1.ValidatingAdmissionPolicy) -> Findings:
        found: Findings = []
        if obj.spec.failure_policy not in ("Fail", "Ignore"):
            at = _SPEC.child("failurePolicy")
            found.append(not_supported(at, obj.spec.failure_policy or "", ("Fail", "Ignore")))
        at = _SPEC.child("matchConstraints")
        match = obj.spec.match_constraints
        if match is None:
            found.append(required(at))
        elif not match.resource_rules:
            found.append(required(at.child("resourceRules")))
        for index, rule in enumerate((match.resource_rules if match else None) or ()):
            found += webhooks.rule_with_operations(rule, at.child("resourceRules").index(index))
        return found

    def row(self, obj: v1.ValidatingAdmissionPolicy, now: datetime) -> list[Any]:
        kind = obj.spec.param_kind
        shown = f"{kind.api_version}/{kind.kind}" if kind else printing.UNSET
        return [printing.name(obj.metadata), len(obj.spec.validations or ()), shown, printing.age(obj.metadata, now)]
