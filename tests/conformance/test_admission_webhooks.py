"""Admission webhooks: what the conformance programme observes, with a webhook on loopback and an API server in this
process. Custom resources have tests of their own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from podling.api import admissionregistration_v1 as v1
from podling.api import apiextensions_v1, core_v1, meta_v1
from podling.api.errors import StatusError
from podling.api.struct import from_dict
from podling.client.base import PatchType
from podling.cluster.inprocess import Cluster
from tests.conformance.web import Web, over_http
from tests.unit.apiserver.admission import hooks

LABELS = {"e2e": "admission"}
CONFIG_MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
EVERYWHERE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}


def add(key: str, *, after: str = "") -> hooks.Answer:
    """Adds a key to a config map's data, if the one that has to come before is there."""

    def answer(review: dict[str, Any]) -> dict[str, Any]:
        data = review["request"]["object"].get("data") or {}
        if after and after not in data:
            return {"allowed": True}
        operation = {"op": "add", "path": "/data", "value": {**data, key: "yes"}}
        encoded = base64.b64encode(json.dumps([operation]).encode()).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}

    return answer


def not_unwanted(review: dict[str, Any]) -> dict[str, Any]:
    """Denies what holds unwanted data."""
    data = (review["request"]["object"] or {}).get("data") or {}
    if data.get("webhook-e2e-test") == "webhook-disallow":
        return hooks.deny("the configmap contains unwanted key and value")(review)
    return {"allowed": True}


