"""podling's own pod network: a bridge on the node, and for each sandbox a veth pair and an address.

A pod has its address alone (/32) and reaches everything, its neighbours on the bridge included, by way of the node.
So every packet passes the node's IP layer, where services, hostPorts and policies are, whether the kernel shows bridged
frames to netfilter or not. Link addresses are made from IP addresses: no stale neighbour entry is ever wrong.

All kernel work is done by one worker thread, in order; the event loop never waits for the kernel's locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import ipaddress
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from podling import clock, log
from podling.network import conntrack, firewall, netns, node_rules
from podling.network.base import Attachment, NetworkFailure, PortMapping
from podling.network.config import LAST_RESORT, PodNetworkConfig, version
from podling.network.ipam import Lease, Leases
from podling.network.nftables import Nft, delete_table
from podling.network.reaper import LinkReaper
from podling.network.rtnetlink import SCOPE_HOST, SCOPE_LINK, SCOPE_UNIVERSE, UNREACHABLE, Netlink, Route

_log = log.get(__name__)
T = TypeVar("T")


class BridgeNetwork:
    """The SandboxNetwork of a node. `start` before use; what it makes in the kernel stays until `teardown`."""

    def __init__(self, config: PodNetworkConfig) -> None:
        self.config = config
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._reaper = LinkReaper(config.netns)
        self._netlink: Netlink | None = None
        self._nft: Nft | None = None
        self._leases: Leases | None = None
        self._bridge = 0
        self._mtu = config.mtu

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    # --- the node's side ---

    async def start(self) -> None:
        """Make the bridge, its routes and rules, or put right what is there; leases of this boot are kept."""
        await self._run(self._start)

    def _start(self) -> None:
        config = self.config
        self._netlink, self._nft = Netlink(config.netns), Nft(config.netns)
        self._leases = Leases(config.state_file, config.pod_cidrs, boot=boot_id(), quarantine=config.quarantine)
        self._mtu = config.mtu or default_mtu(self._netlink)
        self._bridge = ensure_bridge(self._netlink, config.bridge, link_address(config.gateways[0]), self._mtu)
        self._set_sysctls()
        for cidr, gateway in zip(config.pod_cidrs, config.gateways, strict=True):
            self._netlink.add_address(self._bridge, f"{gateway}/{ipaddress.ip_network(cidr).prefixlen}")
        if config.dual_stack:
            # The kernel looks for the neighbours that it forwards to from a link-local address, or not at all.
            self._netlink.add_address(self._bridge, "fe80::1/64", scope=SCOPE_LINK)
        for address in config.local_addresses:
            length = 32 if version(address) == 4 else 128
            # Of host scope: never taken as the source address of the node's own traffic.
            self._netlink.add_address(self._bridge, f"{address}/{length}", scope=SCOPE_HOST)
        for route in self._routes():
            self._netlink.replace_route(route)
        self._nft.run(node_rules.node_table(config, self._leases.items().values()))
        firewall.let_pass(self._nft, config.bridge)

    def _set_sysctls(self) -> None:
        config = self.config
        wanted = {
            "net/ipv4/ip_forward": "1",
            # Either one turns redirects on, so other links keep what they have of their own. A redirect, sent or not,
            # uses up the pod's allowance of ICMP errors, and then it would not hear that a service refuses it.
            "net/ipv4/conf/all/send_redirects": "0",
            f"net/ipv4/conf/{config.bridge}/send_redirects": "0",
            f"net/ipv4/conf/{config.bridge}/route_localnet": "1",
        }
        if config.dual_stack:
            wanted["net/ipv6/conf/all/forwarding"] = "1"
        with netns.entered(config.netns):
            refused = [name for name, value in wanted.items() if not netns.write_sysctl(name, value)]
        if refused:
            _log.warning("cannot set %s: pods may not reach other networks", ", ".join(refused))

    def _routes(self) -> list[Route]:
        """Services leave by the bridge, where their rules catch them; what no rule and no link takes stays here."""
        found: list[Route] = []
        for cidr in self.config.service_ranges:
            source = self.config.node_ip if version(self.config.node_ip) == version(cidr) else ""
            if source and not self._is_local(source):
                source = ""
            found.append(Route(cidr, oif=self._bridge, source=source, scope=SCOPE_LINK, metric=_metric(cidr)))
        for cidr in {*self.config.pod_ranges, *self.config.service_ranges}:
            found.append(Route(cidr, type=UNREACHABLE, metric=LAST_RESORT))
        return found

    def _is_local(self, address: str) -> bool:
        return any(known.split("/")[0] == address for known in self._kernel().all_addresses())

    async def close(self) -> None:
        """Let go of the kernel; pods keep their network."""
        await self._run(self._close)
        self._worker.shutdown()
        self._reaper.close()

    def _close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
        if self._nft is not None:
            self._nft.close()
        self._netlink = self._nft = None

    async def teardown(self) -> None:
        """Remove all that `start` and `attach` made, and forget the leases."""
        await self._run(self._teardown)

    def _teardown(self) -> None:
        config = self.config
        netlink, nft = self._netlink or Netlink(config.netns), self._nft or Nft(config.netns)
        bridge = netlink.link(config.bridge)
        if bridge is not None:
            ports = [link.name for link in netlink.links() if link.master == bridge.index]
            netlink.delete_links([*ports, config.bridge])
        ranges = {*config.pod_ranges, *config.service_ranges}
        for route in netlink.routes():
            if route.destination in ranges:
                netlink.delete_route(route)
        nft.run(delete_table(config.table))
        firewall.forget(nft, config.bridge)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(config.state_file)
        self._netlink, self._nft = netlink, nft
        self._close()
        self._leases = None

    # --- sandboxes ---

    async def attach(self, sandbox_id: str, netns: str, port_mappings: tuple[PortMapping, ...] = ()) -> Attachment:
        now = clock.elapsed()
        work = functools.partial(self._attach, sandbox_id, netns, port_mappings, now)
        return await self._run(work)

    def _attach(self, sandbox_id: str, path: str, ports: tuple[PortMapping, ...], now: float) -> Attachment:
        leases = self._known()
        known = leases.get(sandbox_id)
        if known is not None and self._is_attached(known, path):
            return self._attachment(sandbox_id, known)
        lease = leases.acquire(sandbox_id, link_name(sandbox_id), ports, now)
        try:
            self._connect(lease, path)
        except BaseException:
            self._close_ports(sandbox_id)
            self._kernel().delete_link(lease.link)
            leases.release(sandbox_id, now)
            raise
        return self._attachment(sandbox_id, lease)

    def _attachment(self, sandbox_id: str, lease: Lease) -> Attachment:
        return Attachment(sandbox_id=sandbox_id, ips=lease.ips, interface=self.config.interface)

    def _is_attached(self, lease: Lease, path: str) -> bool:
        if self._kernel().link(lease.link) is None:
            return False
        with contextlib.closing(Netlink(path)) as inside:
            link = inside.link(self.config.interface)
            return link is not None and link.mac == link_address(lease.ips[0]) and link.up

    def _connect(self, lease: Lease, path: str) -> None:
        netlink, interface = self._kernel(), self.config.interface
        netlink.delete_link(lease.link)
        with netns.entered(path):
            prepare_sandbox(ipv6=self.config.dual_stack)
            inside = Netlink()
        with contextlib.closing(inside):
            target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                netlink.add_veth(
                    lease.link,
                    interface,
                    target,
                    mtu=self._mtu,
                    master=self._bridge,
                    peer_mac=link_address(lease.ips[0]),
                )
            finally:
                os.close(target)
            outside = netlink.link(lease.link)
            if outside is None:
                raise NetworkFailure(f"link {lease.link} is gone again")
            netlink.no_link_local(outside.index)
            netlink.set_hairpin(outside.index)
            netlink.set_up(outside.index)
            configure_sandbox(inside, interface, lease.ips, self.config.gateways)
        if lease.ports:
            self._rules().run(node_rules.change_host_ports(self.config.table, "add", lease))
            self._forget_flows(lease)

    def _forget_flows(self, lease: Lease) -> None:
        """UDP has no connections that end: flows to a hostPort begun before it was there would not find the pod."""
        ports = frozenset(port.host_port for port in lease.ports if port.protocol == "UDP")
        if ports:
            conntrack.delete_udp(lambda flow: flow.dport in ports, netns=self.config.netns)

    async def detach(self, sandbox_id: str, netns: str | None) -> None:
        await self._detach(sandbox_id)

    async def _detach(self, sandbox_id: str) -> None:
        link = await self._run(functools.partial(self._close_ports, sandbox_id))
        if link is not None:
            await self._reaper.delete(link)
            await self._run(functools.partial(self._known().release, sandbox_id, clock.elapsed()))

    def _close_ports(self, sandbox_id: str) -> str | None:
        """Remove the hostPorts; the name of the sandbox's link, or None for a sandbox that is not attached."""
        lease = self._known().get(sandbox_id)
        if lease is None:
            return None
        if lease.ports:
            # All of them or none are there, and none is what is asked for.
            with contextlib.suppress(NetworkFailure):
                self._rules().run(node_rules.change_host_ports(self.config.table, "delete", lease))
            self._forget_flows(lease)
        return lease.link

    async def attachments(self) -> dict[str, Attachment]:
        return await self._run(lambda: {s: self._attachment(s, lease) for s, lease in self._known().items().items()})

    async def retain(self, sandbox_ids: Iterable[str]) -> None:
        """Detach every sandbox but these: the runtime knows what exists, a lease of anything else is a leak."""
        attached = await self.attachments()
        leaked = attached.keys() - frozenset(sandbox_ids)
        await asyncio.gather(*(self._detach(sandbox_id) for sandbox_id in leaked))

    def _kernel(self) -> Netlink:
        if self._netlink is None:
            raise NetworkFailure("the pod network is not started")
        return self._netlink

    def _rules(self) -> Nft:
        if self._nft is None:
            raise NetworkFailure("the pod network is not started")
        return self._nft

    def _known(self) -> Leases:
        if self._leases is None:
            raise NetworkFailure("the pod network is not started")
        return self._leases


