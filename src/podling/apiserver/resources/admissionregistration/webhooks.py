"""What webhook configurations and admission policies share."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.api import meta_v1, names
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    invalid,
    label_selector,
    not_supported,
    required,
)

Webhook = v1.MutatingWebhook | v1.ValidatingWebhook
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


def default_webhook(hook: Webhook) -> None:
    hook.failure_policy = hook.failure_policy or "Fail"
    hook.match_policy = hook.match_policy or "Equivalent"
    if hook.namespace_selector is None:
        hook.namespace_selector = meta_v1.LabelSelector()
    if hook.object_selector is None:
        hook.object_selector = meta_v1.LabelSelector()
    if hook.timeout_seconds is None:
        hook.timeout_seconds = 10
    if isinstance(hook, v1.MutatingWebhook):
        hook.reinvocation_policy = hook.reinvocation_policy or "Never"
    for rule in hook.rules or ():
        rule.scope = rule.scope or "*"
    service = hook.client_config.service
    if service is not None and service.port is None:
        service.port = 443


def default_match(match: v1.MatchResources | None) -> None:
    if match is None:
        return
    match.match_policy = match.match_policy or "Equivalent"
    if match.namespace_selector is None:
        match.namespace_selector = meta_v1.LabelSelector()
    if match.object_selector is None:
        match.object_selector = meta_v1.LabelSelector()
    for rule in (*(match.resource_rules or ()), *(match.exclude_resource_rules or ())):
        rule.scope = rule.scope or "*"


def webhooks(hooks: Sequence[Webhook] | None) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, hook in enumerate(hooks or ()):
        at = Path("webhooks").index(index)
        found += _webhook(hook, at)
        if hook.name in seen:
            found.append(duplicate(at.child("name"), hook.name))
        seen.add(hook.name)
    return found


def _webhook(hook: Webhook, path: Path) -> Findings:
    found: Findings = []
    at = path.child("name")
    if not hook.name:
        found.append(required(at))
    elif problems := names.dns_subdomain(hook.name):
        found.append(invalid(at, hook.name, ",".join(problems)))
    elif hook.name.count(".") < 2:
        found.append(invalid(at, hook.name, "should be a domain with at least three segments separated by dots"))
    for name, value, supported in (
        ("failurePolicy", hook.failure_policy, ("Fail", "Ignore")),
        ("matchPolicy", hook.match_policy, ("Equivalent", "Exact")),
    ):
        if value is not None and value not in supported:
            found.append(not_supported(path.child(name), value, supported))
    if not hook.side_effects:
        detail = "must specify one of None, NoneOnDryRun"
        found.append(required(path.child("sideEffects"), detail))
    elif hook.side_effects not in ("None", "NoneOnDryRun"):
        found.append(not_supported(path.child("sideEffects"), hook.side_effects, ("None", "NoneOnDryRun")))
    timeout = hook.timeout_seconds
    if timeout is not None and not 1 <= timeout <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        found.append(invalid(path.child("timeoutSeconds"), timeout, detail))
    found += label_selector(hook.namespace_selector, path.child("namespaceSelector"))
    found += label_selector(hook.object_selector, path.child("objectSelector"))
    for index, rule in enumerate(hook.rules or ()):
        found += rule_with_operations(rule, path.child("rules").index(index))
    versions = hook.admission_review_versions
    at = path.child("admissionReviewVersions")
    if not versions:
        found.append(required(at, "must specify one of v1, v1beta1"))
    elif not {"v1", "v1beta1"} & set(versions):
        found.append(invalid(at, versions, "must include at least one of v1, v1beta1"))
    return found + client_config(hook.client_config, path.child("clientConfig"))


def rule_with_operations(rule: Any, path: Path) -> Findings:
    """A rule of a webhook or a policy."""
    found: Findings = []
    for name, values in (
        ("operations", rule.operations),
        ("apiGroups", rule.api_groups),
        ("apiVersions", rule.api_versions),
        ("resources", rule.resources),
    ):
        at = path.child(name)
        if not values:
            found.append(required(at))
        elif name != "resources" and len(values) > 1 and "*" in values:
            detail = "if '*' is present, must not specify other " + {
                "operations": "operations", "apiGroups": "API groups", "apiVersions": "API versions"
            }[name]  # fmt: skip
            found.append(invalid(at, values, detail))
    for index, operation in enumerate(rule.operations or ()):
        if operation not in _OPERATIONS:
            found.append(not_supported(path.child("operations").index(index), operation, _OPERATIONS))
    for index, version in enumerate(rule.api_versions or ()):
        if not version:
            found.append(required(path.child("apiVersions").index(index)))
    for index, resource in enumerate(rule.resources or ()):
        if not resource:
            found.append(required(path.child("resources").index(index)))
    if rule.scope is not None and rule.scope not in _SCOPES:
        found.append(not_supported(path.child("scope"), rule.scope, _SCOPES))
    return found


def client_config(config: v1.WebhookClientConfig, path: Path) -> Findings:
    if (config.url is None) == (config.service is None):
        return [required(path, "exactly one of url or service is required")]
    found: Findings = []
    if config.url is not None:
        at = path.child("url")
        url = urllib.parse.urlsplit(config.url)
        desired = "; desired format: https://host[/path]"
        if url.scheme != "https":
            found.append(invalid(at, url.scheme, f"'https' is the only allowed URL scheme{desired}"))
        if not url.hostname:
            found.append(invalid(at, url.netloc, f"host must be specified{desired}"))
        if url.username is not None:
            found.append(invalid(at, url.netloc, "user information is not permitted in the URL"))
        if url.fragment:
            found.append(invalid(at, url.fragment, "fragments are not permitted in the URL"))
        if url.query:
            found.append(invalid(at, url.query, "query parameters are not permitted in the URL"))
        return found
    service = config.service
    assert service is not None
    at = path.child("service")
    for name, value in (("name", service.name), ("namespace", service.namespace)):
        if not value:
            found.append(required(at.child(name), f"service {name} is required"))
    if service.port is not None:
        problems = [f"port is not valid: {p}" for p in names.port_number(service.port)]
        found += each(at.child("port"), service.port, problems)
    if service.path is not None and service.path != "/" and not service.path.startswith("/"):
        found.append(invalid(at.child("path"), service.path, "must start with a '/'"))
    return found
