"""The default policy: what it grants, and that reconciling it gives back without taking away."""

from __future__ import annotations

from typing import Any

import pytest

from podling import clock
from podling.api import core_v1, errors, meta_v1, rbac_v1
from podling.api.request import User
from podling.api.struct import clone
from podling.apiserver.authz import policy
from podling.apiserver.authz.attributes import Attributes
from podling.apiserver.authz.authorizer import Authorizer
from podling.client.base import ListResult


def loaded() -> Authorizer:
    authorizer = Authorizer()
    default = policy.default()
    for obj in (*default.cluster_roles, *default.roles, *default.cluster_role_bindings, *default.role_bindings):
        authorizer.observe("ADDED", obj)
    return authorizer


AUTHENTICATED = ("system:authenticated",)


@pytest.mark.parametrize(
    ("user", "question", "allowed"),
    [
        (User("u", AUTHENTICATED), {"verb": "get", "path": "/api/v1"}, True),
        (User("u", AUTHENTICATED), {"verb": "get", "path": "/openapi/v3"}, True),
        (User("u", AUTHENTICATED), {"verb": "get", "path": "/metrics"}, False),
        (User("u", ("system:unauthenticated",)), {"verb": "get", "path": "/version"}, True),
        (User("u", ("system:unauthenticated",)), {"verb": "get", "path": "/api"}, False),
        (
            User("u", AUTHENTICATED),
            {"verb": "create", "group": "authorization.k8s.io", "resource": "selfsubjectaccessreviews"},
            True,
        ),
        (User("u", AUTHENTICATED), {"verb": "list", "resource": "pods", "namespace": "default"}, False),
        (User("system:kube-scheduler"), {"verb": "create", "resource": "pods", "subresource": "binding"}, True),
        (User("system:kube-scheduler"), {"verb": "create", "resource": "pods"}, False),
        (
            User("system:serviceaccount:kube-system:replicaset-controller"),
            {"verb": "create", "resource": "pods", "namespace": "x"},
            True,
        ),
        (
            User("system:serviceaccount:default:replicaset-controller"),
            {"verb": "create", "resource": "pods", "namespace": "x"},
            False,
        ),
        (
            User("s", ("system:serviceaccounts",)),
            {"verb": "get", "path": "/.well-known/openid-configuration"},
            True,
        ),
        (
            User("system:serviceaccount:kube-system:token-cleaner"),
            {"verb": "delete", "resource": "secrets", "namespace": "kube-system", "name": "x"},
            True,
        ),
        (
            User("system:serviceaccount:kube-system:token-cleaner"),
            {"verb": "delete", "resource": "secrets", "namespace": "default", "name": "x"},
            False,
        ),
    ],
    ids=str,
)
def test_who_may_do_what_in_a_new_cluster(user: User, question: dict[str, str], allowed: bool) -> None:
    assert loaded().authorize(Attributes(user, **question)).allowed is allowed


def test_the_policy_is_whole() -> None:
    default = policy.default()
    roles = {r.metadata.name for r in default.cluster_roles}
    assert {"cluster-admin", "admin", "edit", "view", "system:node", "system:auth-delegator"} <= roles
    controllers = {n for n in roles if n and n.startswith("system:controller:")}
    assert len(controllers) >= 35
    bound = {b.metadata.name for b in default.cluster_role_bindings}
    assert controllers <= bound
    for binding in default.cluster_role_bindings:
        assert binding.role_ref.name in roles
    in_namespaces = {(r.metadata.namespace, r.metadata.name) for r in default.roles}
    for inner in default.role_bindings:
        assert (inner.metadata.namespace, inner.role_ref.name) in in_namespaces
    for role in default.cluster_roles:
        assert (role.metadata.labels or {})["kubernetes.io/bootstrapping"] == "rbac-defaults"
        assert (role.metadata.annotations or {})[policy.AUTOUPDATE] == "true"


def rules(role: rbac_v1.ClusterRole | rbac_v1.Role) -> list[tuple[str, str, str, str]]:
    """(verbs, groups, resources, names) in their order."""
    return [
        (
            " ".join(r.verbs),
            " ".join(g or "core" for g in r.api_groups or ()),
            " ".join(r.resources or ()),
            " ".join(r.resource_names or ()),
        )
        for r in role.rules or ()
    ]


