"""Cluster IPs and node ports: who has which, in memory.

What is taken stands in the Services themselves, so nothing else is stored: at start the allocator is filled from their
list. Addresses that nobody asked for come from the upper part of a range, so that those which are asked for by number
seldom clash (KEP 3070, KEP 3668). Ranges may be added while the server runs (KEP 1880).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from podling.api import core_v1
from podling.errors import PodlingError


class AllocationError(PodlingError):
    """The address or port can't be had; the message is upstream's."""


class AddressRange:
    """The addresses of one range, but for its first (the network's own) and, in IPv4, its last (broadcast).

    `taken` may be shared with other ranges: they may overlap.
    """

    def __init__(self, cidr: str, taken: set[int] | None = None) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.first = int(self.network.network_address) + 1
        # More than 2^16 addresses need not be handed out at random.
        size = min(self.network.num_addresses - (2 if self.network.version == 4 else 1), 2**16)
        self.size = max(size, 1)
        self.offset = self.size if self.size < 32 else min(max(16, self.size // 16), 256)
        self.taken: set[int] = taken if taken is not None else set()

    @property
    def family(self) -> str:
        """IPv4 or IPv6."""
        return f"IPv{self.network.version}"

    def take(self, ip: str) -> None:
        number = self._number(ip)
        if number in self.taken:
            raise AllocationError("provided IP is already allocated")
        self.taken.add(number)

    def next(self) -> str:
        """A free address, taken."""
        number = _choose(self.taken, self.first, self.size, self.offset)
        if number is None:
            raise AllocationError("range is full")
        self.taken.add(number)
        return str(self.network.network_address.__class__(number))

    def __contains__(self, ip: str) -> bool:
        return ipaddress.ip_address(ip) in self.network

    def _number(self, ip: str) -> int:
        address = ipaddress.ip_address(ip)
        ends = [self.network.network_address]
        if self.network.version == 4 and self.network.num_addresses > 2:
            ends.append(self.network.broadcast_address)
        if address not in self.network or address in ends:
            raise AllocationError(
                f"the provided IP ({ip}) is not in the valid range. The range of valid IPs is {self.network}"
            )
        return int(address)


class PortRange:
    """Ports from `first` to `last`."""

    def __init__(self, first: int = 30000, last: int = 32767) -> None:
        self.first, self.last = first, last
        self.size = last - first + 1
        self.offset = self.size if self.size < 32 else min(max(16, self.size // 32), 128)
        self.taken: set[int] = set()

    def take(self, port: int) -> None:
        if not self.first <= port <= self.last:
            valid = f"{self.first}-{self.last}"
            raise AllocationError(f"provided port is not in the valid range. The range of valid ports is {valid}")
        if port in self.taken:
            raise AllocationError("provided port is already allocated")
        self.taken.add(port)

    def next(self) -> int:
        """A free port, taken."""
        port = _choose(self.taken, self.first, self.size, self.offset)
        if port is None:
            raise AllocationError("range is full")
        self.taken.add(port)
        return port

    def release(self, port: int) -> None:
        self.taken.discard(port)


def _choose(taken: set[int], first: int, size: int, offset: int) -> int | None:
    """A random free number of the upper part, or of the lower if that is full."""
    for low, high in ((first + offset, first + size), (first, first + min(offset, size))):
        if low >= high:
            continue
        for _ in range(16):
            number = random.randrange(low, high)
            if number not in taken:
                return number
        free = [number for number in range(low, high) if number not in taken]
        if free:
            return random.choice(free)
    return None


class ServiceAllocator:
    """What Services take: a cluster IP for each family (the first range is the default family's), and node ports."""

    def __init__(
        self,
        ranges: Sequence[str],
        services: Iterable[core_v1.Service] = (),
        *,
        node_ports: tuple[int, int] = (30000, 32767),
    ) -> None:
        #: Addresses in use by family, whatever range they are of.
        self.taken: dict[str, set[int]] = {}
        #: Of those the ones that something else than a Service has.
        self._reserved: set[str] = set()
        self._ranges: dict[str, AddressRange] = {}
        for cidr in ranges:
            self.add_range(cidr)
        self.families = tuple(dict.fromkeys(r.family for r in self._ranges.values()))
        self.ports = PortRange(*node_ports)
        for service in services:
            self._restore(service)

    def _restore(self, service: core_v1.Service) -> None:
        spec = service.spec
        for ip in spec.cluster_ips or ():
            if ip != "None":
                self._of(ip).add(int(ipaddress.ip_address(ip)))
        for port in [*(p.node_port for p in spec.ports or ()), spec.health_check_node_port]:
            if port:
                self._quietly(self.ports.take, port)

    @staticmethod
    def _quietly(take: Callable[[Any], None], value: Any) -> None:
        # What is stored was allowed once; a range that was changed since must not keep the server from starting.
        try:
            take(value)
        except AllocationError:
            pass

    # Ranges

    def add_range(self, cidr: str) -> None:
        """Give out addresses of this range too, when those before it are full."""
        if cidr not in self._ranges:
            family = f"IPv{ipaddress.ip_network(cidr).version}"
            self._ranges[cidr] = AddressRange(cidr, self.taken.setdefault(family, set()))

    def remove_range(self, cidr: str) -> None:
        """Give out no more of it; what is in use stays so."""
        self._ranges.pop(cidr, None)

    def reserve(self, ip: str) -> None:
        """An address that something else has."""
        number, taken = int(ipaddress.ip_address(ip)), self._of(ip)
        if number not in taken:
            taken.add(number)
            self._reserved.add(ip)

    def unreserve(self, ip: str) -> None:
        if ip in self._reserved:
            self._reserved.discard(ip)
            self.release_ip(ip)

    # Addresses

    def _of(self, ip: str) -> set[int]:
        return self.taken.setdefault(f"IPv{ipaddress.ip_address(ip).version}", set())

    def take_ip(self, ip: str) -> None:
        family = f"IPv{ipaddress.ip_address(ip).version}"
        if family not in self.families:
            raise AllocationError(f"{family} is not configured on this cluster")
        range_ = next((r for r in self._ranges.values() if ip in r), None)
        if range_ is None:
            raise AllocationError("the provided network does not match the current range")
        range_.take(ip)

    def next_ip(self, family: str) -> str:
        ranges = [r for r in self._ranges.values() if r.family == family]
        for range_ in ranges[:-1]:
            try:
                return range_.next()
            except AllocationError:
                continue
        if not ranges:
            raise AllocationError("range is full")
        return ranges[-1].next()

    def release_ip(self, ip: str) -> None:
        self._of(ip).discard(int(ipaddress.ip_address(ip)))
