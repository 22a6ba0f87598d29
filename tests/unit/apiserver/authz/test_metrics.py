"""What authorization counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apiserver.authn.provider import ca, listening
from apiserver.authz.test_webhook import ASKED, asking
from podling import clock
from podling.api import rbac_v1
from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver.app import ApiServer
from podling.apiserver.authz import metrics
from podling.apiserver.authz.attributes import Attributes, Authorize, Decision, settled
from podling.apiserver.authz.authorization_config import AuthorizerConfig, MatchCondition
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.authz.setup import counted
from podling.apiserver.authz.webhook import WebhookAuthorizer
from podling.apiserver.remote_review import RemoteReview
from podling.apiserver.request_info import resolve
from podling.client.kubeconfig import Config
from podling.store.memory import MemoryStore
from tests.unit.apiserver.authz.test_webhook import configured
from tests.unit.measured import count, grows


@pytest.mark.parametrize(
    ("decision", "result"),
    [
        (Decision(True), "allowed"),
        (Decision(False, denied=True), "denied"),
        (Decision(False), "no-opinion"),
        (Decision(False, error="broken"), "error"),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_attempts_by_result(decision: Decision, result: str, waits: bool) -> None:
    async def later() -> Decision:
        return decision

    async def check() -> None:
        authorize: Authorize = lambda attributes: later() if waits else decision  # noqa: E731
        app = ApiServer(MemoryStore(), authorizer=authorize)
        try:
            pending = app.authorize(User("bob"), resolve("GET", "/api/v1/pods", {}))
            if pending is not None:
                await pending
        except StatusError:
            assert not decision.allowed

    with grows("authorization_attempts_total", result=result), grows("authorization_duration_seconds", result=result):
        clock.run_virtual(check())


def test_decisions_by_authorizer() -> None:
    authorizer = Authorizer()
    role = rbac_v1.ClusterRole(rules=[rbac_v1.PolicyRule(verbs=["get"], api_groups=[""], resources=["pods"])])
    role.metadata.name = "r"
    binding = rbac_v1.ClusterRoleBinding(
        role_ref=rbac_v1.RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="r"),
        subjects=[rbac_v1.Subject(api_group="rbac.authorization.k8s.io", kind="User", name="bob")],
    )
    binding.metadata.name = "b"
    authorizer.observe("ADDED", role)
    authorizer.observe("ADDED", binding)
    name = "apiserver_authorization_decisions_total"
    with grows(name, type="RBAC", name_="rbac", decision="allowed"):
        assert authorizer.authorize(Attributes(User("bob"), "get", "", "v1", "pods")).allowed  # type: ignore[union-attr]
    node = User("system:node:n1", ("system:nodes",))
    with grows(name, type="Node", name_="node", decision="allowed"):
        assert authorizer.authorize(Attributes(node, "get", "", "v1", "nodes", "", "", "n1")).allowed  # type: ignore[union-attr]
    with grows(name, by=0):
        authorizer.authorize(Attributes(User("eve"), "get", "", "v1", "pods"))


@pytest.mark.parametrize(("decision", "shown"), [(Decision(True), "allowed"), (Decision(False, denied=True), "denied")])
async def test_decisions_of_other_authorizers_have_their_names(decision: Decision, shown: str) -> None:
    config = AuthorizerConfig(type="Webhook", name="mine")

    async def later() -> Decision:
        return decision

    for member in (lambda attributes: decision, lambda attributes: later()):
        with grows("apiserver_authorization_decisions_total", name_="mine", type="Webhook", decision=shown):
            assert await settled(counted(member, config)(ASKED)) == decision


async def test_webhooks_by_result() -> None:
    name, duration = (f"apiserver_authorization_webhook_{n}" for n in ("evaluations_total", "duration_seconds"))
    opened = "apiserver_authorization_webhook_evaluations_fail_open_total"
    async with asking(lambda spec: {"allowed": True}) as room:
        with grows(name, result="success"), grows(duration, result="success"), grows(opened, by=0):
            await room.ask()
            await room.ask()
    async with asking(lambda spec: "no status") as room:
        with grows(name, result="error"), grows(opened, result="error"):
            await room.ask()
    async with asking(lambda spec: "no status", failure_policy="Deny") as room:
        with grows(name, result="error"), grows(opened, by=0):
            await room.ask()


async def test_a_webhook_that_takes_too_long() -> None:
    async def silent(request: Any, body: bytes) -> Any:
        await asyncio.sleep(10)

    async with listening(silent) as url:
        remote = RemoteReview(Config(server=url, ca=ca().encode()))
        webhook = WebhookAuthorizer(configured(timeout="50ms"), remote)
        with grows("apiserver_authorization_webhook_evaluations_total", name_="webhook", result="timeout"):
            await settled(webhook.authorize(ASKED))
        await webhook.close()


async def test_match_conditions() -> None:
    prefix = "apiserver_authorization_match_condition_"
    no = [MatchCondition(expression="request.user == 'nobody'")]
    bad = [MatchCondition(expression="request.extra['none'][0] == 'x'")]
    async with asking(lambda spec: {"allowed": True}, match_conditions=no) as room:
        with grows(f"{prefix}exclusions_total"), grows(f"{prefix}evaluation_seconds"):
            await room.ask()
    async with asking(lambda spec: {"allowed": True}, match_conditions=bad) as room:
        with grows(f"{prefix}evaluation_errors_total"), grows(f"{prefix}exclusions_total", by=0):
            await room.ask()


def test_files_that_are_read_again() -> None:
    name = "apiserver_authorization_config_controller_automatic_reload"
    with grows(f"{name}s_total", status="success"):
        metrics.reloaded(good=True)
    assert count(f"{name}_last_timestamp_seconds", status="success") > 0
