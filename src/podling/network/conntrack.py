"""Forgetting UDP flows: the kernel keeps sending a flow where its first packet went, even when nobody is there.

TCP notices by itself; UDP does not, so whoever changes where a UDP port leads deletes the flows that went there.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable

import msgspec

from podling.network.rtnetlink import NetlinkError, Transport, attribute, attributes, nested

_NETFILTER = 12
_CONNTRACK = 1 << 8
_GET, _DELETE = _CONNTRACK | 1, _CONNTRACK | 2
_DUMP = 0x300
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS = 1
_FILTER_PROTO_NUM = 1 << 3
_HEADER = struct.Struct("=BBH")


class Flow(msgspec.Struct, frozen=True):
    """A flow as its sender sees it (`saddr`, `daddr`, `dport`), and who answers (`replier`)."""

    saddr: str
    daddr: str
    dport: int
    replier: str
    replier_port: int


def delete_udp(doomed: Callable[[Flow], bool], *, netns: str = "") -> int:
    """Delete the UDP flows for which `doomed` holds; how many they were.

    The kernel filters by protocol where it can (since 5.8); where it cannot, the rest is sorted out here.
    """
    transport = Transport(_NETFILTER, netns)
    try:
        return sum(_delete_udp(transport, family, doomed) for family in (socket.AF_INET, socket.AF_INET6))
    finally:
        transport.close()


def _delete_udp(transport: Transport, family: int, doomed: Callable[[Flow], bool]) -> int:
    protocol = nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, attribute(_PROTO_NUM, bytes([socket.IPPROTO_UDP]))))
    only = nested(_FILTER, attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _FILTER_PROTO_NUM)))
    header = _HEADER.pack(family, 0, 0)
    deleted = 0
    for _, body in transport.request("list flows", _GET, _DUMP, header + protocol + only):
        values = dict(attributes(body, _HEADER.size))
        flow = _parse(values)
        if flow is None or not doomed(flow):
            continue
        message = header + nested(_TUPLE_ORIG, values[_TUPLE_ORIG])
        for kind in (_ID, _ZONE):
            if kind in values:
                message += attribute(kind, values[kind])
        try:
            transport.request("delete flow", _DELETE, 0, message)
            deleted += 1
        except NetlinkError:  # it ended by itself
            continue
    return deleted


def _parse(values: dict[int, bytes]) -> Flow | None:
    original, reply = _tuple(values.get(_TUPLE_ORIG, b"")), _tuple(values.get(_TUPLE_REPLY, b""))
    if original is None or reply is None or original[0] != socket.IPPROTO_UDP:
        return None
    _, saddr, daddr, _, dport = original
    _, replier, _, replier_port, _ = reply
    return Flow(saddr=saddr, daddr=daddr, dport=dport, replier=replier, replier_port=replier_port)


def _tuple(data: bytes) -> tuple[int, str, str, int, int] | None:
    """Protocol, source, destination, source port, destination port."""
    parts = dict(attributes(data))
    addresses, protocol = list(attributes(parts.get(_TUPLE_IP, b""))), dict(attributes(parts.get(_TUPLE_PROTO, b"")))
    if len(addresses) < 2 or _PROTO_DST_PORT not in protocol:
        return None
    source, destination = (str(ipaddress.ip_address(value)) for _, value in sorted(addresses))
    ports = [struct.unpack("!H", protocol[kind])[0] for kind in (_PROTO_SRC_PORT, _PROTO_DST_PORT)]
    return protocol[_PROTO_NUM][0], source, destination, ports[0], ports[1]
