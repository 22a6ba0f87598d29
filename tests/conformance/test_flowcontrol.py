"""API Priority and Fairness: what the conformance programme observes of its API, on a whole cluster in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from podling import clock
from podling.cluster.inprocess import Cluster
from tests.conformance.custom import MERGE, Api

GROUP = "/apis/flowcontrol.apiserver.k8s.io"
SCHEMAS, LEVELS = f"{GROUP}/v1/flowschemas", f"{GROUP}/v1/prioritylevelconfigurations"

SCHEMA = {
    "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
    "kind": "FlowSchema",
    "metadata": {"generateName": "e2e-example-fs-", "labels": {"test": "e2e"}},
    "spec": {
        "matchingPrecedence": 10000,
        "priorityLevelConfiguration": {"name": "global-default"},
        "rules": [
            {
                "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }
        ],
    },
}
LEVEL = {
    "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
    "kind": "PriorityLevelConfiguration",
    "metadata": {"generateName": "e2e-example-pl-", "labels": {"test": "e2e"}},
    "spec": {
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 2,
            "lendablePercent": 10,
            "borrowingLimitPercent": 5,
            "limitResponse": {"type": "Reject"},
        },
    },
}
CONDITION = {
    "type": "E2E",
    "status": "True",
    "reason": "Set by e2e",
    "message": "from an e2e test",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def virtual(test: Callable[..., Awaitable[None]]) -> Any:
    """A test of a whole cluster on virtual time, once for each of the two kinds."""

    @pytest.mark.parametrize(("path", "manifest"), [(SCHEMAS, SCHEMA), (LEVELS, LEVEL)])
    def run(path: str, manifest: dict[str, Any]) -> None:
        async def main() -> None:
            async with Cluster() as cluster:
                await test(Api(cluster), path, manifest)

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def names(api: Api, path: str) -> list[str]:
    found = await api.ask("GET", path, query={"labelSelector": "test=e2e"})
    return [o["metadata"]["name"] for o in found]


async def events(api: Api, path: str, version: str) -> list[tuple[str, Any]]:
    """What a watch from there shows within a second."""
    query = {"watch": "true", "resourceVersion": version, "labelSelector": "test=e2e", "timeoutSeconds": "1"}
    answer = await api.send("GET", path, query=query)
    assert answer.events is not None
    return [(e.type, json.loads(json.dumps(e.obj.metadata.annotations))) async for e in answer.events]


@virtual
async def test_discovery(api: Api, path: str, manifest: dict[str, Any]) -> None:
    groups = {g["name"]: g for g in (await api.ask("GET", "/apis"))["groups"]}
    group = groups["flowcontrol.apiserver.k8s.io"]
    assert {"groupVersion": "flowcontrol.apiserver.k8s.io/v1", "version": "v1"} in group["versions"]
    plural = path.rpartition("/")[2]
    found = {r["name"] for r in (await api.ask("GET", f"{GROUP}/v1"))["resources"]}
    assert {plural, f"{plural}/status"} <= found


@virtual
async def test_every_verb(api: Api, path: str, manifest: dict[str, Any]) -> None:
    """Create, get, list, watch, patch, update, delete and deletecollection."""
    made = await api.ask("POST", path, manifest)
    name = made["metadata"]["name"]
    assert (await api.ask("GET", f"{path}/{name}"))["spec"] == made["spec"]
    for _ in range(2):
        await api.ask("POST", path, manifest)
    assert len(await names(api, path)) == 3
    version = (await api.ask("GET", f"{path}/{name}"))["metadata"]["resourceVersion"]
    patch = {"metadata": {"annotations": {"patched": "true"}}, "spec": {**manifest["spec"]}}
    if path == SCHEMAS:
        patch["spec"]["matchingPrecedence"] = 9999
    else:
        patch["spec"] = {"limited": {"nominalConcurrencyShares": 4}}
    patched = await api.ask("PATCH", f"{path}/{name}", patch, headers=MERGE)
    assert patched["metadata"]["annotations"] == {"patched": "true"} and patched["metadata"]["generation"] == 2
    patched["metadata"]["annotations"]["updated"] = "true"
    updated = await api.ask("PUT", f"{path}/{name}", patched)
    assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
    seen = await events(api, path, version)
    assert ("MODIFIED", {"patched": "true"}) in seen and seen[-1] == ("MODIFIED", updated["metadata"]["annotations"])
    await api.ask("DELETE", f"{path}/{name}")
    assert f'"{name}" not found' in await api.refused("GET", f"{path}/{name}")
    await api.ask("DELETE", path, query={"labelSelector": "test=e2e"})
    assert await names(api, path) == []


@virtual
async def test_status(api: Api, path: str, manifest: dict[str, Any]) -> None:
    """/status is read, patched and updated, and nothing else with it."""
    name = (await api.ask("POST", path, manifest))["metadata"]["name"]
    # The server writes a condition of its own, and again when it was patched away.
    await asyncio.sleep(1)
    body = {"status": {"conditions": [CONDITION]}, "spec": {"matchingPrecedence": 1, "type": "Exempt"}}
    patched = await api.ask("PATCH", f"{path}/{name}/status", body, headers=MERGE)
    assert CONDITION in patched["status"]["conditions"]
    await asyncio.sleep(1)
    whole = await api.ask("GET", f"{path}/{name}/status")
    assert whole["spec"] == (await api.ask("GET", f"{path}/{name}"))["spec"] and "Exempt" not in str(whole["spec"])
    changed = {**CONDITION, "message": "updated"}
    whole["status"]["conditions"] = [c for c in whole["status"]["conditions"] if c["type"] != "E2E"] + [changed]
    whole["spec"] = {}
    updated = await api.ask("PUT", f"{path}/{name}/status", whole)
    assert changed in updated["status"]["conditions"] and updated["spec"]


def test_a_cluster_is_ready_when_its_parts_are() -> None:
    """The checks by upstream's names, and the objects of every cluster."""

    async def main() -> None:
        async with Cluster() as cluster:
            api = Api(cluster)
            answer = await api.send("GET", "/readyz", query={"verbose": ""})
            assert answer.body is not None
            lines = answer.body.decode().splitlines()
            for name in (
                "ping", "log", "etcd", "etcd-readiness", "informer-sync", "shutdown",
                "poststarthook/priority-and-fairness-filter",
                "poststarthook/priority-and-fairness-config-consumer",
                "poststarthook/priority-and-fairness-config-producer",
                "poststarthook/crd-informer-synced", "poststarthook/rbac/bootstrap-roles",
                "poststarthook/scheduling/bootstrap-system-priority-classes",
                "poststarthook/start-system-namespaces-controller", "poststarthook/bootstrap-controller",
                "poststarthook/start-cluster-authentication-info-controller",
            ):  # fmt: skip
                assert f"[+]{name} ok" in lines
            assert lines[-2:] == ["[+]shutdown ok", "readyz check passed"]
            found = {o["metadata"]["name"]: o for o in await api.ask("GET", SCHEMAS)}
            assert len(found) == 11 and found["exempt"]["spec"]["matchingPrecedence"] == 1

    clock.run_virtual(main())
