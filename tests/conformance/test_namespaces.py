"""Namespaces: what the test framework does with each, their status and finalizers, and their end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.whole import MERGE, Api, in_namespace, template, virtual

NAMESPACES = "/api/v1/namespaces"
LEVELS = {f"pod-security.kubernetes.io/{mode}": "baseline" for mode in ("enforce", "audit", "warn")}


async def namespace(api: Api, name: str = "test-ns") -> Any:
    """A new namespace that is ready for use."""
    raw = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    made = await api.post(NAMESPACES, raw)
    await api.until(in_namespace("v1", "serviceaccounts", name), lambda s: s["items"])
    return made


@virtual
async def test_a_generated_namespace_gets_its_account_and_certificate(api: Api) -> None:
    """What the framework waits for before each test, and that the namespace is gone after."""
    raw = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "pods-", "labels": LEVELS}}
    names = {(await api.post(NAMESPACES, raw))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    for name in names:
        made = await api.get(f"{NAMESPACES}/{name}")
        assert made["status"] == {"phase": "Active"} and made["spec"] == {"finalizers": ["kubernetes"]}
        assert made["metadata"]["labels"] == {**LEVELS, "kubernetes.io/metadata.name": name}
        accounts = await api.until(in_namespace("v1", "serviceaccounts", name), lambda s: s["items"])
        assert [a["metadata"]["name"] for a in accounts["items"]] == ["default"]
        certificate = await api.until(
            in_namespace("v1", "configmaps", name), lambda c: [m["metadata"]["name"] for m in c["items"]]
        )
        assert [m["metadata"]["name"] for m in certificate["items"]] == ["kube-root-ca.crt"]
        await api.delete(f"{NAMESPACES}/{name}")
    for name in names:
        await api.gone(f"{NAMESPACES}/{name}")


@virtual
async def test_patch_and_update(api: Api) -> None:
    await namespace(api)
    patched = await api.patch(f"{NAMESPACES}/test-ns", {"metadata": {"labels": {"testLabel": "testValue"}}})
    assert patched["metadata"]["labels"]["testLabel"] == "testValue"

    def update(ns: Any) -> None:
        ns["metadata"]["labels"]["test-ns"] = "updated"

    assert (await api.change(f"{NAMESPACES}/test-ns", update))["metadata"]["labels"]["test-ns"] == "updated"


@virtual
async def test_status(api: Api) -> None:
    await namespace(api)
    path = f"{NAMESPACES}/test-ns"
    assert (await api.get(f"{path}/status"))["status"]["phase"] == "Active"
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by a test"}
    patch = {"metadata": {"annotations": {"e2e-patched-ns-status": "test-ns"}}, "status": {"conditions": [condition]}}
    patched = await api.patch(f"{path}/status", patch, MERGE)
    assert patched["metadata"]["annotations"]["e2e-patched-ns-status"] == "test-ns"
    assert [c["type"] for c in patched["status"]["conditions"]] == ["StatusPatch"]
    second = {**condition, "type": "StatusUpdate"}
    updated = await api.change(path, lambda n: n["status"]["conditions"].append(second), "status")
    assert [c["type"] for c in updated["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]


@virtual
async def test_finalizers_are_written_through_finalize(api: Api) -> None:
    made = await namespace(api)
    path = f"{NAMESPACES}/test-ns"
    made["spec"]["finalizers"].append("e2e.example.com/fakeFinalizer")
    # Not through the namespace itself.
    live = await api.get(path)
    ignored = await api.put(path, {**made, "metadata": live["metadata"]})
    assert ignored["spec"]["finalizers"] == ["kubernetes"]

    def add(ns: Any) -> None:
        ns["spec"]["finalizers"] = ["kubernetes", "e2e.example.com/fakeFinalizer"]

    def remove(ns: Any) -> None:
        ns["spec"]["finalizers"] = ["kubernetes"]

    added = await api.change(path, add, "finalize")
    assert added["spec"]["finalizers"] == ["kubernetes", "e2e.example.com/fakeFinalizer"]
    removed = await api.change(path, remove, "finalize")
    assert removed["spec"]["finalizers"] == ["kubernetes"]


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test"}, "spec": template()["spec"]}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "test"},
    "spec": {"selector": {"foo": "bar"}, "ports": [{"port": 80, "targetPort": 80}]},
}


@pytest.mark.parametrize(("resource", "manifest"), [("pods", POD), ("services", SERVICE)])
@virtual
async def test_what_is_in_a_namespace_goes_with_it(api: Api, resource: str, manifest: dict[str, Any]) -> None:
    await namespace(api)
    inside = in_namespace("v1", resource, "test-ns")
    await api.post(inside, manifest)
    if resource == "pods":
        await api.until(f"{inside}/test", lambda p: p["status"]["phase"] == "Running")
    await api.delete(f"{NAMESPACES}/test-ns")
    terminating = await api.get(f"{NAMESPACES}/test-ns")
    assert terminating["status"]["phase"] == "Terminating"
    await api.gone(f"{NAMESPACES}/test-ns", seconds=90)
    # Made again it is empty.
    await namespace(api)
    assert (await api.refusal("GET", f"{inside}/test"))["reason"] == "NotFound"


@virtual
async def test_nothing_is_made_in_a_namespace_that_ends(api: Api) -> None:
    await namespace(api)
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "finalizers": ["example.com/held"]}}
    maps = in_namespace("v1", "configmaps", "test-ns")
    await api.post(maps, held)
    await api.delete(f"{NAMESPACES}/test-ns")
    refused = await api.refusal("POST", maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}})
    assert refused["message"] == (
        'configmaps "d" is forbidden: unable to create new content in namespace test-ns because it is being terminated'
    )
    assert refused["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await api.patch(f"{maps}/c", {"metadata": {"finalizers": None}}, MERGE)
    await api.gone(f"{NAMESPACES}/test-ns")


@virtual
async def test_pods_go_before_everything_else(api: Api) -> None:
    """A pod that is held keeps all that it may still need, until it is gone."""
    await namespace(api)
    pods, maps = (in_namespace("v1", r, "test-ns") for r in ("pods", "configmaps"))
    held = {"finalizers": ["e2e.example.com/finalizer"]}
    await api.post(pods, {**POD, "metadata": {"name": "test", **held}})
    await api.post(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test", **held}})
    await api.until(f"{pods}/test", lambda p: p["status"]["phase"] == "Running")
    await api.delete(f"{NAMESPACES}/test-ns")
    await api.until(f"{pods}/test", lambda p: p["metadata"].get("deletionTimestamp"))
    await asyncio.sleep(60)
    assert "deletionTimestamp" not in (await api.get(f"{maps}/test"))["metadata"]
    waiting = await api.get(f"{NAMESPACES}/test-ns")
    conditions = {c["type"]: c for c in waiting["status"]["conditions"]}
    assert conditions["NamespaceContentRemaining"]["status"] == "True"
    assert conditions["NamespaceFinalizersRemaining"]["status"] == "True"
    await api.patch(f"{pods}/test", {"metadata": {"finalizers": None}}, MERGE)
    await api.gone(f"{pods}/test")
    await api.until(f"{maps}/test", lambda m: m["metadata"].get("deletionTimestamp"))
    await api.patch(f"{maps}/test", {"metadata": {"finalizers": None}}, MERGE)
    await api.gone(f"{NAMESPACES}/test-ns")