def boot_id() -> str:
    """Names the machine's present boot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def link_name(sandbox_id: str) -> str:
    """The name of a sandbox's link on the node, at most 15 characters."""
    return "pod" + hashlib.blake2b(sandbox_id.encode(), digest_size=6).hexdigest()


def link_address(ip: str) -> bytes:
    """The link address that goes with an IP address: locally administered, its last four bytes the address's."""
    return b"\x0a\x58" + ipaddress.ip_address(ip).packed[-4:]


def default_mtu(netlink: Netlink) -> int:
    """The MTU of the link of the default route, 1500 without one."""
    ways = [route for route in netlink.routes(ours=False) if route.destination == "0.0.0.0/0" and route.oif]
    if ways:
        best = min(ways, key=lambda route: route.metric)
        for link in netlink.links():
            if link.index == best.oif:
                return link.mtu
    return 1500


def ensure_bridge(netlink: Netlink, name: str, mac: bytes, mtu: int) -> int:
    """Make the bridge, if it is missing, and set it up; its index."""
    link = netlink.link(name)
    if link is None:
        netlink.add_bridge(name, mac, mtu)
        link = netlink.link(name)
        if link is None:
            raise NetworkFailure(f"bridge {name} is gone again")
        netlink.no_link_local(link.index)
    netlink.set_up(link.index)
    return link.index