async def slow(review: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(3)
    return {"allowed": True}


ANSWERS: dict[str, hooks.Answer] = {
    "first": add("mutation-stage-1"),
    "second": add("mutation-stage-2", after="mutation-stage-1"),
    "configmaps": not_unwanted,
    "deny": hooks.deny("this webhook denies everything"),
    "slow": slow,
}


def cluster_and_hook(test: Callable[[Cluster, hooks.Hook], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with Cluster() as cluster, hooks.serving(**ANSWERS) as hook:
                await test(cluster, hook)

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def webhook(hook: hooks.Hook, path: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": f"{path}.k8s.io",
        "clientConfig": hook.config(f"/{path}"),
        "rules": list(rules) or [CONFIG_MAPS],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1", "v1beta1"],
        **EVERYWHERE,
        **more,
    }


async def configure(cluster: Cluster, kind: type[Any], name: str, *webhooks: dict[str, Any]) -> Any:
    meta = {"name": name, "labels": LABELS}
    return await cluster.client.create(from_dict({"metadata": meta, "webhooks": list(webhooks)}, kind))


def config_map(name: str, **data: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), data=data or {"a": "b"})


BAD = {"webhook-e2e-test": "webhook-disallow"}


async def denied(cluster: Cluster, obj: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await cluster.client.create(obj)
    return str(caught.value)


@cluster_and_hook
async def test_list_mutating(cluster: Cluster, hook: hooks.Hook) -> None:
    for number in range(10):
        await configure(cluster, v1.MutatingWebhookConfiguration, f"m-{number}", webhook(hook, "first"))
    listed = await cluster.client.list(v1.MutatingWebhookConfiguration, label_selector="e2e=admission")
    assert len(listed.items) == 10
    assert (await cluster.client.create(config_map("a"))).data == {"a": "b", "mutation-stage-1": "yes"}
    await cluster.client.delete_collection(v1.MutatingWebhookConfiguration, label_selector="e2e=admission")
    assert (await cluster.client.create(config_map("b"))).data == {"a": "b"}


@cluster_and_hook
async def test_list_validating(cluster: Cluster, hook: hooks.Hook) -> None:
    for number in range(10):
        await configure(cluster, v1.ValidatingWebhookConfiguration, f"v-{number}", webhook(hook, "configmaps"))
    assert "denied" in await denied(cluster, config_map("a", **BAD))
    await cluster.client.delete_collection(v1.ValidatingWebhookConfiguration, label_selector="e2e=admission")
    await cluster.client.create(config_map("a", **BAD))


@pytest.mark.parametrize("kind", [v1.MutatingWebhookConfiguration, v1.ValidatingWebhookConfiguration])
def test_patch_and_update(kind: type[Any]) -> None:
    @cluster_and_hook
    async def run(cluster: Cluster, hook: hooks.Hook) -> None:
        path = "first" if kind is v1.MutatingWebhookConfiguration else "deny"
        made = await configure(cluster, kind, "c", webhook(hook, path, {**CONFIG_MAPS, "operations": ["UPDATE"]}))
        assert (await cluster.client.create(config_map("a"))).data == {"a": "b"}
        assert made.webhooks[0].rules[0].operations == ["UPDATE"]
        patch = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
        await cluster.client.patch(kind, "c", None, patch, type=PatchType.JSON)
        if path == "first":
            assert (await cluster.client.create(config_map("b"))).data == {"a": "b", "mutation-stage-1": "yes"}
        else:
            assert "denies everything" in await denied(cluster, config_map("b"))

    run()


@pytest.mark.parametrize("kind", [v1.MutatingWebhookConfiguration, v1.ValidatingWebhookConfiguration])
def test_match_conditions(kind: type[Any]) -> None:
    @cluster_and_hook
    async def run(cluster: Cluster, hook: hooks.Hook) -> None:
        wanted = [{"name": "no-skip", "expression": "object.metadata.name != 'skip-me'"}]
        path = "first" if kind is v1.MutatingWebhookConfiguration else "deny"
        made = await configure(cluster, kind, "c", webhook(hook, path, matchConditions=wanted))
        assert [(c.name, c.expression) for c in made.webhooks[0].match_conditions] == [
            (wanted[0]["name"], wanted[0]["expression"])
        ]
        assert (await cluster.client.create(config_map("skip-me"))).data == {"a": "b"}
        bad = [{"name": "bad", "expression": "... [] bad expression"}]
        with pytest.raises(StatusError, match="compilation failed"):
            await configure(cluster, kind, "d", webhook(hook, path, matchConditions=bad))

    run()


@cluster_and_hook
async def test_ordered_mutation(cluster: Cluster, hook: hooks.Hook) -> None:
    await configure(cluster, v1.MutatingWebhookConfiguration, "m", webhook(hook, "first"), webhook(hook, "second"))
    made = await cluster.client.create(config_map("a"))
    assert made.data == {"a": "b", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}


@cluster_and_hook
async def test_config_maps_are_denied_however_they_are_written(cluster: Cluster, hook: hooks.Hook) -> None:
    both = {**CONFIG_MAPS, "operations": ["CREATE", "UPDATE", "DELETE"]}
    await configure(cluster, v1.ValidatingWebhookConfiguration, "v", webhook(hook, "configmaps", both))
    why = 'admission webhook "configmaps.k8s.io" denied the request: the configmap contains unwanted key and value'
    assert await denied(cluster, config_map("a", **BAD)) == why
    await cluster.client.create(config_map("a"))
    with pytest.raises(StatusError, match="unwanted key and value"):
        await cluster.client.update(config_map("a", **BAD))
    with pytest.raises(StatusError, match="unwanted key and value"):
        await cluster.client.patch(core_v1.ConfigMap, "a", "default", {"data": BAD})
    await cluster.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="exempted")))
    exempt = config_map("a", **BAD)
    exempt.metadata.namespace = "exempted"
    await cluster.client.create(exempt)


@cluster_and_hook
async def test_timeouts_are_honoured(cluster: Cluster, hook: hooks.Hook) -> None:
    async def with_timeout(name: str, **more: Any) -> None:
        await configure(cluster, v1.ValidatingWebhookConfiguration, name, webhook(hook, "slow", **more))

    await with_timeout("short", timeoutSeconds=1)
    assert "context deadline exceeded" in await denied(cluster, config_map("a"))
    await cluster.client.delete(v1.ValidatingWebhookConfiguration, "short")
    await with_timeout("ignored", timeoutSeconds=1, failurePolicy="Ignore")
    await cluster.client.create(config_map("b"))
    await cluster.client.delete(v1.ValidatingWebhookConfiguration, "ignored")
    await with_timeout("long", timeoutSeconds=10)
    await cluster.client.create(config_map("c"))


