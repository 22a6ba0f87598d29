"""RBAC decisions, in tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import meta_v1, rbac_v1
from podling.api.request import User
from podling.apiserver.authz.attributes import Attributes, forbidden
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.authz.rbac import Rbac
from podling.apiserver.authz.rules import compact, describe, uncovered

RBAC = "rbac.authorization.k8s.io"
ALICE = User("alice", ("devs", "system:authenticated"))


def rule(verbs: str, groups: str = "", resources: str = "", names: str = "", urls: str = "") -> rbac_v1.PolicyRule:
    if urls:
        return rbac_v1.PolicyRule(verbs=verbs.split(), non_resource_urls=urls.split())
    return rbac_v1.PolicyRule(
        verbs=verbs.split(),
        api_groups=["" if g == "core" else g for g in groups.split()],
        resources=resources.split(),
        resource_names=names.split() or None,
    )


def cluster_role(name: str, *rules: rbac_v1.PolicyRule) -> rbac_v1.ClusterRole:
    return rbac_v1.ClusterRole(metadata=meta_v1.ObjectMeta(name=name), rules=list(rules))


def role(namespace: str, name: str, *rules: rbac_v1.PolicyRule) -> rbac_v1.Role:
    return rbac_v1.Role(metadata=meta_v1.ObjectMeta(name=name, namespace=namespace), rules=list(rules))


def subject(text: str) -> rbac_v1.Subject:
    kind, _, name = text.partition(":")
    if kind == "sa":
        namespace, _, name = name.rpartition("/")
        return rbac_v1.Subject(kind="ServiceAccount", name=name, namespace=namespace or None)
    return rbac_v1.Subject(kind={"user": "User", "group": "Group"}[kind], name=name, api_group=RBAC)


def cluster_binding(name: str, role_name: str, *subjects: str) -> rbac_v1.ClusterRoleBinding:
    return rbac_v1.ClusterRoleBinding(
        metadata=meta_v1.ObjectMeta(name=name),
        role_ref=rbac_v1.RoleRef(kind="ClusterRole", name=role_name, api_group=RBAC),
        subjects=[subject(s) for s in subjects],
    )


def binding(namespace: str, name: str, ref: str, *subjects: str) -> rbac_v1.RoleBinding:
    kind, _, role_name = ref.partition("/")
    return rbac_v1.RoleBinding(
        metadata=meta_v1.ObjectMeta(name=name, namespace=namespace),
        role_ref=rbac_v1.RoleRef(kind=kind, name=role_name, api_group=RBAC),
        subjects=[subject(s) for s in subjects],
    )


def ask(user: User, verb: str, what: str, namespace: str = "", name: str = "") -> Attributes:
    """`what` is resource[/subresource][.group] or a /path."""
    if what.startswith("/"):
        return Attributes(user, verb, path=what)
    resource, _, group = what.partition(".")
    resource, _, sub = resource.partition("/")
    return Attributes(user, verb, group, "v1", resource, sub, namespace, name)


@pytest.mark.parametrize(
    ("held", "verb", "what", "name", "allowed"),
    [
        (rule("get", "core", "pods"), "get", "pods", "x", True),
        (rule("get", "core", "pods"), "list", "pods", "", False),
        (rule("get", "core", "pods"), "get", "pods/log", "x", False),
        (rule("get", "core", "pods/log"), "get", "pods/log", "x", True),
        (rule("get", "core", "pods/log"), "get", "pods", "x", False),
        (rule("get", "core", "*"), "get", "pods/log", "x", True),
        (rule("get", "*", "*/scale"), "get", "deployments/scale.apps", "x", True),
        (rule("get", "apps", "*/scale"), "get", "replicationcontrollers/scale", "x", False),
        (rule("get", "*", "*/scale"), "get", "deployments.apps", "x", False),
        (rule("*", "apps", "deployments"), "patch", "deployments.apps", "x", True),
        (rule("*", "apps", "deployments"), "patch", "deployments", "x", False),
        (rule("*", "*", "*"), "escalate", "clusterroles.rbac.authorization.k8s.io", "x", True),
        (rule("get", "core", "secrets", "a b"), "get", "secrets", "b", True),
        (rule("get", "core", "secrets", "a b"), "get", "secrets", "c", False),
        (rule("get", "core", "secrets", "a b"), "get", "secrets", "", False),
        (rule("get", urls="/healthz"), "get", "/healthz", "", True),
        (rule("get", urls="/healthz"), "get", "/healthz/etcd", "", False),
        (rule("get", urls="/healthz/*"), "get", "/healthz/etcd", "", True),
        (rule("get", urls="/healthz/*"), "get", "/healthz", "", False),
        (rule("get", urls="*"), "get", "/metrics", "", True),
        (rule("get", urls="*"), "post", "/metrics", "", False),
        (rule("get", "*", "*"), "get", "/metrics", "", False),
    ],
    ids=str,
)
def test_a_rule_allows_what_it_says(held: rbac_v1.PolicyRule, verb: str, what: str, name: str, allowed: bool) -> None:
    rbac = Rbac()
    rbac.put(cluster_role("r", held))
    rbac.put(cluster_binding("b", "r", "user:alice"))
    assert rbac.authorize(ask(ALICE, verb, what, "ns", name)).allowed is allowed


def test_names_of_several_rules_add_up_and_no_names_win() -> None:
    rbac = Rbac()
    rbac.put(cluster_role("r", rule("get", "core", "secrets", "a"), rule("get", "core", "secrets", "b")))
    rbac.put(cluster_binding("b", "r", "user:alice"))
    assert [rbac.authorize(ask(ALICE, "get", "secrets", "ns", n)).allowed for n in "abc"] == [True, True, False]
    rbac.put(cluster_role("r", rule("get", "core", "secrets"), rule("get", "core", "secrets", "b")))
    assert [rbac.authorize(ask(ALICE, "get", "secrets", "ns", n)).allowed for n in "abc"] == [True, True, True]


BY_B = 'RBAC: allowed by RoleBinding "b/dev" of Role "reader" to '


@pytest.mark.parametrize(
    ("user", "namespace", "reason"),
    [
        (ALICE, "dev", BY_B + 'Group "devs"'),
        (User("system:serviceaccount:dev:bot"), "dev", BY_B + 'ServiceAccount "bot/dev"'),
        (User("system:serviceaccount:ci:bot"), "dev", BY_B + 'ServiceAccount "bot/ci"'),
        (ALICE, "prod", ""),
        (ALICE, "", ""),
        (User("bob"), "dev", ""),
        (User("root"), "prod", 'RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "viewer" to User "root"'),
    ],
)  # fmt: skip
def test_bindings_reach_their_subjects_in_their_scope_and_reasons_are_upstreams(
    user: User, namespace: str, reason: str
) -> None:
    rbac = Rbac()
    rbac.put(role("dev", "reader", rule("get list", "core", "pods")))
    rbac.put(cluster_role("viewer", rule("get list", "core", "pods")))
    rbac.put(binding("dev", "b", "Role/reader", "group:devs", "sa:bot", "sa:ci/bot"))
    rbac.put(cluster_binding("all", "viewer", "user:root"))
    decision = rbac.authorize(ask(user, "list", "pods", namespace))
    assert (decision.allowed, decision.reason) == (bool(reason), reason)


def test_changes_take_effect_at_once() -> None:
    authorizer = Authorizer()
    question = ask(ALICE, "list", "pods", "dev")

    def allowed() -> bool:
        return authorizer.authorize(question).allowed

    bound = binding("dev", "b", "ClusterRole/viewer", "group:devs")
    viewer = cluster_role("viewer", rule("list", "core", "pods"))
    assert not allowed()
    authorizer.observe("ADDED", bound)
    missing = authorizer.authorize(question)
    assert missing.reason == 'RBAC: clusterrole.rbac.authorization.k8s.io "viewer" not found'
    authorizer.observe("ADDED", viewer)
    assert allowed()
    authorizer.observe("MODIFIED", cluster_role("viewer", rule("get", "core", "pods")))
    assert not allowed()
    authorizer.observe("MODIFIED", viewer)
    assert allowed()
    authorizer.observe("MODIFIED", binding("dev", "b", "ClusterRole/viewer", "user:bob"))
    assert not allowed()
    authorizer.observe("MODIFIED", bound)
    assert allowed()
    authorizer.observe("DELETED", bound)
    assert not allowed()


def test_masters_may_do_everything() -> None:
    assert Authorizer().authorize(ask(User("root", ("system:masters",)), "delete", "nodes")).allowed


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            ask(ALICE, "list", "pods", "dev"),
            'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "dev"',
        ),
        (
            ask(ALICE, "get", "deployments/scale.apps", "dev", "web"),
            'deployments.apps "web" is forbidden: User "alice" cannot get resource "deployments/scale" in API group '
            '"apps" in the namespace "dev"',
        ),
        (
            ask(ALICE, "list", "nodes"),
            'nodes is forbidden: User "alice" cannot list resource "nodes" in API group "" at the cluster scope',
        ),
        (ask(ALICE, "get", "/metrics"), 'forbidden: User "alice" cannot get path "/metrics"'),
    ],
)
def test_denials_read_as_upstreams(attributes: Attributes, message: str) -> None:
    error = forbidden(attributes)
    assert (error.status.message, error.status.code, error.status.reason) == (message, 403, "Forbidden")
    assert str(forbidden(attributes, "because")) == f"{message}: because"


words = st.lists(st.sampled_from(["a", "b", "c", "*"]), min_size=1, max_size=3, unique=True)
rules = st.builds(
    lambda v, g, r, n: rbac_v1.PolicyRule(verbs=v, api_groups=g, resources=r, resource_names=n or None),
    words,
    words,
    words,
    st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
)


@given(rules, rules)
def test_what_is_covered_is_allowed(held: rbac_v1.PolicyRule, wanted: rbac_v1.PolicyRule) -> None:
    """Whoever holds rules that cover others is allowed all that those allow: the two algorithms agree."""
    if uncovered([held], [wanted]):
        return
    by_held, by_wanted = Rbac(), Rbac()
    for rbac, given_rule in ((by_held, held), (by_wanted, wanted)):
        rbac.put(cluster_role("r", given_rule))
        rbac.put(cluster_binding("b", "r", "user:alice"))
    for verb in "abc":
        for group in "abc":
            for resource in "abc":
                for name in ("a", "b", "x"):
                    question = Attributes(ALICE, verb, group, "v1", resource, "", "", name)
                    assert by_held.authorize(question).allowed or not by_wanted.authorize(question).allowed


def test_missing_rights_are_compacted_and_described() -> None:
    missing = uncovered([rule("get", "core", "pods")], [rule("get list watch", "core", "pods secrets")])
    assert sorted(describe(r) for r in compact(missing)) == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}',
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "watch"]}',
    ]
