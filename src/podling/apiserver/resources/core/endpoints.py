"""Endpoints: the older, single-object form of a Service's addresses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from podling.api import core_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.resources.core.service_validation import non_special_ip
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, one_of, required

_SHOWN = 3


class EndpointsStrategy(Strategy[core_v1.Endpoints]):
    create_on_update = True
    deprecation = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    columns = (printing.NAME, printing.text("Endpoints"), printing.AGE)

    def default(self, obj: core_v1.Endpoints) -> None:
        for subset in obj.subsets or ():
            for port in subset.ports or ():
                port.protocol = port.protocol or "TCP"

    def validate(self, obj: core_v1.Endpoints) -> Findings:
        found: Findings = []
        for index, subset in enumerate(obj.subsets or ()):
            at = Path("subsets").index(index)
            if not subset.addresses and not subset.not_ready_addresses:
                found.append(required(at, "must specify `addresses` or `notReadyAddresses`"))
            for name, addresses in (
                ("addresses", subset.addresses),
                ("notReadyAddresses", subset.not_ready_addresses),
            ):
                for position, address in enumerate(addresses or ()):
                    found += _address(address, at.child(name).index(position))
            for position, port in enumerate(subset.ports or ()):
                found += _port(port, len(subset.ports or ()) > 1, at.child("ports").index(position))
        return found

    def row(self, obj: core_v1.Endpoints, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), _shown(obj.subsets or ()), printing.age(obj.metadata, now)]


def _address(address: core_v1.EndpointAddress, path: Path) -> Findings:
    found = each(path.child("ip"), address.ip, names.ip(address.ip)) or non_special_ip(address.ip, path.child("ip"))
    if address.hostname:
        found += each(path.child("hostname"), address.hostname, names.dns_label(address.hostname))
    if address.node_name is not None:
        found += each(path.child("nodeName"), address.node_name, names.dns_subdomain(address.node_name))
    return found


def _port(port: core_v1.EndpointPort, need_name: bool, path: Path) -> Findings:
    found: Findings = []
    if port.name:
        found += each(path.child("name"), port.name, names.dns_label(port.name))
    elif need_name:
        found.append(required(path.child("name")))
    found += each(path.child("port"), port.port, names.port_number(port.port))
    found += one_of(path.child("protocol"), port.protocol, ("SCTP", "TCP", "UDP"), needed=True)
    if port.app_protocol is not None:
        found += each(path.child("appProtocol"), port.app_protocol, names.qualified_name(port.app_protocol))
    return found


def _shown(subsets: Iterable[core_v1.EndpointSubset]) -> str:
    found: list[str] = []
    for subset in subsets:
        addresses = [a.ip for a in subset.addresses or ()]
        if not subset.ports:
            found += addresses
        for port in subset.ports or ():
            found += [f"[{ip}]:{port.port}" if ":" in ip else f"{ip}:{port.port}" for ip in addresses]
    return and_more(found)


def and_more(values: list[str], empty: str = printing.NONE) -> str:
    """The first three, and how many more there are."""
    if len(values) > _SHOWN:
        return f"{','.join(values[:_SHOWN])} + {len(values) - _SHOWN} more..."
    return printing.joined(values, empty)
