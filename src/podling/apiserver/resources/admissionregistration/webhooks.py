"""What the two kinds of webhook configurations share."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import admissionregistration_v1 as v1
from podling.api import meta_v1, names
from podling.apiserver.resources import webhookclient
from podling.apiserver.resources.admissionregistration import conditions, rules
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    invalid,
    label_selector,
    not_supported,
    required,
)

Webhook = v1.MutatingWebhook | v1.ValidatingWebhook
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_ALL_SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")
_REVIEWS = ("v1", "v1beta1")


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
    rules.default_rules(hook.rules)
    service = hook.client_config.service
    if service is not None and service.port is None:
        service.port = 443


def webhooks(hooks: Sequence[Webhook] | None, old: Sequence[Webhook] | None = None) -> Findings:
    """`old` is None for a new configuration; what is wrong in an old one already may stay so."""
    strict_effects = old is None or all(h.side_effects in _SIDE_EFFECTS for h in old)
    strict_names = old is None or len({h.name for h in old}) == len(old)
    strict_reviews = old is None or all(
        not h.admission_review_versions or set(_REVIEWS) & set(h.admission_review_versions) for h in old
    )
    found: Findings = []
    seen: set[str] = set()
    for index, hook in enumerate(hooks or ()):
        at = Path("webhooks").index(index)
        found += _webhook(hook, _SIDE_EFFECTS if strict_effects else _ALL_SIDE_EFFECTS, at)
        found += webhookclient.review_versions(
            hook.admission_review_versions,
            at.child("admissionReviewVersions"),
            recognized=strict_reviews,
            detail=f"must specify one of {', '.join(_REVIEWS)}",
        )
        if strict_names and hook.name and hook.name in seen:
            found.append(duplicate(at.child("name"), hook.name))
        seen.add(hook.name)
    return found


def _webhook(hook: Webhook, side_effects: Sequence[str], path: Path) -> Findings:
    found = _name(hook.name, path.child("name"))
    for index, rule in enumerate(hook.rules or ()):
        found += rules.rule_with_operations(rule, path.child("rules").index(index))
    for name, value, supported in (
        ("failurePolicy", hook.failure_policy, ("Fail", "Ignore")),
        ("matchPolicy", hook.match_policy, ("Equivalent", "Exact")),
    ):
        if value is not None and value not in supported:
            found.append(not_supported(path.child(name), value, supported))
    at = path.child("sideEffects")
    if not hook.side_effects:
        found.append(required(at, f"must specify one of {', '.join(side_effects)}"))
    elif hook.side_effects not in side_effects:
        found.append(not_supported(at, hook.side_effects, side_effects))
    timeout = hook.timeout_seconds
    if timeout is not None and not 1 <= timeout <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        found.append(invalid(path.child("timeoutSeconds"), timeout, detail))
    found += label_selector(hook.namespace_selector, path.child("namespaceSelector"))
    found += label_selector(hook.object_selector, path.child("objectSelector"))
    if isinstance(hook, v1.MutatingWebhook) and hook.reinvocation_policy not in (None, "IfNeeded", "Never"):
        at = path.child("reinvocationPolicy")
        found.append(not_supported(at, hook.reinvocation_policy, ("IfNeeded", "Never")))
    found += _client_config(hook.client_config, path.child("clientConfig"))
    return found + conditions.match_conditions(hook.match_conditions, path.child("matchConditions"))


def _name(name: str, path: Path) -> Findings:
    if not name:
        return [required(path)]
    if problems := names.dns_subdomain(name):
        return [invalid(path, name, ",".join(problems))]
    if name.count(".") < 2:
        return [invalid(path, name, "should be a domain with at least three segments separated by dots")]
    return []


def _client_config(config: v1.WebhookClientConfig, path: Path) -> Findings:
    if (config.url is None) == (config.service is None):
        return [required(path, "exactly one of url or service is required")]
    if config.url is not None:
        return webhookclient.url(config.url, path.child("url"))
    service = config.service
    assert service is not None
    return webhookclient.service(service.name, service.namespace, service.path, service.port, path.child("service"))
