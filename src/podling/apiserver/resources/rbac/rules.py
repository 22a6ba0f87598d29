"""What roles and bindings share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import names, rbac_v1
from podling.apiserver.resources import printing
from podling.machinery.validation import Findings, Path, each, invalid, not_supported, required

GROUP = "rbac.authorization.k8s.io"
BINDING_COLUMNS = (
    printing.NAME,
    printing.text("Role"),
    printing.AGE,
    printing.text("Users", wide=True),
    printing.text("Groups", wide=True),
    printing.text("ServiceAccounts", wide=True),
)
ROLE_COLUMNS = (printing.NAME, printing.text("Created At"))


def role_row(obj: rbac_v1.Role | rbac_v1.ClusterRole) -> list[Any]:
    return [printing.name(obj.metadata), obj.metadata.creation_timestamp or printing.UNKNOWN]


def rules(rules: Sequence[rbac_v1.PolicyRule] | None, *, namespaced: bool) -> Findings:
    found: Findings = []
    for index, rule in enumerate(rules or ()):
        found += _rule(rule, namespaced, Path("rules").index(index))
    return found


def _rule(rule: rbac_v1.PolicyRule, namespaced: bool, path: Path) -> Findings:
    found: Findings = []
    if not rule.verbs:
        found.append(required(path.child("verbs"), "verbs must contain at least one value"))
    urls = rule.non_resource_urls or []
    at = path.child("nonResourceURLs")
    if urls:
        if namespaced:
            found.append(invalid(at, urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.api_groups or rule.resources or rule.resource_names:
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            found.append(invalid(at, urls, detail))
        return found
    if not rule.api_groups:
        found.append(required(path.child("apiGroups"), "resource rules must supply at least one api group"))
    if not rule.resources:
        found.append(required(path.child("resources"), "resource rules must supply at least one resource"))
    return found


def default_binding(obj: rbac_v1.RoleBinding | rbac_v1.ClusterRoleBinding) -> None:
    obj.role_ref.api_group = obj.role_ref.api_group or GROUP
    for subject in obj.subjects or ():
        if subject.api_group is None and subject.kind in ("User", "Group"):
            subject.api_group = GROUP


def binding(obj: rbac_v1.RoleBinding | rbac_v1.ClusterRoleBinding, kinds: Sequence[str]) -> Findings:
    reference = obj.role_ref
    at = Path("roleRef")
    found: Findings = []
    if reference.api_group != GROUP:
        found.append(not_supported(at.child("apiGroup"), reference.api_group or "", (GROUP,)))
    if reference.kind not in kinds:
        found.append(not_supported(at.child("kind"), reference.kind, kinds))
    if not reference.name:
        found.append(required(at.child("name")))
    else:
        found += each(at.child("name"), reference.name, names.path_segment(reference.name))
    namespaced = isinstance(obj, rbac_v1.RoleBinding)
    for index, subject in enumerate(obj.subjects or ()):
        found += _subject(subject, namespaced, Path("subjects").index(index))
    return found


def _subject(subject: rbac_v1.Subject, namespaced: bool, path: Path) -> Findings:
    found: Findings = []
    if not subject.name:
        found.append(required(path.child("name")))
    group = subject.api_group or ""
    if subject.kind == "ServiceAccount":
        if subject.name:
            found += each(path.child("name"), subject.name, names.dns_subdomain(subject.name))
        if group:
            found.append(not_supported(path.child("apiGroup"), group, ("",)))
        if not namespaced and not subject.namespace:
            found.append(required(path.child("namespace")))
    elif subject.kind in ("User", "Group"):
        if group != GROUP:
            found.append(not_supported(path.child("apiGroup"), group, (GROUP,)))
    else:
        found.append(not_supported(path.child("kind"), subject.kind, ("ServiceAccount", "User", "Group")))
    return found


def binding_update(new: Any, old: Any) -> Findings:
    if new.role_ref == old.role_ref:
        return []
    ref = new.role_ref
    shown = {"APIGroup": ref.api_group or "", "Kind": ref.kind, "Name": ref.name}
    return [invalid(Path("roleRef"), shown, "cannot change roleRef")]


def binding_row(obj: rbac_v1.RoleBinding | rbac_v1.ClusterRoleBinding, now: datetime) -> list[Any]:
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.subjects or ():
        name = f"{subject.namespace}/{subject.name}" if subject.kind == "ServiceAccount" else subject.name
        by_kind.setdefault(subject.kind, []).append(name)
    return [
        printing.name(obj.metadata),
        f"{obj.role_ref.kind}/{obj.role_ref.name}",
        printing.age(obj.metadata, now),
        ", ".join(by_kind["User"]),
        ", ".join(by_kind["Group"]),
        ", ".join(by_kind["ServiceAccount"]),
    ]
