"""Links, addresses, routes and neighbours by the kernel's own messages (rtnetlink(7)).

What podling needs of rtnetlink is a page long, and it needs it fast: one attribute tree, one system call, one answer,
without an event loop of its own. All calls block, for some ten microseconds; making or deleting a link takes the
kernel a millisecond or more and belongs in a worker thread.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

import msgspec

from podling.network import netns as namespaces
from podling.network.base import NetworkFailure

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")

_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD = 26, 27, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER, _BRPORT_HAIRPIN, _INET6_ADDR_GEN_MODE = 1, 4, 8
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_IFF_UP = 1
_IFA_F_NODAD = 0x02
_RTNH_F_ONLINK = 4
_TABLE_MAIN = 254
_NESTED = 0x8000
_SOL_NETLINK, _EXT_ACK, _STRICT = 270, 11, 12

#: The group of links that are about to be deleted.
_DOOMED = struct.pack("=I", 0x706F6421)

#: Who made a route (rtm_protocol); the range above 100 is free for anyone. So ours are told from all others.
PROTOCOL = 171
UNICAST, UNREACHABLE = 1, 7
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254


class NetlinkError(NetworkFailure):
    """The kernel said no. `errno` is its code."""

    def __init__(self, what: str, code: int, detail: str) -> None:
        self.errno = code
        super().__init__(f"{what}: {os.strerror(code)}" + (f" ({detail})" if detail else ""))


class _Absent(NetlinkError):
    """There is no such link."""


class Link(msgspec.Struct, frozen=True):
    """A network device. `master` is the index of its bridge, 0 if none; `mac` is the six bytes of its address."""

    index: int
    name: str
    mtu: int
    up: bool
    master: int
    mac: bytes


class Route(msgspec.Struct, frozen=True):
    """A route of the main table; `oif` is a link's index. An unreachable route has neither gateway nor link."""

    destination: str
    gateway: str = ""
    oif: int = 0
    source: str = ""
    metric: int = 0
    type: int = UNICAST
    scope: int = SCOPE_UNIVERSE
    onlink: bool = False


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data` from `offset` on, as (type without flags, payload)."""
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def _name(value: str) -> bytes:
    return value.encode() + b"\0"


class Transport:
    """A netlink socket of a `family` in the namespace pinned at `netns` (empty: the caller's)."""

    def __init__(self, family: int, netns: str = "") -> None:
        with namespaces.entered(netns):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _STRICT, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(self, what: str, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        """Send one message and return the answers as (type, body). `what` begins the text of an error."""
        self._sequence += 1
        flags |= _REQUEST | (0 if flags & _DUMP == _DUMP and not flags & _CREATE else _ACK)
        self._socket.send(_HEADER.pack(len(body) + 16, kind, flags, self._sequence, 0) + body)
        answers: list[tuple[int, bytes]] = []
        while True:
            data = self._socket.recv(1 << 18)
            offset = 0
            while offset < len(data):
                length, answer, answer_flags, sequence, _ = _HEADER.unpack_from(data, offset)
                payload = data[offset + 16 : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if answer == _DONE:
                    return answers
                if answer == _ERROR:
                    self._raise(what, payload, answer_flags)
                    return answers
                answers.append((answer, payload))

    @staticmethod
    def _raise(what: str, payload: bytes, flags: int) -> None:
        code = -struct.unpack_from("=i", payload)[0]
        if code == 0:
            return
        detail = ""
        if flags & 0x200:  # NLM_F_ACK_TLVS: after the header of the request (which is all of it that is sent back)
            request_length = _HEADER.unpack_from(payload, 4)[0] if not flags & 0x100 else 16
            for kind, value in attributes(payload, 4 + ((request_length + 3) & ~3)):
                if kind == 1:
                    detail = value.rstrip(b"\0").decode(errors="replace")
        raise (_Absent if code == errno.ENODEV else NetlinkError)(what, code, detail)


class Netlink(Transport):
    """An rtnetlink socket."""

    def __init__(self, netns: str = "") -> None:
        super().__init__(socket.NETLINK_ROUTE, netns)

    # --- links ---

    def link(self, name: str) -> Link | None:
        """The link called `name`, if there is one."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _name(name))
        try:
            answers = self.request(f"look up link {name}", _GETLINK, 0, body)
        except _Absent:
            return None
        return _parse_link(answers[0][1])

    def links(self) -> list[Link]:
        answers = self.request("list links", _GETLINK, _DUMP, _LINK.pack(0, 0, 0, 0, 0))
        return [_parse_link(body) for kind, body in answers if kind == _NEWLINK]

    def add_bridge(self, name: str, mac: bytes, mtu: int) -> None:
        """A bridge that is down. Its address is fixed: else it would change with the ports that come and go."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _name(name)) + attribute(_IFLA_ADDRESS, mac)
        body += attribute(_IFLA_MTU, _u32(mtu)) + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge\0"))
        self.request(f"add bridge {name}", _NEWLINK, _CREATE | _EXCLUSIVE, body)

    def add_veth(
        self, name: str, peer: str, peer_netns: int, *, mtu: int, master: int = 0, peer_mac: bytes = b""
    ) -> None:
        """A pair of links: `name` here and `peer` in the namespace open at the descriptor `peer_netns`, both down."""
        other = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _name(peer)) + attribute(_IFLA_MTU, _u32(mtu))
        other += attribute(_IFLA_NET_NS_FD, _u32(peer_netns))
        if peer_mac:
            other += attribute(_IFLA_ADDRESS, peer_mac)
        info = nested(
            _IFLA_LINKINFO, attribute(_INFO_KIND, b"veth\0"), nested(_INFO_DATA, attribute(_VETH_PEER, other))
        )
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _name(name)) + attribute(_IFLA_MTU, _u32(mtu))
        if master:
            body += attribute(_IFLA_MASTER, _u32(master))
        self.request(f"add veth {name}", _NEWLINK, _CREATE | _EXCLUSIVE, body + info)

    def set_up(self, index: int) -> None:
        self.request(f"set link {index} up", _NEWLINK, 0, _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP))

    def set_mtu(self, index: int, mtu: int) -> None:
        body = _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_MTU, _u32(mtu))
        self.request(f"set MTU of link {index}", _NEWLINK, 0, body)

    def no_link_local(self, index: int) -> None:
        """Give the link no IPv6 address of its own making."""
        mode = nested(socket.AF_INET6, attribute(_INET6_ADDR_GEN_MODE, b"\x01"))
        body = _LINK.pack(0, 0, index, 0, 0) + nested(_IFLA_AF_SPEC, mode)
        self.request(f"set address mode of link {index}", _NEWLINK, 0, body)

    def set_hairpin(self, index: int) -> None:
        """Let the bridge send a frame back out of the port that it came in by."""
        slave = nested(_INFO_SLAVE_DATA, attribute(_BRPORT_HAIRPIN, b"\x01"))
        info = nested(_IFLA_LINKINFO, attribute(_INFO_SLAVE_KIND, b"bridge\0"), slave)
        self.request(f"set hairpin of link {index}", _NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + info)

    def delete_link(self, name: str) -> bool:
        """Whether there was one."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _name(name))
        try:
            self.request(f"delete link {name}", _DELLINK, 0, body)
        except _Absent:
            return False
        return True

    def delete_links(self, names: list[str]) -> None:
        """Delete links in one step, those of them that there are. Two may do so at once, each for the other too."""
        marked = 0
        for name in names:
            body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _name(name)) + attribute(_IFLA_GROUP, _DOOMED)
            with contextlib.suppress(_Absent):
                self.request(f"mark link {name}", _SETLINK, 0, body)
                marked += 1
        if marked:
            with contextlib.suppress(_Absent):
                self.request("delete links", _DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_GROUP, _DOOMED))

    # --- addresses ---

    def add_address(self, index: int, address: str, *, scope: int = SCOPE_UNIVERSE) -> None:
        """Put `address` ("10.0.0.1/24") on the link; there already is fine."""
        interface = ipaddress.ip_interface(address)
        family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        body = _ADDRESS.pack(family, interface.network.prefixlen, 0, scope, index)
        body += attribute(_IFA_ADDRESS, interface.ip.packed) + attribute(_IFA_LOCAL, interface.ip.packed)
        if interface.version == 6:  # nobody else has it: skip the second of duplicate address detection
            body += attribute(_IFA_FLAGS, _u32(_IFA_F_NODAD))
        self.request(f"add address {address}", _NEWADDR, _CREATE | _REPLACE, body)

    def delete_address(self, index: int, address: str) -> None:
        interface = ipaddress.ip_interface(address)
        family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        body = _ADDRESS.pack(family, interface.network.prefixlen, 0, 0, index)
        body += attribute(_IFA_LOCAL, interface.ip.packed)
        try:
            self.request(f"delete address {address}", _DELADDR, 0, body)
        except NetlinkError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise

    def all_addresses(self) -> list[str]:
        """The addresses of all links as "10.0.0.1/24"."""
        return self.addresses(0)

    def addresses(self, index: int) -> list[str]:
        """The link's addresses as "10.0.0.1/24"; index 0 stands for all links."""
        found: list[str] = []
        for kind, body in self.request("list addresses", _GETADDR, _DUMP, _ADDRESS.pack(0, 0, 0, 0, 0)):
            _, length, _, _, link = _ADDRESS.unpack_from(body)
            if kind != _NEWADDR or (index and link != index):
                continue
            values = dict(attributes(body, _ADDRESS.size))
            packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if packed is not None:
                found.append(f"{ipaddress.ip_address(packed)}/{length}")
        return found

    # --- routes ---

    def replace_route(self, route: Route) -> None:
        """Add the route, in place of one to the same destination with the same metric."""
        body = _encode_route(route)
        self.request(f"add route {route.destination}", _NEWROUTE, _CREATE | _REPLACE, body)

    def delete_route(self, route: Route) -> None:
        try:
            self.request(f"delete route {route.destination}", _DELROUTE, 0, _encode_route(route))
        except NetlinkError as error:
            if error.errno not in (errno.ESRCH, errno.ENODEV, errno.ENETUNREACH):
                raise

    def routes(self, *, ours: bool = True) -> list[Route]:
        """The main table's routes: those that podling made, or all of them."""
        found: list[Route] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for kind, answer in self.request("list routes", _GETROUTE, _DUMP, body):
                header = _ROUTE.unpack_from(answer)
                if kind == _NEWROUTE and header[4] == _TABLE_MAIN and (not ours or header[5] == PROTOCOL):
                    found.append(_parse_route(header, answer))
        return found


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    values = dict(attributes(body, _LINK.size))
    return Link(
        index=index,
        name=values[_IFLA_IFNAME].rstrip(b"\0").decode(),
        mtu=struct.unpack("=I", values[_IFLA_MTU])[0],
        up=bool(flags & _IFF_UP),
        master=struct.unpack("=I", values[_IFLA_MASTER])[0] if _IFLA_MASTER in values else 0,
        mac=values.get(_IFLA_ADDRESS, b""),
    )


def _encode_route(route: Route) -> bytes:
    network = ipaddress.ip_network(route.destination)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    flags = _RTNH_F_ONLINK if route.onlink else 0
    body = _ROUTE.pack(family, network.prefixlen, 0, 0, _TABLE_MAIN, PROTOCOL, route.scope, route.type, flags)
    if network.prefixlen:
        body += attribute(_RTA_DST, network.network_address.packed)
    if route.gateway:
        body += attribute(_RTA_GATEWAY, ipaddress.ip_address(route.gateway).packed)
    if route.oif:
        body += attribute(_RTA_OIF, _u32(route.oif))
    if route.source:
        body += attribute(_RTA_PREFSRC, ipaddress.ip_address(route.source).packed)
    if route.metric:
        body += attribute(_RTA_PRIORITY, _u32(route.metric))
    return body


def _parse_route(header: tuple[int, ...], body: bytes) -> Route:
    values = dict(attributes(body, _ROUTE.size))
    zero = bytes(4 if header[0] == socket.AF_INET else 16)

    def address(kind: int) -> str:
        return str(ipaddress.ip_address(values[kind])) if kind in values else ""

    def number(kind: int) -> int:
        return int(struct.unpack("=I", values[kind])[0]) if kind in values else 0

    return Route(
        destination=f"{ipaddress.ip_address(values.get(_RTA_DST, zero))}/{header[1]}",
        gateway=address(_RTA_GATEWAY),
        oif=0 if header[7] == UNREACHABLE else number(_RTA_OIF),
        source=address(_RTA_PREFSRC),
        metric=number(_RTA_PRIORITY),
        type=header[7],
        scope=header[6],
        onlink=bool(header[8] & _RTNH_F_ONLINK),
    )
