"""The nftables rules that every node has beside its services: what leaves the cluster gets the node's address,
hostPorts lead to their pods, and the node's loopback stays its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from podling.network.config import NodeNetworkConfig, PodNetworkConfig, version
from podling.network.ipam import Lease
from podling.network.nftables import delete_table, elements

_FAMILY = {4: "ip", 6: "ip6"}
_LOOPBACK = {4: "127.0.0.0/8", 6: "::1/128"}


def node_table(config: PodNetworkConfig, leases: Iterable[Lease] = ()) -> str:
    """The script that puts the node's table in place of what was there, with the hostPorts of `leases`."""
    ports = [element for lease in leases for element in host_port_elements(lease)]
    versions = sorted({version(cidr) for cidr in config.pod_cidrs})
    return delete_table(config.table) + (
        f"table inet {config.table} {{\n"
        + "".join(_sets(config, family, ports) for family in versions)
        + "".join(_host_port_chain(config, versions))
        + "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat - 5; policy accept;\n"
        + "\t\tfib daddr type local jump host-ports\n\t}\n"
        + "\tchain output {\n\t\ttype nat hook output priority -105; policy accept;\n"
        + "\t\tfib daddr type local jump host-ports\n\t}\n"
        + "\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat + 5; policy accept;\n"
        + "".join(_masquerade(config.bridge, family) for family in versions)
        + "\t}\n"
        + "\tchain input {\n\t\ttype filter hook input priority -110; policy accept;\n"
        # The bridge may carry loopback addresses (route_localnet) so that localhost:<hostPort> works: but only answers.
        + '\t\tiifname != "lo" ip daddr 127.0.0.0/8 ct state != { established, related } drop\n\t}\n'
        # Pods reach each other by way of the node, also on one bridge; telling them of the short cut would let
        # packets pass by the services' address translation.
        + "\tchain filter-output {\n\t\ttype filter hook output priority 0; policy accept;\n"
        + f'\t\toifname "{config.bridge}" icmp type redirect drop\n'
        + f'\t\toifname "{config.bridge}" icmpv6 type nd-redirect drop\n\t}}\n'
        + "}\n"
    )


def _sets(config: PodNetworkConfig, family: int, ports: list[tuple[str, str]]) -> str:
    address = f"ipv{family}_addr"
    ranges = [*config.pod_ranges, *config.service_ranges, *config.node_ranges]
    cluster = elements(sorted({cidr for cidr in ranges if version(cidr) == family}))
    pods = elements([cidr for cidr in config.pod_ranges if version(cidr) == family])

    def of(name: str) -> str:
        return elements([element for where, element in ports if where == f"{name}{family}"])

    return (
        f"\tset cluster{family} {{\n\t\ttype {address}; flags interval; auto-merge; {cluster}\n\t}}\n"
        f"\tset pods{family} {{\n\t\ttype {address}; flags interval; auto-merge; {pods}\n\t}}\n"
        f"\tmap host-ports{family} {{\n\t\ttype {address} . inet_proto . inet_service : {address} . inet_service\n"
        f"\t\t{of('host-ports')}\n\t}}\n"
        f"\tmap any-host-ports{family} {{\n\t\ttype inet_proto . inet_service : {address} . inet_service\n"
        f"\t\t{of('any-host-ports')}\n\t}}\n"
        f"\tset hairpin{family} {{\n\t\ttype {address} . {address}\n\t\t{of('hairpin')}\n\t}}\n"
    )


def _host_port_chain(config: PodNetworkConfig, versions: list[int]) -> Iterable[str]:
    yield "\tchain host-ports {\n"
    for address in config.local_addresses:
        # The cluster DNS listens on an address of the node too, and a pod with hostPort 53 must not take its queries.
        yield f"\t\t{_FAMILY[version(address)]} daddr {address} return\n"
    for family in versions:
        ip = _FAMILY[family]
        guard = "meta l4proto { tcp, udp, sctp }"
        yield f"\t\t{guard} dnat {ip} to {ip} daddr . meta l4proto . th dport map @host-ports{family}\n"
        yield f"\t\tmeta nfproto ipv{family} {guard} dnat {ip} to meta l4proto . th dport map @any-host-ports{family}\n"
    yield "\t}\n"


def _masquerade(bridge: str, family: int) -> str:
    ip = _FAMILY[family]
    return (
        f"\t\tct status dnat {ip} saddr . {ip} daddr @hairpin{family} masquerade\n"
        f'\t\t{ip} saddr {_LOOPBACK[family]} oifname "{bridge}" masquerade\n'
        f"\t\t{ip} saddr @pods{family} {ip} daddr != @cluster{family} masquerade\n"
    )


def host_port_elements(lease: Lease) -> list[tuple[str, str]]:
    """The (map or set, element) pairs that a lease's hostPorts stand for."""
    found: dict[tuple[str, str], None] = {}
    for port in lease.ports:
        for ip in lease.ips:
            family = version(ip)
            if port.host_ip and not _unspecified(port.host_ip) and version(port.host_ip) != family:
                continue
            if _unspecified(port.host_ip) and port.host_ip and version(port.host_ip) != family:
                continue
            name, key = f"any-host-ports{family}", ""
            if port.host_ip and not _unspecified(port.host_ip):
                name, key = f"host-ports{family}", f"{port.host_ip} . "
            key += f"{port.protocol.lower()} . {port.host_port}"
            found[name, f"{key} : {ip} . {port.container_port}"] = None
            found[f"hairpin{family}", f"{ip} . {ip}"] = None
    return list(found)


def _unspecified(address: str) -> bool:
    return bool(address) and ipaddress.ip_address(address).is_unspecified


def change_host_ports(table: str, verb: str, lease: Lease) -> str:
    """The script that adds (`verb` "add") or deletes the hostPorts of `lease`; empty if it has none."""
    return "".join(f"{verb} element inet {table} {name} {{ {e} }}\n" for name, e in host_port_elements(lease))


def host_table(config: NodeNetworkConfig) -> str:
    """The script for the host: what leaves the machine from a node or a pod gets the machine's address."""
    ranges = [config.cidr, *config.pod_ranges, *config.service_ranges]
    text = delete_table(config.table) + f"table inet {config.table} {{\n"
    chain = ""
    for family in sorted({version(cidr) for cidr in ranges}):
        mine = elements([cidr for cidr in ranges if version(cidr) == family])
        ip = _FAMILY[family]
        text += f"\tset cluster{family} {{\n\t\ttype ipv{family}_addr; flags interval; auto-merge; {mine}\n\t}}\n"
        chain += f"\t\t{ip} saddr @cluster{family} {ip} daddr != @cluster{family} masquerade\n"
    text += "\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat + 6; policy accept;\n"
    return text + chain + "\t}\n}\n"
