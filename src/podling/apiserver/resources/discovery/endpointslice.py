"""EndpointSlices: a Service's addresses, up to a thousand in a slice."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import discovery_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.resources.core.endpoints import and_more
from podling.apiserver.resources.core.service_validation import non_special_ip
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    immutable,
    invalid,
    not_supported,
    required,
    too_many,
)

_TYPES = ("FQDN", "IPv4", "IPv6")


class EndpointSliceStrategy(Strategy[discovery_v1.EndpointSlice]):
    create_on_update = False
    columns = (
        printing.NAME,
        printing.text("AddressType"),
        printing.text("Ports"),
        printing.text("Endpoints"),
        printing.AGE,
    )

    def default(self, obj: discovery_v1.EndpointSlice) -> None:
        for port in obj.ports or ():
            port.protocol = port.protocol or "TCP"
            port.name = port.name or ""

    def validate(self, obj: discovery_v1.EndpointSlice) -> Findings:
        found: Findings = []
        if not obj.address_type:
            found.append(required(Path("addressType")))
        elif obj.address_type not in _TYPES:
            found.append(not_supported(Path("addressType"), obj.address_type, _TYPES))
        found += _endpoints(obj.endpoints or [], obj.address_type, Path("endpoints"))
        return found + _ports(obj.ports or [], Path("ports"))

    def validate_update(self, new: discovery_v1.EndpointSlice, old: discovery_v1.EndpointSlice) -> Findings:
        return self.validate(new) + immutable(new.address_type, old.address_type, Path("addressType"))

    def row(self, obj: discovery_v1.EndpointSlice, now: datetime) -> list[Any]:
        ports = [str(p.port) if p.port is not None else p.name or "*" for p in obj.ports or ()]
        addresses = [a for e in obj.endpoints or () for a in e.addresses]
        return [
            printing.name(obj.metadata),
            obj.address_type,
            and_more(ports, printing.UNSET),
            and_more(addresses, printing.UNSET),
            printing.age(obj.metadata, now),
        ]


def _endpoints(endpoints: Sequence[discovery_v1.Endpoint], kind: str, path: Path) -> Findings:
    if len(endpoints) > 1000:
        return [too_many(path, len(endpoints), 1000)]
    found: Findings = []
    for index, endpoint in enumerate(endpoints):
        at = path.index(index)
        addresses = at.child("addresses")
        if not endpoint.addresses:
            found.append(required(addresses, "must contain at least 1 address"))
        elif len(endpoint.addresses) > 100:
            found.append(too_many(addresses, len(endpoint.addresses), 100))
        for position, address in enumerate(endpoint.addresses):
            found += _address(address, kind, addresses.index(position))
        if endpoint.node_name is not None:
            found += each(at.child("nodeName"), endpoint.node_name, names.dns_subdomain(endpoint.node_name))
        for key, value in (endpoint.deprecated_topology or {}).items():
            found += each(at.child("deprecatedTopology"), key, names.qualified_name(key))
            found += each(at.child("deprecatedTopology"), value, names.label_value(value))
        if endpoint.hostname is not None:
            found += each(at.child("hostname"), endpoint.hostname, names.dns_label(endpoint.hostname))
    return found


def _address(address: str, kind: str, path: Path) -> Findings:
    if kind == "FQDN":
        return each(path, address, names.dns_subdomain(address.removesuffix(".")))
    if problems := names.ip(address):
        return each(path, address, problems)
    version = f"IPv{ipaddress.ip_address(address).version}"
    if kind in ("IPv4", "IPv6") and version != kind:
        return [invalid(path, address, f"must be an {kind} address")]
    return non_special_ip(address, path)


def _ports(ports: Sequence[discovery_v1.EndpointPort], path: Path) -> Findings:
    if len(ports) > 20_000:
        return [too_many(path, len(ports), 20_000)]
    found: Findings = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at = path.index(index)
        name = port.name or ""
        if name:
            found += each(at.child("name"), name, names.dns_label(name))
        if name in seen:
            found.append(duplicate(at.child("name"), name))
        seen.add(name)
        if port.protocol not in ("SCTP", "TCP", "UDP"):
            found.append(not_supported(at.child("protocol"), port.protocol or "", ("SCTP", "TCP", "UDP")))
        if port.app_protocol is not None:
            found += each(at.child("appProtocol"), port.app_protocol, names.qualified_name(port.app_protocol))
    return found
