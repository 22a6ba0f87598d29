"""No one grants what they do not hold: the checks on writes of roles and bindings.

Writing a role takes the verb `escalate` on it or all the rights that it grants; writing a binding takes the verb `bind`
on the role or all the role's rights. Source: Kubernetes' "Using RBAC Authorization", privilege escalation prevention.
"""

from __future__ import annotations

from typing import Any

from podling.api import errors, rbac_v1
from podling.api.request import User
from podling.apiserver.authz.attributes import Attributes, quoted, settled
from podling.apiserver.authz.authorizer import MASTERS, Authorizer
from podling.apiserver.authz.rules import compact, describe, quoted_list, uncovered

GROUP = "rbac.authorization.k8s.io"

_EVERYTHING = [
    rbac_v1.PolicyRule(verbs=["*"], api_groups=["*"], resources=["*"]),
    rbac_v1.PolicyRule(verbs=["*"], non_resource_urls=["*"]),
]


async def check(authorizer: Authorizer, user: User, obj: Any, old: Any = None) -> None:
    """Raise 403 if `user` may not write `obj` (over `old`, if it is an update); objects of other kinds pass."""
    if MASTERS in user.groups:
        return
    match obj:
        case rbac_v1.Role():
            await _check_role(authorizer, user, obj, old, "roles")
        case rbac_v1.ClusterRole():
            await _check_role(authorizer, user, obj, old, "clusterroles")
        case rbac_v1.RoleBinding():
            await _check_binding(authorizer, user, obj, old, "rolebindings")
        case rbac_v1.ClusterRoleBinding():
            await _check_binding(authorizer, user, obj, old, "clusterrolebindings")


async def _check_role(
    authorizer: Authorizer,
    user: User,
    role: rbac_v1.Role | rbac_v1.ClusterRole,
    old: rbac_v1.Role | rbac_v1.ClusterRole | None,
    resource: str,
) -> None:
    namespace, name = role.metadata.namespace or "", role.metadata.name or ""
    aggregation = getattr(role, "aggregation_rule", None)
    if (
        old is not None
        and (old.rules or []) == (role.rules or [])
        and (getattr(old, "aggregation_rule", None) == aggregation)
    ):
        return
    if await _may(authorizer, user, "escalate", resource, namespace, name):
        return
    message = missing_rights(authorizer, user, namespace, role.rules or [])
    if message:
        raise errors.forbidden(resource, GROUP, name, message)
    if aggregation is not None and missing_rights(authorizer, user, namespace, _EVERYTHING):
        raise errors.forbidden(resource, GROUP, name, "must have cluster-admin privileges to use the aggregationRule")


async def _check_binding(
    authorizer: Authorizer,
    user: User,
    binding: rbac_v1.RoleBinding | rbac_v1.ClusterRoleBinding,
    old: rbac_v1.RoleBinding | rbac_v1.ClusterRoleBinding | None,
    resource: str,
) -> None:
    namespace, ref = binding.metadata.namespace or "", binding.role_ref
    if old is not None and old.role_ref == ref and (old.subjects or []) == (binding.subjects or []):
        return
    roles = "roles" if ref.kind == "Role" else "clusterroles"
    if await _may(authorizer, user, "bind", roles, namespace, ref.name):
        return
    role = authorizer.rbac.role(ref, namespace)
    if role is None:
        raise errors.not_found(roles.removesuffix("s"), GROUP, ref.name)
    message = missing_rights(authorizer, user, namespace, role.rules or [])
    if message:
        raise errors.forbidden(resource, GROUP, binding.metadata.name or "", message)


async def _may(authorizer: Authorizer, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
    attributes = Attributes(user, verb, group=GROUP, version="*", resource=resource, namespace=namespace, name=name)
    return (await settled(authorizer.authorize(attributes))).allowed


def missing_rights(authorizer: Authorizer, user: User, namespace: str, rules: list[rbac_v1.PolicyRule]) -> str:
    """What of `rules` `user` does not hold in `namespace`, as upstream's message; "" if all is held."""
    held = authorizer.rbac.rules_for(user, namespace)
    missing = uncovered(held.rules, rules)
    if not missing:
        return ""
    lines = sorted({describe(rule) for rule in compact(missing)})
    message = (
        f"user {quoted(user.name)} (groups={quoted_list(user.groups)}) is attempting to grant RBAC permissions not "
        "currently held:\n" + "\n".join(lines)
    )
    if held.errors:
        message += f"; resolution errors: [{' '.join(held.errors)}]"
    return message
