"""What admission counts: plugins, phases, webhooks, conditions, policies."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.admission import test_policies as policies
from apiserver.admission.hooks import allow, deny, serving
from apiserver.admission.test_webhooks import mutating, real, refused, validating, webhook
from apiserver.harness import Server, config_map, virtual
from podling.apiserver import exchange
from podling.apiserver.exchange import Exchange
from tests.unit.measured import count, grows

PREFIX = "apiserver_admission_"


@virtual
async def test_plugins_and_phases(server: Server) -> None:
    plugin, step = f"{PREFIX}controller_admission_duration_seconds", f"{PREFIX}step_admission_duration_seconds"
    with (
        grows(plugin, name_="NamespaceLifecycle", operation="CREATE", rejected="false"),
        grows(step, operation="CREATE", type="admit", rejected="false"),
        grows(step, operation="CREATE", type="validate", rejected="false"),
    ):
        await server.client.create(config_map("a"))
    with grows(plugin, rejected="true", name_="NamespaceLifecycle"), grows(step, rejected="true", operation="CREATE"):
        await refused(server, config_map("a", namespace="nowhere"))


def called(name: str, code: str, *, type_: str = "validating", rejected: str = "false") -> Any:
    return grows(f"{PREFIX}webhook_request_total", name_=name, code=code, type=type_, rejected=rejected)


@real
async def test_webhooks_that_answer(server: Server) -> None:
    durations = f"{PREFIX}webhook_admission_duration_seconds"
    async with serving(fine=allow, no=deny("no", code=403), change=allow) as hook:
        await server.client.create(validating("fine", webhook(hook, "fine")))
        with called("fine.example.com", "200"), grows(durations, name_="fine.example.com", type="validating"):
            await server.client.create(config_map("a"))
        await server.client.create(mutating("change", webhook(hook, "change")))
        with called("change.example.com", "200", type_="admit"), grows(durations, name_="change.example.com"):
            await server.client.create(config_map("b"))
        await server.client.create(validating("no", webhook(hook, "no")))
        with (
            called("no.example.com", "403", rejected="true"),
            grows(f"{PREFIX}webhook_rejection_count", name_="no.example.com", error_type="no_error"),
        ):
            await refused(server, config_map("c"))


@pytest.mark.parametrize("make", [mutating, validating])
@real
async def test_webhooks_that_fail(server: Server, make: Any) -> None:
    type_ = "admit" if make is mutating else "validating"
    async with serving(closed=lambda review: {"uid": ""}, open=lambda review: {"uid": ""}) as hook:
        made = make("open", webhook(hook, "open", failurePolicy="Ignore"))
        await server.client.create(made)
        with (
            grows(f"{PREFIX}webhook_fail_open_count", name_="open.example.com", type=type_),
            grows(f"{PREFIX}webhook_rejection_count", by=0),
            called("open.example.com", "503", type_=type_),
        ):
            await server.client.create(config_map("a"))
        await server.client.create(make("closed", webhook(hook, "closed")))
        with (
            grows(f"{PREFIX}webhook_rejection_count", name_="closed.example.com", error_type="calling_webhook_error"),
            called("closed.example.com", "503", type_=type_, rejected="true"),
        ):
            await refused(server, config_map("b"))


@real
async def test_a_webhook_whose_versions_nobody_speaks(server: Server) -> None:
    async with serving(old=allow) as hook:
        made = validating("old", webhook(hook, "old", admissionReviewVersions=["v1alpha1"]))
        server.app.admission.plugins[-1]  # type: ignore[attr-defined]
        for plugin in server.app.admission.plugins:  # type: ignore[attr-defined]
            if plugin.name == "ValidatingAdmissionWebhook":
                plugin._observe("ADDED", made)
        with called("old.example.com", "400", rejected="true"):
            await refused(server, config_map("a"))


@real
async def test_conditions_of_webhooks(server: Server) -> None:
    def conditions(expression: str) -> list[dict[str, str]]:
        return [{"name": "c", "expression": expression}]

    async with serving(out=allow, bad=allow) as hook:
        out = webhook(hook, "out", matchConditions=conditions("object.metadata.name != 'a'"))
        bad = webhook(
            hook, "bad", matchConditions=conditions("object.data.none == 'x'"), failurePolicy="Ignore"
        )  # fmt: skip
        await server.client.create(validating("v", out, bad))
        labels = {"kind": "webhook", "operation": "CREATE"}
        with (
            grows(f"{PREFIX}match_condition_exclusions_total", name_="out.example.com", type="validate", **labels),
            grows(f"{PREFIX}match_condition_evaluation_errors_total", name_="bad.example.com", **labels),
            grows(f"{PREFIX}match_condition_evaluation_seconds", by=2, type="validating", **labels),
        ):
            await server.client.create(config_map("a"))


@real
async def test_the_time_of_webhooks_is_not_that_of_the_server(server: Server) -> None:
    """It is taken out of apiserver_request_sli_duration_seconds."""
    import asyncio

    async def slow(review: Any) -> Any:
        await asyncio.sleep(0.8)
        return allow(review)

    async with serving(slow=slow, slower=slow) as hook:
        await server.client.create(validating("v", webhook(hook, "slow"), webhook(hook, "slower")))
        await server.client.create(mutating("m", webhook(hook, "slow")))
        current = Exchange("/", {})
        exchange.begin(current)
        await server.client.create(config_map("a"))
        # Validating webhooks are asked at the same time.
        assert 1.55 < current.waited < 2.35


@virtual
async def test_validating_policies_by_action_and_error(server: Server) -> None:
    name = "apiserver_validating_admission_policy_check_total"
    seconds = "apiserver_validating_admission_policy_check_duration_seconds"
    await server.client.create(policies.validating("p", {"expression": "object.data.k == 'fine'"}))
    await server.client.create(policies.bound("p", "Deny", "Audit"))
    labels = {"policy": "p", "policy_binding": "p-b", "error_type": "no_error"}
    with (
        grows(name, enforcement_action="deny", **labels),
        grows(name, enforcement_action="audit", **labels),
        grows(seconds, by=2, **labels),
    ):
        await policies.refused(server, config_map("a"))
    with grows(name, by=0):
        await server.client.create(config_map("a", data={"k": "fine"}))
    broken = policies.validating("q", {"expression": "object.data.none == 'x'"}, failurePolicy="Ignore")
    await server.client.create(broken)
    await server.client.create(policies.bound("q"))
    with grows(name, policy="q", enforcement_action="allow", error_type="invalid_error"):
        await server.client.create(config_map("b", data={"k": "fine"}))


@virtual
async def test_mutating_policies_by_error(server: Server) -> None:
    name = "apiserver_mutating_admission_policy_check_total"
    good = policies.configuration("Object{metadata: Object.metadata{labels: {'a': 'b'}}}")
    await server.client.create(policies.mutating("m", good))
    await server.client.create(policies.mutation_bound("m"))
    with grows(name, policy="m", policy_binding="m-b", error_type="no_error"):
        await server.client.create(config_map("a"))
    bad = policies.json_patch("[JSONPatch{op: 'replace', path: '/data/none', value: object.data.none}]")
    await server.client.create(policies.mutating("n", bad))
    await server.client.create(policies.mutation_bound("n"))
    with grows(name, policy="n", error_type="invalid_error"):
        await policies.refused(server, config_map("b"))
    assert count("apiserver_mutating_admission_policy_check_duration_seconds", policy="n") == 1


@virtual
async def test_expressions_that_are_compiled_and_evaluated(server: Server) -> None:
    policy = policies.validating("c", {"expression": "object.metadata.name != 'x' || 'compiled' == 'once'"})
    await server.client.create(policy)
    await server.client.create(policies.bound("c"))
    with grows("apiserver_cel_compilation_duration_seconds"), grows("apiserver_cel_evaluation_duration_seconds"):
        await server.client.create(config_map("a"))
    with grows("apiserver_cel_compilation_duration_seconds", by=0):
        await server.client.create(config_map("b"))
