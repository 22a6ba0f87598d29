"""Whether a node is one that a pod asks for: nodeSelector and node affinity."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podling.api import core_v1


def _requirement(requirement: core_v1.NodeSelectorRequirement, value: str | None) -> bool:
    values = requirement.values or []
    match requirement.operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                found, wanted = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return found > wanted if operator == "Gt" else found < wanted
    return False


def _field(requirement: core_v1.NodeSelectorRequirement, fields: Mapping[str, str]) -> bool:
    return _requirement(requirement, fields.get(requirement.key))


def term_matches(term: core_v1.NodeSelectorTerm, labels: Mapping[str, str], name: str) -> bool:
    """One term of a node selector; an empty one matches nothing."""
    expressions, fields = term.match_expressions or [], term.match_fields or []
    if not expressions and not fields:
        return False
    return all(_requirement(r, labels.get(r.key)) for r in expressions) and all(
        _field(r, {"metadata.name": name}) for r in fields
    )


def selector_matches(selector: core_v1.NodeSelector, labels: Mapping[str, str], name: str) -> bool:
    """Any of the terms."""
    return any(term_matches(t, labels, name) for t in selector.node_selector_terms)


def required(spec: core_v1.PodSpec) -> Callable[[Mapping[str, str], str], bool] | None:
    """What the pod demands of (labels, name) of a node; None if it demands nothing."""
    wanted = spec.node_selector or {}
    affinity = spec.affinity.node_affinity if spec.affinity else None
    selector = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if not wanted and selector is None:
        return None

    def matches(labels: Mapping[str, str], name: str) -> bool:
        if any(labels.get(key) != value for key, value in wanted.items()):
            return False
        return selector is None or selector_matches(selector, labels, name)

    return matches
