"""Which FlowSchema a request matches: the first, in the order of precedence, of which one rule does.

`Rules` are a schema made ready for many requests; the semantics are those of flowcontrol.apiserver.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from podling.api import flowcontrol_v1 as v1
from podling.api.request import User
from podling.apiserver.request_info import RequestInfo

CATCH_ALL = "catch-all"

_ACCOUNT = "system:serviceaccount:"


def precedence(schema: v1.FlowSchema) -> tuple[int, str]:
    """Schemas are asked in this order."""
    return schema.spec.matching_precedence or 0, schema.metadata.name or ""


def matches(spec: v1.FlowSchemaSpec, user: User, info: RequestInfo) -> bool:
    """Whether a rule of the schema is about this request."""
    return any(_rule(rule, user, info) for rule in spec.rules or ())


def distinguisher(spec: v1.FlowSchemaSpec, user: User, info: RequestInfo) -> str:
    """What tells the flows of a schema apart: the user's name, the namespace, or nothing."""
    method = spec.distinguisher_method
    if method is None:
        return ""
    return user.name if method.type == "ByUser" else info.namespace


def choose(schemas: Sequence[v1.FlowSchema], user: User, info: RequestInfo) -> v1.FlowSchema:
    """The first of the (ordered) schemas that matches; the catch-all, which is always there, if none does."""
    found = next((s for s in schemas if matches(s.spec, user, info)), None)
    return found or next(s for s in schemas if s.metadata.name == CATCH_ALL)


def _rule(rule: v1.PolicyRulesWithSubjects, user: User, info: RequestInfo) -> bool:
    if not any(_subject(subject, user) for subject in rule.subjects):
        return False
    if info.resource:
        return any(_resource(r, info) for r in rule.resource_rules or ())
    return any(_path(r, info) for r in rule.non_resource_rules or ())


def _subject(subject: v1.Subject, user: User) -> bool:
    if subject.kind == "User":
        return subject.user is not None and subject.user.name in ("*", user.name)
    if subject.kind == "Group":
        return subject.group is not None and (subject.group.name == "*" or subject.group.name in user.groups)
    account = subject.service_account
    if subject.kind != "ServiceAccount" or account is None:
        return False
    if account.name == "*":
        return user.name.startswith(f"{_ACCOUNT}{account.namespace}:")
    return user.name == f"{_ACCOUNT}{account.namespace}:{account.name}"


def _listed(value: str, values: Iterable[str]) -> bool:
    """Whether `values` has it, or is the wildcard; `*` stands alone, as validation sees to."""
    return value in values or list(values) == ["*"]


def _resource(rule: v1.ResourcePolicyRule, info: RequestInfo) -> bool:
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (
        _listed(info.verb, rule.verbs)
        and _listed(resource, rule.resources)
        and _listed(info.group, rule.api_groups)
    ):  # fmt: skip
        return False
    if not info.namespace:
        return bool(rule.cluster_scope)
    return _listed(info.namespace, rule.namespaces or [])


def _path(rule: v1.NonResourcePolicyRule, info: RequestInfo) -> bool:
    return _listed(info.verb, rule.verbs) and any(_url(url, info.path) for url in rule.non_resource_urls)


def _url(url: str, path: str) -> bool:
    if url in ("*", path):
        return True
    prefix = url.removesuffix("*")
    return path.startswith(prefix if prefix.endswith("/") else prefix + "/")
