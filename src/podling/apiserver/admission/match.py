"""Which requests a webhook or a policy is for: rules, equivalent resources, selectors of namespaces and objects.

Source: k8s.io/apiserver pkg/admission/plugin/webhook/predicates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from podling.api import errors, meta_v1, selectors
from podling.api.registry import Resource
from podling.apiserver.admission.base import Attributes
from podling.apiserver.core import Core
from podling.apiserver.served import Served

#: What decides about admission is not subject to it, so that a mistake can always be mended.
EXEMPT = frozenset(
    f"{name}.admissionregistration.k8s.io"
    for name in (
        "mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies",
        "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
    )
)  # fmt: skip


def exempt(attributes: Attributes) -> bool:
    return attributes.resource.qualified in EXEMPT


def matches_rule(rule: Any, attributes: Attributes, resource: Resource) -> bool:
    """Whether a rule names the request's operation and resource (or `resource`, an equivalent of it)."""
    return (
        _within(attributes.operation, rule.operations)
        and _within(resource.group, rule.api_groups)
        and _within(resource.version, rule.api_versions)
        and _names_resource(rule.resources or (), resource.name, attributes.subresource)
        and _in_scope(rule.scope, attributes)
        and _names_object(getattr(rule, "resource_names", None), attributes.name)
    )


def _within(value: str, values: Iterable[str] | None) -> bool:
    return any(v in ("*", value) for v in values or ())


def _names_resource(names: Iterable[str], resource: str, subresource: str) -> bool:
    for name in names:
        wanted, _, sub = name.partition("/")
        if wanted in ("*", resource) and sub in ("*", subresource):
            return True
    return False


def _in_scope(scope: str | None, attributes: Attributes) -> bool:
    if scope in (None, "", "*"):
        return True
    # Of a namespace itself the attributes' namespace is its name.
    cluster = attributes.resource.qualified == "namespaces" or not attributes.namespace
    return cluster == (scope == "Cluster")


def _names_object(names: list[str] | None, name: str) -> bool:
    return not names or name in names


def resource_for(app: Core, rules: Iterable[Any], match_policy: str | None, attributes: Attributes) -> Served | None:
    """The resource as which a request matches the rules: the requested one, or an equivalent; None if none does."""
    resource = attributes.resource
    rules = list(rules)
    for rule in rules:
        if matches_rule(rule, attributes, resource):
            return app.served.get((resource.group, resource.version, resource.name))
    if match_policy == "Exact":
        return None
    others = equivalents(app, resource)
    for rule in rules:
        for other in others:
            if matches_rule(rule, attributes, other.resource):
                return other
    return None


def equivalents(app: Core, resource: Resource) -> list[Served]:
    """Other resources that show the same stored objects."""
    item = app.served.get((resource.group, resource.version, resource.name))
    if item is None or not item.prefix:
        return []
    return [s for s in app.served.values() if s.prefix == item.prefix and s is not item]


def namespace_selected(app: Core, selector: meta_v1.LabelSelector | None, attributes: Attributes) -> bool:
    """Whether the request's namespace is selected. StatusError 404 if there is none, though it matters."""
    if selector is None or not (selector.match_labels or selector.match_expressions):
        return True
    resource = attributes.resource.qualified
    if resource != "namespaces" and not attributes.namespace:
        return True
    if resource == "namespaces" and attributes.operation in ("CREATE", "UPDATE") and not attributes.subresource:
        labels = attributes.obj.metadata.labels
    else:
        name = attributes.namespace or attributes.name
        namespace = app.cached("", "namespaces", name)
        if namespace is None:
            raise errors.not_found("namespaces", "", name)
        labels = namespace.metadata.labels
    return selectors.from_label_selector(selector).matches(labels or {})


def object_selected(selector: meta_v1.LabelSelector | None, attributes: Attributes) -> bool:
    """Whether the object is selected, as it is or as it is to be."""
    if selector is None or not (selector.match_labels or selector.match_expressions):
        return True
    wanted = selectors.from_label_selector(selector)
    for obj in (attributes.obj, attributes.old):
        meta = getattr(obj, "metadata", None)
        if meta is not None and wanted.matches(meta.labels or {}):
            return True
    return False


def matches_resources(app: Core, match: Any, attributes: Attributes) -> Served | None:
    """The resource as which a request matches a policy's MatchResources; None if it does not."""
    if match is None:
        resource = attributes.resource
        return app.served.get((resource.group, resource.version, resource.name))
    try:
        if not namespace_selected(app, match.namespace_selector, attributes):
            return None
        failure = None
    except errors.StatusError as error:
        failure = error
    if not object_selected(match.object_selector, attributes):
        return None
    if match.exclude_resource_rules and resource_for(app, match.exclude_resource_rules, match.match_policy, attributes):
        return None
    if match.resource_rules:
        found = resource_for(app, match.resource_rules, match.match_policy, attributes)
    else:
        resource = attributes.resource
        found = app.served.get((resource.group, resource.version, resource.name))
    if found is not None and failure is not None:
        raise failure
    return found
