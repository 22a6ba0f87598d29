"""PodDisruptionBudgets: their API, their status, and evictions that they hold up."""

from __future__ import annotations

from typing import Any

from tests.conformance.whole import MERGE, Api, in_namespace, template, virtual

BUDGETS = in_namespace("policy/v1", "poddisruptionbudgets")
PODS = in_namespace("v1", "pods")


def budget(name: str = "foo", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": {"e2e": "pdb"}},
        "spec": {"selector": {"matchLabels": {"foo": "bar"}}, **spec},
    }


async def processed(api: Api, name: str = "foo") -> Any:
    return await api.until(
        f"{BUDGETS}/{name}", lambda b: b["status"].get("observedGeneration") == b["metadata"]["generation"]
    )


async def pods(api: Api, number: int) -> None:
    for n in range(number):
        meta = {"name": f"rs-{n}", "labels": {"foo": "bar"}}
        await api.post(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template()["spec"]})
    await api.until(PODS, lambda p: sum(i["status"]["phase"] == "Running" for i in p["items"]) == number)


@virtual
async def test_create_update_patch_and_delete(api: Api) -> None:
    await api.post(BUDGETS, budget(minAvailable="1%"))
    await processed(api)
    await api.change(f"{BUDGETS}/foo", lambda b: b["spec"].update(minAvailable="2%"))
    assert (await processed(api))["spec"]["minAvailable"] == "2%"
    # As Go writes a budget of which only this is set.
    patch = {
        "metadata": {"creationTimestamp": None},
        "spec": {"minAvailable": "3%"},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    }
    assert (await api.patch(f"{BUDGETS}/foo", patch))["spec"]["minAvailable"] == "3%"
    await processed(api)
    await api.delete(f"{BUDGETS}/foo")
    await api.gone(f"{BUDGETS}/foo")


@virtual
async def test_list_everywhere_and_delete_a_collection(api: Api) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
    await api.post("/api/v1/namespaces", namespace)
    await api.post(BUDGETS, budget("foo", minAvailable=1))
    await api.post(BUDGETS, budget("foo2", minAvailable="1%"))
    await api.post(in_namespace("policy/v1", "poddisruptionbudgets", "other"), budget("foo3", minAvailable="2%"))
    everywhere = "/apis/policy/v1/poddisruptionbudgets"
    assert len((await api.get(everywhere, labelSelector="e2e=pdb"))["items"]) == 3
    assert len((await api.get(BUDGETS, labelSelector="e2e=pdb"))["items"]) == 2
    await api.delete(BUDGETS, labelSelector="e2e=pdb")
    assert (await api.get(BUDGETS))["items"] == []
    assert len((await api.get(everywhere))["items"]) == 1


@virtual
async def test_allowed_disruptions_are_told(api: Api) -> None:
    await api.post(BUDGETS, budget(minAvailable=1))
    await pods(api, 3)
    status = (await api.until(f"{BUDGETS}/foo", lambda b: b["status"]["disruptionsAllowed"] > 0))["status"]
    counts = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    assert [status[f] for f in counts] == [2, 3, 1, 3]


@virtual
async def test_status(api: Api) -> None:
    """Updates and patches of the status are accepted; a patch may be JSON, and may say what the status was."""
    await api.post(BUDGETS, budget(minAvailable=1))
    await pods(api, 1)
    await api.until(f"{BUDGETS}/foo", lambda b: b["status"]["currentHealthy"] == 1)

    def update(b: Any) -> None:
        b["status"]["disruptedPods"] = {"rs-0": "2026-01-01T00:00:00Z"}

    updated = await api.change(f"{BUDGETS}/foo", update, "status")
    assert set(updated["status"]["disruptedPods"]) == {"rs-0"}
    live = await api.get(f"{BUDGETS}/foo")
    patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "status": {"disruptedPods": None}}
    patched = await api.patch(f"{BUDGETS}/foo/status", patch, MERGE)
    assert not patched["status"].get("disruptedPods")


@virtual
async def test_an_eviction_waits_until_it_is_allowed(api: Api) -> None:
    await api.post(BUDGETS, budget(minAvailable=3))
    await pods(api, 3)
    await api.until(f"{BUDGETS}/foo", lambda b: b["status"]["currentHealthy"] == 3)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "rs-0", "namespace": "default"}}
    path = f"{PODS}/rs-0/eviction"
    refused = await api.refusal("POST", path, eviction)
    assert (refused["code"], refused["reason"]) == (429, "TooManyRequests")
    assert refused["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    (cause,) = refused["details"]["causes"]
    assert cause["reason"] == "DisruptionBudget"
    await api.change(f"{BUDGETS}/foo", lambda b: b["spec"].update(minAvailable=2))
    await api.until(f"{BUDGETS}/foo", lambda b: b["status"]["disruptionsAllowed"] == 1)
    await api.post(path, eviction)
    await api.gone(f"{PODS}/rs-0")
    # The other pods may not go, until a patch takes what the budget wants.
    other = {**eviction, "metadata": {"name": "rs-1", "namespace": "default"}}
    assert (await api.refusal("POST", f"{PODS}/rs-1/eviction", other))["code"] == 429
    await api.patch(f"{BUDGETS}/foo", {"spec": {"minAvailable": None, "maxUnavailable": 3}}, MERGE)
    # Pods without a controller count only with a number of what must be available.
    await api.delete(f"{BUDGETS}/foo")
    await api.post(f"{PODS}/rs-1/eviction", other)
    await api.gone(f"{PODS}/rs-1")