@cluster_and_hook
async def test_fail_closed_without_a_ca(cluster: Cluster, hook: hooks.Hook) -> None:
    bare = {"clientConfig": hook.config("/first", ca=""), "failurePolicy": "Fail"}
    await configure(cluster, v1.ValidatingWebhookConfiguration, "v", webhook(hook, "first", **bare))
    said = await denied(cluster, config_map("a"))
    assert said.startswith(
        'Internal error occurred: failed calling webhook "first.k8s.io": failed to call webhook: Post '
    )


@cluster_and_hook
async def test_configurations_are_exempt(cluster: Cluster, hook: hooks.Hook) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    own = {"apiGroups": ["admissionregistration.k8s.io"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    await configure(cluster, v1.ValidatingWebhookConfiguration, "v", webhook(hook, "deny", own, namespaceSelector=None))
    await configure(cluster, v1.MutatingWebhookConfiguration, "m", webhook(hook, "first", own, namespaceSelector=None))
    await configure(cluster, v1.ValidatingWebhookConfiguration, "other", webhook(hook, "deny", everything))
    await cluster.client.delete(v1.ValidatingWebhookConfiguration, "other")
    await cluster.client.delete(v1.MutatingWebhookConfiguration, "m")
    assert not [r for r in hook.requests if r["resource"]["group"] == "admissionregistration.k8s.io"]


@cluster_and_hook
async def test_definitions_of_custom_resources_can_be_denied(cluster: Cluster, hook: hooks.Hook) -> None:
    rule = {
        "apiGroups": ["apiextensions.k8s.io"],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["customresourcedefinitions"],
    }
    await configure(
        cluster, v1.ValidatingWebhookConfiguration, "v", webhook(hook, "deny", rule, namespaceSelector=None)
    )
    schema = {"openAPIV3Schema": {"type": "object"}}
    definition = {
        "metadata": {"name": "tests.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "tests", "singular": "test", "kind": "Test", "listKind": "TestList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    said = await denied(cluster, from_dict(definition, apiextensions_v1.CustomResourceDefinition))
    assert said.endswith("denied the request: this webhook denies everything")


@cluster_and_hook
async def test_pods_are_mutated_and_defaulted(cluster: Cluster, hook: hooks.Hook) -> None:
    added = {"name": "webhook-added-init-container", "image": "busybox"}
    hook.answers["pods"] = hooks.patch({"op": "add", "path": "/spec/initContainers", "value": [added]})
    rule = {**CONFIG_MAPS, "resources": ["pods"]}
    await configure(cluster, v1.MutatingWebhookConfiguration, "m", webhook(hook, "pods", rule))
    (pod,) = await cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "busybox"}]},
        }
    )
    (container,) = pod.spec.init_containers
    assert (container.name, container.termination_message_policy) == (added["name"], "File")


@over_http
async def test_attaching_to_a_pod_can_be_denied(web: Web) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "to-be-attached-pod"}}
    spec = {"containers": [{"name": "container1", "image": "busybox"}]}
    await web.ask("POST", "/api/v1/namespaces/default/pods", {**pod, "spec": spec})
    attach = "/api/v1/namespaces/default/pods/to-be-attached-pod/attach"
    query = {"container": "container1", "stdin": "true", "stdout": "true"}
    assert await web.ask("POST", attach, params=query) == {"connected": "pods/attach"}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/attach"]}
    why = "attaching to pod 'to-be-attached-pod' is not allowed"
    async with hooks.serving(attach=hooks.deny(why)) as hook:
        configuration = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "attach"},
            "webhooks": [webhook(hook, "attach", rule)],
        }
        path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        await web.ask("POST", path, configuration)
        for method in ("POST", "GET"):
            refused = await web.ask(method, attach, params=query, status=400)
            assert refused["message"] == f'admission webhook "attach.k8s.io" denied the request: {why}'
        assert {(r["operation"], r["subResource"]) for r in hook.requests} == {("CONNECT", "attach")}
