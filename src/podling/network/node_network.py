"""The network between the host and its nodes: a bridge in the host's namespace, and for each node that does not live
there a namespace of its own with a link to the bridge."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import ipaddress
import os

import msgspec

from podling import log
from podling.network import firewall, netns, node_rules
from podling.network.base import NetworkFailure
from podling.network.bridge import default_mtu, ensure_bridge, link_address, prepare_sandbox
from podling.network.config import LAST_RESORT, NodeNetworkConfig
from podling.network.nftables import Nft, delete_table
from podling.network.rtnetlink import UNREACHABLE, Netlink, Route

_log = log.get(__name__)


class NodeNamespace(msgspec.Struct, frozen=True):
    """Where a node lives: its network namespace, pinned at `path`, and its address on the node network."""

    name: str
    path: str
    ip: str


class NodeNetwork:
    """Makes and removes the node network. Every verb is idempotent and needs root in the host's namespace."""

    def __init__(self, config: NodeNetworkConfig) -> None:
        self.config = config

    async def setup(self) -> None:
        """The bridge with the host's address, forwarding, and the rules for what leaves the machine."""
        await asyncio.to_thread(self._setup)

    async def setup_node(self, name: str, index: int) -> NodeNamespace:
        """A namespace for the node `name` with the node network's address number `index` (from 1)."""
        return await asyncio.to_thread(functools.partial(self._setup_node, name, index))

    async def teardown_node(self, name: str) -> None:
        """Remove the node's namespace and its link; processes in it lose their network."""
        await asyncio.to_thread(functools.partial(self._teardown_node, name))

    async def teardown_all(self) -> None:
        """Leave no namespace, link, route or table behind."""
        await asyncio.to_thread(self._teardown_all)

    def path(self, name: str) -> str:
        """Where the namespace of the node `name` is pinned."""
        return os.path.join(self.config.namespace_directory, self.config.namespace_prefix + name)

    def _link_name(self, name: str) -> str:
        key = f"{self.config.bridge}/{name}".encode()
        return "node" + hashlib.blake2b(key, digest_size=5).hexdigest()

    def _setup(self) -> None:
        config = self.config
        length = ipaddress.ip_network(config.cidr).prefixlen
        with contextlib.closing(Netlink(config.netns)) as netlink:
            mtu = config.mtu or default_mtu(netlink)
            bridge = ensure_bridge(netlink, config.bridge, link_address(config.host_ip), mtu)
            netlink.add_address(bridge, f"{config.host_ip}/{length}")
            for cidr in (*config.pod_ranges, *config.service_ranges):
                netlink.replace_route(Route(cidr, type=UNREACHABLE, metric=LAST_RESORT))
        with netns.entered(config.netns):
            if not netns.write_sysctl("net/ipv4/ip_forward", "1"):
                _log.warning("cannot set net.ipv4.ip_forward: nodes and pods reach no other network")
        with contextlib.closing(Nft(config.netns)) as nft:
            nft.run(node_rules.host_table(config))
            firewall.let_pass(nft, config.bridge)

    def _setup_node(self, name: str, index: int) -> NodeNamespace:
        config, path, ip = self.config, self.path(name), self.config.node_ip(index)
        length = ipaddress.ip_network(config.cidr).prefixlen
        if not netns.is_pinned(path):
            netns.delete(path)
            netns.create(path)
        with contextlib.closing(Netlink(config.netns)) as outside, contextlib.closing(Netlink(path)) as inside:
            link = inside.link("eth0")
            if link is None:
                link_index = self._connect(outside, inside, name, path, ip)
            else:
                link_index = link.index
            loopback = inside.link("lo")
            if loopback is not None:
                inside.set_up(loopback.index)
            inside.set_up(link_index)
            inside.add_address(link_index, f"{ip}/{length}")
            inside.replace_route(Route("0.0.0.0/0", gateway=config.host_ip, oif=link_index))
        with netns.entered(path):
            netns.write_sysctl("net/ipv4/ip_forward", "1")
            # localhost:<nodePort> may lead to a pod on another node; the node's rules let only answers come back so.
            netns.write_sysctl("net/ipv4/conf/eth0/route_localnet", "1")
        return NodeNamespace(name=name, path=path, ip=ip)

    def _connect(self, outside: Netlink, inside: Netlink, name: str, path: str, ip: str) -> int:
        bridge = outside.link(self.config.bridge)
        if bridge is None:
            raise NetworkFailure(f"bridge {self.config.bridge} is missing: set up the node network first")
        with netns.entered(path):
            prepare_sandbox(ipv6=False)
        own = self._link_name(name)
        outside.delete_link(own)
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            outside.add_veth(own, "eth0", target, mtu=bridge.mtu, master=bridge.index, peer_mac=link_address(ip))
        finally:
            os.close(target)
        port, link = outside.link(own), inside.link("eth0")
        if port is None or link is None:
            raise NetworkFailure(f"the link of node {name} is gone again")
        outside.no_link_local(port.index)
        outside.set_up(port.index)
        return link.index

    def _teardown_node(self, name: str) -> None:
        with contextlib.closing(Netlink(self.config.netns)) as netlink:
            netlink.delete_link(self._link_name(name))
        netns.delete(self.path(name))

    def _teardown_all(self) -> None:
        config = self.config
        with contextlib.closing(Netlink(config.netns)) as netlink:
            bridge = netlink.link(config.bridge)
            if bridge is not None:
                ports = [link.name for link in netlink.links() if link.master == bridge.index]
                netlink.delete_links([*ports, config.bridge])
            ranges = [ipaddress.ip_network(cidr) for cidr in (*config.pod_ranges, *config.service_ranges)]
            for route in netlink.routes():
                network = ipaddress.ip_network(route.destination)
                if any(network.version == r.version and network.subnet_of(r) for r in ranges):  # type: ignore[arg-type]
                    netlink.delete_route(route)
        with contextlib.closing(Nft(config.netns)) as nft:
            nft.run(delete_table(config.table))
            firewall.forget(nft, config.bridge)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(config.namespace_directory):
                if entry.startswith(config.namespace_prefix):
                    netns.delete(os.path.join(config.namespace_directory, entry))
