"""What roles and bindings share: rules of rules and of subjects (pkg/apis/rbac/validation)."""

from __future__ import annotations

from podling.api import rbac_v1
from podling.api.errors import FieldError
from podling.machinery import validation
from podling.machinery.validation import Path

GROUP = "rbac.authorization.k8s.io"


def validate_rule(rule: rbac_v1.PolicyRule, path: Path, *, namespaced: bool) -> list[FieldError]:
    """Findings of one rule of a Role (`namespaced`) or ClusterRole."""
    found: list[FieldError] = []
    if not rule.verbs:
        found.append(validation.required(path.child("verbs"), "verbs must contain at least one value"))
    if rule.non_resource_urls:
        if namespaced:
            why = "namespaced rules cannot apply to non-resource URLs"
            found.append(validation.invalid(path.child("nonResourceURLs"), rule.non_resource_urls, why))
        if rule.api_groups or rule.resources or rule.resource_names:
            why = "rules cannot apply to both regular resources and non-resource URLs"
            found.append(validation.invalid(path.child("nonResourceURLs"), rule.non_resource_urls, why))
        return found
    if not rule.api_groups:
        found.append(validation.required(path.child("apiGroups"), "resource rules must supply at least one api group"))
    if not rule.resources:
        found.append(validation.required(path.child("resources"), "resource rules must supply at least one resource"))
    return found


def default_subject(subject: rbac_v1.Subject) -> None:
    if not subject.api_group and subject.kind in ("User", "Group"):
        subject.api_group = GROUP


def validate_subject(subject: rbac_v1.Subject, path: Path, *, namespaced: bool) -> list[FieldError]:
    found: list[FieldError] = []
    if not subject.name:
        found.append(validation.required(path.child("name"), ""))
    match subject.kind:
        case "ServiceAccount":
            if subject.api_group:
                found.append(validation.not_supported(path.child("apiGroup"), subject.api_group, [""]))
            if not namespaced and not subject.namespace:
                found.append(validation.required(path.child("namespace"), ""))
        case "User" | "Group":
            if subject.api_group != GROUP:
                found.append(validation.not_supported(path.child("apiGroup"), subject.api_group or "", [GROUP]))
        case _:
            kinds = ["ServiceAccount", "User", "Group"]
            found.append(validation.not_supported(path.child("kind"), subject.kind, kinds))
    return found


def validate_role_ref(ref: rbac_v1.RoleRef, *, kinds: list[str]) -> list[FieldError]:
    path = Path("roleRef")
    found: list[FieldError] = []
    if ref.api_group != GROUP:
        found.append(validation.not_supported(path.child("apiGroup"), ref.api_group, [GROUP]))
    if ref.kind not in kinds:
        found.append(validation.not_supported(path.child("kind"), ref.kind, kinds))
    if not ref.name:
        found.append(validation.required(path.child("name"), ""))
    return found


def subjects_of(subjects: list[rbac_v1.Subject] | None, kind: str) -> str:
    """A cell: the subjects of a kind, comma-separated; ServiceAccounts with their namespace."""
    chosen = [s for s in subjects or () if s.kind == kind]
    return ", ".join(f"{s.namespace or ''}/{s.name}" if kind == "ServiceAccount" else s.name for s in chosen)
