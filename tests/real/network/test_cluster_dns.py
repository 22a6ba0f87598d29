"""The DNS server over real sockets: pods ask the cluster address, by UDP and TCP, and upstream is a real one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import dnslib
import pytest
import pytest_asyncio

from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.client.informer import Informers
from podling.dns.server import DNSConfig, DNSServer
from podling.network import netns
from podling.network.bridge import BridgeNetwork
from podling.network.config import PodNetworkConfig
from tests.real.network.lab import Feed, Lab
from tests.real.network.test_service_proxy import endpoints, service

pytestmark = pytest.mark.real


class Cluster:
    def __init__(self, lab: Lab) -> None:
        self.lab, self.feed = lab, Feed()
        self.resolv_conf = lab.directory / "resolv.conf"
        self.resolv_conf.write_text("nameserver 192.0.2.1\n")
        ranges = {"pod_ranges": ("10.77.0.0/16",), "service_ranges": ("10.78.0.0/16",)}
        self.network = BridgeNetwork(
            PodNetworkConfig(
                pod_cidrs=("10.77.1.0/24",),
                local_addresses=("10.78.0.10",),
                state_file=str(lab.directory / "leases.json"),
                bridge="pods0",
                table="test-pods",
                netns=lab.host,
                **ranges,
            )
        )
        self.informers = Informers(self.feed)  # type: ignore[arg-type]
        self.server = DNSServer(
            self.informers,
            DNSConfig(
                addresses=("10.78.0.10",),
                ranges=("10.77.0.0/16", "10.78.0.0/16"),
                resolv_conf=str(self.resolv_conf),
                netns=lab.host,
                upstream_netns=lab.host,
                upstream_timeout=0.5,
            ),
        )

    async def start(self) -> None:
        await self.network.start()
        self.pod = self.lab.namespace("pod")
        await self.network.attach("pod", self.pod)
        self.feed.put(core_v1.Namespace(metadata=ObjectMeta(name="default")))
        self.informers.start()
        await self.server.start()
        await self.informers.wait_synced()

    async def close(self) -> None:
        await self.server.close()
        await self.informers.close()
        await self.network.teardown()
        await self.network.close()

    async def udp(self, name: str, type_: str = "A", *, source: str = "") -> dnslib.DNSRecord:
        loop = asyncio.get_running_loop()
        with netns.entered(source or self.pod):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.setblocking(False)
        with contextlib.closing(client):
            async with asyncio.timeout(5):
                client.connect(("10.78.0.10", 53))  # hears nobody else
                await loop.sock_sendall(client, bytes(dnslib.DNSRecord.question(name, type_).pack()))
                answer = await loop.sock_recv(client, 4096)
        return dnslib.DNSRecord.parse(answer)

    async def tcp(self, *names: str) -> list[dnslib.DNSRecord]:
        """Several questions on one connection."""
        with netns.entered(self.pod):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("10.78.0.10", 53))
        reader, writer = await asyncio.open_connection(sock=client)
        answers = []
        async with asyncio.timeout(5):
            for name in names:
                data = dnslib.DNSRecord.question(name).pack()
                writer.write(len(data).to_bytes(2, "big") + data)
                length = int.from_bytes(await reader.readexactly(2), "big")
                answers.append(dnslib.DNSRecord.parse(await reader.readexactly(length)))
        writer.close()
        await writer.wait_closed()
        return answers


@pytest_asyncio.fixture
async def cluster(lab: Lab) -> AsyncIterator[Cluster]:
    made = Cluster(lab)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def test_a_pod_finds_services_by_udp_and_tcp(cluster: Cluster) -> None:
    cluster.feed.put(service("web", "10.78.0.1"))
    cluster.feed.put(service("db", "None"))
    cluster.feed.put(endpoints("db", [f"10.77.1.{i}" for i in range(2, 102)]))
    await asyncio.sleep(0.01)
    (found,) = (await cluster.udp("web.default.svc.cluster.local")).rr
    assert str(found.rdata) == "10.78.0.1"
    assert (await cluster.udp("web.default.svc.cluster.local", source=cluster.lab.host)).rr
    short = await cluster.udp("db.default.svc.cluster.local")
    assert short.header.tc == 1
    assert 20 < len(short.rr) < 30
    one, whole = await cluster.tcp("web.default.svc.cluster.local", "db.default.svc.cluster.local")
    assert (str(one.rr[0].rdata), len(whole.rr), whole.header.tc) == ("10.78.0.1", 100, 0)
    assert (await cluster.udp("nobody.default.svc.cluster.local")).header.rcode == 3


async def test_other_names_come_from_the_nodes_resolver(cluster: Cluster) -> None:
    outside = cluster.lab.uplink()

    class Resolver(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            assert addr[0] == "192.0.2.2"
            reply = dnslib.DNSRecord.parse(data).reply()
            reply.add_answer(*dnslib.RR.fromZone("example.com 60 IN A 198.51.100.7"))
            self.transport.sendto(reply.pack(), addr)

    with netns.entered(outside):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("192.0.2.1", 53))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Resolver, sock=listener)
    try:
        assert [str(r.rdata) for r in (await cluster.udp("example.com")).rr] == ["198.51.100.7"]
    finally:
        transport.close()
    assert [str(r.rdata) for r in (await cluster.udp("Example.COM")).rr] == ["198.51.100.7"], "remembered"
    assert (await cluster.udp("example.org")).header.rcode == 2


async def test_noise_does_not_disturb_it(cluster: Cluster) -> None:
    with netns.entered(cluster.pod):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.closing(client):
        for noise in (b"", b"x", b"\xff" * 40, bytes(512)):
            client.sendto(noise, ("10.78.0.10", 53))
    assert (await cluster.udp("cluster.local", "SOA")).header.rcode == 0
