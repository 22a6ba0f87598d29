"""Which endpoints of a service port a node sends traffic to: readiness, termination, topology, traffic policies."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from podling.api import core_v1, discovery_v1

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ADDRESS_TYPES = {4: "IPv4", 6: "IPv6"}


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """An address and port that a service port leads to. `local` is on this node; hints are None when not given."""

    ip: str
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    local: bool = False
    zones: frozenset[str] | None = None
    nodes: frozenset[str] | None = None


class Choice(msgspec.Struct, frozen=True):
    """The endpoints for traffic from anywhere (`cluster`), and for traffic that a Local policy keeps here (`local`).

    `any` says whether the port has endpoints on any node at all.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    any: bool


def of_port(
    port: core_v1.ServicePort,
    slices: Iterable[discovery_v1.EndpointSlice],
    *,
    family: int,
    node_name: str,
) -> list[Endpoint]:
    """The endpoints behind `port` in one address family, ordered; an address that is listed twice counts once.

    A slice's port goes with the service's port of the same name and protocol; only the first address of an endpoint
    is used, as the API documents.
    """
    name, protocol, kind = port.name or "", port.protocol or "TCP", ADDRESS_TYPES[family]
    found: dict[tuple[str, int], Endpoint] = {}
    for item in slices:
        if item.address_type != kind:
            continue
        numbers = [
            p.port for p in item.ports or () if (p.name or "") == name and (p.protocol or "TCP") == protocol and p.port
        ]
        for number in numbers:
            for endpoint in item.endpoints or ():
                one = _endpoint(endpoint, number, node_name)
                known = found.get((one.ip, number)) if one else None
                if one is not None and (known is None or one.ready > known.ready):
                    found[one.ip, number] = one
    return sorted(found.values())


def _endpoint(endpoint: discovery_v1.Endpoint, port: int, node_name: str) -> Endpoint | None:
    if not endpoint.addresses:
        return None
    conditions, hints = endpoint.conditions, endpoint.hints
    ready = conditions is None or conditions.ready is not False
    return Endpoint(
        ip=endpoint.addresses[0],
        port=port,
        ready=ready,
        serving=conditions is None or conditions.serving is not False,
        terminating=conditions is not None and conditions.terminating is True,
        local=bool(endpoint.node_name) and endpoint.node_name == node_name,
        zones=frozenset(z.name for z in hints.for_zones) if hints and hints.for_zones else None,
        nodes=frozenset(n.name for n in hints.for_nodes) if hints and hints.for_nodes else None,
    )


def choose(endpoints: list[Endpoint], *, node_name: str, zone: str) -> Choice:
    """Ready endpoints that topology hints allow; where there is none, those that still serve while they end (KEP-1669).

    The same for the local ones, which hints do not restrict.
    """
    ready = _near([e for e in endpoints if e.ready], node_name, zone)
    cluster = ready or [e for e in endpoints if e.serving and e.terminating]
    here = [e for e in endpoints if e.local]
    local = [e for e in here if e.ready] or [e for e in here if e.serving and e.terminating]
    return Choice(cluster=tuple(cluster), local=tuple(local), any=bool(cluster or local))


def _near(ready: list[Endpoint], node_name: str, zone: str) -> list[Endpoint]:
    """Follow hints only when every ready endpoint has one and some are for us: anything else is a transition."""
    if ready and all(e.nodes is not None for e in ready):
        same = [e for e in ready if e.nodes and node_name in e.nodes]
        if same:
            return same
    if ready and zone and all(e.zones is not None for e in ready):
        same = [e for e in ready if e.zones and zone in e.zones]
        if same:
            return same
    return ready


def is_inside(ip: str, cidrs: Iterable[str]) -> bool:
    """Whether `ip` lies in one of the ranges."""
    address = ipaddress.ip_address(ip)
    return any(address in ipaddress.ip_network(cidr) for cidr in cidrs)
