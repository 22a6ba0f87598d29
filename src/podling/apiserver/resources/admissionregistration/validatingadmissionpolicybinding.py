"""ValidatingAdmissionPolicyBindings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.apiserver.resources.admissionregistration import policies
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, duplicate, invalid, not_supported, required

_ACTIONS = ("Audit", "Deny", "Warn")


class ValidatingAdmissionPolicyBindingStrategy(Strategy[v1.ValidatingAdmissionPolicyBinding]):
    unconditional_update = False
    columns = policies.BINDING_COLUMNS

    def default(self, obj: v1.ValidatingAdmissionPolicyBinding) -> None:
        policies.default_match(obj.spec.match_resources)

    def validate(self, obj: v1.ValidatingAdmissionPolicyBinding) -> Findings:
        at = policies.SPEC.child("validationActions")
        return policies.binding(obj) + _actions(obj.spec.validation_actions, at)

    def row(self, obj: v1.ValidatingAdmissionPolicyBinding, now: datetime) -> list[Any]:
        return policies.binding_row(obj, now)


def _actions(actions: Sequence[str], path: Path) -> Findings:
    found: Findings = []
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            found.append(not_supported(path.index(index), action, _ACTIONS))
        if action in actions[:index]:
            found.append(duplicate(path.index(index), action))
    if "Deny" in actions and "Warn" in actions:
        detail = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            "response "
            "and headers serves no purpose)"
        )
        found.append(invalid(path, actions, detail))
    if not actions:
        found.append(required(path, "at least one validation action is required"))
    return found