EVENTS = ("create patch update", "core events.k8s.io", "events", "")
READ = "get list watch"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("expand-controller", [
            ("get list patch update watch", "core", "persistentvolumes", ""),
            ("patch update", "core", "persistentvolumeclaims/status", ""),
            (READ, "core", "persistentvolumeclaims", ""),
            EVENTS,
        ]),
        ("node-controller", [
            ("delete get list patch update watch", "core", "nodes", ""),
            ("patch update", "core", "nodes/status", ""),
            ("patch update", "core", "pods/status", ""),
            ("delete get list watch", "core", "pods", ""),
            (READ, "coordination.k8s.io", "leases", ""),
            EVENTS,
        ]),
        ("pvc-protection-controller", [
            ("get list update watch", "core", "persistentvolumeclaims", ""),
            ("update", "core", "persistentvolumeclaims/status", ""),
            (READ, "core", "pods", ""),
            EVENTS,
        ]),
        ("resource-claim-controller", [
            (READ, "core", "pods", ""),
            ("update", "core", "pods/finalizers", ""),
            ("create delete get list watch", "resource.k8s.io", "resourceclaims", ""),
            ("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status", ""),
            ("patch update", "core", "pods/status", ""),
            EVENTS,
            ("patch update", "resource.k8s.io", "resourceclaims/binding", ""),
        ]),
        ("legacy-service-account-token-cleaner", [
            ("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            ("delete patch", "core", "secrets", ""),
        ]),
    ],
)  # fmt: skip
def test_controllers_have_upstreams_rules_in_their_order(name: str, expected: list[tuple[str, str, str, str]]) -> None:
    assert rules(policy.default().cluster_role(f"system:controller:{name}")) == expected


@pytest.mark.parametrize(
    ("part", "accounts"),
    [
        ("kube-controller-manager", ["kube-controller-manager", "leader-election-controller"]),
        ("kube-scheduler", ["kube-scheduler"]),
    ],
)
def test_leaders_are_elected_by_leases(part: str, accounts: list[str]) -> None:
    name, default = f"system::leader-locking-{part}", policy.default()
    verbs = "create get list update watch"
    assert rules(next(r for r in default.roles if r.metadata.name == name)) == [
        (verbs, "coordination.k8s.io", "leases", ""),
        (verbs, "coordination.k8s.io", "leasecandidates", ""),
    ]
    binding = next(b for b in default.role_bindings if b.metadata.name == name)
    assert [s.name for s in binding.subjects or ()] == [f"system:{part}", *accounts]


def test_aggregated_roles_select_their_parts() -> None:
    default = policy.default()
    for name, target in (("view", "edit"), ("edit", "admin")):
        labels = default.cluster_role(name).metadata.labels or {}
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{target}"] == "true"
        aggregation = default.cluster_role(name).aggregation_rule
        assert aggregation is not None and aggregation.cluster_role_selectors is not None
        selector = aggregation.cluster_role_selectors[0].match_labels or {}
        part = default.cluster_role(f"system:aggregate-to-{name}").metadata.labels or {}
        assert selector.items() <= part.items()
        assert default.cluster_role(name).rules is None


def test_unreadable_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="can't read 'allow everything'"):
        policy.parse("allow everything\n")


class Cluster:
    """As much of a client as reconciliation uses."""

    def __init__(self) -> None:
        self.objects: dict[tuple[type[Any], str, str], Any] = {}
        self.writes: list[str] = []

    @staticmethod
    def key(obj: Any) -> tuple[type[Any], str, str]:
        return type(obj), obj.metadata.namespace or "", obj.metadata.name

    async def list(self, kind: type[Any], namespace: str | None = None) -> ListResult[Any]:
        return ListResult([o for (k, _, _), o in self.objects.items() if k is kind], "1")

    async def create(self, obj: Any) -> Any:
        if self.key(obj) in self.objects:
            raise errors.already_exists("x", "", obj.metadata.name)
        if obj.metadata.namespace:
            assert (core_v1.Namespace, "", obj.metadata.namespace) in self.objects
        self.objects[self.key(obj)] = obj
        self.writes.append(f"create {obj.kind} {obj.metadata.name}")
        return obj

    async def update(self, obj: Any) -> Any:
        self.objects[self.key(obj)] = obj
        self.writes.append(f"update {obj.kind} {obj.metadata.name}")
        return obj

    async def delete(self, kind: type[Any], name: str, namespace: str | None = None, *, uid: str | None = None) -> None:
        del self.objects[kind, namespace or "", name]
        self.writes.append(f"delete {kind.__name__} {name}")


