"""NodePorts: a port of a node is given once."""

from __future__ import annotations

from typing import Any

from podling.scheduler.cache import Cache, HostPort, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection

_TAKEN = Rejection(("node(s) didn't have free ports for the requested pod ports",))
ANY = "0.0.0.0"


def conflicts(wanted: HostPort, taken: dict[HostPort, int]) -> bool:
    """Whether a port is taken; 0.0.0.0 conflicts with every address."""
    address, protocol, port = wanted
    if address != ANY:
        return wanted in taken or (ANY, protocol, port) in taken
    return any(p == port and proto == protocol for _, proto, p in taken)


class NodePorts(Plugin):
    name = "NodePorts"
    local = True
    filters = True

    def prepare(self, info: PodInfo, cache: Cache) -> Any:
        return info.ports or SKIP

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        return _TAKEN if node.ports and any(conflicts(port, node.ports) for port in state) else None
