"""MutatingAdmissionPolicies. Their expressions have to compile."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.admissionregistration import conditions, policies
from podling.apiserver.resources.admissionregistration.policies import SPEC
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, invalid, not_supported, one_of, required

#: Nothing can be changed of what goes.
OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")


class MutatingAdmissionPolicyStrategy(Strategy[v1.MutatingAdmissionPolicy]):
    unconditional_update = False
    columns = (printing.NAME, printing.number("Mutations"), printing.text("ParamKind"), printing.AGE)

    def default(self, obj: v1.MutatingAdmissionPolicy) -> None:
        policies.default_policy(obj)

    def validate(self, obj: v1.MutatingAdmissionPolicy) -> Findings:
        spec = obj.spec
        found = policies.policy(obj)
        found += policies.operations(spec.match_constraints, OPERATIONS, SPEC.child("matchConstraints"))
        found += conditions.match_conditions(
            spec.match_conditions, SPEC.child("matchConditions"), params=spec.param_kind is not None
        )
        found += conditions.variables(spec.variables, SPEC.child("variables"))
        if not spec.mutations:
            found.append(required(SPEC.child("mutations"), "mutations must contain at least one item"))
        for index, mutation in enumerate(spec.mutations or ()):
            found += _mutation(mutation, SPEC.child("mutations").index(index))
        at = SPEC.child("reinvocationPolicy")
        found += one_of(at, spec.reinvocation_policy, ("IfNeeded", "Never"), needed=True)
        return found or _compiled(spec)

    def row(self, obj: v1.MutatingAdmissionPolicy, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            len(obj.spec.mutations or ()),
            policies.param_kind_cell(obj.spec.param_kind),
            printing.age(obj.metadata, now),
        ]


def _compiled(spec: v1.MutatingAdmissionPolicySpec) -> Findings:
    from podling.apiserver.admission.mutating_policy import compile_policy

    return conditions.problems(compile_policy(spec)[1], SPEC)


def _mutation(mutation: v1.Mutation, path: Path) -> Findings:
    kind = mutation.patch_type
    if not kind:
        return [required(path.child("patchType"))]
    patches = {
        "ApplyConfiguration": ("applyConfiguration", mutation.apply_configuration),
        "JSONPatch": ("jsonPatch", mutation.json_patch),
    }
    if kind not in patches:
        return [not_supported(path.child("patchType"), kind, sorted(patches))]
    found: Findings = []
    name, patch = patches.pop(kind)
    other, unwanted = patches.popitem()[1]
    if patch is None:
        found.append(required(path.child(name), f"must be specified when patchType is {kind}"))
    elif not (patch.expression or "").strip():
        found.append(required(path.child(name, "expression"), "expression is not specified"))
    if unwanted is not None:
        detail = f"must not be specified when patchType is {kind}"
        found.append(invalid(path.child(other), f"{{{other}}}", detail))
    return found
