"""What a rule of a webhook or a policy matches: operations, groups, versions, resources, scope."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import admissionregistration_v1 as v1
from podling.machinery.validation import Findings, Path, invalid, not_supported, required

Rule = v1.RuleWithOperations | v1.NamedRuleWithOperations
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


def default_rules(rules: Sequence[Rule] | None) -> None:
    for rule in rules or ():
        rule.scope = rule.scope or "*"


def rule_with_operations(rule: Rule, path: Path) -> Findings:
    found = _values(rule.operations, path.child("operations"), "operations")
    for index, operation in enumerate(rule.operations or ()):
        if operation not in _OPERATIONS:
            found.append(not_supported(path.child("operations").index(index), operation, _OPERATIONS))
    found += _values(rule.api_groups, path.child("apiGroups"), "API groups")
    found += _values(rule.api_versions, path.child("apiVersions"), "API versions")
    for index, version in enumerate(rule.api_versions or ()):
        if not version:
            found.append(required(path.child("apiVersions").index(index)))
    found += _resources(rule.resources or [], path.child("resources"))
    if rule.scope is not None and rule.scope not in _SCOPES:
        found.append(not_supported(path.child("scope"), rule.scope, _SCOPES))
    return found


def _values(values: Sequence[str] | None, path: Path, what: str) -> Findings:
    if not values:
        return [required(path)]
    if len(values) > 1 and "*" in values:
        return [invalid(path, values, f"if '*' is present, must not specify other {what}")]
    return []


def _resources(resources: Sequence[str], path: Path) -> Findings:
    """`pods`, `pods/status`, `pods/*`, `*/status`, `*`, `*/*`: nothing may be said twice."""
    found: Findings = [] if resources else [required(path)]
    all_of_resource: set[str] = set()
    all_of_subresource: set[str] = set()
    last_is_plain = False
    for index, text in enumerate(resources):
        if not text:
            found.append(required(path.index(index)))
            continue
        resource, slash, subresource = text.partition("/")
        if not slash:
            last_is_plain = text != "*"
            continue
        if resource in all_of_resource:
            detail = f"if '{resource}/*' is present, must not specify {text}"
            found.append(invalid(path.index(index), text, detail))
        if subresource in all_of_subresource:
            detail = f"if '*/{subresource}' is present, must not specify {text}"
            found.append(invalid(path.index(index), text, detail))
        if subresource == "*":
            all_of_resource.add(resource)
        if resource == "*":
            all_of_subresource.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        found.append(invalid(path, resources, "if '*/*' is present, must not specify other resources"))
    if "*" in resources and last_is_plain:
        detail = "if '*' is present, must not specify other resources without subresources"
        found.append(invalid(path, resources, detail))
    return found
