"""The allocator of Services kept in step with what is stored: ranges that are ready, addresses that others have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from podling.api import core_v1, networking_v1
from podling.apiserver.allocators import ServiceAllocator

#: The label of IPAddresses that stand for addresses of Services (the controller that makes them sets it).
_MANAGED_BY, _MANAGER = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"

#: Calls back for all objects of a class and every change.
Follow = Callable[[type[Any], Callable[[str, Any], None]], None]


class ServiceRanges:
    """`allocator` begins with the configured ranges, which always stay, and the addresses of `services`."""

    def __init__(self, configured: list[str], services: Iterable[core_v1.Service], node_ports: tuple[int, int]) -> None:
        self.allocator = ServiceAllocator(configured, services, node_ports=node_ports)
        self._configured = frozenset(configured)
        #: The ranges of each ServiceCIDR that is ready; several may have the same.
        self._ready: dict[str, tuple[str, ...]] = {}

    def follow(self, follow: Follow) -> None:
        """Keep up with ServiceCIDRs and IPAddresses from now on."""
        follow(networking_v1.ServiceCIDR, self.range_changed)
        follow(networking_v1.IPAddress, self.address_changed)

    def range_changed(self, event: str, obj: networking_v1.ServiceCIDR) -> None:
        name = obj.metadata.name or ""
        before = self._ready.pop(name, ())
        if event != "DELETED" and _is_ready(obj):
            self._ready[name] = tuple(obj.spec.cidrs or ())
        for cidr in self._ready.get(name, ()):
            self.allocator.add_range(cidr)
        kept = self._configured.union(*self._ready.values())
        for cidr in before:
            if cidr not in kept:
                self.allocator.remove_range(cidr)

    def address_changed(self, event: str, obj: networking_v1.IPAddress) -> None:
        if (obj.metadata.labels or {}).get(_MANAGED_BY) == _MANAGER:
            return
        name = obj.metadata.name or ""
        if event == "DELETED":
            self.allocator.unreserve(name)
        else:
            self.allocator.reserve(name)


def _is_ready(obj: networking_v1.ServiceCIDR) -> bool:
    if obj.metadata.deletion_timestamp is not None:
        return False
    return any(c.type == "Ready" and c.status == "True" for c in obj.status.conditions or ())