def prepare_sandbox(*, ipv6: bool) -> None:
    """In the sandbox's namespace, before it has its link: redirects would lead past the node, and without IPv6 the
    link must not make itself an address (loopback keeps ::1)."""
    wanted = {"net/ipv4/conf/all/accept_redirects": "0", "net/ipv4/conf/default/accept_redirects": "0"}
    if ipv6:
        wanted |= {"net/ipv6/conf/default/accept_ra": "0", "net/ipv6/conf/default/accept_redirects": "0"}
    else:
        wanted |= {"net/ipv6/conf/default/disable_ipv6": "1"}
    for name, value in wanted.items():
        netns.write_sysctl(name, value)


def configure_sandbox(inside: Netlink, interface: str, ips: Iterable[str], gateways: Iterable[str]) -> None:
    """Loopback, the sandbox's addresses, and the routes that lead everything to the node."""
    loopback, link = inside.link("lo"), inside.link(interface)
    if loopback is None or link is None:
        raise NetworkFailure(f"the sandbox has no {interface}")
    inside.set_up(loopback.index)
    inside.set_up(link.index)
    gateway = {version(address): address for address in gateways}
    for ip in ips:
        four = version(ip) == 4
        inside.add_address(link.index, f"{ip}/{32 if four else 128}")
        via = gateway[version(ip)]
        inside.replace_route(Route(f"{via}/{32 if four else 128}", oif=link.index, scope=SCOPE_LINK))
        everything = "0.0.0.0/0" if four else "::/0"
        inside.replace_route(Route(everything, gateway=via, oif=link.index, scope=SCOPE_UNIVERSE))


def _metric(cidr: str) -> int:
    """IPv6 has no metric 0; the kernel would make it 1024 and the route would not be found again."""
    return 0 if version(cidr) == 4 else 1024
