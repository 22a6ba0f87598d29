"""RBAC: decisions from an index of roles and bindings that watch events keep up to date.

A decision costs a few dictionary look-ups a binding of the user: rules are compiled once a role into a table from
(group, resource) to verbs, and the bindings of a user and its groups are gathered once and kept until a binding
changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from podling.api import rbac_v1
from podling.api.request import User
from podling.apiserver.authz.attributes import Attributes, Decision, quoted
from podling.apiserver.authz.rules import url_matches

GROUP = "rbac.authorization.k8s.io"
_ACCOUNT = "system:serviceaccount:"

#: (namespace, name); the namespace is "" for a ClusterRole.
RoleKey = tuple[str, str]
AnyRole = rbac_v1.Role | rbac_v1.ClusterRole
AnyBinding = rbac_v1.RoleBinding | rbac_v1.ClusterRoleBinding

#: Users whose gathered bindings are kept.
_USERS_KEPT = 4096


class RulesOfUser(msgspec.Struct):
    """All that is allowed to a user in a namespace. `errors` are roles that a binding names and that do not exist."""

    rules: list[rbac_v1.PolicyRule]
    errors: list[str]
    incomplete: bool = False


class _Grant(NamedTuple):
    """One subject of one binding."""

    role: RoleKey
    reason: str


class CompiledRules:
    """A role's rules as tables. Verbs map to None (any name) or to the names that are allowed."""

    __slots__ = ("resources", "urls")

    def __init__(self, rules: Iterable[rbac_v1.PolicyRule]) -> None:
        self.resources: dict[tuple[str, str], dict[str, frozenset[str] | None]] = {}
        self.urls: list[tuple[frozenset[str], tuple[str, ...]]] = []
        for rule in rules:
            if rule.non_resource_urls:
                self.urls.append((frozenset(rule.verbs), tuple(rule.non_resource_urls)))
            names = frozenset(rule.resource_names) if rule.resource_names else None
            for group in rule.api_groups or ():
                for resource in rule.resources or ():
                    verbs = self.resources.setdefault((group, resource), {})
                    for verb in rule.verbs:
                        known = verbs.get(verb, frozenset())
                        verbs[verb] = None if names is None or known is None else known | names

    def allows_resource(self, keys: tuple[tuple[str, str], ...], verb: str, name: str) -> bool:
        resources = self.resources
        for key in keys:
            verbs = resources.get(key)
            if verbs is None:
                continue
            for allowed in (verb, "*"):
                if allowed in verbs:
                    names = verbs[allowed]
                    if names is None or name in names:
                        return True
        return False

    def allows_url(self, path: str, verb: str) -> bool:
        for verbs, urls in self.urls:
            if (verb in verbs or "*" in verbs) and any(url_matches(url, path) for url in urls):
                return True
        return False


