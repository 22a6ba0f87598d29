"""Deployments: how they roll, and the life of one as a client sees it."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.whole import MERGE, Api, in_namespace, template, virtual, virtual_with

DEPLOYMENTS = in_namespace("apps/v1", "deployments")
SETS = in_namespace("apps/v1", "replicasets")
PODS = in_namespace("v1", "pods")
BROKEN = "Not/An/Image"


def deployment(name: str = "d", image: str = "busybox", **spec: Any) -> dict[str, Any]:
    labels = {"name": name}
    pod = template(**labels)
    pod["spec"]["containers"][0]["image"] = image
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"test-deployment-static": "true"}},
        "spec": {"selector": {"matchLabels": labels}, "template": pod, **spec},
    }


def image(text: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": text}]}}}}


def complete(d: Any) -> bool:
    status, wanted = d["status"], d["spec"]["replicas"]
    counts = [status.get(f, 0) for f in ("replicas", "updatedReplicas", "availableReplicas")]
    return counts == [wanted] * 3 and status.get("observedGeneration") == d["metadata"]["generation"]


async def sets(api: Api) -> dict[str, Any]:
    """The ReplicaSets by image."""
    found = (await api.get(SETS))["items"]
    return {s["spec"]["template"]["spec"]["containers"][0]["image"]: s for s in found}


@virtual
async def test_scale(api: Api) -> None:
    await api.post(DEPLOYMENTS, deployment(replicas=1))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    path = f"{DEPLOYMENTS}/d/scale"
    scale = await api.get(path)
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"]["replicas"], scale["status"]) == (1, {"replicas": 1, "selector": "name=d"})
    scale["metadata"]["resourceVersion"] = ""
    scale["spec"]["replicas"] = 2
    assert (await api.put(path, scale))["spec"]["replicas"] == 2
    assert (await api.get(f"{DEPLOYMENTS}/d"))["spec"]["replicas"] == 2
    # As Go writes a Scale of which nothing but the replicas is set.
    patch = {"metadata": {"creationTimestamp": None}, "spec": {"replicas": 4}, "status": {"replicas": 0}}
    assert (await api.patch(path, patch))["spec"]["replicas"] == 4
    assert (await api.get(f"{DEPLOYMENTS}/d"))["spec"]["replicas"] == 4
    await api.until(f"{DEPLOYMENTS}/d", complete)


@virtual
async def test_a_rolling_update_adopts_and_replaces_a_replica_set(api: Api) -> None:
    old = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": "old",
            "labels": {"name": "d", "pod": "httpd"},
            "annotations": {"deployment.kubernetes.io/revision": "3546343826724305832"},
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"name": "d", "pod": "httpd"}},
            "template": template(name="d", pod="httpd"),
        },
    }
    await api.post(SETS, old)
    await api.until(f"{SETS}/old", lambda s: s["status"].get("readyReplicas") == 1)
    await api.post(DEPLOYMENTS, deployment(image="pause", replicas=1))
    d = await api.until(f"{DEPLOYMENTS}/d", complete)
    assert d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3546343826724305833"
    adopted = await api.until(f"{SETS}/old", lambda s: s["spec"]["replicas"] == 0 and s["status"]["replicas"] == 0)
    assert adopted["metadata"]["ownerReferences"][0]["uid"] == d["metadata"]["uid"]
    (pod,) = (await api.until(PODS, lambda pods: len(pods["items"]) == 1))["items"]
    assert pod["spec"]["containers"][0]["image"] == "pause"


@virtual
async def test_recreate_never_runs_old_and_new_pods_together(api: Api) -> None:
    await api.post(DEPLOYMENTS, deployment(replicas=1, strategy={"type": "Recreate"}))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    since = (await api.get(PODS))["metadata"]["resourceVersion"]
    async with api.watch(PODS, resourceVersion=since, labelSelector="name=d") as events:
        await api.patch(f"{DEPLOYMENTS}/d", image("pause"))
        await events.until("MODIFIED", lambda p: runs(p, "pause"))
    states: dict[str, tuple[str, bool]] = {}
    for type_, pod in events.seen:
        ended = type_ == "DELETED" or pod["status"]["phase"] in ("Succeeded", "Failed")
        states[pod["metadata"]["name"]] = pod["spec"]["containers"][0]["image"], not ended
        together = {of for of, alive in states.values() if alive}
        assert together != {"busybox", "pause"}
    await api.until(f"{DEPLOYMENTS}/d", complete)


def runs(pod: Any, of: str) -> bool:
    return pod["status"]["phase"] == "Running" and pod["spec"]["containers"][0]["image"] == of


@virtual
async def test_old_replica_sets_beyond_the_limit_are_deleted(api: Api) -> None:
    await api.post(DEPLOYMENTS, deployment(replicas=1, revisionHistoryLimit=0))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    await api.patch(f"{DEPLOYMENTS}/d", image("pause"))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    await api.until(SETS, lambda s: len(s["items"]) == 1)
    assert set(await sets(api)) == {"pause"}


@virtual_with(nodes=2)
async def test_replica_sets_are_scaled_in_proportion(api: Api) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    await api.post(DEPLOYMENTS, deployment(replicas=10, strategy=strategy))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    await api.patch(f"{DEPLOYMENTS}/d", image(BROKEN))
    await api.until(SETS, lambda s: sorted(i["spec"]["replicas"] for i in s["items"]) == [5, 8])
    found = await sets(api)
    assert (found["busybox"]["spec"]["replicas"], found[BROKEN]["spec"]["replicas"]) == (8, 5)
    await api.until(f"{SETS}/{found['busybox']['metadata']['name']}", lambda s: s["status"]["availableReplicas"] == 8)
    await api.patch(f"{DEPLOYMENTS}/d", {"spec": {"replicas": 30}})
    await api.until(SETS, lambda s: sorted(i["spec"]["replicas"] for i in s["items"]) == [13, 20])
    found = await sets(api)
    assert (found["busybox"]["spec"]["replicas"], found[BROKEN]["spec"]["replicas"]) == (20, 13)


@virtual
async def test_a_rollout_is_rolled_over(api: Api) -> None:
    """A third template replaces the second, which never came to run."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await api.post(DEPLOYMENTS, deployment(replicas=1, strategy=strategy, minReadySeconds=10))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    await api.patch(f"{DEPLOYMENTS}/d", image(BROKEN))
    await api.until(SETS, lambda s: len(s["items"]) == 2)
    await api.patch(f"{DEPLOYMENTS}/d", image("pause"))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    counts = {name: s["spec"]["replicas"] for name, s in (await sets(api)).items()}
    assert counts == {"busybox": 0, BROKEN: 0, "pause": 1}


