"""All controllers together: start, idle, end."""

from __future__ import annotations

import asyncio

from controllers.cluster import Cluster, selector, template
from podling import clock
from podling.api import apps_v1, core_v1, discovery_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers.manager import all_controllers
from podling.controllers.metrics import QUEUES
from tests.unit.measured import count


def test_a_whole_cluster_works_idles_without_requests_and_ends() -> None:
    async def main() -> None:
        async with Cluster(*all_controllers(), namespaces=("default", "shop")) as cluster:
            await cluster.client.create(core_v1.Node(metadata=ObjectMeta(name="node-1")))
            await cluster.client.create(
                apps_v1.Deployment(
                    metadata=ObjectMeta(name="web", namespace="shop"),
                    spec=apps_v1.DeploymentSpec(replicas=3, selector=selector(), template=template()),
                )
            )
            service = core_v1.ServiceSpec(
                cluster_ip="10.96.0.9",
                ip_families=["IPv4"],
                selector={"app": "web"},
                ports=[core_v1.ServicePort(port=80, protocol="TCP", target_port=80)],
            )
            await cluster.client.create(
                core_v1.Service(metadata=ObjectMeta(name="web", namespace="shop"), spec=service)
            )
            await cluster.settle(5)
            (slice_,) = await cluster.list(discovery_v1.EndpointSlice, "shop")
            assert len(slice_.endpoints or ()) == 3
            assert count("running_managed_controllers", name_="deployment-controller") == 1
            assert count("workqueue_adds_total", name_="deployment") > 0
            await cluster.settle(600)
            asked: list[str] = []
            send = cluster.api.send

            async def counting(request):  # type: ignore[no-untyped-def]
                if request.query.get("watch") != "true":
                    asked.append(f"{request.method} {request.path}")
                return await send(request)

            cluster.api.send = counting  # type: ignore[method-assign]
            await cluster.settle(3600)
            assert asked == []
            assert len(await cluster.list(core_v1.Pod, "shop")) == 3
            await cluster.client.delete(core_v1.Namespace, "shop")
            await cluster.settle(30)
            assert await cluster.list(apps_v1.Deployment, None) == []
            assert await cluster.get(core_v1.Namespace, "shop", None) is None
        assert len(asyncio.all_tasks()) == 1
        assert count("running_managed_controllers") == 0

    clock.run_virtual(main())


def test_names_are_upstreams_and_unique() -> None:
    names = [c.name for c in all_controllers()]
    assert len(set(names)) == len(names)
    assert set(QUEUES) <= set(names)
    assert {"deployment-controller", "garbage-collector-controller", "endpointslice-controller"} <= set(names)
