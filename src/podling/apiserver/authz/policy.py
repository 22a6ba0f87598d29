"""The default policy (`policy.txt`) as API objects, and its reconciliation at start.

Reconciliation gives back what a default role or binding lost and leaves what was added, as upstream does; an object
annotated with `rbac.authorization.kubernetes.io/autoupdate: "false"` is its owner's alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from podling.api import core_v1, errors, meta_v1, rbac_v1
from podling.api.struct import clone
from podling.apiserver.authz.rules import uncovered

if TYPE_CHECKING:
    from podling.client.base import Client

AnyRole = rbac_v1.ClusterRole | rbac_v1.Role
AnyBinding = rbac_v1.ClusterRoleBinding | rbac_v1.RoleBinding

GROUP = "rbac.authorization.k8s.io"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"

_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {AUTOUPDATE: "true"}
_WORDS = {
    "READ": ("get", "list", "watch"),
    "WRITE": ("create", "delete", "deletecollection", "patch", "update"),
}
_EVENTS = "create patch update | core events.k8s.io | events"
#: Writes under way at once: enough for the store to commit them as one group.
_PARALLEL = 32


class Policy:
    """The default roles and bindings. Shared: clone before changing one."""

    def __init__(self) -> None:
        self.cluster_roles: list[rbac_v1.ClusterRole] = []
        self.roles: list[rbac_v1.Role] = []
        self.cluster_role_bindings: list[rbac_v1.ClusterRoleBinding] = []
        self.role_bindings: list[rbac_v1.RoleBinding] = []

    def cluster_role(self, name: str) -> rbac_v1.ClusterRole:
        return next(r for r in self.cluster_roles if r.metadata.name == name)


@cache
def default() -> Policy:
    """Upstream's bootstrap policy."""
    return parse(resources.files("podling.apiserver.authz").joinpath("policy.txt").read_text())


def parse(text: str) -> Policy:
    """`text` in the format that policy.txt explains."""
    policy = Policy()
    rules: list[rbac_v1.PolicyRule] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            rules.append(_rule(_EVENTS if line.strip() == "EVENTS" else line))
            continue
        rules = []
        _object(policy, line.split(), rules)
    return policy


def _object(policy: Policy, words: list[str], rules: list[rbac_v1.PolicyRule]) -> None:
    match words:
        case ["role", name, "in", namespace]:
            policy.roles.append(rbac_v1.Role(metadata=_metadata(name, namespace=namespace), rules=rules))
        case ["role", name, *labels]:
            policy.cluster_roles.append(rbac_v1.ClusterRole(metadata=_metadata(name, labels), rules=rules))
        case ["aggregate", name, label, *labels]:
            selector = meta_v1.LabelSelector(match_labels={label: "true"})
            policy.cluster_roles.append(
                rbac_v1.ClusterRole(
                    metadata=_metadata(name, labels),
                    aggregation_rule=rbac_v1.AggregationRule(cluster_role_selectors=[selector]),
                )
            )
        case ["controller", name]:
            role = f"system:controller:{name}"
            policy.cluster_roles.append(rbac_v1.ClusterRole(metadata=_metadata(role), rules=rules))
            policy.cluster_role_bindings.append(_cluster_binding(role, [f"sa:kube-system/{name}"]))
        case ["bind", role, "in", namespace, "as", name, "to", *subjects]:
            policy.role_bindings.append(_binding(name, role, namespace, subjects))
        case ["bind", role, "in", namespace, "to", *subjects]:
            policy.role_bindings.append(_binding(role, role, namespace, subjects))
        case ["bind", role, "to", *subjects]:
            policy.cluster_role_bindings.append(_cluster_binding(role, subjects))
        case _:
            raise ValueError(f"policy: can't read {' '.join(words)!r}")


def _metadata(name: str, labels: Iterable[str] = (), namespace: str | None = None) -> meta_v1.ObjectMeta:
    more = dict(label.split("=") for label in labels)
    return meta_v1.ObjectMeta(
        name=name, namespace=namespace, labels={**_LABELS, **more}, annotations=dict(_ANNOTATIONS)
    )


def _rule(line: str) -> rbac_v1.PolicyRule:
    verbs, *rest = [part.split() for part in line.split("|")]
    verbs = sorted({v for word in verbs for v in _WORDS.get(word, (word,))})
    if len(rest) == 1:
        return rbac_v1.PolicyRule(verbs=verbs, non_resource_urls=sorted(rest[0]))
    groups = sorted("" if g == "core" else g for g in rest[0])
    names = sorted(rest[2]) if len(rest) > 2 else None
    return rbac_v1.PolicyRule(verbs=verbs, api_groups=groups, resources=sorted(rest[1]), resource_names=names)


def _subject(text: str) -> rbac_v1.Subject:
    kind, _, name = text.partition(":")
    if kind == "sa":
        namespace, _, account = name.partition("/")
        return rbac_v1.Subject(kind="ServiceAccount", name=account, namespace=namespace)
    return rbac_v1.Subject(kind={"user": "User", "group": "Group"}[kind], api_group=GROUP, name=name)


