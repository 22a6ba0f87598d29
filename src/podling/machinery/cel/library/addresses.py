"""IP addresses and networks."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.library.attempt import attempt
from podling.machinery.cel.types import (
    EvaluationError,
    Opaque,
    opaque,
)


class Address(Opaque):
    __slots__ = ("address",)
    TYPE = opaque("net.IP")

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)


class Network(Opaque):
    """An address with a prefix length; bits beyond it are kept, as upstream keeps them."""

    __slots__ = ("interface",)
    TYPE = opaque("net.CIDR")

    def __init__(self, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
        self.interface = interface

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and str(self.interface) == str(other.interface)

    def __hash__(self) -> int:
        return hash(self.interface)


def to_address(text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise EvaluationError(
            f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP'
        ) from None
    if "%" in text:
        raise EvaluationError(f'IP address "{text}" with zone value is not allowed')
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Address(address)


def to_network(text: str) -> Network:
    _, slash, length = text.partition("/")
    try:
        if not slash or not re.fullmatch("0|[1-9][0-9]*", length) or "%" in text:
            raise ValueError
        interface = ipaddress.ip_interface(text)
    except ValueError:
        why = f'netip.ParsePrefix("{text}"): ' + ("unable to parse" if slash else "no '/'")
        raise EvaluationError(f"network address parse error during conversion from string: {why}") from None
    if isinstance(interface, ipaddress.IPv6Interface) and interface.ip.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Network(interface)


def _contains_ip(network: Network, address: Any) -> bool:
    found = to_address(address) if isinstance(address, str) else address
    return found.address in network.interface.network


def _contains_network(network: Network, other: Any) -> bool:
    inner: Any = (to_network(other) if isinstance(other, str) else other).interface.network
    outer: Any = network.interface.network
    return bool(inner.version == outer.version and inner.subnet_of(outer))


def _global_unicast(ip: Address) -> bool:
    a = ip.address
    broadcast = a.version == 4 and int(a) == 0xFFFFFFFF
    return not (a.is_unspecified or a.is_loopback or a.is_multicast or a.is_link_local or broadcast)


def _link_local_multicast(ip: Address) -> bool:
    block = "224.0.0.0/24" if ip.address.version == 4 else "ff02::/16"
    return ip.address in ipaddress.ip_network(block)


def _masked(network: Network) -> Network:
    return Network(ipaddress.ip_interface(network.interface.network.with_prefixlen))


def declare_all(table: Functions) -> None:
    ip, cidr = Address.TYPE.name, Network.TYPE.name
    declare(table, f"ip(string) -> {ip}", to_address)
    declare(table, "isIP(string) -> bool", attempt(to_address))
    declare(table, "ip.isCanonical(string) -> bool", lambda s: str(to_address(s).address) == s)
    declare(table, f"{ip}.family() -> int", lambda a: a.address.version)
    declare(table, f"{ip}.isUnspecified() -> bool", lambda a: a.address.is_unspecified)
    declare(table, f"{ip}.isLoopback() -> bool", lambda a: a.address.is_loopback)
    declare(table, f"{ip}.isLinkLocalMulticast() -> bool", _link_local_multicast)
    declare(table, f"{ip}.isLinkLocalUnicast() -> bool", lambda a: a.address.is_link_local)
    declare(table, f"{ip}.isGlobalUnicast() -> bool", _global_unicast)
    declare(table, f"string({ip}) -> string", lambda a: str(a.address))
    declare(table, f"cidr(string) -> {cidr}", to_network)
    declare(table, "isCIDR(string) -> bool", attempt(to_network))
    declare(table, f"{cidr}.containsIP(string) -> bool", _contains_ip)
    declare(table, f"{cidr}.containsIP({ip}) -> bool", _contains_ip)
    declare(table, f"{cidr}.containsCIDR(string) -> bool", _contains_network)
    declare(table, f"{cidr}.containsCIDR({cidr}) -> bool", _contains_network)
    declare(table, f"{cidr}.ip() -> {ip}", lambda n: Address(n.interface.ip))
    declare(table, f"{cidr}.prefixLength() -> int", lambda n: n.interface.network.prefixlen)
    declare(table, f"{cidr}.masked() -> {cidr}", _masked)
    declare(table, f"string({cidr}) -> string", lambda n: n.interface.with_prefixlen)
