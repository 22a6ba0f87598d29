"""Pods as the API shows them: lives, status, quality of service, generation, what may change, what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.whole import MERGE, Api, in_namespace, virtual

PODS = in_namespace("v1", "pods")


def pod(name: str = "p", meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    containers = spec.pop("containers", [{"name": "c", "image": "busybox"}])
    meta = {"name": name, "labels": {"test-pod-static": "true"}, **(meta or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers, **spec}}


async def running(api: Api, name: str = "p") -> Any:
    return await api.until(f"{PODS}/{name}", lambda p: p["status"].get("phase") == "Running")


def conditions(p: Any) -> dict[str, str]:
    return {c["type"]: c["status"] for c in p["status"]["conditions"]}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "100m", "memory": "100Mi"}}, "Guaranteed"),
        ({"requests": {"cpu": "100m"}}, "Burstable"),
        ({}, "BestEffort"),
    ],
)
@virtual
async def test_quality_of_service(api: Api, resources: dict[str, Any], expected: str) -> None:
    container = {"name": "c", "image": "busybox", "resources": resources}
    made = await api.post(PODS, pod(containers=[container]))
    assert made["status"]["qosClass"] == expected


@virtual
async def test_submission_and_removal(api: Api) -> None:
    """A watch sees it come, run, be about to go, and go."""
    since = (await api.get(PODS, labelSelector="test-pod-static=true"))["metadata"]["resourceVersion"]
    async with api.watch(PODS, labelSelector="test-pod-static=true", resourceVersion=since) as events:
        await api.post(PODS, pod())
        await events.until("ADDED")
        await running(api)
        await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 30})
        await events.until("MODIFIED", lambda p: p["metadata"].get("deletionTimestamp"))
        last = await events.until("DELETED")
        assert last["metadata"]["deletionTimestamp"] and last["metadata"]["deletionGracePeriodSeconds"] is not None
    assert (await api.get(PODS, labelSelector="test-pod-static=true"))["items"] == []


@virtual
async def test_labels_are_updated(api: Api) -> None:
    await api.post(PODS, pod())
    await api.change(f"{PODS}/p", lambda p: p["metadata"]["labels"].update(time="2"))
    assert len((await api.get(PODS, labelSelector="time=2"))["items"]) == 1


@virtual
async def test_a_deadline_that_is_set_on_a_running_pod(api: Api) -> None:
    await api.post(PODS, pod())
    await running(api)
    await api.change(f"{PODS}/p", lambda p: p["spec"].update(activeDeadlineSeconds=5))
    failed = await api.until(f"{PODS}/p", lambda p: p["status"]["phase"] == "Failed", seconds=60)
    assert failed["status"]["reason"] == "DeadlineExceeded"


@virtual
async def test_a_collection_is_deleted(api: Api) -> None:
    for n in range(3):
        await api.post(PODS, pod(f"test-pod-{n}", {"labels": {"type": "Testing"}}, terminationGracePeriodSeconds=1))
    for n in range(3):
        await running(api, f"test-pod-{n}")
    await api.delete(PODS, {"gracePeriodSeconds": 1}, labelSelector="type=Testing")
    await api.until(PODS, lambda p: not p["items"], labelSelector="type=Testing", seconds=60)


@virtual
async def test_status_is_patched(api: Api) -> None:
    await api.post(PODS, pod())
    await running(api)
    patch = {"status": {"message": "Patched by e2e test", "reason": "E2E"}}
    patched = await api.patch(f"{PODS}/p/status", patch)
    assert (patched["status"]["message"], patched["status"]["reason"]) == ("Patched by e2e test", "E2E")


@virtual
async def test_lifecycle(api: Api) -> None:
    """Create, patch labels and image, replace the status, delete as a collection."""
    selector = {"labelSelector": "test-pod-static=true"}
    await api.post(PODS, pod(terminationGracePeriodSeconds=1))
    await running(api)
    async with api.watch(PODS, **selector) as events:
        # As Go writes a pod of which little is set.
        patch = {
            "metadata": {"creationTimestamp": None, "labels": {"test-pod": "patched"}},
            "spec": {
                "containers": [{"name": "c", "image": "httpd", "resources": {}}],
                "terminationGracePeriodSeconds": 1,
            },
            "status": {},
        }
        await api.patch(f"{PODS}/p", patch)
        patched = await api.get(f"{PODS}/p")
        assert patched["metadata"]["labels"]["test-pod"] == "patched"
        assert patched["spec"]["containers"][0]["image"] == "httpd"

        def unready(p: Any) -> None:
            for c in p["status"]["conditions"]:
                if c["type"] in ("Ready", "ContainersReady"):
                    c["status"] = "False"

        shown = await api.get(f"{PODS}/p/status")
        assert conditions(shown)["Ready"] == conditions(shown)["ContainersReady"] == "True"
        replaced = await api.change(f"{PODS}/p", unready, "status")
        assert conditions(replaced)["Ready"] == conditions(replaced)["ContainersReady"] == "False"
        await api.delete(PODS, {"gracePeriodSeconds": 1}, **selector)
        await events.until("DELETED")
    assert (await api.refusal("GET", f"{PODS}/p"))["reason"] == "NotFound"


@virtual
async def test_generation_counts_the_changes_of_what_is_wanted(api: Api) -> None:
    await api.post(PODS, pod(initContainers=[{"name": "init", "image": "busybox", "command": ["true"]}]))
    assert (await running(api))["metadata"]["generation"] == 1

    def tolerate(p: Any) -> None:
        p["spec"]["tolerations"].append({"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"})

    changes: list[tuple[Any, int]] = [
        (lambda p: None, 0),
        (tolerate, 1),
        (lambda p: p["spec"].update(activeDeadlineSeconds=5000), 1),
        (lambda p: p["spec"]["containers"][0].update(image="nginx"), 1),
        (lambda p: p["spec"]["initContainers"][0].update(image="pause"), 1),
        (lambda p: p["metadata"].update(annotations={"key": "value"}), 0),
        (lambda p: p["metadata"].update(generation=1), 0),
    ]
    expected = 1
    for change, more in changes:
        await api.change(f"{PODS}/p", change)
        expected += more
        assert (await api.get(f"{PODS}/p"))["metadata"]["generation"] == expected
    # The node agent tells what it has seen.
    await api.until(f"{PODS}/p", lambda p: p["status"].get("observedGeneration") == expected)


@virtual
async def test_generation_of_five_hundred(api: Api) -> None:
    await api.post(PODS, pod())
    await running(api)
    for n in range(499):
        seconds = 20_000 - n
        await api.patch(f"{PODS}/p", {"spec": {"activeDeadlineSeconds": seconds}}, MERGE)
    found = await api.until(f"{PODS}/p", lambda p: p["status"].get("observedGeneration") == 500)
    assert found["metadata"]["generation"] == 500


@virtual
async def test_generation_is_the_servers_own(api: Api) -> None:
    """One that a client sets is ignored; a graceful deletion raises it."""
    made = await api.post(PODS, pod(meta={"generation": 100}))
    assert made["metadata"]["generation"] == 1
    await running(api)
    answer = await api.send("DELETE", f"{PODS}/p", query={"gracePeriodSeconds": "60"})
    assert answer.status == 200
    assert (await api.get(f"{PODS}/p"))["metadata"]["generation"] == 2


@virtual
async def test_ephemeral_containers_are_added(api: Api) -> None:
    await api.post(PODS, pod())
    await running(api)
    path = f"{PODS}/p/ephemeralcontainers"
    added = {"name": "debugger", "image": "busybox", "stdin": True, "tty": True}
    patched = await api.patch(path, {"spec": {"ephemeralContainers": [added]}})
    assert [c["name"] for c in patched["spec"]["ephemeralContainers"]] == ["debugger"]
    second = {**added, "name": "debugger2"}
    updated = await api.change(f"{PODS}/p", lambda p: p["spec"]["ephemeralContainers"].append(second), path[-19:])
    assert [c["name"] for c in updated["spec"]["ephemeralContainers"]] == ["debugger", "debugger2"]
    running_ = await api.until(f"{PODS}/p", lambda p: len(p["status"].get("ephemeralContainerStatuses", ())) == 2)
    assert {c["name"] for c in running_["status"]["ephemeralContainerStatuses"]} == {"debugger", "debugger2"}


@pytest.mark.parametrize("verb", ["patch", "put"])
@virtual
async def test_resources_are_resized(api: Api, verb: str) -> None:
    """Through the subresource, in place; what it shows is the pod."""
    resources = {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "100m", "memory": "100Mi"}}
    await api.post(PODS, pod(containers=[{"name": "c", "image": "busybox", "resources": resources}]))
    before = await running(api)
    assert await api.get(f"{PODS}/p/resize") == await api.get(f"{PODS}/p")
    more = {"requests": {"cpu": "200m", "memory": "200Mi"}, "limits": {"cpu": "200m", "memory": "200Mi"}}
    if verb == "patch":
        await api.patch(f"{PODS}/p/resize", {"spec": {"containers": [{"name": "c", "resources": more}]}})
    else:
        await api.change(f"{PODS}/p", lambda p: p["spec"]["containers"][0].update(resources=more), "resize")
    resized = await api.until(f"{PODS}/p", lambda p: p["status"]["containerStatuses"][0].get("resources") == more)
    (status,) = resized["status"]["containerStatuses"]
    assert (status["restartCount"], status["containerID"]) == (
        0,
        before["status"]["containerStatuses"][0]["containerID"],
    )
    assert resized["spec"]["containers"][0]["resources"] == more
    assert resized["status"]["qosClass"] == "Guaranteed"
    # Not through the pod itself.
    refused = await api.refused(
        "PATCH", f"{PODS}/p", {"spec": {"containers": [{"name": "c", "resources": resources}]}}, headers=MERGE | {
            "content-type": "application/strategic-merge-patch+json"},
    )  # fmt: skip
    assert "Forbidden: pod updates may not change fields other than" in refused


@virtual
async def test_unsafe_and_wrong_sysctls_are_refused(api: Api) -> None:
    context = {
        "sysctls": [
            {"name": "foo-", "value": "bar"},
            {"name": "kernel.shmmax", "value": "100000000"},
            {"name": "safe-and-unsafe", "value": "100000000"},
            {"name": "bar..", "value": "42"},
        ]
    }
    refused = await api.refused("POST", PODS, pod(securityContext=context))
    for wrong in ('Invalid value: "foo-"', 'Invalid value: "bar.."'):
        assert wrong in refused
    for right in ("safe-and-unsafe", "kernel.shmmax"):
        assert right not in refused


@virtual
async def test_a_pod_with_an_inline_csi_volume(api: Api) -> None:
    """Created, read, listed, patched and deleted; there is no driver, so it need not run."""
    driver = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {
            "name": "inline-driver.example.com",
            "labels": {"security.kubernetes.io/csi-ephemeral-volume-profile": "baseline"},
        },
        "spec": {"volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": False},
    }
    await api.post("/apis/storage.k8s.io/v1/csidrivers", driver)
    volume = {"name": "v", "csi": {"driver": "inline-driver.example.com"}}
    container = {"name": "c", "image": "busybox", "volumeMounts": [{"name": "v", "mountPath": "/mnt"}]}
    await api.post(PODS, pod(containers=[container], volumes=[volume]))
    found = await api.get(f"{PODS}/p")
    assert found["spec"]["volumes"][0]["csi"] == {"driver": "inline-driver.example.com"}
    assert len((await api.get("/api/v1/pods", labelSelector="test-pod-static=true"))["items"]) == 1
    patched = await api.patch(f"{PODS}/p", {"metadata": {"labels": {"p": "patched"}}})
    assert patched["metadata"]["labels"]["p"] == "patched"
    await api.delete(f"{PODS}/p")
    await api.gone(f"{PODS}/p", seconds=120)


@virtual
async def test_a_negative_grace_period_is_one_second(api: Api) -> None:
    made = await api.post(PODS, pod(terminationGracePeriodSeconds=-1, restartPolicy="OnFailure"))
    assert made["spec"]["terminationGracePeriodSeconds"] == 1
    changed = await api.change(f"{PODS}/p", lambda p: p["spec"].update(terminationGracePeriodSeconds=-1))
    assert changed["spec"]["terminationGracePeriodSeconds"] == 1
    await asyncio.sleep(0)


@virtual
async def test_prefixes_of_environment_variables(api: Api) -> None:
    """Any printable ASCII character may be in them, but for the one that ends a name."""

    def prefixed(prefix: str, source: str) -> dict[str, Any]:
        origin = {"prefix": prefix, source: {"name": "x", "optional": True}}
        return pod(containers=[{"name": "c", "image": "busybox", "envFrom": [origin]}])

    printable = "".join(map(chr, range(0x20, 0x7F))).replace("=", "")
    for source in ("configMapRef", "secretRef"):
        made = await api.post(PODS, prefixed(printable, source), dryRun="All")
        assert made["spec"]["containers"][0]["envFrom"][0]["prefix"] == printable
        refused = await api.refusal("POST", PODS, prefixed("a=b", source))
        assert refused["details"]["causes"][0]["field"] == "spec.containers[0].envFrom[0].prefix"
