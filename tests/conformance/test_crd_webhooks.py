"""Webhooks and custom resources: conversion between versions, selectable fields of both, and admission."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from podling.cluster.inprocess import Cluster
from tests.conformance.custom import DEFINITIONS, GROUP, MERGE, Api, definition, version
from tests.unit.apiserver.admission import hooks

NAMESPACED = f"/apis/{GROUP}/{{}}/namespaces/default/e2e-tests"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
V1 = {"type": "object", "properties": {"hostPort": {"type": "string"}}}
V2 = {"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}}
DATA = {"type": "object", "properties": {"data": {"type": "object", "properties": {
    name: {"type": "string"} for name in ("mutation-start", "mutation-stage-1", "mutation-stage-2", "webhook-e2e-test")
}}}}  # fmt: skip


def convert(review: dict[str, Any]) -> web.Response:
    """v1's hostPort is v2's host and port."""
    request = review["request"]
    desired = request["desiredAPIVersion"]
    objects = []
    for obj in request["objects"]:
        made = {k: v for k, v in obj.items() if k not in ("hostPort", "host", "port")} | {"apiVersion": desired}
        if desired.endswith("/v2"):
            made["host"], _, made["port"] = obj.get("hostPort", ":").partition(":")
        else:
            made["hostPort"] = f"{obj.get('host', '')}:{obj.get('port', '')}"
        objects.append(made)
    response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects}
    return web.json_response({"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response})


def named(name: str, api: str, **rest: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{api}", "kind": "E2e-test", "metadata": {"name": name}, **rest}


@asynccontextmanager
async def converted(storage: str = "v1") -> AsyncIterator[tuple[Api, hooks.Hook]]:
    """A definition with two versions and a webhook between them."""
    async with hooks.serving(crdconvert=convert) as hook, Cluster() as cluster:
        api = Api(cluster)
        raw = definition(
            "e2e-tests", "E2e-test",
            version("v1", V1, storage=storage == "v1", selectableFields=[{"jsonPath": ".hostPort"}]),
            version("v2", V2, storage=storage == "v2", selectableFields=[{"jsonPath": ".host"}, {"jsonPath": ".port"}]),
            conversion={"strategy": "Webhook", "webhook": {
                "clientConfig": hook.config("/crdconvert"), "conversionReviewVersions": ["v1", "v1beta1"],
            }},
        )  # fmt: skip
        await api.define(raw)
        yield api, hook


async def test_an_object_of_v1_is_read_as_v2() -> None:
    async with converted() as (api, _):
        await api.ask("POST", NAMESPACED.format("v1"), named("a", "v1", hostPort="localhost:8080"))
        found = await api.ask("GET", f"{NAMESPACED.format('v2')}/a")
        assert (found["apiVersion"], found["host"], found["port"]) == (f"{GROUP}/v2", "localhost", "8080")


async def test_a_list_of_objects_that_are_stored_in_two_versions() -> None:
    async with converted() as (api, _):
        await api.ask("POST", NAMESPACED.format("v1"), named("a", "v1", hostPort="localhost:8080"))
        path = f"{DEFINITIONS}/e2e-tests.{GROUP}"
        versions = (await api.ask("GET", path))["spec"]["versions"]
        for found in versions:
            found["storage"] = found["name"] == "v2"
        await api.ask("PATCH", path, {"spec": {"versions": versions}}, headers=MERGE)
        await asyncio.sleep(0.05)
        await api.ask("POST", NAMESPACED.format("v1"), named("b", "v1", hostPort="localhost:8081"))
        for api_version, field in (("v1", "hostPort"), ("v2", "host")):
            items = await api.ask("GET", NAMESPACED.format(api_version))
            assert {i["apiVersion"] for i in items} == {f"{GROUP}/{api_version}"}
            assert all(field in i for i in items) and len(items) == 2


async def test_fields_of_both_versions_select_lists_and_watches() -> None:
    async with converted() as (api, _):
        paths = {v: NAMESPACED.format(v) for v in ("v1", "v2")}
        watches = {
            (v, s): await api.send("GET", paths[v], query={"watch": "true", "fieldSelector": s})
            for v, s in (("v1", "hostPort=host1:80"), ("v2", "host=host1"), ("v2", "host=host1,port=80"))
        }
        for name, host, port in (("a", "host1", "80"), ("b", "host1", "8080"), ("c", "host2", "80")):
            await api.ask("POST", paths["v2"], named(name, "v2", host=host, port=port))
        for (v, selector), names in {
            ("v1", "hostPort=host1:80"): ["a"], ("v2", "host=host1"): ["a", "b"], ("v2", "port=80"): ["a", "c"],
            ("v2", "host=host1,port!=80"): ["b"],
        }.items():  # fmt: skip
            found = await api.ask("GET", paths[v], query={"fieldSelector": selector})
            assert [o["metadata"]["name"] for o in found] == names, selector
        await api.ask("PATCH", f"{paths['v1']}/a", {"hostPort": "host9:80"}, headers=MERGE)
        expected = {
            ("v1", "hostPort=host1:80"): [("ADDED", "a"), ("DELETED", "a")],
            ("v2", "host=host1"): [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")],
            ("v2", "host=host1,port=80"): [("ADDED", "a"), ("DELETED", "a")],
        }
        for key, answer in watches.items():
            told: list[tuple[str, str]] = []
            assert answer.events is not None
            async with asyncio.timeout(10):
                async for event in answer.events:
                    told.append((event.type, event.obj.metadata.name))
                    if event.type == "DELETED":
                        break
            assert told == expected[key]
        await api.ask("DELETE", paths["v2"], query={"fieldSelector": "host=host1"})
        assert [o["metadata"]["name"] for o in await api.ask("GET", paths["v1"])] == ["a", "c"]


# -- admission --------------------------------------------------------------------------------------------------------


def rule(*operations: str, resources: str = "e2e-tests", group: str = GROUP) -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": ["*"], "operations": list(operations), "resources": [resources]}


async def configure(api: Api, kind: str, hook: hooks.Hook, *rules: dict[str, Any], **paths: str) -> None:
    """Webhooks by name and path."""
    raw = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": "e2e"},
        "webhooks": [
            {
                "name": f"{name}.k8s.io", "clientConfig": hook.config(path), "rules": list(rules),
                "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            }
            for name, path in paths.items()
        ],
    }  # fmt: skip
    await api.ask("POST", f"{CONFIGURATIONS}/{kind.lower()}webhookconfigurations", raw)


def unwanted(review: dict[str, Any]) -> dict[str, Any]:
    """Denies objects with unwanted data, and removing those that must not go."""
    request = review["request"]
    obj = request["oldObject"] if request["operation"] == "DELETE" else request["object"]
    said = (obj.get("data") or {}).get("webhook-e2e-test")
    if said == ("webhook-nondeletable" if request["operation"] == "DELETE" else "webhook-disallow"):
        return hooks.deny("the custom resource contains unwanted data")(review)
    return {"allowed": True}


def adds(key: str, after: str) -> hooks.Answer:
    def answer(review: dict[str, Any]) -> dict[str, Any]:
        if after not in (review["request"]["object"].get("data") or {}):
            return {"allowed": True}
        patch = [{"op": "add", "path": f"/data/{key}", "value": "yes"}]
        encoded = base64.b64encode(json.dumps(patch).encode()).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}

    return answer


@asynccontextmanager
async def admitted(schema: dict[str, Any] | None, **answers: hooks.Answer) -> AsyncIterator[tuple[Api, hooks.Hook]]:
    async with hooks.serving(**answers) as hook, Cluster() as cluster:
        api = Api(cluster)
        versions = (version("v1", schema, storage=True), version("v2", schema))
        await api.define(definition("e2e-tests", "E2e-test", *versions))
        yield api, hook


async def test_operations_on_custom_resources_are_denied() -> None:
    async with admitted(DATA, unwanted=unwanted) as (api, hook):
        await configure(api, "Validating", hook, rule("CREATE", "UPDATE", "DELETE"), deny="/unwanted")
        path = NAMESPACED.format("v1")
        denied = "the custom resource contains unwanted data"
        bad = {"webhook-e2e-test": "webhook-disallow"}
        assert denied in await api.refused("POST", path, named("bad", "v1", data=bad))
        kept = {"webhook-e2e-test": "webhook-nondeletable"}
        await api.ask("POST", path, named("kept", "v1", data=kept))
        assert denied in await api.refused("PATCH", f"{path}/kept", {"data": bad}, headers=MERGE)
        assert denied in await api.refused("DELETE", f"{path}/kept")
        await api.ask("PATCH", f"{path}/kept", {"data": {"webhook-e2e-test": "webhook-allow"}}, headers=MERGE)
        await api.ask("DELETE", f"{path}/kept")


def doubles(review: dict[str, Any]) -> dict[str, Any]:
    """Doubles a Scale's replicas."""
    assert review["request"]["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    patch = [{"op": "replace", "path": "/spec/replicas", "value": review["request"]["object"]["spec"]["replicas"] * 2}]
    encoded = base64.b64encode(json.dumps(patch).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


async def test_scaling_is_seen_as_a_scale() -> None:
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    async with hooks.serving(doubles=doubles) as hook, Cluster() as cluster:
        api = Api(cluster)
        scaled = version("v1", storage=True, subresources={"scale": scale})
        await api.define(definition("e2e-tests", "E2e-test", scaled))
        await configure(api, "Mutating", hook, rule("UPDATE", resources="e2e-tests/scale"), one="/doubles")
        path = NAMESPACED.format("v1")
        await api.ask("POST", path, named("a", "v1", spec={"size": 1, "other": "x"}))
        answer = await api.ask("PATCH", f"{path}/a/scale", {"spec": {"replicas": 3}}, headers=MERGE)
        assert answer["spec"]["replicas"] == 6
        assert (await api.ask("GET", f"{path}/a"))["spec"] == {"size": 6, "other": "x"}
        assert hook.requests[0]["oldObject"]["spec"] == {"replicas": 1}


async def test_creating_definitions_is_denied() -> None:
    async with admitted(DATA, no=hooks.deny("the crd contains unwanted label")) as (api, hook):
        crds = rule("CREATE", resources="customresourcedefinitions", group="apiextensions.k8s.io")
        await configure(api, "Validating", hook, crds, deny="/no")
        raw = definition("others", "Other", version("v1", storage=True))
        assert "the crd contains unwanted label" in await api.refused("POST", DEFINITIONS, raw)


async def test_custom_resources_are_mutated_in_order() -> None:
    first, second = adds("mutation-stage-1", "mutation-start"), adds("mutation-stage-2", "mutation-stage-1")
    async with admitted(None, first=first, second=second) as (api, hook):
        await configure(api, "Mutating", hook, rule("CREATE"), one="/first", two="/second")
        made = await api.ask("POST", NAMESPACED.format("v1"), named("a", "v1", data={"mutation-start": "yes"}))
        assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}


async def test_what_a_webhook_adds_is_pruned_too() -> None:
    schema = json.loads(json.dumps(DATA))
    del schema["properties"]["data"]["properties"]["mutation-stage-2"]
    first, second = adds("mutation-stage-1", "mutation-start"), adds("mutation-stage-2", "mutation-stage-1")
    async with admitted(schema, first=first, second=second) as (api, hook):
        await configure(api, "Mutating", hook, rule("CREATE"), one="/first", two="/second")
        made = await api.ask("POST", NAMESPACED.format("v1"), named("a", "v1", data={"mutation-start": "yes"}))
        assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}


async def test_old_objects_are_still_mutated_when_another_version_is_stored() -> None:
    async with admitted(None, first=adds("mutation-stage-1", "mutation-start")) as (api, hook):
        await api.ask("POST", NAMESPACED.format("v1"), named("a", "v1", data={"mutation-start": "yes"}))
        await configure(api, "Mutating", hook, rule("CREATE", "UPDATE"), one="/first")
        path = f"{DEFINITIONS}/e2e-tests.{GROUP}"
        versions = (await api.ask("GET", path))["spec"]["versions"]
        for found in versions:
            found["storage"] = found["name"] == "v2"
        await api.ask("PATCH", path, {"spec": {"versions": versions}}, headers=MERGE)
        await asyncio.sleep(0.05)
        changed = await api.ask("PATCH", f"{NAMESPACED.format('v1')}/a", {"dummy": "test"}, headers=MERGE)
        assert changed["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"} and changed["dummy"] == "test"
        assert hook.requests[-1]["object"]["apiVersion"] == f"{GROUP}/v1"
        found = await api.ask("GET", f"{NAMESPACED.format('v2')}/a")
        assert found["apiVersion"] == f"{GROUP}/v2" and found["dummy"] == "test"
