"""DaemonSets and their revisions: lists, status, and the life of a ControllerRevision."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.whole import MERGE, Api, in_namespace, template, virtual, virtual_with

SETS = in_namespace("apps/v1", "daemonsets")
REVISIONS = in_namespace("apps/v1", "controllerrevisions")
PODS = in_namespace("v1", "pods")
SELECTED = "daemonset-name=d"


def daemon_set(name: str = "d", **spec: Any) -> dict[str, Any]:
    labels = {"daemonset-name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template(**labels), **spec},
    }


def on_all_nodes(ds: Any) -> bool:
    status = ds["status"]
    return bool(
        status["desiredNumberScheduled"]
        and status["desiredNumberScheduled"] == status["currentNumberScheduled"] == status["numberReady"]
        and status.get("observedGeneration") == ds["metadata"]["generation"]
    )


async def running(api: Api) -> Any:
    await api.post(SETS, daemon_set())
    return await api.until(f"{SETS}/d", on_all_nodes)


@virtual_with(nodes=2)
async def test_lifecycle_of_a_controller_revision(api: Api) -> None:
    ds = await running(api)
    (first,) = (await api.get("/apis/apps/v1/controllerrevisions", labelSelector=SELECTED))["items"]
    (owner,) = first["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("DaemonSet", ds["metadata"]["uid"])
    assert first["revision"] == 1
    name = first["metadata"]["name"]
    patched = await api.patch(f"{REVISIONS}/{name}", {"metadata": {"labels": {name: "patched"}}})
    assert patched["metadata"]["labels"][name] == "patched"

    copied = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": "d-copy",
            "labels": {"daemonset-name": "d", "controller-revision-hash": "copy"},
            "ownerReferences": [owner],
        },
        "data": first["data"],
        "revision": first["revision"] + 1,
    }
    await api.post(REVISIONS, copied)
    assert len((await api.get(REVISIONS, labelSelector=SELECTED))["items"]) == 2
    before = {p["metadata"]["uid"] for p in (await api.get(PODS, labelSelector=SELECTED))["items"]}
    await api.delete(f"{REVISIONS}/{name}")
    (left,) = (await api.get(REVISIONS, labelSelector=SELECTED))["items"]
    assert left["metadata"]["name"] == "d-copy"
    await api.change(f"{REVISIONS}/d-copy", lambda r: r["metadata"]["labels"].update({"d-copy": "updated"}))

    # A field that is not where it belongs does no harm.
    patch = {
        "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}},
        "updateStrategy": {"type": "RollingUpdate"},
    }
    await api.patch(f"{SETS}/d", patch)
    await api.until(REVISIONS, lambda r: len(r["items"]) == 2, labelSelector=SELECTED)
    await api.delete(REVISIONS, labelSelector="d-copy=updated")
    await api.until(REVISIONS, lambda r: len(r["items"]) == 1, labelSelector=SELECTED)
    (last,) = (await api.get(REVISIONS))["items"]
    assert last["revision"] == 3
    await api.until(f"{SETS}/d", lambda d: on_all_nodes(d) and d["status"]["updatedNumberScheduled"] == 2)
    assert before.isdisjoint(p["metadata"]["uid"] for p in (await api.get(PODS, labelSelector=SELECTED))["items"])


@virtual_with(nodes=2)
async def test_two_revisions_of_one_template_become_one(api: Api) -> None:
    """The newer one stays; pods of the other take its label and run on."""
    ds = await running(api)
    (first,) = (await api.get(REVISIONS))["items"]
    copied = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": "d-copy",
            "labels": {"daemonset-name": "d", "controller-revision-hash": "copy"},
            "ownerReferences": first["metadata"]["ownerReferences"],
        },
        "data": first["data"],
        "revision": 2,
    }
    await api.post(REVISIONS, copied)
    before = {p["metadata"]["uid"] for p in (await api.get(PODS))["items"]}
    await api.patch(f"{SETS}/{ds['metadata']['name']}", {"metadata": {"annotations": {"look": "again"}}})
    await api.until(REVISIONS, lambda r: [i["metadata"]["name"] for i in r["items"]] == ["d-copy"])
    await asyncio.sleep(60)
    pods = (await api.get(PODS))["items"]
    assert {p["metadata"]["uid"] for p in pods} == before
    assert {p["metadata"]["labels"]["controller-revision-hash"] for p in pods} == {"copy"}


@virtual
async def test_list_and_delete_a_collection(api: Api) -> None:
    await running(api)
    assert len((await api.get("/apis/apps/v1/daemonsets", labelSelector=SELECTED))["items"]) == 1
    await api.delete(SETS, labelSelector=SELECTED)
    assert (await api.get(SETS, labelSelector=SELECTED))["items"] == []
    await api.until(PODS, lambda pods: not pods["items"], labelSelector=SELECTED)


@virtual_with(nodes=2)
async def test_a_failed_pod_is_replaced(api: Api) -> None:
    await running(api)
    pod = (await api.get(PODS, labelSelector=SELECTED))["items"][0]
    path = f"{PODS}/{pod['metadata']['name']}"
    pod["metadata"]["resourceVersion"] = ""
    pod["status"]["phase"] = "Failed"
    await api.put(f"{path}/status", pod)
    await api.gone(path)
    await api.until(f"{SETS}/d", on_all_nodes)
    assert len((await api.get(PODS, labelSelector=SELECTED))["items"]) == 2


@virtual_with(nodes=2)
async def test_labels_of_nodes_choose_where_pods_run(api: Api) -> None:
    labels = {"daemonset-name": "d"}
    blue = template(**labels)
    blue["spec"]["nodeSelector"] = {"daemonset-color": "blue"}
    await api.post(SETS, daemon_set(template=blue))
    await asyncio.sleep(30)
    assert (await api.get(PODS, labelSelector=SELECTED))["items"] == []
    node = (await api.get("/api/v1/nodes"))["items"][0]["metadata"]["name"]
    await api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {"daemonset-color": "blue"}}})
    ds = await api.until(f"{SETS}/d", on_all_nodes)
    assert ds["status"]["desiredNumberScheduled"] == 1
    await api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {"daemonset-color": "green"}}})
    await api.until(PODS, lambda pods: not pods["items"], labelSelector=SELECTED)
    green = {
        "spec": {
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {"spec": {"nodeSelector": {"daemonset-color": "green"}}},
        }
    }
    await api.patch(f"{SETS}/d", green)
    ds = await api.until(f"{SETS}/d", on_all_nodes)
    assert ds["status"]["desiredNumberScheduled"] == 1


@virtual_with(nodes=2)
async def test_a_rolling_update_replaces_pods(api: Api) -> None:
    await running(api)
    old = {p["metadata"]["labels"]["controller-revision-hash"] for p in (await api.get(PODS))["items"]}
    await api.patch(f"{SETS}/d", {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "pause"}]}}}})
    await api.until(f"{SETS}/d", lambda d: on_all_nodes(d) and d["status"].get("updatedNumberScheduled") == 2)
    pods = (await api.get(PODS))["items"]
    assert {p["spec"]["containers"][0]["image"] for p in pods} == {"pause"}
    (hashed,) = {p["metadata"]["labels"]["controller-revision-hash"] for p in pods}
    assert hashed not in old
    revisions = {r["metadata"]["labels"]["controller-revision-hash"]: r for r in (await api.get(REVISIONS))["items"]}
    assert revisions[hashed]["revision"] == 2


@virtual_with(nodes=2)
async def test_a_rollback_leaves_pods_alone_that_were_never_replaced(api: Api) -> None:
    await running(api)
    before = {p["metadata"]["uid"]: p for p in (await api.get(PODS))["items"]}
    wrong = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "Not/An/Image"}]}}}}
    await api.patch(f"{SETS}/d", wrong)
    await api.until(
        PODS, lambda pods: any(p["spec"]["containers"][0]["image"] == "Not/An/Image" for p in pods["items"])
    )
    kept = {p["metadata"]["uid"] for p in (await api.get(PODS))["items"]} & set(before)
    assert len(kept) == 1
    right = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "busybox"}]}}}}
    await api.patch(f"{SETS}/d", right)
    await api.until(f"{SETS}/d", lambda d: on_all_nodes(d) and d["status"].get("updatedNumberScheduled") == 2)
    after = {p["metadata"]["uid"]: p for p in (await api.get(PODS))["items"]}
    assert kept <= set(after)
    assert all(s["restartCount"] == 0 for u in kept for s in after[u]["status"]["containerStatuses"])


@virtual
async def test_status(api: Api) -> None:
    """It is shown, updated and patched; a watch sees each."""
    await running(api)
    path = f"{SETS}/d"
    shown = await api.get(f"{path}/status")
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by a test"}
    async with api.watch(SETS, labelSelector=SELECTED, resourceVersion=shown["metadata"]["resourceVersion"]) as events:

        def update(ds: Any) -> None:
            ds["status"].setdefault("conditions", []).append(condition)

        updated = await api.change(path, update, "status")
        assert [c["type"] for c in updated["status"]["conditions"]] == ["StatusUpdate"]
        await events.until("MODIFIED", lambda d: condition_types(d) == ["StatusUpdate"])
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        patched = await api.patch(f"{path}/status", patch, MERGE)
        assert condition_types(patched) == ["StatusPatched"]
        await events.until("MODIFIED", lambda d: condition_types(d) == ["StatusPatched"])
    # The controller's own part of the status does not take others' conditions away.
    await asyncio.sleep(30)
    assert condition_types(await api.get(path)) == ["StatusPatched"]


def condition_types(obj: Any) -> list[str]:
    return [c["type"] for c in obj["status"].get("conditions", ())]
