"""The bridge network: what a sandbox gets, whom it reaches, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from podling.network import netns
from podling.network.base import NetworkFailure, PortMapping
from podling.network.bridge import BridgeNetwork
from podling.network.config import NodeNetworkConfig, PodNetworkConfig
from podling.network.node_network import NodeNetwork
from podling.network.routes import PodRoutes
from tests.real.network.lab import Lab

pytestmark = pytest.mark.real

RANGES = {"pod_ranges": ("10.77.0.0/16",), "service_ranges": ("10.78.0.0/16",)}


def config(lab: Lab, number: int = 1, **more: object) -> PodNetworkConfig:
    settings: dict[str, object] = {
        "pod_cidrs": (f"10.77.{number}.0/24",),
        "state_file": str(lab.directory / f"leases-{number}.json"),
        "node_ranges": ("10.79.0.0/24",),
        "bridge": "pods0",
        "table": "test-pods",
        "netns": lab.host,
        **RANGES,
        **more,
    }
    return PodNetworkConfig(**settings)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def network(lab: Lab) -> AsyncIterator[BridgeNetwork]:
    made = BridgeNetwork(config(lab, local_addresses=("10.78.0.10",)))
    await made.start()
    try:
        yield made
    finally:
        await made.teardown()
        await made.close()


async def test_pods_reach_each_other_with_their_own_addresses(lab: Lab, network: BridgeNetwork) -> None:
    one, two = lab.namespace("one"), lab.namespace("two")
    first = await network.attach("sandbox-1", one)
    second = await network.attach("sandbox-2", two)
    assert (first.ips, second.ips, first.interface) == (("10.77.1.2",), ("10.77.1.3",), "eth0")
    await lab.serve(two, 8080, "two")
    assert await lab.tcp(one, "10.77.1.3", 8080) == "two 10.77.1.2"
    assert await lab.tcp(lab.host, "10.77.1.3", 8080) == "two 10.77.1.1"
    assert await lab.tcp(two, "127.0.0.1", 8080) == "two 127.0.0.1"
    async with lab.udp(one) as client:
        assert await client.ask("10.77.1.3", 8080) == "two 10.77.1.2"


async def test_attach_again_gives_the_same_answer(lab: Lab, network: BridgeNetwork) -> None:
    one = lab.namespace("one")
    first = await network.attach("sandbox-1", one)
    assert await network.attach("sandbox-1", one) == first
    assert await network.attachments() == {"sandbox-1": first}


async def test_attach_mends_a_link_that_was_lost(lab: Lab, network: BridgeNetwork) -> None:
    one = lab.namespace("one")
    first = await network.attach("sandbox-1", one)
    lab.command(one, "ip", "link", "delete", "eth0")
    assert await network.attach("sandbox-1", one) == first
    await lab.serve(one, 8080, "one")
    assert await lab.tcp(lab.host, first.ips[0], 8080) == "one 10.77.1.1"


async def test_a_failed_attach_leaves_nothing(lab: Lab, network: BridgeNetwork) -> None:
    one = lab.namespace("one")
    lab.command(one, "ip", "link", "add", "eth0", "type", "bridge")
    before = lab.links(lab.host)
    with pytest.raises(NetworkFailure, match="add veth pod"):
        await network.attach("sandbox-1", one)
    assert await network.attachments() == {}
    assert lab.links(lab.host) == before


async def test_a_namespace_that_is_not_there_is_named(network: BridgeNetwork) -> None:
    with pytest.raises(NetworkFailure, match="cannot open network namespace /nowhere: No such file"):
        await network.attach("sandbox-1", "/nowhere")


async def test_detach_gives_everything_back(lab: Lab, network: BridgeNetwork) -> None:
    namespaces = [lab.namespace(f"pod-{i}") for i in range(5)]
    before = lab.links(lab.host)
    await asyncio.gather(*(network.attach(path, path) for path in namespaces))
    assert len(await network.attachments()) == 5
    await asyncio.gather(*(network.detach(path, path) for path in namespaces))
    await network.detach("never seen", None)
    assert await network.attachments() == {}
    assert lab.links(lab.host) == before
    again = await network.attach("sandbox-1", namespaces[0])
    assert again.ips == ("10.77.1.7",), "an address that was given back rests for a while"


async def test_leases_survive_a_restart_of_the_agent(lab: Lab, network: BridgeNetwork) -> None:
    one, two = lab.namespace("one"), lab.namespace("two")
    first = await network.attach("sandbox-1", one, (PortMapping(host_port=8080, container_port=80),))
    await lab.serve(one, 80, "one")
    later = BridgeNetwork(network.config)
    await later.start()
    try:
        assert await later.attachments() == {"sandbox-1": first}
        assert (await later.attach("sandbox-2", two)).ips == ("10.77.1.3",)
        assert await lab.tcp(two, "10.77.1.1", 8080) == "one 10.77.1.3"
        await later.retain(["sandbox-2"])
        assert list(await later.attachments()) == ["sandbox-2"]
    finally:
        await later.close()


async def test_host_ports_lead_to_their_pod(lab: Lab, network: BridgeNetwork) -> None:
    outside = lab.uplink()
    one, two = lab.namespace("one"), lab.namespace("two")
    await network.attach(
        "sandbox-1",
        one,
        (
            PortMapping(host_port=8080, container_port=80),
            PortMapping(host_port=5353, container_port=53, protocol="UDP"),
            PortMapping(host_port=9090, container_port=80, host_ip="127.0.0.1"),
        ),
    )
    await network.attach("sandbox-2", two)
    await lab.serve(one, 80, "one")
    await lab.serve(one, 53, "dns")
    assert await lab.tcp(outside, "192.0.2.2", 8080) == "one 192.0.2.1"
    assert await lab.tcp(two, "192.0.2.2", 8080) == "one 10.77.1.3"
    assert await lab.tcp(one, "192.0.2.2", 8080) == "one 10.77.1.1", "a pod that reaches itself"
    assert await lab.tcp(lab.host, "127.0.0.1", 8080) == "one 10.77.1.1"
    assert await lab.tcp(lab.host, "127.0.0.1", 9090) == "one 10.77.1.1"
    with pytest.raises(ConnectionRefusedError):
        await lab.tcp(outside, "192.0.2.2", 9090)
    async with lab.udp(outside) as client:
        assert await client.ask("192.0.2.2", 5353) == "dns 192.0.2.1"
    await network.detach("sandbox-1", one)
    with pytest.raises(ConnectionRefusedError):
        await lab.tcp(outside, "192.0.2.2", 8080)


async def test_pods_leave_the_cluster_with_the_hosts_address(lab: Lab, network: BridgeNetwork) -> None:
    outside, one = lab.uplink(), lab.namespace("one")
    await network.attach("sandbox-1", one)
    await lab.serve(outside, 80, "outside")
    assert await lab.tcp(one, "192.0.2.1", 80) == "outside 192.0.2.2"


async def test_packets_for_the_cluster_never_leave_the_machine(lab: Lab, network: BridgeNetwork) -> None:
    outside, one = lab.uplink(), lab.namespace("one")
    lab.command(outside, "ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.2")
    lab.command(outside, "ip", "address", "add", "10.77.9.9/32", "dev", "lo")
    await lab.serve(outside, 80, "outside")
    await network.attach("sandbox-1", one)
    for source in (one, lab.host):
        with pytest.raises(OSError, match=f"Errno {errno.EHOSTUNREACH}"):
            await lab.tcp(source, "10.77.9.9", 80)


async def test_the_nodes_loopback_is_closed_to_pods(lab: Lab, network: BridgeNetwork) -> None:
    one = lab.namespace("one")
    await network.attach("sandbox-1", one)
    await lab.serve(lab.host, 80, "host")
    lab.command(one, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    lab.command(one, "ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
    lab.command(one, "ip", "route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local")
    lab.command(one, "ip", "route", "add", "127.0.0.0/8", "via", "10.77.1.1", "dev", "eth0", "src", "10.77.1.2")
    with pytest.raises(TimeoutError):
        await lab.tcp(one, "127.0.0.1", 80)


async def test_local_addresses_are_served_by_the_node(lab: Lab, network: BridgeNetwork) -> None:
    one = lab.namespace("one")
    await network.attach("sandbox-1", one, (PortMapping(host_port=53, container_port=53, protocol="UDP"),))
    await lab.serve(lab.host, 53, "dns", address="10.78.0.10")
    async with lab.udp(one) as client:
        assert await client.ask("10.78.0.10", 53) == "dns 10.77.1.2"


async def test_a_sandbox_has_no_ipv6_of_its_own_making_but_a_loopback(lab: Lab, network: BridgeNetwork) -> None:
    one = lab.namespace("one")
    await network.attach("sandbox-1", one)
    addresses = [line.split()[1:4:2] for line in lab.command(one, "ip", "-o", "-6", "address").splitlines()]
    assert addresses == [["lo", "::1/128"]]


async def test_dual_stack(lab: Lab) -> None:
    ranges = {"pod_ranges": ("10.77.0.0/16", "fd77::/48"), "service_ranges": ("10.78.0.0/16", "fd78::/112")}
    network = BridgeNetwork(config(lab, pod_cidrs=("10.77.1.0/24", "fd77:0:0:1::/64"), **ranges))
    await network.start()
    try:
        one, two = lab.namespace("one"), lab.namespace("two")
        first = await network.attach("sandbox-1", one)
        await network.attach("sandbox-2", two, (PortMapping(8080, 80),))
        assert first.ips == ("10.77.1.2", "fd77:0:0:1::2")
        await lab.serve(two, 80, "two", address="::")
        assert await lab.tcp(one, "fd77:0:0:1::3", 80) == "two fd77:0:0:1::2"
        assert await lab.tcp(lab.host, "fd77:0:0:1::3", 80) == "two fd77:0:0:1::1"
        assert await lab.tcp(one, "fd77:0:0:1::1", 8080) == "two fd77:0:0:1::2"
        with pytest.raises(OSError, match=f"Errno {errno.EHOSTUNREACH}|Errno {errno.ENETUNREACH}"):
            await lab.tcp(one, "fd77:0:0:9::9", 80)
    finally:
        await network.teardown()
        await network.close()


async def test_teardown_leaves_the_host_as_it_was(lab: Lab) -> None:
    def everything() -> str:
        return "".join(
            lab.command(lab.host, *words.split())
            for words in ("ip -o link", "ip -o address", "ip route", "nft list ruleset")
        )

    before = everything()
    network = BridgeNetwork(config(lab))
    await network.start()
    await network.attach("sandbox-1", lab.namespace("one"), (PortMapping(8080, 80),))
    await network.teardown()
    await network.close()
    assert everything() == before
    assert not os.path.exists(network.config.state_file)


async def test_a_firewall_that_drops_by_default_lets_pods_pass(lab: Lab) -> None:
    for chain in ("forward", "input"):
        policy = f"{{ type filter hook {chain} priority 0; policy drop; }}"
        lab.command(lab.host, "nft", f"add table ip filter; add chain ip filter {chain.upper()} {policy}")
    before = lab.command(lab.host, "nft", "list", "ruleset")
    network = BridgeNetwork(config(lab))
    await network.start()
    try:
        await network.start()
        assert lab.command(lab.host, "nft", "list", "chain", "ip", "filter", "FORWARD").count("pods0") == 4
        one, two = lab.namespace("one"), lab.namespace("two")
        await network.attach("sandbox-1", one)
        await network.attach("sandbox-2", two)
        await lab.serve(two, 80, "two")
        await lab.serve(lab.host, 6443, "api")
        assert await lab.tcp(one, "10.77.1.3", 80) == "two 10.77.1.2"
        assert await lab.tcp(one, "10.77.1.1", 6443) == "api 10.77.1.2"
    finally:
        await network.teardown()
        await network.close()
    assert lab.command(lab.host, "nft", "list", "ruleset") == before


async def test_exhaustion_is_said(lab: Lab) -> None:
    network = BridgeNetwork(config(lab, pod_cidrs=("10.77.1.0/30",)))
    await network.start()
    try:
        await network.attach("sandbox-1", lab.namespace("one"))
        with pytest.raises(NetworkFailure, match=r"^no addresses left in 10\.77\.1\.0/30$"):
            await network.attach("sandbox-2", lab.namespace("two"))
    finally:
        await network.teardown()
        await network.close()


async def test_several_nodes_on_one_machine(lab: Lab, tmp_path: Path) -> None:
    nodes = NodeNetwork(
        NodeNetworkConfig(
            bridge="nodes0",
            cidr="10.79.0.0/24",
            table="test-host",
            namespace_directory=str(tmp_path / "nodes"),
            namespace_prefix="test.",
            netns=lab.host,
            **RANGES,
        )
    )
    outside = lab.uplink()
    before = lab.command(lab.host, "sh", "-c", "ip -o link; ip route; nft list ruleset")
    await nodes.setup()
    networks: list[BridgeNetwork] = []
    routes: list[PodRoutes] = [PodRoutes(RANGES["pod_ranges"], netns=lab.host)]
    pods: list[str] = []
    try:
        table = []
        for number in (1, 2):
            node = await nodes.setup_node(f"node-{number}", number)
            assert await nodes.setup_node(f"node-{number}", number) == node
            assert node.ip == f"10.79.0.1{number}"
            table.append((f"10.77.{number}.0/24", node.ip))
            network = BridgeNetwork(config(lab, number, netns=node.path, node_ip=node.ip))
            await network.start()
            networks.append(network)
            routes.append(PodRoutes(RANGES["pod_ranges"], own_ip=node.ip, netns=node.path))
            pods.append(lab.namespace(f"pod-{number}"))
            await network.attach(f"sandbox-{number}", pods[-1])
        assert [route.sync(table) for route in routes] == [[], [], []]
        await lab.serve(pods[1], 80, "two")
        await lab.serve(lab.host, 6443, "api")
        await lab.serve(outside, 80, "outside")
        assert await lab.tcp(pods[0], "10.77.2.2", 80) == "two 10.77.1.2"
        assert await lab.tcp(lab.host, "10.77.2.2", 80) == "two 10.79.0.1"
        assert await lab.tcp(pods[0], "10.79.0.1", 6443) == "api 10.77.1.2"
        assert await lab.tcp(pods[0], "192.0.2.1", 80) == "outside 192.0.2.2"
        assert await lab.tcp(nodes.path("node-1"), "192.0.2.1", 80) == "outside 192.0.2.2"
        routes[1].sync([])
        with pytest.raises(OSError, match=f"Errno {errno.EHOSTUNREACH}"):
            await lab.tcp(pods[0], "10.77.2.2", 80)
    finally:
        for route in routes:
            route.close()
        for network in networks:
            await network.close()
        await nodes.teardown_all()
    assert lab.command(lab.host, "sh", "-c", "ip -o link; ip route; nft list ruleset") == before
    assert os.listdir(tmp_path / "nodes") == []
    assert not netns.is_pinned(nodes.path("node-1"))
