"""Services through the kernel: real connections to ClusterIPs and node ports that follow what the API says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from podling.api import core_v1, discovery_v1
from podling.api.meta_v1 import ObjectMeta
from podling.client.informer import Informers
from podling.network.bridge import BridgeNetwork
from podling.network.config import PodNetworkConfig
from podling.proxy.config import ProxyConfig
from podling.proxy.proxier import Proxier
from tests.real.network.lab import Feed, Lab

pytestmark = pytest.mark.real


def service(name: str, ip: str, *ports: core_v1.ServicePort, **spec: Any) -> core_v1.Service:
    spec = {"type": "ClusterIP", "cluster_ip": ip, "cluster_ips": [ip], **spec}
    return core_v1.Service(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=core_v1.ServiceSpec(ports=list(ports) or [core_v1.ServicePort(port=80, protocol="TCP")], **spec),
    )


def endpoints(
    name: str, ips: Sequence[str], *ports: tuple[str | None, int, str], node: str = "n1", **conditions: bool
) -> discovery_v1.EndpointSlice:
    return discovery_v1.EndpointSlice(
        metadata=ObjectMeta(name=f"{name}-1", namespace="default", labels={"kubernetes.io/service-name": name}),
        address_type="IPv4",
        ports=[discovery_v1.EndpointPort(name=n, port=p, protocol=t) for n, p, t in ports or [(None, 8080, "TCP")]],
        endpoints=[
            discovery_v1.Endpoint(
                addresses=[ip],
                node_name=node,
                conditions=discovery_v1.EndpointConditions(**conditions) if conditions else None,
            )
            for ip in ips
        ],
    )


class Node:
    """A node with three pods, `client`, `a` and `b`; the last two answer with their names on port 8080."""

    def __init__(self, lab: Lab, *, dual: bool = False) -> None:
        six = {"pods": ("fd77:0:0:1::/64",), "all": ("fd77::/48",), "services": ("fd78::/112",)} if dual else {}
        self.lab = lab
        self.host = lab.host
        self.feed = Feed()
        self.network = BridgeNetwork(
            PodNetworkConfig(
                pod_cidrs=("10.77.1.0/24", *six.get("pods", ())),
                pod_ranges=("10.77.0.0/16", *six.get("all", ())),
                service_ranges=("10.78.0.0/16", *six.get("services", ())),
                node_ranges=("10.79.0.0/24",),
                state_file=str(lab.directory / "leases.json"),
                bridge="pods0",
                table="test-pods",
                netns=lab.host,
            )
        )
        self.informers = Informers(self.feed, detect_mutations=True)  # type: ignore[arg-type]
        self.proxier = Proxier(
            self.informers,
            ProxyConfig(
                node_name="n1",
                pod_cidrs=("10.77.1.0/24", *six.get("pods", ())),
                pod_ranges=("10.77.0.0/16", *six.get("all", ())),
                service_ranges=("10.78.0.0/16", *six.get("services", ())),
                node_ranges=("10.79.0.0/24",),
                table="test-services",
                netns=lab.host,
            ),
        )
        self.pods: dict[str, str] = {}
        self.ips: dict[str, str] = {}

    async def start(self) -> None:
        await self.network.start()
        for name in ("client", "a", "b"):
            self.pods[name] = self.lab.namespace(name)
            self.ips[name] = (await self.network.attach(name, self.pods[name])).ips[0]
        for name in ("a", "b"):
            await self.lab.serve(self.pods[name], 8080, name)
            if len(self.network.config.pod_cidrs) > 1:
                await self.lab.serve(self.pods[name], 8086, name, address="::")
        self.informers.start()
        await self.proxier.start()

    async def close(self) -> None:
        await self.proxier.teardown()
        await self.informers.close()
        await self.network.teardown()
        await self.network.close()

    async def settle(self) -> None:
        """Until what was put is in the kernel."""
        for _ in range(5):
            await asyncio.sleep(0)
        while self.proxier.pending:
            await asyncio.sleep(0.001)

    async def put(self, *objects: Any) -> None:
        for obj in objects:
            self.feed.put(obj)
        await self.settle()

    async def ask(self, address: str, port: int, *, from_: str | None = None, times: int = 30) -> Counter[str]:
        path = from_ or self.pods["client"]
        return Counter([await self.lab.tcp(path, address, port) for _ in range(times)])


@pytest_asyncio.fixture
async def node(lab: Lab) -> AsyncIterator[Node]:
    made = Node(lab)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def test_a_cluster_ip_leads_to_all_endpoints_and_keeps_the_clients_address(node: Node) -> None:
    await node.put(service("web", "10.78.0.1"), endpoints("web", [node.ips["a"], node.ips["b"]]))
    client = node.ips["client"]
    answers = await node.ask("10.78.0.1", 80)
    assert set(answers) == {f"a {client}", f"b {client}"}
    assert set(await node.ask("10.78.0.1", 80, from_=node.host)) == {"a 10.77.1.1", "b 10.77.1.1"}


async def test_services_work_when_the_kernel_shows_bridged_frames_to_netfilter(node: Node) -> None:
    node.lab.command(node.host, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
    await node.put(service("web", "10.78.0.1"), endpoints("web", [node.ips["a"], node.ips["b"]]))
    client = node.ips["client"]
    assert set(await node.ask("10.78.0.1", 80)) == {f"a {client}", f"b {client}"}
    assert {answer[0] for answer in await node.ask("10.78.0.1", 80, from_=node.pods["a"])} == {"a", "b"}
    await node.put(endpoints("web", []))
    with pytest.raises(ConnectionRefusedError):
        await node.lab.tcp(node.pods["client"], "10.78.0.1", 80)


async def test_a_pod_reaches_itself_through_its_service(node: Node) -> None:
    await node.put(service("web", "10.78.0.1"), endpoints("web", [node.ips["a"]]))
    assert await node.ask("10.78.0.1", 80, from_=node.pods["a"], times=1) == {"a 10.77.1.1": 1}


async def test_the_node_itself_as_an_endpoint(node: Node) -> None:
    await node.lab.serve(node.host, 6443, "api")
    await node.put(service("api", "10.78.0.1"), endpoints("api", ["10.77.1.1"], (None, 6443, "TCP")))
    assert await node.ask("10.78.0.1", 80, times=1) == {f"api {node.ips['client']}": 1}
    assert await node.ask("10.78.0.1", 80, from_=node.host, times=1) == {"api 10.77.1.1": 1}


async def test_endpoints_come_and_go(node: Node) -> None:
    web = service("web", "10.78.0.1")
    await node.put(web, endpoints("web", [node.ips["a"]]))
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"a"}
    await node.put(endpoints("web", [node.ips["b"]]))
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"b"}
    await node.put(endpoints("web", []))
    for source in (node.pods["client"], node.host):
        with pytest.raises(ConnectionRefusedError):
            await node.lab.tcp(source, "10.78.0.1", 80)
    await node.put(endpoints("web", [node.ips["a"]]))
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"a"}
    node.feed.delete(web)
    await node.settle()
    with pytest.raises(OSError, match="Errno 113"):
        await node.lab.tcp(node.pods["client"], "10.78.0.1", 80)


async def test_another_port_of_a_service_is_refused(node: Node) -> None:
    await node.put(service("web", "10.78.0.1"), endpoints("web", [node.ips["a"]]))
    for source in (node.pods["client"], node.host):
        with pytest.raises(ConnectionRefusedError):
            await node.lab.tcp(source, "10.78.0.1", 81)


async def test_udp_without_endpoints_is_refused_and_found_when_they_come(node: Node) -> None:
    dns = core_v1.ServicePort(port=53, protocol="UDP")
    await node.put(service("dns", "10.78.0.1", dns), endpoints("dns", [], (None, 8080, "UDP")))
    async with node.lab.udp(node.pods["client"]) as client:
        with pytest.raises(ConnectionRefusedError):
            await client.ask_connected("10.78.0.1", 53)
    async with node.lab.udp(node.pods["client"]) as client:
        await node.put(endpoints("dns", [node.ips["a"]], (None, 8080, "UDP")))
        assert await client.ask("10.78.0.1", 53) == f"a {node.ips['client']}"
        # One flow of one socket: it moves only because it is forgotten.
        await node.put(endpoints("dns", [node.ips["b"]], (None, 8080, "UDP")))
        assert await client.ask("10.78.0.1", 53) == f"b {node.ips['client']}"


async def test_node_ports_from_everywhere(node: Node) -> None:
    outside = node.lab.uplink()
    port = core_v1.ServicePort(port=80, protocol="TCP", node_port=30080)
    await node.put(service("web", "10.78.0.1", port, type="NodePort"), endpoints("web", [node.ips["a"]]))
    assert await node.lab.tcp(outside, "192.0.2.2", 30080) == "a 10.77.1.1"
    assert await node.lab.tcp(node.pods["client"], "192.0.2.2", 30080) == "a 10.77.1.1"
    assert await node.lab.tcp(node.pods["a"], "192.0.2.2", 30080) == "a 10.77.1.1"
    assert await node.lab.tcp(node.host, "192.0.2.2", 30080) == "a 10.77.1.1"
    assert await node.lab.tcp(node.host, "127.0.0.1", 30080) == "a 10.77.1.1"
    await node.put(endpoints("web", []))
    for source in (outside, node.host):
        with pytest.raises(ConnectionRefusedError):
            await node.lab.tcp(source, "192.0.2.2", 30080)


async def test_external_traffic_policy_local_keeps_the_clients_address(node: Node) -> None:
    outside = node.lab.uplink()
    port = core_v1.ServicePort(port=80, protocol="TCP", node_port=30080)
    web = service("web", "10.78.0.1", port, type="NodePort", external_traffic_policy="Local")
    await node.put(web, endpoints("web", [node.ips["a"]]))
    assert await node.lab.tcp(outside, "192.0.2.2", 30080) == "a 192.0.2.1"
    # Nothing here any more: outside is left to look for another node, the node itself and pods are led there.
    await node.put(endpoints("web", [node.ips["b"]], node="n2"))
    with pytest.raises(TimeoutError):
        await node.lab.tcp(outside, "192.0.2.2", 30080)
    assert await node.lab.tcp(node.pods["client"], "192.0.2.2", 30080) == f"b {node.ips['client']}"
    assert await node.lab.tcp(node.host, "192.0.2.2", 30080) == "b 10.77.1.1"


async def test_internal_traffic_policy_local(node: Node) -> None:
    web = service("web", "10.78.0.1", internal_traffic_policy="Local")
    slice_ = endpoints("web", [node.ips["a"], node.ips["b"]])
    assert slice_.endpoints
    slice_.endpoints[1].node_name = "n2"
    await node.put(web, slice_)
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"a"}
    await node.put(endpoints("web", [node.ips["b"]], node="n2"))
    with pytest.raises(TimeoutError):
        await node.lab.tcp(node.pods["client"], "10.78.0.1", 80)


async def test_external_ips_and_load_balancers(node: Node) -> None:
    outside = node.lab.uplink()
    node.lab.command(outside, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
    web = service(
        "web",
        "10.78.0.1",
        type="LoadBalancer",
        external_ips=["198.51.100.1"],
        load_balancer_source_ranges=["203.0.113.0/24"],
    )
    balanced = core_v1.LoadBalancerIngress(ip="198.51.100.2", ip_mode="VIP")
    web.status = core_v1.ServiceStatus(load_balancer=core_v1.LoadBalancerStatus(ingress=[balanced]))
    await node.put(web, endpoints("web", [node.ips["a"]]))
    assert await node.lab.tcp(outside, "198.51.100.1", 80) == "a 10.77.1.1"
    with pytest.raises(TimeoutError):
        await node.lab.tcp(outside, "198.51.100.2", 80)
    web.spec.load_balancer_source_ranges = ["203.0.113.0/24", "192.0.2.0/24"]
    await node.put(web)
    assert await node.lab.tcp(outside, "198.51.100.2", 80) == "a 10.77.1.1"


async def test_session_affinity_holds_while_endpoints_come_and_go(node: Node) -> None:
    config = core_v1.SessionAffinityConfig(client_ip=core_v1.ClientIPConfig(timeout_seconds=60))
    web = service("web", "10.78.0.1", session_affinity="ClientIP", session_affinity_config=config)
    await node.put(web, endpoints("web", [node.ips["a"], node.ips["b"]]))
    (held,) = {answer[0] for answer in await node.ask("10.78.0.1", 80)}
    await node.put(endpoints("web", [node.ips["a"], node.ips["b"], "10.77.1.99"]))
    assert {answer[0] for answer in await node.ask("10.78.0.1", 80)} == {held}
    (other,) = {"a", "b"} - {held}
    await node.put(endpoints("web", [node.ips[other]]))
    assert {answer[0] for answer in await node.ask("10.78.0.1", 80)} == {other}
    web.spec.session_affinity = "None"
    await node.put(web, endpoints("web", [node.ips["a"], node.ips["b"]]))
    assert {answer[0] for answer in await node.ask("10.78.0.1", 80)} == {"a", "b"}


async def test_terminating_endpoints_serve_when_no_other_is_left(node: Node) -> None:
    ending = endpoints("web", [node.ips["a"]], ready=False, serving=True, terminating=True)
    await node.put(service("web", "10.78.0.1"), ending)
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"a"}
    await node.put(endpoints("web", [node.ips["a"]], ready=False, serving=False, terminating=True))
    with pytest.raises(ConnectionRefusedError):
        await node.lab.tcp(node.pods["client"], "10.78.0.1", 80)


async def test_two_hundred_services_at_once(node: Node) -> None:
    for number in range(200):
        node.feed.put(service(f"web-{number}", f"10.78.1.{number}"))
        node.feed.put(endpoints(f"web-{number}", [node.ips["a"], node.ips["b"]]))
    await node.settle()
    for number in (0, 99, 199):
        assert {a[0] for a in await node.ask(f"10.78.1.{number}", 80)} == {"a", "b"}


async def test_rules_that_were_taken_away_come_back_with_the_next_change(node: Node) -> None:
    await node.put(service("web", "10.78.0.1"), endpoints("web", [node.ips["a"]]))
    node.lab.command(node.host, "nft", "delete", "table", "inet", "test-services")
    await node.put(service("other", "10.78.0.2"), endpoints("other", [node.ips["b"]]))
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"a"}
    assert {a[0] for a in await node.ask("10.78.0.2", 80)} == {"b"}


async def test_an_external_address_that_two_services_claim_belongs_to_the_first(node: Node) -> None:
    one = service("one", "10.78.0.1", external_ips=["198.51.100.1"])
    two = service("two", "10.78.0.2", external_ips=["198.51.100.1"])
    await node.put(one, endpoints("one", [node.ips["a"]]))
    await node.put(two, endpoints("two", [node.ips["b"]]))
    assert {a[0] for a in await node.ask("198.51.100.1", 80)} == {"a"}
    node.feed.delete(one)
    await node.settle()
    assert {a[0] for a in await node.ask("198.51.100.1", 80)} == {"b"}


async def test_load_balancers_learn_whether_the_node_has_endpoints(node: Node) -> None:
    web = service(
        "web", "10.78.0.1", type="LoadBalancer", external_traffic_policy="Local", health_check_node_port=32000
    )

    async def health() -> tuple[int, dict[str, Any]]:
        text = await node.lab.http(node.host, "127.0.0.1", 32000)
        head, _, body = text.partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    await node.put(web, endpoints("web", [node.ips["a"]]))
    assert await health() == (
        200,
        {"service": {"namespace": "default", "name": "web"}, "localEndpoints": 1, "serviceProxyHealthy": True},
    )
    await node.put(endpoints("web", []))
    assert (await health())[0] == 503
    node.feed.delete(web)
    await node.settle()
    with pytest.raises(ConnectionRefusedError):
        await health()


async def test_a_restart_of_the_proxy_interrupts_nothing(node: Node) -> None:
    await node.put(service("web", "10.78.0.1"), endpoints("web", [node.ips["a"]]))
    await node.proxier.close()
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"a"}
    node.proxier = Proxier(node.informers, node.proxier.config)
    await node.proxier.start()
    await node.put(endpoints("web", [node.ips["b"]]))
    assert {a[0] for a in await node.ask("10.78.0.1", 80)} == {"b"}


async def test_dual_stack_services(lab: Lab) -> None:
    node = Node(lab, dual=True)
    try:
        await node.start()
        web = service("web", "10.78.0.1", cluster_ips=["10.78.0.1", "fd78::1"])
        six = endpoints("web", ["fd77:0:0:1::3", "fd77:0:0:1::4"], (None, 8086, "TCP"))
        six.metadata.name, six.address_type = "web-6", "IPv6"
        await node.put(web, endpoints("web", [node.ips["a"], node.ips["b"]]), six)
        assert {answer[0] for answer in await node.ask("10.78.0.1", 80)} == {"a", "b"}
        assert set(await node.ask("fd78::1", 80)) == {"a fd77:0:0:1::2", "b fd77:0:0:1::2"}
        assert {a.split()[0] for a in await node.ask("fd78::1", 80, from_=node.pods["a"])} == {"a", "b"}
        assert {a.split()[0] for a in await node.ask("fd78::1", 80, from_=node.host)} == {"a", "b"}
        six.endpoints = []
        await node.put(six)
        for source in (node.pods["client"], node.host):
            with pytest.raises(ConnectionRefusedError):
                await node.lab.tcp(source, "fd78::1", 80)
    finally:
        await node.close()
