"""Reviews: questions about who and may, answered in upstream's words."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.authz.test_rbac import ALICE, binding, cluster_binding, cluster_role, role, rule
from podling import clock
from podling.api import authentication_v1, authorization_v1
from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.authz.reviews import Reviews


class Tokens:
    async def review(self, token: str, audiences: tuple[str, ...]) -> tuple[User | None, tuple[str, ...], str]:
        if token == "good":
            return User("bob", ("g",), "7", {"k": ("v",)}), audiences or ("api",), ""
        return None, (), "invalid bearer token"


def reviewed(obj: Any, user: User = ALICE, namespace: str = "") -> Any:
    authorizer = Authorizer()
    for known in (
        cluster_role("viewer", rule("get list", "core", "pods"), rule("get", urls="/metrics")),
        cluster_binding("viewers", "viewer", "user:alice"),
        role("dev", "writer", rule("create", "apps", "deployments")),
        binding("dev", "writers", "Role/writer", "group:devs"),
    ):
        authorizer.observe("ADDED", known)
    return clock.run_virtual(Reviews(authorizer, Tokens()).handle_review("x", obj, user, namespace))


def wanted(verb: str, resource: str, namespace: str = "", group: str = "") -> authorization_v1.ResourceAttributes:
    return authorization_v1.ResourceAttributes(verb=verb, resource=resource, namespace=namespace, group=group)


def test_may_i() -> None:
    spec = authorization_v1.SelfSubjectAccessReviewSpec(resource_attributes=wanted("list", "pods", "dev"))
    status = reviewed(authorization_v1.SelfSubjectAccessReview(spec=spec)).status
    assert status.allowed
    assert status.reason == 'RBAC: allowed by ClusterRoleBinding "viewers" of ClusterRole "viewer" to User "alice"'
    spec.resource_attributes = wanted("delete", "pods", "dev")
    status = reviewed(authorization_v1.SelfSubjectAccessReview(spec=spec)).status
    assert (status.allowed, status.reason, status.denied) == (False, None, None)


def test_may_they_see_a_path() -> None:
    path = authorization_v1.NonResourceAttributes(path="/metrics", verb="get")
    spec = authorization_v1.SubjectAccessReviewSpec(user="alice", non_resource_attributes=path)
    assert reviewed(authorization_v1.SubjectAccessReview(spec=spec), User("kubelet")).status.allowed
    spec.user = "eve"
    assert not reviewed(authorization_v1.SubjectAccessReview(spec=spec), User("kubelet")).status.allowed


def test_a_local_review_is_about_its_own_namespace() -> None:
    spec = authorization_v1.SubjectAccessReviewSpec(
        groups=["devs"], resource_attributes=wanted("create", "deployments", "dev", "apps")
    )
    review = authorization_v1.LocalSubjectAccessReview(spec=spec)
    assert reviewed(review, namespace="dev").status.allowed
    with pytest.raises(StatusError, match=r"spec\.resourceAttributes\.namespace"):
        reviewed(review, namespace="prod")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            authorization_v1.SubjectAccessReviewSpec(user="a"),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            authorization_v1.SubjectAccessReviewSpec(resource_attributes=wanted("get", "pods")),
            "at least one of user or group must be specified",
        ),
        (
            authorization_v1.SubjectAccessReviewSpec(
                user="a",
                resource_attributes=wanted("get", "pods"),
                non_resource_attributes=authorization_v1.NonResourceAttributes(),
            ),
            "cannot be specified in combination with resourceAttributes",
        ),
    ],
)
def test_reviews_that_make_no_sense(spec: authorization_v1.SubjectAccessReviewSpec, message: str) -> None:
    with pytest.raises(StatusError, match=message) as caught:
        reviewed(authorization_v1.SubjectAccessReview(spec=spec))
    assert caught.value.code == 422


def test_what_may_i() -> None:
    spec = authorization_v1.SelfSubjectRulesReviewSpec(namespace="dev")
    status = reviewed(authorization_v1.SelfSubjectRulesReview(spec=spec)).status
    assert [(r.verbs, r.resources) for r in status.resource_rules] == [
        (["get", "list"], ["pods"]),
        (["create"], ["deployments"]),
    ]
    assert [r.non_resource_urls for r in status.non_resource_rules] == [["/metrics"]]
    assert not status.incomplete
    elsewhere = authorization_v1.SelfSubjectRulesReviewSpec(namespace="prod")
    assert len(reviewed(authorization_v1.SelfSubjectRulesReview(spec=elsewhere)).status.resource_rules) == 1
    with pytest.raises(StatusError, match="no namespace on request"):
        reviewed(authorization_v1.SelfSubjectRulesReview())


def test_rules_of_a_node_are_incomplete() -> None:
    spec = authorization_v1.SelfSubjectRulesReviewSpec(namespace="dev")
    node = User("system:node:n1", ("system:nodes",))
    status = reviewed(authorization_v1.SelfSubjectRulesReview(spec=spec), node).status
    assert status.incomplete
    assert status.evaluation_error == "node authorizer does not support user rule resolution"


def test_who_am_i() -> None:
    user = User("alice", ("devs",), "1", {"k": ("v", "w")})
    info = reviewed(authentication_v1.SelfSubjectReview(), user).status.user_info
    assert (info.username, info.uid, info.groups, info.extra) == ("alice", "1", ["devs"], {"k": ["v", "w"]})


def test_whose_token_is_it() -> None:
    review = authentication_v1.TokenReview(spec=authentication_v1.TokenReviewSpec(token="good", audiences=["a"]))
    status = reviewed(review).status
    assert (status.authenticated, status.user.username, status.audiences, status.error) == (True, "bob", ["a"], None)
    review.spec.token = "bad"
    status = reviewed(review).status
    assert (status.authenticated, status.user.username, status.error) == (None, None, "invalid bearer token")
    review.spec.token = ""
    with pytest.raises(StatusError, match="token is required for TokenReview in authentication"):
        reviewed(review)


def test_the_question_is_not_changed() -> None:
    spec = authorization_v1.SelfSubjectAccessReviewSpec(resource_attributes=wanted("list", "pods", "dev"))
    review = authorization_v1.SelfSubjectAccessReview(spec=spec)
    reviewed(review)
    assert review.status == authorization_v1.SubjectAccessReviewStatus()
