"""What the proxy must know of its node and cluster."""

from __future__ import annotations

import msgspec


class ProxyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The node's name and pod ranges, the cluster's ranges, and where the rules go.

    `pod_ranges` and `node_ranges` are where clients keep their source address; others that ask for a ClusterIP get the
    node's. ClusterIPs in `local_addresses` are served by the node itself and get no rules. The rules stand in the
    nftables table `table`, in the namespace pinned at `netns` (empty: the caller's). `interval` is the least time in
    seconds between two changes of the rules.
    """

    node_name: str
    pod_cidrs: tuple[str, ...]
    pod_ranges: tuple[str, ...] = ("10.244.0.0/16",)
    service_ranges: tuple[str, ...] = ("10.96.0.0/16",)
    node_ranges: tuple[str, ...] = ("10.213.0.0/24",)
    local_addresses: tuple[str, ...] = ()
    table: str = "podling-services"
    netns: str = ""
    interval: float = 0.005
    zone: str = ""

    @property
    def families(self) -> tuple[int, ...]:
        """4, 6 or both, as the service ranges say."""
        return tuple(sorted({6 if ":" in cidr else 4 for cidr in self.service_ranges}))
