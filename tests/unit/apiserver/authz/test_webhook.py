"""Authorization by a webhook: what it is asked, when, and what its silence means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiserver.authn.provider import ca, listening
from podling.api.request import User
from podling.apiserver.authz.attributes import Attributes, Decision, settled
from podling.apiserver.authz.authorization_config import (
    AuthorizerConfig,
    Configuration,
    Connection,
    MatchCondition,
    Webhook,
    findings,
)
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.authz.setup import Modes
from podling.apiserver.authz.webhook import WebhookAuthorizer, spec_of
from podling.apiserver.options import Options
from podling.apiserver.remote_review import RemoteReview
from podling.client import kubeconfig
from podling.client.kubeconfig import Config

BOB = User("bob", ("devs",), "7", {"k": ("v",)})
ASKED = Attributes(BOB, "list", "apps", "v1", "deployments", "", "ns")


def configured(**more: Any) -> Webhook:
    given = {
        "timeout": "3s", "subject_access_review_version": "v1", "failure_policy": "NoOpinion",
        "match_condition_subject_access_review_version": "v1",
        "connection_info": Connection(type="KubeConfigFile", kube_config_file="/dev/null"), **more,
    }  # fmt: skip
    return Webhook(**given)


class Room:
    def __init__(self, authorizer: WebhookAuthorizer) -> None:
        self.authorizer = authorizer
        self.reviews: list[dict[str, Any]] = []

    async def ask(self, attributes: Attributes = ASKED) -> Decision:
        return await settled(self.authorizer.authorize(attributes))


@asynccontextmanager
async def asking(answer: Callable[[dict[str, Any]], Any], **config: Any) -> AsyncIterator[Room]:
    room: Room

    def handle(request: web.BaseRequest, body: bytes) -> Any:
        review = json.loads(body)
        room.reviews.append(review)
        made = answer(review["spec"])
        return made if isinstance(made, web.Response) else {**review, "status": made}

    async with listening(handle) as url:
        remote = RemoteReview(Config(server=f"{url}/authorize", ca=ca().encode()), backoff=0.01)
        room = Room(WebhookAuthorizer(configured(**config), remote))
        try:
            yield room
        finally:
            await room.authorizer.close()


async def test_it_is_asked_by_a_subject_access_review() -> None:
    async with asking(lambda spec: {"allowed": True, "reason": "because"}) as room:
        assert await room.ask() == Decision(True, "because")
        review = room.reviews[0]
        assert (review["kind"], review["apiVersion"]) == ("SubjectAccessReview", "authorization.k8s.io/v1")
        assert review["spec"] == {
            "resourceAttributes": {
                "namespace": "ns", "verb": "list", "group": "apps", "version": "v1", "resource": "deployments",
            },
            "user": "bob", "groups": ["devs"], "uid": "7", "extra": {"k": ["v"]},
        }  # fmt: skip


async def test_the_older_version_has_another_name_for_groups() -> None:
    async with asking(lambda spec: {"allowed": True}, subject_access_review_version="v1beta1") as room:
        await room.ask()
        assert room.reviews[0]["apiVersion"] == "authorization.k8s.io/v1beta1"
        assert room.reviews[0]["spec"]["group"] == ["devs"] and "groups" not in room.reviews[0]["spec"]


def test_selectors_and_paths_are_told() -> None:
    asked = ASKED._replace(field_selector="spec.nodeName=n1,status.phase!=Failed", label_selector="a in (x,y),!b,c")
    resource = spec_of(asked)["resourceAttributes"]
    assert resource["fieldSelector"]["requirements"] == [
        {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
        {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]},
    ]
    assert resource["labelSelector"]["requirements"] == [
        {"key": "a", "operator": "In", "values": ["x", "y"]},
        {"key": "b", "operator": "DoesNotExist"},
        {"key": "c", "operator": "Exists"},
    ]
    assert "labelSelector" not in spec_of(ASKED._replace(label_selector="((("))["resourceAttributes"]
    assert spec_of(Attributes(BOB, "get", path="/x"))["nonResourceAttributes"] == {"path": "/x", "verb": "get"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"allowed": True}, Decision(True)),
        ({"allowed": False, "reason": "r"}, Decision(False, "r")),
        ({"allowed": False, "denied": True, "reason": "r"}, Decision(False, "r", denied=True)),
        ({"allowed": "true"}, Decision(False)),
        (
            {"allowed": True, "denied": True},
            Decision(False, "", "webhook subject access review returned both allow and deny response", denied=True),
        ),
    ],
)
async def test_what_it_may_say(status: dict[str, Any], expected: Decision) -> None:
    async with asking(lambda spec: status) as room:
        assert await room.ask() == expected


async def test_answers_are_kept_and_then_there_at_once() -> None:
    async with asking(lambda spec: {"allowed": spec["user"] == "bob"}) as room:
        await asyncio.gather(*(room.ask() for _ in range(5)))
        assert isinstance(room.authorizer.authorize(ASKED), Decision)
        eve = ASKED._replace(user=User("eve"))
        assert not (await room.ask(eve)).allowed and not (await room.ask(eve)).allowed
        assert len(room.reviews) == 2


async def test_answers_are_not_kept_where_that_is_not_wanted() -> None:
    async with asking(lambda spec: {"allowed": True}, cache_authorized_requests=False) as room:
        await room.ask()
        await room.ask()
        assert len(room.reviews) == 2


async def test_what_a_requester_can_make_large_is_not_kept() -> None:
    async with asking(lambda spec: {"allowed": True}) as room:
        huge = ASKED._replace(name="x" * 20_000)
        await room.ask(huge)
        await room.ask(huge)
        assert len(room.reviews) == 2


@pytest.mark.parametrize(("policy", "denied"), [("NoOpinion", False), ("Deny", True)])
async def test_a_failure_counts_as_the_policy_says(policy: str, denied: bool) -> None:
    async with asking(lambda spec: web.Response(status=403, text="x"), failure_policy=policy) as room:
        decision = await room.ask()
        assert (decision.allowed, decision.denied) == (False, denied)
        assert decision.error == 'an error on the server ("x") has prevented the request from succeeding'


async def test_it_is_waited_for_no_longer_than_configured() -> None:
    def hang(spec: dict[str, Any]) -> Any:
        return web.Response(status=500)

    async with asking(hang, timeout="20ms") as room:
        assert "context deadline exceeded" in (await room.ask()).error


@pytest.mark.parametrize(
    ("conditions", "asked", "expected"),
    [
        (["request.resourceAttributes.namespace == 'ns'"], 1, Decision(True)),
        (["has(request.resourceAttributes)", "request.user != 'bob'"], 0, Decision(False)),
        (["request.nonResourceAttributes.path == '/x'", "request.user == 'eve'"], 0, Decision(False)),
        (["'devs' in request.groups && request.resourceAttributes.subresource == ''"], 1, Decision(True)),
    ],
)
async def test_conditions_say_when_it_is_asked(conditions: list[str], asked: int, expected: Decision) -> None:
    chosen = [MatchCondition(expression=c) for c in conditions]
    async with asking(lambda spec: {"allowed": True}, match_conditions=chosen) as room:
        assert await room.ask() == expected
        assert len(room.reviews) == asked


@pytest.mark.parametrize(("policy", "denied"), [("NoOpinion", False), ("Deny", True)])
async def test_a_condition_that_fails_counts_as_the_policy_says(policy: str, denied: bool) -> None:
    chosen = [MatchCondition(expression="request.extra['none'][0] == ''")]
    async with asking(lambda spec: {"allowed": True}, match_conditions=chosen, failure_policy=policy) as room:
        decision = await room.ask()
        assert (decision.allowed, decision.denied, len(room.reviews)) == (False, denied, 0)
        assert decision.error.startswith("cel evaluation error: expression 'request.extra")


@pytest.mark.parametrize(
    ("authorizers", "said"),
    [
        ([], "authorizers: Required value: at least one authorization mode must be defined"),
        ([AuthorizerConfig(name="x")], "authorizers[0].type: Required value"),
        (
            [AuthorizerConfig(type="Foo", name="x")],
            'authorizers[0].type: Unsupported value: "Foo": supported values: "ABAC", "AlwaysAllow", "AlwaysDeny", '
            '"Node", "RBAC", "Webhook"',
        ),
        ([AuthorizerConfig(type="RBAC", name=n) for n in "ab"], 'authorizers[1].type: Duplicate value: "RBAC"'),
        ([AuthorizerConfig(type=t, name="a") for t in ("Node", "RBAC")], 'authorizers[1].name: Duplicate value: "a"'),
        ([AuthorizerConfig(type="RBAC", name="A b")], "authorizer name is invalid"),
        (
            [AuthorizerConfig(type="Webhook", name="a")],
            "authorizers[0].webhook: Required value: required when type=Webhook",
        ),
        (
            [AuthorizerConfig(type="RBAC", name="a", webhook=configured())],
            'authorizers[0].webhook: Invalid value: "non-null": may only be specified when type=Webhook',
        ),
    ],
)
def test_configurations_that_can_not_be_used(authorizers: list[AuthorizerConfig], said: str) -> None:
    found = [str(f) for f in findings(Configuration(authorizers=authorizers))]
    assert found and said in found[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timeout": ""}, "timeout: Required value"),
        ({"timeout": "31s"}, 'timeout: Invalid value: "31s": must be > 0s and <= 30s'),
        ({"unauthorized_ttl": "-1s"}, "must be > 0s"),
        ({"subject_access_review_version": "v2"}, 'subjectAccessReviewVersion: Unsupported value: "v2"'),
        (
            {"failure_policy": "Allow"},
            'failurePolicy: Unsupported value: "Allow": supported values: "NoOpinion", "Deny"',
        ),
        ({"connection_info": Connection(type="KubeConfigFile", kube_config_file="x")}, "must be an absolute path"),
        ({"connection_info": Connection(type="KubeConfigFile", kube_config_file="/nowhere")}, "error loading file"),
        ({"connection_info": Connection(type="InClusterConfig")}, "use KubeConfigFile"),
        (
            {
                "match_conditions": [MatchCondition(expression="true")],
                "match_condition_subject_access_review_version": "",
            },
            "required if match conditions are specified",
        ),
        ({"match_conditions": [MatchCondition(expression="request.nobody")]}, "compilation failed"),
        ({"match_conditions": [MatchCondition(expression="'x'")]}, "must evaluate to bool"),
        ({"match_conditions": [MatchCondition(expression="true")] * 2}, 'Duplicate value: "true"'),
    ],
)
def test_webhooks_that_can_not_be_used(change: dict[str, Any], said: str) -> None:
    good = {"connection_info": Connection(type="KubeConfigFile", kube_config_file="/etc/hostname")}
    config = AuthorizerConfig(type="Webhook", name="a", webhook=configured(**{**good, **change}))
    assert any(said in str(f) for f in findings(Configuration(authorizers=[config])))


async def test_a_configuration_with_a_webhook_between_the_others(tmp_path: Path) -> None:
    def answer(request: web.BaseRequest, body: bytes) -> Any:
        user = json.loads(body)["spec"]["user"]
        return {"status": {"allowed": user == "bob", "denied": user == "eve", "reason": f"{user}?"}}

    async with listening(answer) as url:
        file = tmp_path / "kubeconfig"
        file.write_text(kubeconfig.dump(Config(server=url, ca=ca().encode())))
        path = tmp_path / "authorization.yaml"
        webhook = {
            "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(file)},
        }  # fmt: skip
        document: dict[str, Any] = {
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [
                {"type": "Node", "name": "node"}, {"type": "Webhook", "name": "hook", "webhook": webhook},
                {"type": "AlwaysAllow", "name": "all"},
            ],
        }  # fmt: skip
        path.write_text(json.dumps(document))
        authorizer = Authorizer()
        modes = Modes(Options(authorization_config=str(path)), authorizer)
        modes.start()

        async def may(name: str, *groups: str) -> Decision:
            return await settled(authorizer.authorize(ASKED._replace(user=User(name, groups))))

        assert isinstance(authorizer.authorize(ASKED._replace(user=User("r", ("system:masters",)))), Decision)
        assert await may("bob") == Decision(True, "bob?")
        assert await may("eve") == Decision(False, "eve?", denied=True)
        assert await may("zoe") == Decision(True)
        assert authorizer.rules_for(BOB, "ns").incomplete
        await asyncio.sleep(0.05)
        path.write_text(json.dumps({**document, "authorizers": [{"type": "AlwaysDeny", "name": "no"}]}))
        for _ in range(100):
            decision = await may("bob")
            if not decision.allowed:
                break
            await asyncio.sleep(0.05)
        assert decision == Decision(False, "Everything is forbidden.")
        await modes.close()
