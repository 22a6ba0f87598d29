"""Which sandbox has which address: an allocator that knows only its ranges, and the file that outlives the agent.

Addresses are handed out in turn rather than the lowest first, and one that was given back rests for a while: a client
that still holds a dead pod's address should find nobody there, not somebody else.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable

import msgspec

from podling.network.base import NetworkFailure, PortMapping


class NoAddresses(NetworkFailure):
    """Every address of the range is in use."""

    def __init__(self, cidr: str) -> None:
        super().__init__(f"no addresses left in {cidr}")


class Allocator:
    """The addresses of one range. Network, gateway (the first) and broadcast are never given out.

    Times are seconds on any clock that does not go back. The oldest of the resting addresses is used early when no
    other is left.
    """

    def __init__(self, cidr: str, *, quarantine: float, last: str = "") -> None:
        self.cidr = cidr
        network = ipaddress.ip_network(cidr)
        self._network = network
        self._first = int(network.network_address) + 2
        # IPv6 has no broadcast address; 2^32 pods on a node will do.
        self._count = min(network.num_addresses - (3 if network.version == 4 else 2), 1 << 32)
        if self._count < 1:
            raise NetworkFailure(f"{cidr} has no room for a pod")
        self._quarantine = quarantine
        self._used: set[int] = set()
        self._resting: dict[int, float] = {}  # in the order of their release
        self._next = (int(ipaddress.ip_address(last)) - self._first + 1) % self._count if last else 0

    def take(self, address: str) -> None:
        """Mark `address` as used, such as one that was allocated before a restart."""
        self._used.add(int(ipaddress.ip_address(address)))

    def allocate(self, now: float) -> str:
        """The next free address. Raises NoAddresses."""
        self._wake(now)
        if len(self._used) + len(self._resting) >= self._count:
            if not self._resting:
                raise NoAddresses(self.cidr)
            value = next(iter(self._resting))
            del self._resting[value]
        else:
            while (value := self._first + self._next) in self._used or value in self._resting:
                self._next = (self._next + 1) % self._count
            self._next = (self._next + 1) % self._count
        self._used.add(value)
        return str(type(self._network[0])(value))

    def release(self, address: str, now: float) -> None:
        """Give `address` back; one that is not in use is no error."""
        value = int(ipaddress.ip_address(address))
        if value in self._used:
            self._used.discard(value)
            self._resting[value] = now

    def _wake(self, now: float) -> None:
        rested = [value for value, since in self._resting.items() if now - since >= self._quarantine]
        for value in rested:
            del self._resting[value]


class Lease(msgspec.Struct, frozen=True):
    """What a sandbox has: its addresses, the name of its link on the node's side, its hostPorts."""

    ips: tuple[str, ...]
    link: str
    ports: tuple[PortMapping, ...] = ()


class State(msgspec.Struct):
    """What is kept: leases by sandbox id, the last address given out of each range, and the boot they belong to."""

    boot: str = ""
    last: dict[str, str] = {}
    leases: dict[str, Lease] = {}


class Leases:
    """The leases of a node, kept in a file. Every change is on disk (renamed into place) when the call returns.

    Links and namespaces do not survive a boot of the machine, so neither do leases: `boot` names the present one.
    """

    def __init__(self, path: str, cidrs: Iterable[str], *, boot: str, quarantine: float) -> None:
        self._path = path
        self._state = self._load(boot)
        self._allocators = [
            Allocator(cidr, quarantine=quarantine, last=self._state.last.get(cidr, "")) for cidr in cidrs
        ]
        for lease in self._state.leases.values():
            for ip in lease.ips:
                if allocator := self._owner(ip):
                    allocator.take(ip)

    def _load(self, boot: str) -> State:
        try:
            with open(self._path, "rb") as file:
                state = msgspec.json.decode(file.read(), type=State)
        except FileNotFoundError:
            return State(boot=boot)
        except (msgspec.DecodeError, OSError) as error:
            raise NetworkFailure(f"cannot read the address leases in {self._path}: {error}") from error
        return state if state.boot == boot else State(boot=boot, last=state.last)

    def _owner(self, ip: str) -> Allocator | None:
        address = ipaddress.ip_address(ip)
        return next((a for a in self._allocators if address in ipaddress.ip_network(a.cidr)), None)

    def __contains__(self, sandbox_id: str) -> bool:
        return sandbox_id in self._state.leases

    def get(self, sandbox_id: str) -> Lease | None:
        return self._state.leases.get(sandbox_id)

    def items(self) -> dict[str, Lease]:
        return dict(self._state.leases)

    def acquire(self, sandbox_id: str, link: str, ports: tuple[PortMapping, ...], now: float) -> Lease:
        """A new lease with an address of each range, or the one that the sandbox has. Raises NoAddresses."""
        if lease := self._state.leases.get(sandbox_id):
            return lease
        ips: list[str] = []
        try:
            for allocator in self._allocators:
                ips.append(allocator.allocate(now))
        except NoAddresses:
            for allocator, ip in zip(self._allocators, ips, strict=False):
                allocator.release(ip, now)
            raise
        lease = Lease(ips=tuple(ips), link=link, ports=ports)
        self._state.leases[sandbox_id] = lease
        self._state.last.update({a.cidr: ip for a, ip in zip(self._allocators, ips, strict=True)})
        self._save()
        return lease

    def release(self, sandbox_id: str, now: float) -> Lease | None:
        """End the lease, if there is one."""
        lease = self._state.leases.pop(sandbox_id, None)
        if lease is not None:
            for ip in lease.ips:
                if allocator := self._owner(ip):
                    allocator.release(ip, now)
            self._save()
        return lease

    def _save(self) -> None:
        # Without fsync: what a power failure could lose here, it takes from the kernel as well.
        os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        temporary = self._path + ".new"
        with open(temporary, "wb") as file:
            file.write(msgspec.json.encode(self._state))
        os.replace(temporary, self._path)
