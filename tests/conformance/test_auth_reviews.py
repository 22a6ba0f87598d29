"""Who may do what: access reviews say what really happens, roles grant no more than their author holds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.authority import Authority, authority

RBAC = "/apis/rbac.authorization.k8s.io/v1"
AUTHORIZATION = "/apis/authorization.k8s.io/v1"
PODS = "/api/v1/namespaces/default/pods"
ACCOUNT = "system:serviceaccount:default:reader"


def rule(verbs: str, group: str, resources: str, **more: Any) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split(), **more}


def rbac(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, **more}


async def grant(cluster: Authority, name: str, user: str, *rules: dict[str, Any]) -> None:
    """A ClusterRole for a user, everywhere."""
    await cluster.must("POST", f"{RBAC}/clusterroles", rbac("ClusterRole", name, rules=list(rules)))
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    binding = rbac("ClusterRoleBinding", name, roleRef=ref, subjects=[subject])
    await cluster.must("POST", f"{RBAC}/clusterrolebindings", binding)


def review(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}


@authority
async def test_access_reviews_say_what_an_impersonated_account_may_really_do(cluster: Authority) -> None:
    await grant(cluster, "reader", ACCOUNT, rule("get list", "", "pods"))
    attributes = {"namespace": "default", "verb": "list", "resource": "pods"}
    for verb, allowed in (("list", True), ("deletecollection", False)):
        asked = {**attributes, "verb": verb}
        body = review("SubjectAccessReview", user=ACCOUNT, resourceAttributes=asked)
        found = await cluster.must("POST", f"{AUTHORIZATION}/subjectaccessreviews", body)
        assert found["status"]["allowed"] is allowed
        body = review("LocalSubjectAccessReview", user=ACCOUNT, resourceAttributes=asked)
        local = f"{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews"
        found = await cluster.must("POST", local, body)
        assert found["status"]["allowed"] is allowed
        body = review("SelfSubjectAccessReview", resourceAttributes=asked)
        headers = {"Impersonate-User": ACCOUNT}
        found = await cluster.must("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", body, headers=headers)
        assert found["status"]["allowed"] is allowed
        method = "GET" if verb == "list" else "DELETE"
        status, found = await cluster.ask(method, PODS, headers=headers)
        assert (status == 200) is allowed
    assert found["message"] == (
        f'pods is forbidden: User "{ACCOUNT}" cannot deletecollection resource "pods" in API group "" '
        'in the namespace "default"'
    )


@authority
async def test_who_one_is_after_impersonation(cluster: Authority) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    headers = [
        ("Impersonate-User", "bob"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"), ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Acme.com%2fTeam", "x"),
    ]  # fmt: skip
    found = await cluster.must("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body, headers=headers)
    assert found["status"]["userInfo"] == {
        "username": "bob", "uid": "7", "groups": ["a", "b", "system:authenticated"], "extra": {"acme.com/team": ["x"]},
    }  # fmt: skip


@authority
async def test_a_constrained_right_is_for_one_user_and_one_verb(cluster: Authority) -> None:
    await grant(cluster, "reader", "bob", rule("list create", "", "pods"))
    await grant(
        cluster, "support", "support",
        rule("impersonate:user-info", "authentication.k8s.io", "users", resourceNames=["bob"]),
        rule("impersonate-on:user-info:list", "", "pods"),
    )  # fmt: skip
    as_bob = {"user": "support", "groups": (), "headers": {"Impersonate-User": "bob"}}
    assert (await cluster.ask("GET", PODS, **as_bob))[0] == 200
    status, found = await cluster.ask("GET", f"{PODS}/x", **as_bob)
    assert status == 403 and 'cannot impersonate-on:user-info:get resource "pods"' in found["message"]
    as_eve = {**as_bob, "headers": {"Impersonate-User": "eve"}}
    assert (await cluster.ask("GET", PODS, **as_eve))[0] == 403


@authority
async def test_nobody_grants_what_they_do_not_hold(cluster: Authority) -> None:
    await grant(
        cluster, "author", "author",
        rule("create", "rbac.authorization.k8s.io", "roles rolebindings"), rule("get", "", "pods"),
    )  # fmt: skip
    roles, bindings = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"
    author = {"user": "author", "groups": ()}
    held = rbac("Role", "held", rules=[rule("get", "", "pods")])
    assert (await cluster.ask("POST", roles, held, **author))[0] == 201
    more = rbac("Role", "more", rules=[rule("get list", "", "pods secrets")])
    status, found = await cluster.ask("POST", roles, more, **author)
    assert status == 403
    assert found["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "author" (groups=["system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
    )
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}
    binding = rbac("RoleBinding", "b", roleRef=ref, subjects=[])
    status, found = await cluster.ask("POST", bindings, binding, **author)
    assert status == 403 and "not currently held" in found["message"]
    await grant(cluster, "binder", "author", rule("bind", "rbac.authorization.k8s.io", "clusterroles"))
    assert (await cluster.ask("POST", bindings, binding, **author))[0] == 201


@authority
async def test_aggregated_roles_have_the_rules_of_those_they_select(cluster: Authority) -> None:
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    role = rbac("ClusterRole", "widgets", rules=[rule("get", "acme.com", "widgets")])
    role["metadata"]["labels"] = label
    await cluster.must("POST", f"{RBAC}/clusterroles", role)
    wanted = rule("get", "acme.com", "widgets")
    for name in ("view", "edit", "admin"):
        await cluster.until(f"{RBAC}/clusterroles/{name}", lambda r: wanted in (r.get("rules") or []))


@authority
async def test_a_default_role_that_lost_something_gets_it_back(cluster: Authority) -> None:
    from podling.apiserver.authz import policy

    path = f"{RBAC}/clusterroles/system:basic-user"
    found = await cluster.must("GET", path)
    extra = rule("get", "acme.com", "widgets")
    await cluster.must("PUT", path, {**found, "rules": [extra]})
    await policy.reconcile(cluster.plane.client)
    again = await cluster.must("GET", path)
    assert extra in again["rules"] and rule("create", "authentication.k8s.io", "selfsubjectreviews") in again["rules"]
    assert len(again["rules"]) > len(found["rules"])
    # Who says so keeps it as it is.
    again["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false"
    await cluster.must("PUT", path, {**again, "rules": []})
    await policy.reconcile(cluster.plane.client)
    assert (await cluster.must("GET", path)).get("rules") in (None, [])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            review("SelfSubjectAccessReview"),
            "exactly one of nonResourceAttributes or resourceAttributes must",
        ),
        (
            review("SubjectAccessReview", nonResourceAttributes={"path": "/"}),
            "at least one of user or group must be",
        ),
    ],
)
@authority
async def test_reviews_that_ask_nothing(cluster: Authority, body: dict[str, Any], said: str) -> None:
    status, found = await cluster.ask("POST", f"{AUTHORIZATION}/{body['kind'].lower()}s", body)
    assert status == 422 and said in found["message"]
