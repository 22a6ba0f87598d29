"""The FlowSchemas and PriorityLevelConfigurations of every cluster: those nobody may change, and upstream's suggestion.

`decide` says what must be done to an object so that it is as it should be; see `producer`. Source: k8s.io/apiserver
pkg/apis/flowcontrol/bootstrap, k8s.io/kubernetes pkg/registry/flowcontrol/ensurer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from podling.api import flowcontrol_v1 as v1
from podling.api import meta_v1
from podling.api.struct import clone
from podling.apiserver.resources.flowcontrol import mandatory

AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"

_AUTHENTICATED, _UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
_EVERY_VERB, _LEASES = ["*"], "coordination.k8s.io"

#: name -> shares, lendable percent, queues, hand size; queues are 50 long.
_LEVELS = {
    "system": (30, 33, 64, 6),
    "node-high": (40, 25, 64, 6),
    "leader-election": (10, 0, 16, 4),
    "workload-high": (40, 50, 128, 6),
    "workload-low": (100, 90, 128, 6),
    "global-default": (20, 50, 128, 6),
}


def _level(shares: int, lendable: int, queues: int, hand: int) -> v1.PriorityLevelConfigurationSpec:
    queuing = v1.QueuingConfiguration(queues=queues, hand_size=hand, queue_length_limit=50)
    response = v1.LimitResponse(type="Queue", queuing=queuing)
    return v1.PriorityLevelConfigurationSpec(
        type="Limited",
        limited=v1.LimitedPriorityLevelConfiguration(
            nominal_concurrency_shares=shares, lendable_percent=lendable, limit_response=response
        ),
    )


def _groups(*names: str) -> list[v1.Subject]:
    return [v1.Subject(kind="Group", group=v1.GroupSubject(name=name)) for name in names]


def _users(*names: str) -> list[v1.Subject]:
    return [v1.Subject(kind="User", user=v1.UserSubject(name=name)) for name in names]


def _system_accounts() -> list[v1.Subject]:
    account = v1.ServiceAccountSubject(name="*", namespace="kube-system")
    return [v1.Subject(kind="ServiceAccount", service_account=account)]


def _resources(verbs: list[str], group: str, resources: list[str], *, cluster: bool = False) -> v1.ResourcePolicyRule:
    return v1.ResourcePolicyRule(
        verbs=verbs, api_groups=[group], resources=resources, namespaces=["*"], cluster_scope=cluster or None
    )


def _paths(verbs: list[str], urls: list[str]) -> v1.NonResourcePolicyRule:
    return v1.NonResourcePolicyRule(verbs=verbs, non_resource_urls=urls)


def _schema(
    precedence: int,
    level: str,
    method: str,
    subjects: list[v1.Subject],
    resources: list[v1.ResourcePolicyRule] | None = None,
    paths: list[v1.NonResourcePolicyRule] | None = None,
) -> v1.FlowSchemaSpec:
    """About everything, unless it says what it is about."""
    if resources is None and paths is None:
        resources, paths = [_resources(_EVERY_VERB, "*", ["*"], cluster=True)], [_paths(_EVERY_VERB, ["*"])]
    rule = v1.PolicyRulesWithSubjects(subjects=subjects, resource_rules=resources, non_resource_rules=paths)
    return v1.FlowSchemaSpec(
        matching_precedence=precedence,
        priority_level_configuration=v1.PriorityLevelConfigurationReference(name=level),
        distinguisher_method=v1.FlowDistinguisherMethod(type=method) if method else None,
        rules=[rule],
    )


def _schemas() -> dict[str, v1.FlowSchemaSpec]:
    everyone, nodes = _groups(_UNAUTHENTICATED, _AUTHENTICATED), _groups("system:nodes")
    managers = [*_users("system:kube-controller-manager", "system:kube-scheduler"), *_system_accounts()]
    leases = ["leases"]
    elections = [_resources(["get", "create", "update"], _LEASES, leases)]
    health = [_paths(["get"], ["/healthz", "/readyz", "/livez"])]
    heartbeats = [
        _resources(_EVERY_VERB, "", ["nodes", "nodes/status"], cluster=True),
        _resources(_EVERY_VERB, _LEASES, leases),
    ]
    user, namespace = "ByUser", "ByNamespace"
    return {
        "probes": _schema(2, "exempt", "", everyone, paths=health),
        "system-leader-election": _schema(100, "leader-election", user, managers, elections),
        "system-node-high": _schema(400, "node-high", user, nodes, heartbeats),
        "system-nodes": _schema(500, "system", user, nodes),
        "kube-controller-manager": _schema(
            800, "workload-high", namespace, _users("system:kube-controller-manager")
        ),
        "kube-scheduler": _schema(800, "workload-high", namespace, _users("system:kube-scheduler")),
        "kube-system-service-accounts": _schema(900, "workload-high", namespace, _system_accounts()),
        "service-accounts": _schema(9000, "workload-low", user, _groups("system:serviceaccounts")),
        "global-default": _schema(9900, "global-default", user, everyone),
    }  # fmt: skip


@cache
def objects() -> list[Any]:
    """All of them, levels first, ready to be created (clone them)."""
    levels = {**mandatory.PRIORITY_LEVELS, **{name: _level(*row) for name, row in _LEVELS.items()}}
    schemas = {**mandatory.FLOW_SCHEMAS, **_schemas()}
    return [
        *(v1.PriorityLevelConfiguration(metadata=_meta(name), spec=spec) for name, spec in levels.items()),
        *(v1.FlowSchema(metadata=_meta(name), spec=spec) for name, spec in schemas.items()),
    ]


def _meta(name: str) -> meta_v1.ObjectMeta:
    return meta_v1.ObjectMeta(name=name, annotations={AUTO_UPDATE: "true"})


def decide(wanted: Any, found: Any | None) -> Any | None:
    """The object as it must be written, None if it is well as it is. Neither argument is changed.

    What is mandatory is put right whatever it says; a suggestion only while its annotation does not say otherwise, or,
    without one, while nobody has changed its spec.
    """
    if found is None:
        return clone(wanted)
    fixed = mandatory.FLOW_SCHEMAS if isinstance(wanted, v1.FlowSchema) else mandatory.PRIORITY_LEVELS
    said = _flag(found)
    update = wanted.metadata.name in fixed or (said if said is not None else found.metadata.generation == 1)
    spec = wanted.spec
    if wanted.metadata.name == "exempt" and isinstance(wanted, v1.PriorityLevelConfiguration) and found.spec.exempt:
        # The shares of the exempt are the one thing that may be changed of what is mandatory.
        spec = msgspec.structs.replace(spec, exempt=found.spec.exempt)
    change = update and found.spec != spec
    if not change and said == update:
        return None
    new = clone(found)
    new.metadata.annotations = {**(new.metadata.annotations or {}), AUTO_UPDATE: "true" if update else "false"}
    if change:
        new.spec = clone(spec)
    return new


def obsolete(found: Any) -> bool:
    """Whether an object was one of these once, in another version, and is kept up to date by the server."""
    return bool(_flag(found)) and not any(
        type(o) is type(found) and o.metadata.name == found.metadata.name for o in objects()
    )


def _flag(obj: Any) -> bool | None:
    """The annotation's value; None if there is none, or one that means nothing."""
    value = (obj.metadata.annotations or {}).get(AUTO_UPDATE, "")
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    return False if value in ("0", "f", "F", "FALSE", "false", "False") else None
