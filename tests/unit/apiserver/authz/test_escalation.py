"""No one grants what they do not hold."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.authz.test_rbac import ALICE, binding, cluster_binding, cluster_role, role, rule
from podling import clock
from podling.api import rbac_v1
from podling.api.errors import StatusError
from podling.api.request import User
from podling.api.struct import clone
from podling.apiserver.authz import escalation
from podling.apiserver.authz.authorizer import Authorizer


def authorizer(*held: rbac_v1.PolicyRule) -> Authorizer:
    result = Authorizer()
    objects: list[Any] = [
        cluster_role("held", *held),
        cluster_binding("held", "held", "user:alice"),
        cluster_role("pods", rule("get list", "core", "pods")),
        role("dev", "pods", rule("get", "core", "pods")),
    ]
    for obj in objects:
        result.observe("ADDED", obj)
    return result


PODS = rule("get list", "core", "pods")
RBAC = "rbac.authorization.k8s.io"


def check(*arguments: Any) -> None:
    clock.run_virtual(escalation.check(*arguments))


@pytest.mark.parametrize(
    ("held", "written", "allowed"),
    [
        ([PODS], role("dev", "r", rule("get", "core", "pods")), True),
        ([PODS], role("dev", "r", rule("get", "core", "secrets")), False),
        ([rule("escalate", RBAC, "roles")], role("dev", "r", rule("*", "*", "*")), True),
        ([rule("escalate", RBAC, "roles", "other")], role("dev", "r", rule("*", "*", "*")), False),
        ([rule("escalate", RBAC, "roles")], cluster_role("r", rule("*", "*", "*")), False),
        ([], role("dev", "r"), True),
        ([PODS], binding("dev", "b", "ClusterRole/pods", "user:bob"), True),
        ([rule("get", "core", "pods")], binding("dev", "b", "ClusterRole/pods", "user:bob"), False),
        ([rule("get", "core", "pods")], binding("dev", "b", "Role/pods", "user:bob"), True),
        ([rule("bind", RBAC, "clusterroles", "pods")], cluster_binding("b", "pods", "user:bob"), True),
        ([rule("bind", RBAC, "roles", "pods")], cluster_binding("b", "pods", "user:bob"), False),
    ],
    ids=str,
)
def test_writing_takes_the_rights_or_the_verb(held: list[rbac_v1.PolicyRule], written: Any, allowed: bool) -> None:
    if allowed:
        check(authorizer(*held), ALICE, written)
    else:
        with pytest.raises(StatusError) as caught:
            check(authorizer(*held), ALICE, written)
        assert caught.value.code == 403


def test_the_message_names_what_is_missing() -> None:
    with pytest.raises(StatusError) as caught:
        check(authorizer(PODS), ALICE, role("dev", "r", rule("get list watch", "core", "pods")))
    assert str(caught.value) == (
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "alice" (groups=["devs" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["watch"]}'
    )


def test_masters_may_grant_everything() -> None:
    check(authorizer(), User("root", ("system:masters",)), cluster_role("r", rule("*", "*", "*")))


def test_an_update_that_grants_nothing_new_passes() -> None:
    old = role("dev", "r", rule("*", "*", "*"))
    new = clone(old)
    new.metadata.labels = {"a": "b"}
    check(authorizer(), ALICE, new, old)
    bound = binding("dev", "b", "ClusterRole/pods", "user:bob")
    check(authorizer(), ALICE, clone(bound), bound)
    with pytest.raises(StatusError):
        check(authorizer(), ALICE, binding("dev", "b", "ClusterRole/pods", "user:eve"), bound)


def test_aggregation_takes_everything() -> None:
    aggregated = cluster_role("agg")
    aggregated.aggregation_rule = rbac_v1.AggregationRule(cluster_role_selectors=[])
    with pytest.raises(StatusError, match="must have cluster-admin privileges to use the aggregationRule"):
        check(authorizer(PODS), ALICE, aggregated)
    check(authorizer(rule("*", "*", "*"), rule("*", urls="*")), ALICE, aggregated)


def test_a_binding_to_a_role_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(StatusError) as caught:
        check(authorizer(), ALICE, binding("dev", "b", "Role/none", "user:bob"))
    assert caught.value.code == 404
    assert str(caught.value) == 'role.rbac.authorization.k8s.io "none" not found'


def test_other_kinds_pass() -> None:
    check(authorizer(), ALICE, object())
