"""Which rule of the policy a request falls under: the first that matches (pkg/audit/policy/checker.go)."""

from __future__ import annotations

from typing import NamedTuple

from podling.api.request import User
from podling.apiserver.audit.policy import LEVELS, NONE, GroupResources, Policy, PolicyRule
from podling.apiserver.request_info import RequestInfo


class Decision(NamedTuple):
    """How much of a request is recorded, and at which stages it is not."""

    level: str = NONE
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False

    def records(self, level: str) -> bool:
        """Whether what belongs to `level` is recorded."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


class Rules:
    """A policy, ready to be asked."""

    def __init__(self, policy: Policy) -> None:
        self._rules = [(rule, _decision(rule, policy)) for rule in policy.rules]
        self._default = Decision(NONE, frozenset(policy.omit_stages), policy.omit_managed_fields)

    def decide(self, user: User | None, info: RequestInfo) -> Decision:
        """`user` is None if nobody could be authenticated."""
        return next((decision for rule, decision in self._rules if matches(rule, user, info)), self._default)


def _decision(rule: PolicyRule, policy: Policy) -> Decision:
    omit = policy.omit_managed_fields if rule.omit_managed_fields is None else rule.omit_managed_fields
    return Decision(rule.level, frozenset((*policy.omit_stages, *rule.omit_stages)), omit)


def matches(rule: PolicyRule, user: User | None, info: RequestInfo) -> bool:
    if rule.users and (user is None or user.name not in rule.users):
        return False
    if rule.user_groups and (user is None or not any(g in rule.user_groups for g in user.groups)):
        return False
    if rule.verbs and info.verb not in rule.verbs:
        return False
    if rule.namespaces or rule.resources:
        return bool(info.resource) and _matches_resource(rule, info)
    if rule.non_resource_urls:
        return not info.resource and any(_matches_path(info.path, url) for url in rule.non_resource_urls)
    return True


def _matches_path(path: str, url: str) -> bool:
    return url in ("*", path) or (url.endswith("*") and path.startswith(url.rstrip("*")))


def _matches_resource(rule: PolicyRule, info: RequestInfo) -> bool:
    # What is in no namespace has the empty one.
    if rule.namespaces and info.namespace not in rule.namespaces:
        return False
    return not rule.resources or any(_matches_group(item, info) for item in rule.resources)


def _matches_group(item: GroupResources, info: RequestInfo) -> bool:
    if item.group not in (info.group, "*"):
        return False
    if not item.resources:
        return True
    if item.resource_names and info.name not in item.resource_names:
        return False
    wanted = {"*", f"{info.resource}/*", f"{info.resource}/{info.subresource}" if info.subresource else info.resource}
    if info.subresource:
        wanted.add(f"*/{info.subresource}")
    return not wanted.isdisjoint(item.resources)
