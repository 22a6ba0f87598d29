"""ValidatingAdmissionPolicies. Their expressions have to compile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.api import names
from podling.apiserver.resources import printing
from podling.apiserver.resources.admissionregistration import conditions, policies
from podling.apiserver.resources.admissionregistration.policies import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, duplicate, each, invalid, not_supported, required

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_MAX_ANNOTATIONS = 20
_MAX_ANNOTATION_BYTES = 5 * 1024
_NOTHING = "validations or auditAnnotations must contain at least one item"


class ValidatingAdmissionPolicyStrategy(Strategy[v1.ValidatingAdmissionPolicy]):
    has_status = True
    unconditional_update = False
    columns = (printing.NAME, printing.number("Validations"), printing.text("ParamKind"), printing.AGE)

    def default(self, obj: v1.ValidatingAdmissionPolicy) -> None:
        policies.default_policy(obj)

    def prepare_create(self, obj: v1.ValidatingAdmissionPolicy, context: Context) -> None:
        obj.status = v1.ValidatingAdmissionPolicyStatus()

    def validate(self, obj: v1.ValidatingAdmissionPolicy) -> Findings:
        spec = obj.spec
        found = policies.policy(obj)
        found += conditions.match_conditions(
            spec.match_conditions, SPEC.child("matchConditions"), params=spec.param_kind is not None
        )
        found += conditions.variables(spec.variables, SPEC.child("variables"))
        if not spec.validations and not spec.audit_annotations:
            found.append(required(SPEC.child("validations"), _NOTHING))
            found.append(required(SPEC.child("auditAnnotations"), _NOTHING))
            return found
        for index, validation in enumerate(spec.validations or ()):
            found += _validation(validation, SPEC.child("validations").index(index))
        found += _audit_annotations(obj.metadata.name or "", spec.audit_annotations or [])
        return found or _compiled(spec)

    def validate_status_update(self, new: v1.ValidatingAdmissionPolicy, old: v1.ValidatingAdmissionPolicy) -> Findings:
        checking = new.status.type_checking
        at = Path("status").child("typeChecking", "expressionWarnings")
        found: Findings = []
        for index, warning in enumerate((checking.expression_warnings if checking else None) or ()):
            if not warning.warning:
                found.append(required(at.index(index).child("warning")))
            if not warning.field_ref.strip():
                found.append(required(at.index(index).child("fieldRef")))
        return found

    def row(self, obj: v1.ValidatingAdmissionPolicy, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            len(obj.spec.validations or ()),
            policies.param_kind_cell(obj.spec.param_kind),
            printing.age(obj.metadata, now),
        ]


def _compiled(spec: v1.ValidatingAdmissionPolicySpec) -> Findings:
    from podling.apiserver.admission.validating_policy import compile_policy

    return conditions.problems(compile_policy(spec)[1], SPEC)


def _validation(validation: v1.Validation, path: Path) -> Findings:
    found: Findings = []
    if not validation.expression.strip():
        found.append(required(path.child("expression"), "expression is not specified"))
    expression = validation.message_expression or ""
    if expression and not expression.strip():
        found.append(invalid(path.child("messageExpression"), expression, "must be non-empty if specified"))
    message = validation.message or ""
    if message and not message.strip():
        found.append(invalid(path.child("message"), message, "message must be non-empty if specified"))
    elif "\n" in message.strip() or "\r" in message.strip():
        found.append(invalid(path.child("message"), message, "message must not contain line breaks"))
    if validation.reason is not None and validation.reason not in _REASONS:
        found.append(not_supported(path.child("reason"), validation.reason, _REASONS))
    return found


def _audit_annotations(name: str, annotations: Sequence[v1.AuditAnnotation]) -> Findings:
    path = SPEC.child("auditAnnotations")
    found: Findings = []
    if len(annotations) > _MAX_ANNOTATIONS:
        found.append(invalid(path, annotations, f"must not have more than {_MAX_ANNOTATIONS} auditAnnotations"))
    seen: set[str] = set()
    for index, annotation in enumerate(annotations):
        at = path.index(index)
        if name:
            full = f"{name}/{annotation.key}"
            found += each(at.child("key"), full, names.qualified_name(full))
        else:
            found.append(invalid(at.child("key"), annotation.key, "requires metadata.name be non-empty"))
        expression = annotation.value_expression.strip()
        if not expression:
            found.append(required(at.child("valueExpression"), "valueExpression is not specified"))
        elif len(expression.encode()) > _MAX_ANNOTATION_BYTES:
            detail = f"must not exceed {_MAX_ANNOTATION_BYTES} bytes in length"
            found.append(required(at.child("valueExpression"), detail))
        if annotation.key in seen:
            found.append(duplicate(at.child("key"), annotation.key))
        seen.add(annotation.key)
    return found