class Rbac:
    """The index and the authorizer."""

    def __init__(self) -> None:
        self._roles: dict[RoleKey, AnyRole] = {}
        self._compiled: dict[RoleKey, CompiledRules] = {}
        #: (kind, namespace, name) of a binding -> the subjects under which it is filed.
        self._filed: dict[tuple[str, str], list[tuple[str, str]]] = {}
        #: ("User" or "Group", name) -> binding's (namespace, name) -> grant.
        self._subjects: dict[tuple[str, str], dict[tuple[str, str], _Grant]] = {}
        self._gathered: OrderedDict[tuple[str, tuple[str, ...]], dict[str, list[_Grant]]] = OrderedDict()

    def put(self, obj: AnyRole | AnyBinding) -> None:
        """Take in a new or changed object."""
        if isinstance(obj, rbac_v1.Role | rbac_v1.ClusterRole):
            key = (obj.metadata.namespace or "", obj.metadata.name or "")
            known = self._roles.get(key)
            self._roles[key] = obj
            if known is None or known.rules != obj.rules:
                self._compiled.pop(key, None)
        else:
            self._unfile(obj)
            self._file(obj)

    def remove(self, obj: AnyRole | AnyBinding) -> None:
        """Forget a deleted object."""
        if isinstance(obj, rbac_v1.Role | rbac_v1.ClusterRole):
            key = (obj.metadata.namespace or "", obj.metadata.name or "")
            self._roles.pop(key, None)
            self._compiled.pop(key, None)
        else:
            self._unfile(obj)

    def _file(self, binding: AnyBinding) -> None:
        namespace, name = binding.metadata.namespace or "", binding.metadata.name or ""
        ref = binding.role_ref
        role = (namespace if ref.kind == "Role" else "", ref.name)
        label = f"{name}/{namespace}" if namespace else name
        kind = "RoleBinding" if namespace else "ClusterRoleBinding"
        filed = self._filed.setdefault((namespace, name), [])
        for subject in binding.subjects or ():
            key, shown = _subject(subject, namespace)
            if key is None:
                continue
            reason = (
                f"RBAC: allowed by {kind} {quoted(label)} of {ref.kind} {quoted(ref.name)} "
                f"to {subject.kind} {quoted(shown)}"
            )
            self._subjects.setdefault(key, {}).setdefault((namespace, name), _Grant(role, reason))
            filed.append(key)
        self._gathered.clear()

    def _unfile(self, binding: AnyBinding) -> None:
        at = (binding.metadata.namespace or "", binding.metadata.name or "")
        for key in self._filed.pop(at, ()):
            grants = self._subjects.get(key)
            if grants is not None:
                grants.pop(at, None)
                if not grants:
                    del self._subjects[key]
        self._gathered.clear()

    def authorize(self, attributes: Attributes) -> Decision:
        """Whether a rule allows it, and which; else the roles that could not be found."""
        verb, name = attributes.verb, attributes.name
        keys = keys_of(attributes) if attributes.resource else ()
        missing: list[str] = []
        for grant in self._grants(attributes.user, attributes.namespace if attributes.resource else ""):
            compiled = self._compiled.get(grant.role) or self._compile(grant.role)
            if compiled is None:
                missing.append(_not_found(grant.role))
            elif compiled.allows_resource(keys, verb, name) if keys else compiled.allows_url(attributes.path, verb):
                return Decision(True, grant.reason)
        if not missing:
            return Decision(False)
        return Decision(False, f"RBAC: {aggregate(missing)}")

    def _compile(self, key: RoleKey) -> CompiledRules | None:
        role = self._roles.get(key)
        if role is None:
            return None
        compiled = self._compiled[key] = CompiledRules(role.rules or ())
        return compiled

    def _grants(self, user: User, namespace: str) -> list[_Grant]:
        """Cluster-wide bindings first, then those of `namespace`."""
        key = (user.name, user.groups)
        gathered = self._gathered.get(key)
        if gathered is None:
            gathered = self._gathered[key] = self._gather(user)
            if len(self._gathered) > _USERS_KEPT:
                self._gathered.popitem(last=False)
        everywhere = gathered.get("", [])
        if not namespace:
            return everywhere
        here = gathered.get(namespace)
        return everywhere + here if here else everywhere

    def _gather(self, user: User) -> dict[str, list[_Grant]]:
        result: dict[str, dict[tuple[str, str], _Grant]] = {}
        for key in (("User", user.name), *(("Group", group) for group in user.groups)):
            for at, grant in self._subjects.get(key, {}).items():
                result.setdefault(at[0], {}).setdefault(at, grant)
        return {namespace: list(grants.values()) for namespace, grants in result.items()}

    def rules_for(self, user: User, namespace: str) -> RulesOfUser:
        """The rules of every role that is bound to `user`, cluster-wide and in `namespace`."""
        result = RulesOfUser([], [])
        for grant in self._grants(user, namespace):
            role = self._roles.get(grant.role)
            if role is None:
                result.errors.append(_not_found(grant.role))
            else:
                result.rules.extend(role.rules or ())
        return result

    def role(self, ref: rbac_v1.RoleRef, namespace: str) -> AnyRole | None:
        """The role that a binding in `namespace` ("" for a ClusterRoleBinding) names."""
        return self._roles.get((namespace if ref.kind == "Role" else "", ref.name))


def _subject(subject: rbac_v1.Subject, namespace: str) -> tuple[tuple[str, str] | None, str]:
    """Under which user or group a subject is filed, and how reasons show it."""
    if subject.kind == "ServiceAccount":
        namespace = subject.namespace or namespace
        if not namespace:
            return None, subject.name
        return ("User", f"{_ACCOUNT}{namespace}:{subject.name}"), f"{subject.name}/{namespace}"
    if subject.kind in ("User", "Group"):
        return (subject.kind, subject.name), subject.name
    return None, subject.name


def keys_of(a: Attributes) -> tuple[tuple[str, str], ...]:
    """The entries of a compiled role that can match: exact ones first, then wildcards."""
    group = a.group
    if a.subresource:
        resource, wildcard = f"{a.resource}/{a.subresource}", f"*/{a.subresource}"
        return (
            (group, resource),
            (group, "*"),
            ("*", "*"),
            ("*", resource),
            (group, wildcard),
            ("*", wildcard),
        )
    return (group, a.resource), (group, "*"), ("*", "*"), ("*", a.resource)


def _not_found(key: RoleKey) -> str:
    kind = "role" if key[0] else "clusterrole"
    return f"{kind}.{GROUP} {quoted(key[1])} not found"


def aggregate(texts: Iterable[str]) -> str:
    """Several errors as one: `[a, b]`, a single one as it is."""
    unique = list(dict.fromkeys(texts))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
