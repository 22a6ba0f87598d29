"""ConfigMaps, Secrets, PodTemplates, LimitRanges, PriorityClasses, RuntimeClasses: their lives and their rules."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.whole import JSON_PATCH, MERGE, Api, in_namespace, template, virtual

PODS = in_namespace("v1", "pods")
MAPS = in_namespace("v1", "configmaps")
SECRETS = in_namespace("v1", "secrets")
TEMPLATES = in_namespace("v1", "podtemplates")
LIMITS = in_namespace("v1", "limitranges")
PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"


def stored(kind: str, **rest: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, **rest}


@pytest.mark.parametrize(("path", "kind", "value"), [(MAPS, "ConfigMap", "v"), (SECRETS, "Secret", "dg==")])
@virtual
async def test_an_empty_key_is_refused(api: Api, path: str, kind: str, value: str) -> None:
    refused = await api.refusal("POST", path, stored(kind, data={"": value}))
    assert (refused["code"], refused["reason"]) == (422, "Invalid")
    (cause,) = refused["details"]["causes"]
    assert cause["field"] == "data[]" and 'Invalid value: ""' in cause["message"]


@pytest.mark.parametrize(
    ("path", "kind", "before", "after"), [(MAPS, "ConfigMap", "v", "w"), (SECRETS, "Secret", "dg==", "dw==")]
)
@virtual
async def test_an_immutable_one_keeps_its_data(api: Api, path: str, kind: str, before: str, after: str) -> None:
    made = await api.post(path, stored(kind, data={"k": before}))
    await api.change(f"{path}/x", lambda o: o["data"].update(k=after))
    await api.change(f"{path}/x", lambda o: o.update(immutable=True))
    assert "field is immutable when `immutable` is set" in await api.refused(
        "PUT", f"{path}/x", {**made, "metadata": {"name": "x"}, "immutable": True}
    )
    unset = await api.refused("PATCH", f"{path}/x", {"immutable": False}, headers=MERGE)
    assert "immutable: Forbidden: field is immutable when `immutable` is set" in unset
    patched = await api.patch(f"{path}/x", {"metadata": {"labels": {"label1": "value1"}}})
    assert patched["metadata"]["labels"] == {"label1": "value1"}
    await api.delete(f"{path}/x")
    await api.gone(f"{path}/x")


@virtual
async def test_lifecycle_of_a_config_map(api: Api) -> None:
    """Created, patched, listed everywhere by label, deleted as a collection, all watched."""
    async with api.watch(MAPS, labelSelector="test-configmap-static=true") as events:
        raw = stored("ConfigMap", data={"valueName": "value"})
        raw["metadata"]["labels"] = {"test-configmap-static": "true"}
        await api.post(MAPS, raw)
        await events.until("ADDED")
        patch = {
            "metadata": {"creationTimestamp": None, "labels": {"test-configmap": "patched"}},
            "data": {"valueName": "value1"},
        }
        await api.patch(f"{MAPS}/x", patch)
        await events.until("MODIFIED", lambda c: c["metadata"]["labels"].get("test-configmap") == "patched")
        assert (await api.get(f"{MAPS}/x"))["data"] == {"valueName": "value1"}
        everywhere = (await api.get("/api/v1/configmaps", labelSelector="test-configmap-static=true"))["items"]
        assert [c["data"] for c in everywhere] == [{"valueName": "value1"}]
        await api.delete(MAPS, labelSelector="test-configmap-static=true")
        await events.until("DELETED")
    assert (await api.get(MAPS, labelSelector="test-configmap-static=true"))["items"] == []


@virtual
async def test_a_config_map_is_replaced(api: Api) -> None:
    """Without a resourceVersion, and as often as wanted."""
    await api.post(MAPS, stored("ConfigMap"))
    for n in range(3):
        updated = await api.put(f"{MAPS}/x", stored("ConfigMap", data={"data": str(n)}))
        assert updated["data"] == {"data": str(n)}


@virtual
async def test_lifecycle_of_a_secret(api: Api) -> None:
    raw = stored("Secret", data={"key": "dmFsdWU="}, type="Opaque")
    raw["metadata"]["labels"] = {"testsecret-constant": "true"}
    await api.post(SECRETS, raw)
    assert len((await api.get("/api/v1/secrets", labelSelector="testsecret-constant=true"))["items"]) == 1
    patch = {"metadata": {"labels": {"testsecret": "true"}}, "data": {"key": "dmFsdWUx"}}
    await api.patch(f"{SECRETS}/x", patch)
    (found,) = (await api.get("/api/v1/secrets", labelSelector="testsecret=true"))["items"]
    assert found["data"] == {"key": "dmFsdWUx"}
    await api.delete(SECRETS, labelSelector="testsecret=true")
    assert (await api.get("/api/v1/secrets", labelSelector="testsecret-constant=true"))["items"] == []


@virtual
async def test_pod_templates(api: Api) -> None:
    for n in range(3):
        raw = stored("PodTemplate", template={"spec": template()["spec"]})
        raw["metadata"] = {"name": f"test-podtemplate-{n}", "labels": {"podtemplate-set": "true"}}
        await api.post(TEMPLATES, raw)
    path = f"{TEMPLATES}/test-podtemplate-0"
    patched = await api.patch(path, {"metadata": {"labels": {"podtemplate": "patched"}}})
    assert patched["metadata"]["labels"] == {"podtemplate-set": "true", "podtemplate": "patched"}

    def annotate(t: Any) -> None:
        t["metadata"]["annotations"] = {"updated": "true"}

    assert (await api.change(path, annotate))["metadata"]["annotations"] == {"updated": "true"}
    assert len((await api.get("/api/v1/podtemplates", labelSelector="podtemplate=patched"))["items"]) == 1
    await api.delete(path)
    await api.delete(TEMPLATES, labelSelector="podtemplate-set=true")
    assert (await api.get(TEMPLATES, labelSelector="podtemplate-set=true"))["items"] == []


def limit_range(name: str = "limit-range", **labels: str) -> dict[str, Any]:
    def amounts(cpu: str, memory: str, storage: str) -> dict[str, str]:
        return {"cpu": cpu, "memory": memory, "ephemeral-storage": storage}

    limit = {
        "type": "Container",
        "min": amounts("50m", "100Mi", "100Gi"),
        "max": amounts("500m", "500Mi", "500Gi"),
        "default": amounts("500m", "500Mi", "500Gi"),
        "defaultRequest": amounts("100m", "200Mi", "200Gi"),
        "maxLimitRequestRatio": {},
    }
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": name, "labels": labels},
        "spec": {"limits": [limit]},
    }


def limited(name: str, requests: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    container = {"name": "pause", "image": "pause", "resources": {"requests": requests, "limits": limits}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


@virtual
async def test_limit_ranges_default_and_bound_resources(api: Api) -> None:
    await api.post(LIMITS, limit_range())
    made = await api.post(PODS, limited("defaulted", {}, {}))
    assert made["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "200Mi", "ephemeral-storage": "200Gi"},
        "limits": {"cpu": "500m", "memory": "500Mi", "ephemeral-storage": "500Gi"},
    }
    partly = await api.post(
        PODS,
        limited("partly", {"cpu": "300m", "memory": "150Mi", "ephemeral-storage": "150Gi"}, {"cpu": "300m"}),
    )
    # A limit that is given is the request where none is.
    assert partly["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "300m", "memory": "150Mi", "ephemeral-storage": "150Gi"},
        "limits": {"cpu": "300m", "memory": "500Mi", "ephemeral-storage": "500Gi"},
    }
    less = {"cpu": "10m", "memory": "50Mi", "ephemeral-storage": "50Gi"}
    more = {"cpu": "600m", "memory": "600Mi", "ephemeral-storage": "600Gi"}
    for name, requests, limits in (("less", less, {}), ("more", more, more)):
        assert (await api.refusal("POST", PODS, limited(name, requests, limits)))["code"] == 403

    def lower(limits: Any) -> None:
        limits["spec"]["limits"][0]["min"] = {"cpu": "9m", "memory": "49Mi", "ephemeral-storage": "49Gi"}

    await api.change(f"{LIMITS}/limit-range", lower)
    await api.post(PODS, limited("less", less, {}))
    assert (await api.refusal("POST", PODS, limited("more", more, more)))["code"] == 403
    await api.delete(f"{LIMITS}/limit-range")
    await api.post(PODS, limited("more", more, more))


@virtual
async def test_limit_ranges_are_listed_patched_and_deleted(api: Api) -> None:
    await api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    other = in_namespace("v1", "limitranges", "other")
    for path in (LIMITS, other):
        await api.post(path, limit_range(e2e="x"))
    assert len((await api.get("/api/v1/limitranges", labelSelector="e2e=x"))["items"]) == 2
    patch = {
        "metadata": {"labels": {"patched": "x"}},
        "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "10m", "memory": "150Mi"}}]},
    }
    patched = await api.patch(f"{LIMITS}/limit-range", patch)
    assert patched["metadata"]["labels"] == {"e2e": "x", "patched": "x"}
    await api.delete(LIMITS, labelSelector="patched=x")
    left = (await api.get("/api/v1/limitranges", labelSelector="e2e=x"))["items"]
    assert [i["metadata"]["namespace"] for i in left] == ["other"]


@virtual
async def test_priority_classes(api: Api) -> None:
    """Descriptions may change, values may not."""
    for n in (1, 2):
        raw = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": f"p{n}"}}
        await api.post(PRIORITIES, {**raw, "value": n})
    names = {c["metadata"]["name"] for c in (await api.get(PRIORITIES))["items"]}
    assert {"p1", "p2", "system-cluster-critical", "system-node-critical"} <= names
    for n in (1, 2):
        path = f"{PRIORITIES}/p{n}"
        patched = await api.patch(path, [{"op": "replace", "path": "/value", "value": n}], JSON_PATCH)
        assert patched["value"] == n
        refused = await api.refusal("PATCH", path, {"value": n * 10}, headers=MERGE)
        assert (refused["code"], "may not be changed in an update" in refused["message"]) == (422, True)
        live = await api.get(path)
        refused = await api.refusal("PUT", path, {**live, "value": n * 10})
        assert refused["reason"] == "Invalid"
        updated = await api.change(path, lambda c: c.update(description="updated description"))
        assert updated["description"] == "updated description"


@virtual
async def test_runtime_classes(api: Api) -> None:
    for n in (1, 2, 3):
        meta = {"generateName": "e2e-example-rc", "labels": {"rc": "x"}}
        raw = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": meta, "handler": f"runtime{n}"}
        made = await api.post(RUNTIMES, raw)
    path = f"{RUNTIMES}/{made['metadata']['name']}"
    async with api.watch(RUNTIMES, labelSelector="rc=x") as events:
        await api.patch(path, {"metadata": {"annotations": {"patched": "true"}}}, MERGE)
        await api.change(path, lambda c: c["metadata"]["annotations"].update(updated="true"))
        await events.until("MODIFIED", lambda c: c["metadata"]["annotations"].get("updated") == "true")
        await api.delete(path)
        await events.until("DELETED")
    assert len((await api.get(RUNTIMES, labelSelector="rc=x"))["items"]) == 2
    await api.delete(RUNTIMES, labelSelector="rc=x")
    assert (await api.get(RUNTIMES, labelSelector="rc=x"))["items"] == []


def of_class(name: str) -> dict[str, Any]:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template()["spec"]}
    pod["spec"] = {**template()["spec"], "runtimeClassName": name}
    return pod


@virtual
async def test_pods_of_runtime_classes(api: Api) -> None:
    """A class that is not there is refused; its overhead becomes the pod's; it is scheduled with or without one."""
    refused = await api.refusal("POST", PODS, of_class("nonexistent"))
    assert (refused["code"], 'RuntimeClass "nonexistent" not found' in refused["message"]) == (403, True)
    raw = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "plain"}, "handler": "h"}
    await api.post(RUNTIMES, raw)
    overhead = {"podFixed": {"cpu": "10m", "memory": "1Mi"}}
    await api.post(RUNTIMES, {**raw, "metadata": {"name": "heavy"}, "overhead": overhead})
    for name, expected in (("plain", None), ("heavy", {"cpu": "10m", "memory": "1Mi"})):
        made = await api.post(PODS, of_class(name))
        assert made["spec"].get("overhead") == expected
        await api.until(f"{PODS}/p", lambda p: p["spec"].get("nodeName"))
        await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})
        await api.gone(f"{PODS}/p")
    await api.delete(f"{RUNTIMES}/plain")
    await asyncio.sleep(1)
    assert (await api.refusal("POST", PODS, of_class("plain")))["code"] == 403
