"""FlowSchemas: which requests belong to which priority level."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import flowcontrol_v1 as v1
from podling.api import names
from podling.apiserver.resources import printing
from podling.apiserver.resources.flowcontrol import mandatory
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, each, forbidden, invalid, not_supported, required

_SPEC = Path("spec")
_LAST = 10000
_METHODS = ("ByNamespace", "ByUser")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")


class FlowSchemaStrategy(Strategy[v1.FlowSchema]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("PriorityLevel"),
        printing.number("MatchingPrecedence"),
        printing.text("DistinguisherMethod"),
        printing.AGE,
        printing.text("MissingPL"),
    )

    def default(self, obj: v1.FlowSchema) -> None:
        obj.spec.matching_precedence = obj.spec.matching_precedence or 1000

    def prepare_create(self, obj: v1.FlowSchema, context: Context) -> None:
        obj.status = v1.FlowSchemaStatus()

    def validate(self, obj: v1.FlowSchema) -> Findings:
        spec, name = obj.spec, obj.metadata.name or ""
        found = _precedence(spec.matching_precedence or 0, name)
        method = spec.distinguisher_method
        if method is not None and method.type not in _METHODS:
            at = _SPEC.child("distinguisherMethod", "type")
            found.append(not_supported(at, method, _METHODS))
        at, level = _SPEC.child("priorityLevelConfiguration", "name"), spec.priority_level_configuration.name
        if level:
            found += each(at, level, names.dns_subdomain(level))
        else:
            found.append(required(at, "must reference a priority level"))
        for index, rule in enumerate(spec.rules or ()):
            found += _rule(rule, _SPEC.child("rules").index(index))
        fixed = mandatory.FLOW_SCHEMAS.get(name)
        if fixed is not None and fixed != spec:
            found.append(invalid(_SPEC, spec, f"spec of '{name}' must equal the fixed value"))
        return found

    def validate_status_update(self, new: v1.FlowSchema, old: v1.FlowSchema) -> Findings:
        return mandatory.conditions(new.status.conditions)

    def row(self, obj: v1.FlowSchema, now: datetime) -> list[Any]:
        method = obj.spec.distinguisher_method
        dangling = next((c.status for c in obj.status.conditions or () if c.type == "Dangling"), None)
        return [
            printing.name(obj.metadata),
            obj.spec.priority_level_configuration.name or printing.NONE,
            obj.spec.matching_precedence or 0,
            method.type if method else printing.NONE,
            printing.age(obj.metadata, now),
            dangling or "?",
        ]


def _precedence(value: int, name: str) -> Findings:
    at = _SPEC.child("matchingPrecedence")
    found: Findings = []
    if value <= 0:
        found.append(invalid(at, value, "must be a positive value"))
    if value > _LAST:
        found.append(invalid(at, value, f"must not be greater than {_LAST}"))
    if value == 1 and name != "exempt":
        found.append(invalid(at, value, "only the schema named 'exempt' may have matchingPrecedence 1"))
    return found


def _rule(rule: v1.PolicyRulesWithSubjects, path: Path) -> Findings:
    found: Findings = []
    for index, subject in enumerate(rule.subjects):
        found += _subject(subject, path.child("subjects").index(index))
    if not rule.subjects:
        found.append(required(path.child("subjects"), "subjects must contain at least one value"))
    if not rule.resource_rules and not rule.non_resource_rules:
        detail = "at least one of resourceRules and nonResourceRules has to be non-empty"
        found.append(required(path, detail))
    for index, resource in enumerate(rule.resource_rules or ()):
        found += _resource_rule(resource, path.child("resourceRules").index(index))
    for index, other in enumerate(rule.non_resource_rules or ()):
        found += _non_resource_rule(other, path.child("nonResourceRules").index(index))
    return found


def _subject(subject: v1.Subject, path: Path) -> Findings:
    kinds = {
        "ServiceAccount": ("serviceAccount", subject.service_account),
        "User": ("user", subject.user),
        "Group": ("group", subject.group),
    }
    if subject.kind not in kinds:
        return [not_supported(path.child("kind"), subject.kind, sorted(kinds))]
    name, wanted = kinds.pop(subject.kind)
    at = path.child(name)
    found: Findings = []
    if wanted is None:
        found.append(required(at, f"{name} is required when subject kind is '{subject.kind}'"))
    elif isinstance(wanted, v1.ServiceAccountSubject):
        found += _service_account(wanted, at)
    elif not wanted.name:
        found.append(required(at.child("name")))
    for kind, (other, value) in kinds.items():
        if value is not None:
            found.append(forbidden(path.child(other), f"{other} is forbidden when subject kind is not '{kind}'"))
    return found


def _service_account(subject: v1.ServiceAccountSubject, path: Path) -> Findings:
    found: Findings = []
    if not subject.name:
        found.append(required(path.child("name")))
    elif subject.name != "*":
        found += each(path.child("name"), subject.name, names.dns_subdomain(subject.name))
    if not subject.namespace:
        found.append(required(path.child("namespace"), "must specify namespace for service account"))
    else:
        found += each(path.child("namespace"), subject.namespace, names.dns_label(subject.namespace))
    return found


def _alone(values: Sequence[str], what: str, path: Path) -> Findings:
    """`*` stands for all there is: nothing beside it."""
    if len(values) > 1 and "*" in values:
        return [invalid(path, values, f"if '*' is present, must not specify other {what}")]
    return []


def _verbs(verbs: Sequence[str], path: Path) -> Findings:
    if not verbs:
        return [required(path, "verbs must contain at least one value")]
    if "*" in verbs:
        return _alone(verbs, "verbs", path)
    return [] if set(verbs) <= set(_VERBS) else [not_supported(path, verbs, _VERBS)]


def _resource_rule(rule: v1.ResourcePolicyRule, path: Path) -> Findings:
    found = _verbs(rule.verbs, path.child("verbs"))
    at = path.child("apiGroups")
    if not rule.api_groups:
        found.append(required(at, "resource rules must supply at least one api group"))
    found += _alone(rule.api_groups, "api groups", at)
    at = path.child("resources")
    if not rule.resources:
        found.append(required(at, "resource rules must supply at least one resource"))
    found += _alone(rule.resources, "resources", at)
    at, namespaces = path.child("namespaces"), rule.namespaces or []
    if not namespaces and not rule.cluster_scope:
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        return [*found, required(at, detail)]
    if "*" in namespaces:
        return found + _alone(namespaces, "namespaces", at)
    for index, namespace in enumerate(namespaces):
        problems = [
            f"each member of this list must be '*' or a DNS-1123 label; {p}" for p in names.dns_label(namespace)
        ]
        found += each(at.index(index), namespace, problems)
    return found


def _non_resource_rule(rule: v1.NonResourcePolicyRule, path: Path) -> Findings:
    found = _verbs(rule.verbs, path.child("verbs"))
    at, urls = path.child("nonResourceURLs"), rule.non_resource_urls
    if not urls:
        return [*found, required(at, "nonResourceURLs must contain at least one value")]
    if "*" in urls:
        return found + _alone(urls, "non-resource URLs", at)
    for index, url in enumerate(urls):
        if problem := _url_problem(url):
            found.append(invalid(at.index(index), url, problem))
    return found


def _url_problem(url: str) -> str:
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    if url.count("*") > 1 or ("*" in url and not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""