@virtual
async def test_lifecycle(api: Api) -> None:
    """Create, patch, scale, write the status, read, delete as a collection: a watch sees it all."""
    async with api.watch(DEPLOYMENTS, labelSelector="test-deployment-static=true") as events:
        await api.post(DEPLOYMENTS, deployment(replicas=2))
        await events.until("ADDED")
        await events.until("MODIFIED", lambda d: d["status"].get("readyReplicas") == 2)
        # As Go writes a Deployment of which little is set.
        patch = {
            "metadata": {"creationTimestamp": None, "labels": {"test-deployment": "patched"}},
            "spec": {
                "replicas": 1,
                "strategy": {},
                "template": {
                    "metadata": {"creationTimestamp": None},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "c", "image": "pause", "resources": {}}],
                    },
                },
            },
        }
        await api.patch(f"{DEPLOYMENTS}/d", patch)
        await events.until("MODIFIED", lambda d: d["metadata"]["labels"].get("test-deployment") == "patched")
        await events.until("MODIFIED", complete)
        # As a Go client writes it that made a map of the object it once created.
        whole = deployment(image="httpd", replicas=2)
        whole["metadata"] |= {
            "creationTimestamp": None,
            "labels": {"test-deployment-static": "true", "test": "updated"},
        }
        whole["spec"] |= {"strategy": {}}
        whole["status"] = {}
        await api.put(f"{DEPLOYMENTS}/d", whole)
        await events.until("MODIFIED", lambda d: complete(d) and d["spec"]["replicas"] == 2)
        patch = {
            "metadata": {"labels": {"test": "patched-status"}},
            "status": {"readyReplicas": 0, "availableReplicas": 0},
        }
        patched = await api.patch(f"{DEPLOYMENTS}/d/status", patch)
        # Labels of a Deployment are not written with its status.
        assert patched["metadata"]["labels"]["test"] == "updated"
        assert not patched["status"]["readyReplicas"]
        await events.until("MODIFIED", lambda d: not d["status"].get("readyReplicas"))
        await events.until("MODIFIED", complete)
        shown = await api.get(f"{DEPLOYMENTS}/d/status")
        assert shown["status"]["readyReplicas"] == 2
        everywhere = "/apis/apps/v1/deployments"
        assert len((await api.get(everywhere, labelSelector="test-deployment-static=true"))["items"]) == 1
        await api.delete(DEPLOYMENTS, labelSelector="test-deployment-static=true")
        await events.until("DELETED")
    await api.until(PODS, lambda pods: not pods["items"])


@virtual
async def test_status(api: Api) -> None:
    await api.post(DEPLOYMENTS, deployment(replicas=1))
    await api.until(f"{DEPLOYMENTS}/d", complete)
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by a test"}

    def update(d: Any) -> None:
        d["status"]["conditions"].append(condition)

    async with api.watch(DEPLOYMENTS, fieldSelector="metadata.name=d") as events:
        updated = await api.change(f"{DEPLOYMENTS}/d", update, "status")
        assert "StatusUpdate" in types(updated)
        await events.until("MODIFIED", lambda d: "StatusUpdate" in types(d))
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        assert "StatusPatched" in types(await api.patch(f"{DEPLOYMENTS}/d/status", patch, MERGE))
        await events.until("MODIFIED", lambda d: "StatusPatched" in types(d))
    # The controller goes on, and keeps what it does not know.
    await asyncio.sleep(30)
    await api.patch(f"{DEPLOYMENTS}/d", {"spec": {"replicas": 2}})
    assert "StatusPatched" in types(await api.until(f"{DEPLOYMENTS}/d", complete))


def types(obj: Any) -> list[str]:
    return [c["type"] for c in obj["status"].get("conditions", ())]
