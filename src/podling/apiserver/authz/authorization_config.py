"""AuthorizationConfiguration (apiserver.config.k8s.io): which authorizers are asked, in which order.

Read from `--authorization-config`, or made of the `--authorization-*` flags. Source: Kubernetes' "kube-apiserver
Configuration (v1)".
"""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from podling.api import names, times
from podling.apiserver.config_file import raise_for, strict
from podling.machinery import validation
from podling.machinery.validation import Findings, Path

API_VERSIONS = tuple(f"apiserver.config.k8s.io/{v}" for v in ("v1", "v1beta1", "v1alpha1"))
KIND = "AuthorizationConfiguration"
TYPES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
_MAX_CONDITIONS = 64
_MAX_TIMEOUT = 30.0


class _Config(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class Connection(_Config, frozen=True):
    type: str = ""
    kube_config_file: str | None = None


class MatchCondition(_Config, frozen=True):
    expression: str = ""


class Webhook(_Config, frozen=True):
    """Durations are texts, as they are written; `seconds` reads them."""

    authorized_ttl: str = msgspec.field(default="5m", name="authorizedTTL")
    cache_authorized_requests: bool = True
    unauthorized_ttl: str = msgspec.field(default="30s", name="unauthorizedTTL")
    cache_unauthorized_requests: bool = True
    timeout: str = ""
    subject_access_review_version: str = ""
    match_condition_subject_access_review_version: str = ""
    failure_policy: str = ""
    connection_info: Connection = Connection()
    match_conditions: list[MatchCondition] = []


class AuthorizerConfig(_Config, frozen=True):
    type: str = ""
    name: str = ""
    webhook: Webhook | None = None


class Configuration(_Config, frozen=True):
    api_version: str = API_VERSIONS[0]
    kind: Literal["AuthorizationConfiguration"] = "AuthorizationConfiguration"
    authorizers: list[AuthorizerConfig] = []


def load(path: str) -> Configuration:
    """The configuration in a file, checked. Raises ConfigFileError."""
    config: Configuration = strict(path, Configuration, KIND, API_VERSIONS)
    raise_for(findings(config))
    return config


def seconds(text: str) -> float:
    """A duration. ValueError for what is none."""
    return times.parse_duration(text) / 1e9 if text else 0.0


def findings(config: Configuration) -> Findings:
    """What is wrong with it, in upstream's words."""
    root = Path("authorizers")
    if not config.authorizers:
        return [validation.required(root, "at least one authorization mode must be defined")]
    found: Findings = []
    types: set[str] = set()
    known: set[str] = set()
    for index, authorizer in enumerate(config.authorizers):
        path, type_ = root.index(index), authorizer.type
        if not type_:
            found.append(validation.required(path.child("type")))
            continue
        if type_ not in TYPES:
            found.append(validation.not_supported(path.child("type"), type_, TYPES))
            continue
        if type_ in types and type_ != "Webhook":
            found.append(validation.duplicate(path.child("type"), type_))
            continue
        types.add(type_)
        found += _name(authorizer.name, known, path.child("name"))
        known.add(authorizer.name)
        at = path.child("webhook")
        if type_ == "Webhook":
            if authorizer.webhook is None:
                found.append(validation.required(at, "required when type=Webhook"))
            else:
                found += _webhook(authorizer.webhook, path)
        elif authorizer.webhook is not None:
            found.append(validation.invalid(at, "non-null", "may only be specified when type=Webhook"))
    return found


def _name(name: str, known: set[str], path: Path) -> Findings:
    if not name:
        return [validation.required(path)]
    if name in known:
        return [validation.duplicate(path, name)]
    problems = names.dns_subdomain(name)
    return [validation.invalid(path, name, f"authorizer name is invalid: {', '.join(problems)}")] if problems else []


def _webhook(webhook: Webhook, path: Path) -> Findings:
    found = _duration(webhook.timeout, path.child("timeout"), _MAX_TIMEOUT)
    found += _duration(webhook.authorized_ttl or "5m", path.child("authorizedTTL"))
    found += _duration(webhook.unauthorized_ttl or "30s", path.child("unauthorizedTTL"))
    version, at = webhook.subject_access_review_version, path.child("subjectAccessReviewVersion")
    found += validation.one_of(at, version, ("v1", "v1beta1"), needed=True)
    version = webhook.match_condition_subject_access_review_version
    at = path.child("matchConditionSubjectAccessReviewVersion")
    if version:
        found += validation.one_of(at, version, ("v1",))
    elif webhook.match_conditions:
        found.append(validation.required(at, "required if match conditions are specified"))
    at = path.child("failurePolicy")
    if not webhook.failure_policy:
        found.append(validation.required(at))
    elif webhook.failure_policy not in ("NoOpinion", "Deny"):
        found.append(validation.not_supported(at, webhook.failure_policy, ("NoOpinion", "Deny")))
    found += _connection(webhook.connection_info, path.child("connectionInfo"))
    return found + _conditions(webhook.match_conditions, path)


def _duration(text: str, path: Path, most: float | None = None) -> Findings:
    limits = "must be > 0s" if most is None else "must be > 0s and <= 30s"
    try:
        length = seconds(text)
    except ValueError as error:
        return [validation.invalid(path, text, str(error))]
    if length == 0:
        return [validation.required(path)]
    if length < 0 or (most is not None and length > most):
        return [validation.invalid(path, text, limits)]
    return []


def _connection(connection: Connection, path: Path) -> Findings:
    file, at = connection.kube_config_file, path.child("kubeConfigFile")
    if not connection.type:
        return [validation.required(path.child("type"))]
    if connection.type == "InClusterConfig":
        if file is not None:
            return [validation.invalid(at, file, "can only be set when type=KubeConfigFile")]
        # Upstream takes it for the case that the API server runs in a pod; here it never does.
        why = "the API server does not run in a pod: use KubeConfigFile"
        return [validation.invalid(path.child("type"), connection.type, why)]
    if connection.type != "KubeConfigFile":
        supported = ("InClusterConfig", "KubeConfigFile")
        return [validation.not_supported(path.child("type"), connection.type, supported)]
    if not file:
        return [validation.required(at)]
    if not os.path.isabs(file):
        return [validation.invalid(at, file, "must be an absolute path")]
    if not os.path.exists(file):
        return [validation.invalid(at, file, f"error loading file: stat {file}: no such file or directory")]
    return [] if os.path.isfile(file) else [validation.invalid(at, file, "must be a regular file")]


def _conditions(conditions: list[MatchCondition], path: Path) -> Findings:
    root = path.child("matchConditions")
    if len(conditions) > _MAX_CONDITIONS:
        return [validation.too_many(root, len(conditions), _MAX_CONDITIONS)]
    found: Findings = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at, text = root.index(index).child("expression"), condition.expression
        if not text.strip():
            found.append(validation.required(at))
        elif text in seen:
            found.append(validation.duplicate(at, text))
        else:
            seen.add(text)
            found += _compiled(text, at)
    return found


def _compiled(text: str, path: Path) -> Findings:
    from podling.apiserver.authz import webhook_conditions
    from podling.machinery import cel

    try:
        webhook_conditions.program(text)
    except cel.CompileError as error:
        return [validation.invalid(path, text, str(error))]
    return []
