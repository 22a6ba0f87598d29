"""Routes to the pods of other nodes: each node's pod range by way of the node's address, as the Node objects say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from podling.network.rtnetlink import Netlink, NetlinkError, Route


def changes(present: Iterable[Route], wanted: Iterable[Route]) -> tuple[list[Route], list[Route]]:
    """What to delete and what to add so that `present` becomes `wanted`; a changed gateway is a replacement."""
    have = {route.destination: route for route in present}
    want = {route.destination: route for route in wanted}
    gone = [route for destination, route in have.items() if destination not in want]
    new = [route for destination, route in want.items() if destination not in have or have[destination] != route]
    return gone, new


class PodRoutes:
    """Keeps one namespace's routes to pod ranges. Only routes that lie in `pod_ranges` and have a gateway are its own.

    `own_ip` is the address of the node itself, whose own range is on its bridge; the host of several nodes has none.
    """

    def __init__(self, pod_ranges: Iterable[str], *, own_ip: str = "", netns: str = "") -> None:
        self._ranges = [ipaddress.ip_network(cidr) for cidr in pod_ranges]
        self._own_ip = own_ip
        self._netlink = Netlink(netns)

    def close(self) -> None:
        self._netlink.close()

    def sync(self, nodes: Iterable[tuple[str, str]]) -> list[str]:
        """Make the routes those of `nodes`, (pod CIDR, node address) pairs. Takes some ten microseconds each.

        Returns what could not be done (a node's address that is not reachable directly), in words; the rest is done.
        """
        wanted = [
            Route(cidr, gateway=ip, metric=0 if ":" not in cidr else 1024)
            for cidr, ip in nodes
            if ip != self._own_ip and self._is_pod_range(cidr)
        ]
        present = [
            Route(route.destination, gateway=route.gateway, metric=route.metric)
            for route in self._netlink.routes()
            if route.gateway and self._is_pod_range(route.destination)
        ]
        problems: list[str] = []
        gone, new = changes(present, wanted)
        for route in gone:
            self._netlink.delete_route(route)
        for route in new:
            try:
                self._netlink.replace_route(route)
            except NetlinkError as error:
                problems.append(str(error))
        return problems

    def _is_pod_range(self, cidr: str) -> bool:
        network = ipaddress.ip_network(cidr)
        return any(network.version == r.version and network.subnet_of(r) for r in self._ranges)  # type: ignore[arg-type]
