"""What admission policies and their bindings share: what they match, and their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.api import meta_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.resources.admissionregistration import rules
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    label_selector,
    not_supported,
    one_of,
    required,
)

SPEC = Path("spec")
BINDING_COLUMNS = (printing.NAME, printing.text("PolicyName"), printing.text("ParamRef"), printing.AGE)
Policy = v1.MutatingAdmissionPolicy | v1.ValidatingAdmissionPolicy
Binding = v1.MutatingAdmissionPolicyBinding | v1.ValidatingAdmissionPolicyBinding


def default_policy(obj: Policy) -> None:
    obj.spec.failure_policy = obj.spec.failure_policy or "Fail"
    default_match(obj.spec.match_constraints)


def default_match(match: v1.MatchResources | None) -> None:
    if match is None:
        return
    match.match_policy = match.match_policy or "Equivalent"
    if match.namespace_selector is None:
        match.namespace_selector = meta_v1.LabelSelector()
    if match.object_selector is None:
        match.object_selector = meta_v1.LabelSelector()
    rules.default_rules(match.resource_rules)
    rules.default_rules(match.exclude_resource_rules)


def policy(obj: Policy) -> Findings:
    """Failure policy, kind of parameters, constraints."""
    spec = obj.spec
    found = one_of(SPEC.child("failurePolicy"), spec.failure_policy, ("Fail", "Ignore"), needed=True)
    if spec.param_kind is not None:
        found += _param_kind(spec.param_kind, SPEC.child("paramKind"))
    at = SPEC.child("matchConstraints")
    if spec.match_constraints is None:
        return [*found, required(at)]
    found += match_resources(spec.match_constraints, at)
    if not spec.match_constraints.resource_rules:
        found.append(required(at.child("resourceRules")))
    return found


def match_resources(match: v1.MatchResources | None, path: Path) -> Findings:
    if match is None:
        return []
    found = one_of(path.child("matchPolicy"), match.match_policy, ("Equivalent", "Exact"), needed=True)
    for name, selector in (("namespaceSelector", match.namespace_selector), ("objectSelector", match.object_selector)):
        at = path.child(name)
        found += [required(at)] if selector is None else label_selector(selector, at)
    for name, named in (
        ("resourceRules", match.resource_rules),
        ("excludeResourceRules", match.exclude_resource_rules),
    ):
        for index, rule in enumerate(named or ()):
            found += _named_rule(rule, path.child(name).index(index))
    return found


def operations(match: v1.MatchResources | None, supported: Sequence[str], path: Path) -> Findings:
    """That rules speak of no operation but the supported ones."""
    found: Findings = []
    for rule in (match.resource_rules if match is not None else None) or ():
        for operation in rule.operations or ():
            if operation not in supported:
                found.append(not_supported(path.child("resourceRules", "operations"), operation, supported))
    return found


def _named_rule(rule: v1.NamedRuleWithOperations, path: Path) -> Findings:
    found: Findings = []
    resource_names = rule.resource_names or []
    for index, name in enumerate(resource_names):
        at = path.child("resourceNames").index(index)
        found += each(at, name, names.path_segment(name))
        if name in resource_names[:index]:
            found.append(duplicate(at, name))
    return found + rules.rule_with_operations(rule, path)


def _param_kind(kind: v1.ParamKind, path: Path) -> Findings:
    found: Findings = []
    at, text = path.child("apiVersion"), kind.api_version or ""
    group, _, version = text.rpartition("/")
    if not text:
        found.append(required(at))
    elif text.count("/") > 1:
        found.append(invalid(at, text, f"unexpected GroupVersion string: {text}"))
    else:
        if group and (problems := names.dns_subdomain(group)):
            found.append(invalid(at, group, ",".join(problems)))
        if not version:
            found.append(invalid(at, text, "version must be specified"))
        elif problems := names.dns_1035_label(version):
            found.append(invalid(at, version, ",".join(problems)))
    if not kind.kind:
        found.append(required(path.child("kind")))
    elif problems := names.dns_1035_label(kind.kind.lower()):
        detail = f"may have mixed case, but should otherwise match: {','.join(problems)}"
        found.append(invalid(path.child("kind"), kind.kind, detail))
    return found


def binding(obj: Binding) -> Findings:
    """The policy, its parameters, and what is matched."""
    spec = obj.spec
    at = SPEC.child("policyName")
    found = each(at, spec.policy_name, names.dns_subdomain(spec.policy_name)) if spec.policy_name else [required(at)]
    found += _param_ref(spec.param_ref, SPEC.child("paramRef"))
    return found + match_resources(spec.match_resources, SPEC.child("matchResources"))


def _param_ref(reference: v1.ParamRef | None, path: Path) -> Findings:
    if reference is None:
        return []
    found: Findings = []
    name, selector = reference.name, reference.selector
    both = "name and selector are mutually exclusive"
    if name:
        found += each(path.child("name"), name, names.path_segment(name))
        if selector is not None:
            found.append(forbidden(path.child("name"), both))
    if selector is not None:
        found += label_selector(selector, path.child("selector"))
        if name:
            found.append(forbidden(path.child("selector"), both))
    if not name and selector is None:
        found.append(required(path, "one of name or selector must be specified"))
    action, at = reference.parameter_not_found_action, path.child("parameterNotFoundAction")
    if not action:
        found.append(required(at))
    elif action not in ("Deny", "Allow"):
        found.append(not_supported(at, action, ("Deny", "Allow")))
    return found


def param_kind_cell(kind: v1.ParamKind | None) -> str:
    return f"{kind.api_version or ''}/{kind.kind or ''}" if kind else printing.UNSET


def binding_row(obj: Binding, now: datetime) -> list[Any]:
    reference = obj.spec.param_ref
    shown = printing.UNSET
    if reference is not None and reference.name:
        shown = f"{reference.namespace or '*'}/{reference.name}"
    elif reference is not None and reference.selector is not None:
        shown = _go_selector(reference.selector)
    return [printing.name(obj.metadata), obj.spec.policy_name or "", shown, printing.age(obj.metadata, now)]


def _go_selector(selector: meta_v1.LabelSelector) -> str:
    """As upstream's generated code writes a label selector."""
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.match_labels or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{e.key},Operator:{e.operator},Values:[{' '.join(e.values or ())}],}},"
        for e in selector.match_expressions or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