def _cluster_binding(role: str, subjects: list[str]) -> rbac_v1.ClusterRoleBinding:
    return rbac_v1.ClusterRoleBinding(
        metadata=_metadata(role),
        role_ref=rbac_v1.RoleRef(kind="ClusterRole", api_group=GROUP, name=role),
        subjects=[_subject(s) for s in subjects] or None,
    )


def _binding(name: str, role: str, namespace: str, subjects: list[str]) -> rbac_v1.RoleBinding:
    return rbac_v1.RoleBinding(
        metadata=_metadata(name, namespace=namespace),
        role_ref=rbac_v1.RoleRef(kind="Role", api_group=GROUP, name=role),
        subjects=[_subject(s) for s in subjects],
    )


async def reconcile(client: Client, policy: Policy | None = None) -> None:
    """Create what is missing of `policy` (upstream's, if None) and complete what lost something."""
    policy = policy or default()
    slots = asyncio.Semaphore(_PARALLEL)

    async def kind(type_: type[Any], wanted: Iterable[Any], completed: Callable[[Any, Any], Any]) -> None:
        listed = await client.list(type_)
        present = {_key(obj): obj for obj in listed.items}
        async with asyncio.TaskGroup() as group:
            for obj in wanted:
                group.create_task(_one(client, slots, obj, present.get(_key(obj)), completed))

    await _namespaces(client, {r.metadata.namespace or "" for r in policy.roles})
    async with asyncio.TaskGroup() as group:
        group.create_task(kind(rbac_v1.ClusterRole, policy.cluster_roles, completed_role))
        group.create_task(kind(rbac_v1.Role, policy.roles, completed_role))
    async with asyncio.TaskGroup() as group:
        group.create_task(kind(rbac_v1.ClusterRoleBinding, policy.cluster_role_bindings, completed_binding))
        group.create_task(kind(rbac_v1.RoleBinding, policy.role_bindings, completed_binding))


def _key(obj: Any) -> tuple[str, str]:
    return obj.metadata.namespace or "", obj.metadata.name or ""


async def _namespaces(client: Client, names: Iterable[str]) -> None:
    present = {n.metadata.name for n in (await client.list(core_v1.Namespace)).items}
    for name in sorted(names):
        if name not in present:
            try:
                await client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name)))
            except errors.StatusError as error:
                if not errors.is_already_exists(error):
                    raise


async def _one(
    client: Client, slots: asyncio.Semaphore, wanted: Any, present: Any, completed: Callable[[Any, Any], Any]
) -> None:
    async with slots:
        try:
            if present is None:
                await client.create(clone(wanted))
                return
            changed = completed(wanted, present)
            if changed is None:
                return
            if getattr(changed, "role_ref", None) != getattr(present, "role_ref", None):
                # A binding's role can't be changed: the object is made anew.
                meta = present.metadata
                await client.delete(type(present), meta.name, meta.namespace, uid=meta.uid)
                await client.create(changed)
            else:
                await client.update(changed)
        except errors.StatusError as error:
            # Somebody else was faster: what they wrote stands until the next start.
            if not (errors.is_already_exists(error) or errors.is_conflict(error)):
                raise


def completed_role(wanted: AnyRole, present: AnyRole) -> AnyRole | None:
    """`present` with what it lacks of `wanted`; None if it lacks nothing or takes no updates."""
    result = _completed_metadata(wanted, present)
    if result is None:
        return None
    aggregation = getattr(wanted, "aggregation_rule", None)
    if aggregation is not None:
        selectors = list(getattr(result.aggregation_rule, "cluster_role_selectors", None) or [])
        missing = [s for s in aggregation.cluster_role_selectors if s not in selectors]
        if missing:
            result.aggregation_rule = rbac_v1.AggregationRule(cluster_role_selectors=selectors + missing)
    else:
        missing_rules = uncovered(present.rules or [], wanted.rules or [])
        if missing_rules:
            result.rules = [*(present.rules or []), *missing_rules]
    return result if result != present else None


def completed_binding(wanted: AnyBinding, present: AnyBinding) -> AnyBinding | None:
    """As completed_role, for subjects; another role_ref than `wanted`'s means that the binding is to be made anew."""
    if present.role_ref != wanted.role_ref and (present.metadata.annotations or {}).get(AUTOUPDATE) != "false":
        return clone(wanted)
    result = _completed_metadata(wanted, present)
    if result is None:
        return None
    missing = [s for s in wanted.subjects or [] if s not in (present.subjects or [])]
    if missing:
        result.subjects = [*(present.subjects or []), *missing]
    return result if result != present else None


def _completed_metadata(wanted: Any, present: Any) -> Any:
    old: meta_v1.ObjectMeta = present.metadata
    new: meta_v1.ObjectMeta = wanted.metadata
    if (old.annotations or {}).get(AUTOUPDATE) == "false":
        return None
    result = clone(present)
    result.metadata.labels = {**(new.labels or {}), **(old.labels or {})}
    result.metadata.annotations = {**(new.annotations or {}), **(old.annotations or {})}
    return result
