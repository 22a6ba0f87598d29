"""ResourceQuotas."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.podspec import requirements
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import IMMUTABLE, Findings, Path, invalid, required

_SPEC = Path("spec")
_SCOPES = (
    "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
)  # fmt: skip
_COMPUTE = frozenset(("pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))
_CONFLICTS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


class ResourceQuotaStrategy(Strategy[core_v1.ResourceQuota]):
    has_status = True
    columns = (printing.NAME, printing.text("Request"), printing.text("Limit"), printing.AGE)

    def prepare_create(self, obj: core_v1.ResourceQuota, context: Context) -> None:
        obj.status = core_v1.ResourceQuotaStatus()

    def validate(self, obj: core_v1.ResourceQuota) -> Findings:
        spec = obj.spec
        found = _amounts(spec.hard, _SPEC.child("hard"))
        at = _SPEC.child("scopes")
        scopes = spec.scopes or []
        for scope in scopes:
            found += _scope(scope, spec, scopes, at)
        selected: list[str] = []
        at = _SPEC.child("scopeSelector", "matchExpressions")
        for expression in (spec.scope_selector.match_expressions if spec.scope_selector else None) or ():
            found += _expression(expression, spec, at)
            selected.append(expression.scope_name)
        for pair in _CONFLICTS:
            for names, path in ((scopes, _SPEC.child("scopes")), (selected, at)):
                if set(pair) <= set(names):
                    found.append(invalid(path, names, "conflicting scopes"))
        return found

    def validate_update(self, new: core_v1.ResourceQuota, old: core_v1.ResourceQuota) -> Findings:
        found = self.validate(new)
        if set(new.spec.scopes or ()) != set(old.spec.scopes or ()):
            found.append(invalid(_SPEC.child("scopes"), new.spec.scopes, IMMUTABLE))
        return found

    def validate_status_update(self, new: core_v1.ResourceQuota, old: core_v1.ResourceQuota) -> Findings:
        at = Path("status")
        return _amounts(new.status.hard, at.child("hard")) + _amounts(new.status.used, at.child("used"))

    def row(self, obj: core_v1.ResourceQuota, now: datetime) -> list[Any]:
        hard, used = obj.status.hard or {}, obj.status.used or {}
        shown = {n: f"{n}: {used.get(n, 0)}/{hard[n]}" for n in sorted(hard)}
        limits = [text for n, text in shown.items() if n.startswith("limits")]
        requests = [text for n, text in shown.items() if not n.startswith("limits")]
        return [
            printing.name(obj.metadata), ", ".join(requests), ", ".join(limits), printing.age(obj.metadata, now)
        ]  # fmt: skip


def _amounts(amounts: Any, path: Path) -> Findings:
    found: Findings = []
    for name, value in (amounts or {}).items():
        found += requirements.quota_resource_name(name, path.key(name))
        found += requirements.amount(name, value, path.key(name))
    return found


def _fits(scope: str, resource: str) -> bool:
    if not requirements.is_standard_quota(resource):
        return True
    if scope in ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"):
        return resource in _COMPUTE or "ephemeral-storage" in resource or "hugepages-" in resource
    if scope == "VolumeAttributesClass":
        return resource in ("persistentvolumeclaims", "requests.storage")
    return scope != "BestEffort" or resource == "pods"


def _scope(scope: str, spec: core_v1.ResourceQuotaSpec, shown: Any, path: Path) -> Findings:
    found: Findings = []
    if scope not in _SCOPES:
        found.append(invalid(path, shown, "unsupported scope"))
    for resource in sorted(spec.hard or ()):
        if not _fits(scope, resource):
            found.append(invalid(path, shown, "unsupported scope applied to resource"))
    return found


def _expression(
    expression: core_v1.ScopedResourceSelectorRequirement, spec: core_v1.ResourceQuotaSpec, path: Path
) -> Findings:
    scope, operator = expression.scope_name, expression.operator
    found: Findings = []
    if scope not in _SCOPES:
        found.append(invalid(path.child("scopeName"), scope, "unsupported scope"))
    elif any(not _fits(scope, resource) for resource in spec.hard or ()):
        found.append(invalid(path, spec.scope_selector, "unsupported scope applied to resource"))
    if scope in _SCOPES and scope not in ("PriorityClass", "VolumeAttributesClass") and operator != "Exists":
        detail = (
            "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
            "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
            "ResourceQuotaScopeCrossNamespacePodAffinity"
        )
        found.append(invalid(path.child("operator"), operator, detail))
    if operator in ("In", "NotIn"):
        if not expression.values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            found.append(required(path.child("values"), detail))
    elif operator in ("Exists", "DoesNotExist"):
        if expression.values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            found.append(invalid(path.child("values"), expression.values, detail))
    else:
        found.append(invalid(path.child("operator"), operator, "not a valid selector operator"))
    return found
