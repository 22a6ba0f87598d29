"""Where a pod may run: affinity, tolerations, topology spread, scheduling gates."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import core_v1, meta_v1, names
from podling.api.numbers import is_decimal
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    label_name,
    label_selector,
    not_supported,
    required,
)

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_EXISTENCE = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
_RANGE = "must be in the range 1-100"
_OPERATOR = "not a valid selector operator"


def affinity(affinity: core_v1.Affinity | None, path: Path) -> Findings:
    if affinity is None:
        return []
    found: Findings = []
    if affinity.node_affinity is not None:
        found += _node_affinity(affinity.node_affinity, path.child("nodeAffinity"))
    if affinity.pod_affinity is not None:
        found += _pod_affinity(affinity.pod_affinity, path.child("podAffinity"))
    if affinity.pod_anti_affinity is not None:
        found += _pod_affinity(affinity.pod_anti_affinity, path.child("podAntiAffinity"))
    return found


def _node_affinity(affinity: core_v1.NodeAffinity, path: Path) -> Findings:
    found: Findings = []
    if affinity.required_during_scheduling_ignored_during_execution is not None:
        wanted = affinity.required_during_scheduling_ignored_during_execution
        found += node_selector(wanted, path.child("requiredDuringSchedulingIgnoredDuringExecution"))
    at = path.child("preferredDuringSchedulingIgnoredDuringExecution")
    for index, term in enumerate(affinity.preferred_during_scheduling_ignored_during_execution or ()):
        if not 1 <= term.weight <= 100:
            found.append(invalid(at.index(index).child("weight"), term.weight, _RANGE))
        found += node_selector_term(term.preference, at.index(index).child("preference"), check_values=False)
    return found


def node_selector(selector: core_v1.NodeSelector, path: Path) -> Findings:
    at = path.child("nodeSelectorTerms")
    if not selector.node_selector_terms:
        return [required(at, "must have at least one node selector term")]
    found: Findings = []
    for index, term in enumerate(selector.node_selector_terms):
        found += node_selector_term(term, at.index(index))
    return found


def node_selector_term(term: core_v1.NodeSelectorTerm, path: Path, *, check_values: bool = True) -> Findings:
    found: Findings = []
    for index, requirement in enumerate(term.match_expressions or ()):
        found += _node_requirement(requirement, path.child("matchExpressions").index(index), check_values)
    for index, requirement in enumerate(term.match_fields or ()):
        found += _node_field(requirement, path.child("matchFields").index(index))
    return found


def _node_requirement(requirement: core_v1.NodeSelectorRequirement, path: Path, check_values: bool) -> Findings:
    found: Findings = []
    values = requirement.values or []
    at = path.child("values")
    match requirement.operator:
        case "In" | "NotIn":
            if not values:
                found.append(required(at, "must be specified when `operator` is 'In' or 'NotIn'"))
        case "Exists" | "DoesNotExist":
            if values:
                found.append(forbidden(at, _EXISTENCE))
        case "Gt" | "Lt":
            if len(values) != 1:
                found.append(required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'"))
        case _:
            found.append(invalid(path.child("operator"), requirement.operator, _OPERATOR))
    found += label_name(requirement.key, path.child("key"))
    for index, value in enumerate(values if check_values else ()):
        found += each(at.index(index), value, names.label_value(value))
    return found


def _node_field(requirement: core_v1.NodeSelectorRequirement, path: Path) -> Findings:
    found: Findings = []
    values = requirement.values or []
    if requirement.operator not in ("In", "NotIn"):
        found.append(invalid(path.child("operator"), requirement.operator, _OPERATOR))
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        found.append(required(path.child("values"), detail))
    if requirement.key != "metadata.name":
        found.append(invalid(path.child("key"), requirement.key, "not a valid field selector key"))
        return found
    for index, value in enumerate(values):
        found += each(path.child("values").index(index), value, names.dns_subdomain(value))
    return found


def _pod_affinity(affinity: core_v1.PodAffinity | core_v1.PodAntiAffinity, path: Path) -> Findings:
    found: Findings = []
    at = path.child("requiredDuringSchedulingIgnoredDuringExecution")
    for index, term in enumerate(affinity.required_during_scheduling_ignored_during_execution or ()):
        found += _pod_affinity_term(term, at.index(index))
    at = path.child("preferredDuringSchedulingIgnoredDuringExecution")
    for index, weighted in enumerate(affinity.preferred_during_scheduling_ignored_during_execution or ()):
        if not 1 <= weighted.weight <= 100:
            found.append(invalid(at.index(index).child("weight"), weighted.weight, _RANGE))
        found += _pod_affinity_term(weighted.pod_affinity_term, at.index(index).child("podAffinityTerm"))
    return found


def _pod_affinity_term(term: core_v1.PodAffinityTerm, path: Path) -> Findings:
    found = label_selector(term.label_selector, path.child("labelSelector"))
    found += label_selector(term.namespace_selector, path.child("namespaceSelector"))
    for namespace in term.namespaces or ():
        found += each(path.child("namespace"), namespace, names.dns_label(namespace))
    found += _label_keys(term, path)
    if not term.topology_key:
        found.append(required(path.child("topologyKey"), "can not be empty"))
    return found + label_name(term.topology_key, path.child("topologyKey"))


def _label_keys(term: core_v1.PodAffinityTerm, path: Path) -> Findings:
    found: Findings = []
    matched, mismatched = term.match_label_keys or [], term.mismatch_label_keys or []
    for name, keys in (("matchLabelKeys", matched), ("mismatchLabelKeys", mismatched)):
        if keys and term.label_selector is None:
            found.append(forbidden(path.child(name), "must not be specified when labelSelector is not set"))
            continue
        for index, key in enumerate(keys):
            found += label_name(key, path.child(name).index(index))
    if term.label_selector is not None:
        seen = set(term.label_selector.match_labels or ())
        for expression in term.label_selector.match_expressions or ():
            if expression.key in matched and expression.key in seen:
                at = path.index(matched.index(expression.key))
                found.append(invalid(at, expression.key, "exists in both matchLabelKeys and labelSelector"))
            seen.add(expression.key)
    for index, key in enumerate(matched):
        if key in mismatched:
            at = path.child("matchLabelKeys").index(index)
            found.append(invalid(at, key, "exists in both matchLabelKeys and mismatchLabelKeys"))
    return found


def taint_effect(effect: str, path: Path) -> Findings:
    return [] if effect in _EFFECTS else [not_supported(path, effect, _EFFECTS)]


def tolerations(tolerations: Sequence[core_v1.Toleration] | None, path: Path) -> Findings:
    found: Findings = []
    for index, toleration in enumerate(tolerations or ()):
        found += _toleration(toleration, path.index(index))
    return found


def _toleration(toleration: core_v1.Toleration, path: Path) -> Findings:
    found: Findings = []
    operator, value, effect = toleration.operator or "", toleration.value or "", toleration.effect or ""
    if toleration.key:
        found += label_name(toleration.key, path.child("key"))
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        found.append(invalid(path.child("operator"), operator, detail))
    if toleration.toleration_seconds is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        found.append(invalid(path.child("effect"), effect, detail))
    if operator in ("", "Equal"):
        if problems := names.label_value(value):
            found.append(invalid(path.child("operator"), value, ";".join(problems)))
    elif operator == "Exists":
        if value:
            found.append(invalid(path.child("operator"), value, "value must be empty when `operator` is 'Exists'"))
    elif operator in ("Gt", "Lt"):
        if problems := names.label_value(value):
            found.append(invalid(path.child("operator"), value, ";".join(problems)))
        elif not is_decimal(value.removeprefix("-")) or str(int(value)) != value:
            detail = "must be a valid decimal integer in canonical form"
            found.append(invalid(path.child("value"), value, detail))
    else:
        found.append(not_supported(path.child("operator"), operator, ("Equal", "Exists", "Lt", "Gt")))
    if effect:
        found += taint_effect(effect, path.child("effect"))
    return found


def topology_spread(constraints: Sequence[core_v1.TopologySpreadConstraint] | None, path: Path) -> Findings:
    found: Findings = []
    constraints = constraints or ()
    for index, constraint in enumerate(constraints):
        at = path.index(index)
        found += _spread_constraint(constraint, at)
        pair = (constraint.topology_key, constraint.when_unsatisfiable)
        if any((c.topology_key, c.when_unsatisfiable) == pair for c in constraints[index + 1 :]):
            shown = f"{{{constraint.topology_key}, {constraint.when_unsatisfiable}}}"
            found.append(duplicate(at.child("{topologyKey, whenUnsatisfiable}"), shown))
    return found


def _spread_constraint(constraint: core_v1.TopologySpreadConstraint, path: Path) -> Findings:
    found: Findings = []
    if constraint.max_skew <= 0:
        found.append(invalid(path.child("maxSkew"), constraint.max_skew, "must be greater than zero"))
    if not constraint.topology_key:
        found.append(required(path.child("topologyKey"), "can not be empty"))
    action = constraint.when_unsatisfiable
    if action not in ("DoNotSchedule", "ScheduleAnyway"):
        found.append(not_supported(path.child("whenUnsatisfiable"), action, ("DoNotSchedule", "ScheduleAnyway")))
    if constraint.min_domains is not None:
        at = path.child("minDomains")
        if constraint.min_domains <= 0:
            found.append(invalid(at, constraint.min_domains, "must be greater than zero"))
        if action != "DoNotSchedule":
            detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            found.append(invalid(at, constraint.min_domains, detail))
    for name, policy in (
        ("nodeAffinityPolicy", constraint.node_affinity_policy),
        ("nodeTaintsPolicy", constraint.node_taints_policy),
    ):
        if policy is not None and policy not in ("Honor", "Ignore"):
            found.append(not_supported(path.child(name), policy, ("Honor", "Ignore")))
    found += _spread_label_keys(constraint.match_label_keys or [], constraint.label_selector, path)
    return found + label_selector(constraint.label_selector, path.child("labelSelector"))


def _spread_label_keys(keys: list[str], selector: meta_v1.LabelSelector | None, path: Path) -> Findings:
    if not keys:
        return []
    found: Findings = []
    at = path.child("matchLabelKeys")
    used: set[str] = set()
    if selector is None:
        found.append(forbidden(at, "must not be specified when labelSelector is not set"))
    else:
        used = {*(selector.match_labels or ()), *(e.key for e in selector.match_expressions or ())}
    for index, key in enumerate(keys):
        found += label_name(key, at.index(index))
        if key in used:
            found.append(invalid(at.index(index), key, "exists in both matchLabelKeys and labelSelector"))
    return found


def gates(gates: Sequence[core_v1.PodSchedulingGate] | None, path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, gate in enumerate(gates or ()):
        found += each(path.index(index), gate.name, names.qualified_name(gate.name))
        if gate.name in seen:
            found.append(duplicate(path.index(index), gate.name))
        seen.add(gate.name)
    return found
