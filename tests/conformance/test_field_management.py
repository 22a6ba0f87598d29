"""Server-side apply on a whole cluster: authors, controllers and node agents share objects without taking each
other's fields away."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from podling import clock
from podling.api import apps_v1, core_v1, errors
from podling.api.struct import clone
from podling.client.base import PatchType
from podling.cluster.inprocess import Cluster


def virtual(test: Callable[[Cluster], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with Cluster() as cluster:
                await test(cluster)

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def deployment(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "busybox", "env": [{"name": "A", "value": "1"}]}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


async def apply(cluster: Cluster, intent: dict[str, Any], manager: str, *, force: bool = False) -> apps_v1.Deployment:
    return await cluster.client.patch(
        apps_v1.Deployment, "web", "default", intent, type=PatchType.APPLY, field_manager=manager, force=force
    )


def owned(obj: Any, operation: str, manager: str = "", subresource: str = "") -> dict[str, Any]:
    """The fields of all such entries, by their first two elements."""
    found: dict[str, Any] = {}
    for entry in obj.metadata.managed_fields or ():
        if (entry.operation, entry.subresource or "") == (operation, subresource) and manager in ("", entry.manager):
            for name, below in json.loads(bytes(entry.fields_v1)).items():
                found.setdefault(name, {}).update(below)
    return found


def available(replicas: int) -> Callable[[apps_v1.Deployment], bool]:
    return lambda d: d.status is not None and d.status.available_replicas == replicas


@virtual
async def test_controllers_write_beside_the_author(cluster: Cluster) -> None:
    await apply(cluster, deployment(replicas=2), "ci")
    running = await cluster.until(apps_v1.Deployment, "web", available(2))
    assert set(owned(running, "Apply", "ci")["f:spec"]) == {"f:replicas", "f:selector", "f:template"}
    assert "f:availableReplicas" in owned(running, "Update", subresource="status")["f:status"]
    # What controllers wrote is no conflict, and is not taken away.
    again = await apply(cluster, deployment(replicas=2), "ci")
    assert again.metadata.annotations == {"deployment.kubernetes.io/revision": "1"}
    assert again.metadata.resource_version == running.metadata.resource_version


@virtual
async def test_pods_belong_to_their_controller_and_their_status_to_the_node(cluster: Cluster) -> None:
    await apply(cluster, deployment(replicas=1), "ci")
    await cluster.until(apps_v1.Deployment, "web", available(1))
    (pod,) = (await cluster.client.list(core_v1.Pod, "default", label_selector="app=web")).items
    mine = owned(pod, "Update")
    assert set(mine) == {"f:metadata", "f:spec"}
    # Who binds a pod does not own its place, nor does admission own what it puts in.
    assert pod.spec is not None and pod.spec.node_name
    assert "f:nodeName" not in mine["f:spec"]
    assert "f:volumes" not in mine["f:spec"]
    assert set(owned(pod, "Update", subresource="status")) == {"f:status"}


@virtual
async def test_a_field_is_handed_over(cluster: Cluster) -> None:
    await apply(cluster, deployment(replicas=1), "ci")
    live = clone(await cluster.client.get(apps_v1.Deployment, "web", "default"))
    live.spec.replicas = 3
    await cluster.client.with_agent("autoscaler/1").update(live)
    with pytest.raises(errors.StatusError) as refused:
        await apply(cluster, deployment(replicas=1), "ci")
    assert refused.value.status.message == (
        'Apply failed with 1 conflict: conflict with "autoscaler" using apps/v1: .spec.replicas'
    )
    # The author lets go of it, and it stays as the other wants it.
    kept = await apply(cluster, deployment(), "ci")
    assert kept.spec.replicas == 3
    await cluster.until(apps_v1.Deployment, "web", available(3))
    taken = await apply(cluster, deployment(replicas=1), "ci", force=True)
    assert taken.spec.replicas == 1
    assert owned(taken, "Update", "autoscaler") == {}


@virtual
async def test_two_authors_add_to_the_same_list(cluster: Cluster) -> None:
    await apply(cluster, deployment(), "ci")
    side = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "side", "image": "busybox"}]}}
    both = await apply(cluster, {**deployment(), "spec": {"template": side}}, "mesh")
    assert both.spec.template.spec is not None
    assert [c.name for c in both.spec.template.spec.containers] == ["c", "side"]
    without = await apply(cluster, {**deployment(), "spec": {"paused": False}}, "mesh")
    assert without.spec.template.spec is not None
    assert [c.name for c in without.spec.template.spec.containers] == ["c"]