def reconciled(cluster: Cluster) -> list[str]:
    cluster.writes.clear()
    clock.run_virtual(policy.reconcile(cluster))  # type: ignore[arg-type]
    return cluster.writes


def test_a_new_cluster_gets_all_and_a_second_run_writes_nothing() -> None:
    cluster = Cluster()
    default = policy.default()
    every = len(default.cluster_roles) + len(default.roles) + len(default.cluster_role_bindings)
    assert len(reconciled(cluster)) == every + len(default.role_bindings) + len({"kube-system", "kube-public"})
    assert reconciled(cluster) == []


def test_what_was_lost_comes_back_and_what_was_added_stays() -> None:
    cluster = Cluster()
    reconciled(cluster)
    key = (rbac_v1.ClusterRole, "", "system:basic-user")
    role = clone(cluster.objects[key])
    mine = rbac_v1.PolicyRule(verbs=["get"], api_groups=["example.com"], resources=["things"])
    role.rules = [mine]
    role.metadata.labels = {"mine": "yes"}
    cluster.objects[key] = role
    assert reconciled(cluster) == ["update ClusterRole system:basic-user"]
    rules = cluster.objects[key].rules
    assert mine in rules and len(rules) == 4
    assert cluster.objects[key].metadata.labels == {"mine": "yes", "kubernetes.io/bootstrapping": "rbac-defaults"}


def test_aggregated_rules_are_left_to_their_controller() -> None:
    cluster = Cluster()
    reconciled(cluster)
    key = (rbac_v1.ClusterRole, "", "view")
    cluster.objects[key] = clone(cluster.objects[key])
    cluster.objects[key].rules = [rbac_v1.PolicyRule(verbs=["get"], api_groups=[""], resources=["pods"])]
    assert reconciled(cluster) == []


def test_a_lost_subject_comes_back() -> None:
    cluster = Cluster()
    reconciled(cluster)
    key = (rbac_v1.ClusterRoleBinding, "", "cluster-admin")
    cluster.objects[key] = clone(cluster.objects[key])
    cluster.objects[key].subjects = []
    assert reconciled(cluster) == ["update ClusterRoleBinding cluster-admin"]
    assert [s.name for s in cluster.objects[key].subjects] == ["system:masters"]


def test_a_binding_to_another_role_is_made_anew() -> None:
    cluster = Cluster()
    reconciled(cluster)
    key = (rbac_v1.ClusterRoleBinding, "", "system:kube-scheduler")
    cluster.objects[key] = clone(cluster.objects[key])
    cluster.objects[key].role_ref.name = "cluster-admin"
    assert reconciled(cluster) == [
        "delete ClusterRoleBinding system:kube-scheduler",
        "create ClusterRoleBinding system:kube-scheduler",
    ]


def test_autoupdate_false_leaves_an_object_to_its_owner() -> None:
    cluster = Cluster()
    reconciled(cluster)
    for key in ((rbac_v1.ClusterRole, "", "system:discovery"), (rbac_v1.ClusterRoleBinding, "", "system:discovery")):
        changed = cluster.objects[key] = clone(cluster.objects[key])
        changed.metadata.annotations = {policy.AUTOUPDATE: "false"}
        if isinstance(changed, rbac_v1.ClusterRole):
            changed.rules = []
        else:
            changed.subjects = []
            changed.role_ref.name = "other"
    assert reconciled(cluster) == []


def test_metadata_is_not_shared_between_clusters() -> None:
    first, second = Cluster(), Cluster()
    reconciled(first)
    reconciled(second)
    for key, obj in first.objects.items():
        assert obj is not second.objects[key]
        assert isinstance(obj.metadata, meta_v1.ObjectMeta)
