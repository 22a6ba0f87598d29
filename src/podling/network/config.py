"""The names, ranges and addresses of a cluster's network: nothing of them is wired in elsewhere.

Two clusters run on one machine when their bridges, tables and ranges differ.
"""

from __future__ import annotations

import ipaddress

import msgspec

#: The metric of the routes of last resort: any other route to the same destination is preferred.
LAST_RESORT = 0xFFFF0000


class NodeNetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The network between the host and its nodes, as the host sees it.

    The host has the first address of `cidr` on `bridge`; the node with index 1 the eleventh, and so on. `mtu` 0 takes
    that of the host's default route. Namespaces of nodes are pinned in `namespace_directory` (`/run/netns` is where
    `ip netns` looks) as `namespace_prefix` and the node's name; no cluster's prefix may begin another's. `netns` is the
    host's own namespace when it is not the caller's.
    """

    bridge: str = "podling-nodes"
    cidr: str = "10.213.0.0/24"
    pod_ranges: tuple[str, ...] = ("10.244.0.0/16",)
    service_ranges: tuple[str, ...] = ("10.96.0.0/16",)
    table: str = "podling-host"
    namespace_directory: str = "/run/netns"
    namespace_prefix: str = "podling."
    mtu: int = 0
    netns: str = ""

    @property
    def host_ip(self) -> str:
        """The host's address, where nodes and pods reach the API server; also the node's when there is but one."""
        return str(ipaddress.ip_network(self.cidr)[1])

    def node_ip(self, index: int) -> str:
        """The address of the node with `index` (from 1), which lives in a namespace of its own."""
        return str(ipaddress.ip_network(self.cidr)[10 + index])


class PodNetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The pods' network on one node, IPv4 range first; with an IPv6 range beside it, dual stack.

    `bridge` has the first address of each of `pod_cidrs`, the node's own ranges. `pod_ranges`, `service_ranges` and
    `node_ranges` are the cluster's: what goes between them keeps its source address, what leaves them gets the node's.
    `local_addresses` are answered on the node itself (the cluster DNS). `state_file` keeps the allocations. An address
    that was given back rests for `quarantine` seconds. `mtu` 0 takes that of the default route. `netns` is the
    namespace of the node, when it is not the caller's.
    """

    pod_cidrs: tuple[str, ...]
    state_file: str
    node_ip: str = ""
    bridge: str = "podling0"
    pod_ranges: tuple[str, ...] = ("10.244.0.0/16",)
    service_ranges: tuple[str, ...] = ("10.96.0.0/16",)
    node_ranges: tuple[str, ...] = ("10.213.0.0/24",)
    local_addresses: tuple[str, ...] = ()
    table: str = "podling"
    interface: str = "eth0"
    quarantine: float = 60.0
    mtu: int = 0
    netns: str = ""

    @property
    def gateways(self) -> tuple[str, ...]:
        """The bridge's addresses, one of each range."""
        return tuple(str(ipaddress.ip_network(cidr)[1]) for cidr in self.pod_cidrs)

    @property
    def dual_stack(self) -> bool:
        return any(ipaddress.ip_network(cidr).version == 6 for cidr in self.pod_cidrs)


def version(address: str) -> int:
    """4 or 6, for an address or a range."""
    return 6 if ":" in address else 4
