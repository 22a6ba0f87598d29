"""EndpointSlices, Endpoints and mirrored slices against the real API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controllers.cluster import Cluster, pod, set_ready, set_running
from podling import clock
from podling.api import core_v1, discovery_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import endpoints as legacy
from podling.controllers import endpointslice, service_pods
from podling.controllers.endpoints import EndpointsController
from podling.controllers.endpointslice import EndpointSliceController
from podling.controllers.endpointslice_mirroring import EndpointSliceMirroringController


def in_cluster(main: Callable[[Cluster], Any], **options: Any) -> None:
    async def run() -> None:
        kinds = (EndpointSliceController, EndpointsController, EndpointSliceMirroringController)
        async with Cluster(*kinds, agents=False, **options) as cluster:
            await main(cluster)

    clock.run_virtual(run())


def service(name: str = "web", **spec: Any) -> core_v1.Service:
    spec.setdefault("cluster_ip", "10.96.0.7")
    spec.setdefault("ip_families", ["IPv4"])
    spec.setdefault("selector", {"app": "web"})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("ports", [core_v1.ServicePort(name="http", port=80, protocol="TCP", target_port="web")])
    return core_v1.Service(
        metadata=ObjectMeta(name=name, namespace="default", labels={"team": "blue"}), spec=core_v1.ServiceSpec(**spec)
    )


async def run_pod(cluster: Cluster, name: str, ip: str, *, ready: bool = True, port: int = 8080) -> None:
    p = pod(name, {"app": "web"}, node="n1")
    p.spec.containers[0].ports = [core_v1.ContainerPort(name="web", container_port=port, protocol="TCP")]
    await cluster.client.create(p)
    await cluster.change_status(core_v1.Pod, name, lambda p: set_running(p, ready, ip))


async def the_slices(cluster: Cluster, name: str = "web") -> list[discovery_v1.EndpointSlice]:
    await cluster.settle(0.5)
    found = await cluster.list(discovery_v1.EndpointSlice)
    return [s for s in found if (s.metadata.labels or {}).get("kubernetes.io/service-name") == name]


def shown(slice_: discovery_v1.EndpointSlice) -> dict[str, tuple[bool | None, bool | None, bool | None]]:
    result = {}
    for e in slice_.endpoints or ():
        c = e.conditions or discovery_v1.EndpointConditions()
        result[e.addresses[0]] = (c.ready, c.serving, c.terminating)
    return result


def test_slices_follow_pods_from_unready_to_ready_to_terminating_to_gone() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(
            core_v1.Node(metadata=ObjectMeta(name="n1", labels={"topology.kubernetes.io/zone": "z1"}))
        )
        made = await cluster.client.create(service())
        (empty,) = await the_slices(cluster)
        assert empty.endpoints == [] and empty.ports == []
        await run_pod(cluster, "a", "10.244.0.2", ready=False)
        (found,) = await the_slices(cluster)
        assert found.metadata.name == empty.metadata.name and (found.metadata.name or "").startswith("web-")
        assert shown(found) == {"10.244.0.2": (False, False, False)}
        assert found.metadata.labels == {
            "team": "blue",
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        (owner,) = found.metadata.owner_references or []
        assert (owner.kind, owner.uid, owner.controller) == ("Service", made.metadata.uid, True)
        assert found.ports == [discovery_v1.EndpointPort(name="http", port=8080, protocol="TCP")]
        (e,) = found.endpoints or []
        assert (e.node_name, e.zone) == ("n1", "z1") and e.target_ref is not None and e.target_ref.name == "a"
        assert service_pods.LAST_CHANGE in (found.metadata.annotations or {})

        await cluster.change_status(core_v1.Pod, "a", lambda p: set_ready(p, True))
        (found,) = await the_slices(cluster)
        assert shown(found) == {"10.244.0.2": (True, True, False)}
        endpoints = await cluster.client.get(core_v1.Endpoints, "web", "default")
        assert endpoints.subsets is not None and [a.ip for a in endpoints.subsets[0].addresses or ()] == ["10.244.0.2"]

        await cluster.change(core_v1.Pod, "a", lambda p: setattr(p.metadata, "finalizers", ["example.com/hold"]))
        await cluster.client.delete(core_v1.Pod, "a", "default")
        (found,) = await the_slices(cluster)
        assert shown(found) == {"10.244.0.2": (False, True, True)}
        assert (await cluster.client.get(core_v1.Endpoints, "web", "default")).subsets is None
        await cluster.change(core_v1.Pod, "a", lambda p: setattr(p.metadata, "finalizers", None))
        (found,) = await the_slices(cluster)
        assert found.endpoints == []

        await cluster.client.delete(core_v1.Service, "web", "default")
        await cluster.settle()
        assert await cluster.get(core_v1.Endpoints, "web") is None

    in_cluster(main)


def test_pods_with_another_number_for_a_named_port_are_in_another_slice() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(service())
        await run_pod(cluster, "a", "10.244.0.2", port=8080)
        await run_pod(cluster, "b", "10.244.0.3", port=9090)
        found = await the_slices(cluster)
        assert {s.ports[0].port: list(shown(s)) for s in found if s.ports} == {
            8080: ["10.244.0.2"],
            9090: ["10.244.0.3"],
        }
        endpoints = await cluster.client.get(core_v1.Endpoints, "web", "default")
        assert {s.ports[0].port for s in endpoints.subsets or () if s.ports} == {8080, 9090}

    in_cluster(main)


def test_relabelling_moves_a_pod_between_services() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(service("web"))
        await cluster.client.create(service("other", selector={"app": "other"}))
        await run_pod(cluster, "a", "10.244.0.2")
        assert [list(shown(s)) for s in await the_slices(cluster, "web")] == [["10.244.0.2"]]
        await cluster.change(core_v1.Pod, "a", lambda p: setattr(p.metadata, "labels", {"app": "other"}))
        assert [list(shown(s)) for s in await the_slices(cluster, "web")] == [[]]
        assert [list(shown(s)) for s in await the_slices(cluster, "other")] == [["10.244.0.2"]]

    in_cluster(main)


def test_headless_services_have_hostnames_and_a_label_and_need_no_ports() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(service(cluster_ip="None", ports=None))
        p = pod("a", {"app": "web"}, node="n1")
        p.spec.hostname, p.spec.subdomain = "a-0", "web"
        await cluster.client.create(p)
        await cluster.change_status(core_v1.Pod, "a", lambda p: set_running(p, True, "10.244.0.2"))
        (found,) = await the_slices(cluster)
        assert "service.kubernetes.io/headless" in (found.metadata.labels or {})
        assert [e.hostname for e in found.endpoints or ()] == ["a-0"] and found.ports == []
        endpoints = await cluster.client.get(core_v1.Endpoints, "web", "default")
        assert endpoints.subsets is not None and endpoints.subsets[0].ports is None
        assert "service.kubernetes.io/headless" in (endpoints.metadata.labels or {})

    in_cluster(main)


def test_endpoints_written_by_hand_are_mirrored_unless_they_say_no() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(service(selector=None))
        subset = core_v1.EndpointSubset(
            addresses=[core_v1.EndpointAddress(ip="10.1.2.3")],
            not_ready_addresses=[core_v1.EndpointAddress(ip="10.1.2.4")],
            ports=[core_v1.EndpointPort(name="http", port=80, protocol="TCP")],
        )
        by_hand = core_v1.Endpoints(metadata=ObjectMeta(name="web", namespace="default"), subsets=[subset])
        await cluster.client.create(by_hand)
        (found,) = await the_slices(cluster)
        assert shown(found) == {"10.1.2.3": (True, None, None), "10.1.2.4": (False, None, None)}
        label = "endpointslice.kubernetes.io/managed-by"
        assert (found.metadata.labels or {})[label] == "endpointslicemirroring-controller.k8s.io"

        def change(e: core_v1.Endpoints) -> None:
            assert e.subsets and e.subsets[0].addresses
            e.subsets[0].addresses[0].ip = "10.1.2.5"

        await cluster.change(core_v1.Endpoints, "web", change)
        (found,) = await the_slices(cluster)
        assert set(shown(found)) == {"10.1.2.5", "10.1.2.4"}
        skip = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        await cluster.change(core_v1.Endpoints, "web", lambda e: setattr(e.metadata, "labels", skip))
        assert await the_slices(cluster) == []

    in_cluster(main)


def test_a_service_without_selector_keeps_the_slices_made_for_it_by_hand() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(service(selector=None))
        labels = {"kubernetes.io/service-name": "web"}
        by_hand = discovery_v1.EndpointSlice(
            metadata=ObjectMeta(name="mine", namespace="default", labels=labels), address_type="IPv4", endpoints=[]
        )
        await cluster.client.create(by_hand)
        assert [s.metadata.name for s in await the_slices(cluster)] == ["mine"]

    in_cluster(main)


@pytest.mark.parametrize(
    ("distribution", "zones", "nodes"),
    [
        (None, None, None),
        ("PreferClose", ["z"], None),
        ("PreferSameZone", ["z"], None),
        ("PreferSameNode", ["z"], ["n"]),
    ],
)
def test_traffic_distribution_becomes_hints(distribution: str | None, zones: Any, nodes: Any) -> None:
    p = pod("a", node="n")
    set_running(p)
    found = endpointslice.endpoint(p, service(traffic_distribution=distribution), "IPv4", "z").hints
    assert (found.for_zones and [z.name for z in found.for_zones] if found else None) == zones
    assert (found.for_nodes and [n.name for n in found.for_nodes] if found else None) == nodes


def test_publish_not_ready_addresses_makes_everything_ready() -> None:
    p = pod("a", node="n")
    set_running(p, ready=False)
    p.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    tolerant = service(publish_not_ready_addresses=True)
    c = endpointslice.endpoint(p, tolerant, "IPv4", None).conditions
    assert c is not None and (c.ready, c.serving, c.terminating) == (True, False, True)
    assert legacy.subsets(tolerant, [p]) == []  # the service's named port is not in the pod
    tolerant.spec.ports = [core_v1.ServicePort(port=80)]
    (subset,) = legacy.subsets(tolerant, [p])
    assert subset.addresses and subset.not_ready_addresses is None


def test_more_than_a_thousand_addresses_are_cut_ready_ones_last() -> None:
    def subset(ready: int, others: int) -> core_v1.EndpointSubset:
        return core_v1.EndpointSubset(
            addresses=[core_v1.EndpointAddress(ip=str(i)) for i in range(ready)] or None,
            not_ready_addresses=[core_v1.EndpointAddress(ip=str(i)) for i in range(others)] or None,
        )

    assert legacy.truncated([subset(600, 400)]) == ([subset(600, 400)], False)
    (cut,), was = legacy.truncated([subset(600, 800)])
    assert was and (len(cut.addresses or ()), len(cut.not_ready_addresses or ())) == (600, 400)
    two, was = legacy.truncated([subset(1500, 10), subset(500, 0)])
    assert was and [len(s.addresses or ()) for s in two] == [750, 250] and two[0].not_ready_addresses is None
