"""What webhooks and policies leave in the audit log, under upstream's keys."""

from __future__ import annotations

import json
from typing import Any

from apiserver.admission.hooks import allow, deny, patch, serving
from apiserver.admission.test_policies import bound, validating
from apiserver.admission.test_webhooks import mutating, webhook
from apiserver.admission.test_webhooks import validating as validating_webhooks
from apiserver.audit.test_requests import PATH, audited

METADATA = {"level": "Metadata"}


def noting(request: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True, "auditAnnotations": {"ticket": "7"}}


async def test_webhooks_that_change_objects_are_told_of_with_their_patch() -> None:
    change = patch({"op": "add", "path": "/data", "value": {"by": "hook"}})
    async with audited({"level": "Request"}) as a, serving(a=change, b=allow) as hook:
        await a.server.client.create(mutating("m", webhook(hook, "a"), webhook(hook, "b")))
        await a.ask("POST", PATH, json={"metadata": {"name": "x"}})
        found = {k: v for k, v in a.last["annotations"].items() if "webhook.admission.k8s.io" in k}
        assert {key: json.loads(value) for key, value in found.items()} == {
            "mutation.webhook.admission.k8s.io/round_0_index_0": {
                "configuration": "m", "webhook": "a.example.com", "mutated": True,
            },
            "mutation.webhook.admission.k8s.io/round_0_index_1": {
                "configuration": "m", "webhook": "b.example.com", "mutated": False,
            },
            "patch.webhook.admission.k8s.io/round_0_index_0": {
                "configuration": "m", "webhook": "a.example.com", "patchType": "JSONPatch",
                "patch": [{"op": "add", "path": "/data", "value": {"by": "hook"}}],
            },
        }  # fmt: skip
        assert "data" not in a.last["requestObject"]


async def test_patches_are_not_in_the_metadata() -> None:
    change = patch({"op": "add", "path": "/data", "value": {"by": "hook"}})
    async with audited(METADATA) as a, serving(a=change) as hook:
        await a.server.client.create(mutating("m", webhook(hook, "a")))
        await a.ask("POST", PATH, json={"metadata": {"name": "x"}})
        keys = [k for k in a.last["annotations"] if "webhook.admission.k8s.io" in k]
        assert keys == ["mutation.webhook.admission.k8s.io/round_0_index_0"]


async def test_a_webhook_says_what_it_wants_to_be_recorded() -> None:
    async with audited(METADATA) as a, serving(a=noting) as hook:
        await a.server.client.create(validating_webhooks("v", webhook(hook, "a")))
        await a.ask("POST", PATH, json={"metadata": {"name": "x"}})
        assert a.last["annotations"]["a.example.com/ticket"] == "7"


async def test_a_webhook_that_is_passed_over_is_told_of() -> None:
    async with audited(METADATA) as a:
        config = {"url": "https://127.0.0.1:9/"}
        async with serving(a=deny) as hook:
            broken = webhook(hook, "a", clientConfig=config, failurePolicy="Ignore")
            await a.server.client.create(validating_webhooks("v", broken))
        status, _, _ = await a.ask("POST", PATH, json={"metadata": {"name": "x"}})
        assert status == 201
        assert (
            a.last["annotations"]["failed-open.validating.webhook.admission.k8s.io/round_0_index_0"] == "a.example.com"
        )


async def test_policies_publish_annotations_and_their_failures() -> None:
    async with audited(METADATA) as a:
        policy = validating("p", {"expression": "false", "message": "no"}, auditAnnotations=[
            {"key": "who", "valueExpression": "request.userInfo.username"}])  # fmt: skip
        await a.server.client.create(policy)
        await a.server.client.create(bound("p", "Audit"))
        status, _, _ = await a.ask("POST", PATH, json={"metadata": {"name": "x"}})
        assert status == 201 and a.last["annotations"]["p/who"] == "system:anonymous"
        (failure,) = json.loads(a.last["annotations"]["validation.policy.admission.k8s.io/validation_failure"])
        assert failure == {
            "message": "no", "policy": "p", "binding": "p-b", "expressionIndex": 0, "validationActions": ["Audit"],
        }  # fmt: skip
