"""Every node gets a range of its own for its pods, cut from the cluster's."""

from __future__ import annotations

import ipaddress

from podling.api import core_v1
from podling.client.base import PatchType
from podling.client.events import NORMAL
from podling.controllers.base import Context, Controller, ReconcileError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Exhausted(Exception):
    """All ranges are taken."""


class Ranges:
    """Subnets of one size in a network. The search goes on behind the last one given out, so that the range of a node
    that has gone is not another's at once."""

    def __init__(self, network: Network, prefix: int) -> None:
        if prefix < network.prefixlen:
            raise ValueError(f"{network} cannot be divided into /{prefix}")
        self._network, self._prefix = network, prefix
        self._count = 1 << (prefix - network.prefixlen)
        self._size = 1 << (network.max_prefixlen - prefix)
        self._used: set[int] = set()
        self._next = 0

    def _index(self, cidr: str) -> int | None:
        try:
            network = ipaddress.ip_network(cidr)
        except ValueError:
            return None
        if network.version != self._network.version or network.prefixlen != self._prefix:
            return None
        index = (int(network.network_address) - int(self._network.network_address)) // self._size
        return index if 0 <= index < self._count else None

    def occupy(self, cidr: str) -> None:
        """Somebody has it. Ranges outside are nobody's matter here."""
        index = self._index(cidr)
        if index is not None:
            self._used.add(index)

    def release(self, cidr: str) -> None:
        index = self._index(cidr)
        if index is not None:
            self._used.discard(index)

    def allocate(self) -> str:
        """The next free one. Raises Exhausted."""
        for step in range(self._count):
            index = (self._next + step) % self._count
            if index not in self._used:
                self._used.add(index)
                self._next = (index + 1) % self._count
                first = self._network.network_address + index * self._size
                return f"{first}/{self._prefix}"
            if len(self._used) >= self._count:
                break
        raise Exhausted


class NodeIpamController(Controller):
    """See the module. Keys are names of nodes."""

    name = "node-ipam-controller"
    component = "cidrAllocator"
    #: One at a time: a range is taken before it is written.
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        config = context.config
        self._ranges = []
        for text in filter(None, (c.strip() for c in config.cluster_cidr.split(","))):
            network = ipaddress.ip_network(text)
            prefix = config.node_cidr_mask_ipv4 if network.version == 4 else config.node_cidr_mask_ipv6
            self._ranges.append(Ranges(network, prefix))
        self._nodes = self.informer(core_v1.Node)
        self._nodes.add_handler(on_add=self._seen, on_update=lambda _, new: self._seen(new), on_delete=self._deleted)

    def _seen(self, node: core_v1.Node) -> None:
        for cidr in node.spec.pod_cidrs or ():
            for ranges in self._ranges:
                ranges.occupy(cidr)
        if not node.spec.pod_cidrs and self._ranges:
            self.enqueue(node)

    def _deleted(self, node: core_v1.Node) -> None:
        for cidr in node.spec.pod_cidrs or ():
            for ranges in self._ranges:
                ranges.release(cidr)

    async def reconcile(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None or node.spec.pod_cidrs:
            return
        taken: list[tuple[Ranges, str]] = []
        try:
            for ranges in self._ranges:
                taken.append((ranges, ranges.allocate()))
            cidrs = [cidr for _, cidr in taken]
            patch = {"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}}
            await self.client.patch(core_v1.Node, key, None, patch, type=PatchType.STRATEGIC)
        except Exhausted:
            self._undo(taken)
            message = f"Node {key} status is now: CIDRNotAvailable"
            self.recorder.event(node, NORMAL, "CIDRNotAvailable", message)
            raise ReconcileError(f"no range is left for node {key}: enlarge the cluster's pod range") from None
        except Exception:
            self._undo(taken)
            raise

    @staticmethod
    def _undo(taken: list[tuple[Ranges, str]]) -> None:
        for ranges, cidr in taken:
            ranges.release(cidr)
