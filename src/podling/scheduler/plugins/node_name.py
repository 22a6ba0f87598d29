"""NodeName: a pod that names its node goes nowhere else."""

from __future__ import annotations

from typing import Any

from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection

_WRONG = Rejection(("node(s) didn't match the requested node name",), resolvable=False)


class NodeName(Plugin):
    name = "NodeName"
    local = True
    filters = True

    def prepare(self, info: PodInfo, cache: Cache) -> Any:
        return info.pod.spec.node_name or SKIP

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        return None if node.name == state else _WRONG
