"""NodeUnschedulable: cordoned nodes take only pods that tolerate it."""

from __future__ import annotations

from typing import Any

from podling.api import core_v1
from podling.machinery import tolerations
from podling.scheduler.cache import NodeInfo, PodInfo
from podling.scheduler.framework import Plugin, Rejection

_CORDONED = Rejection(("node(s) were unschedulable",), resolvable=False)
_TAINT = core_v1.Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")


class NodeUnschedulable(Plugin):
    name = "NodeUnschedulable"
    local = True
    filters = True

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        if node.node is None or not node.node.spec.unschedulable:
            return None
        return None if tolerations.tolerates(info.pod.spec.tolerations, _TAINT) else _CORDONED
