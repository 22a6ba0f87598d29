"""NodeResourcesFit: a node has room for what the pod asks for; the emptier node is better (LeastAllocated).
BalancedAllocation: the node whose resources are then used evenly is better."""

from __future__ import annotations

from typing import Any

from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import MAX_SCORE, SKIP, Plugin, Rejection

_SCORED = ("cpu", "memory")


def insufficient(info: PodInfo, node: NodeInfo) -> Rejection | None:
    """All resources that the node has too little of."""
    reasons: list[str] = []
    resolvable = True
    if len(node.pods) + 1 > node.max_pods:
        reasons.append("Too many pods")
        resolvable = node.max_pods > 0
    for name, wanted in info.requests.items():
        if wanted <= 0 or name == "pods":
            continue
        total = node.allocatable.get(name, 0)
        if wanted > total - node.requested.get(name, 0):
            reasons.append(f"Insufficient {name}")
            resolvable = resolvable and wanted <= total
    return Rejection(tuple(reasons), resolvable) if reasons else None


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"
    local = True
    filters = True
    scores = True

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        return insufficient(info, node)

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        total = scored = 0
        for name in _SCORED:
            capacity = node.allocatable.get(name, 0)
            if capacity:
                used = node.assumed.get(name, 0) + info.assumed.get(name, 0)
                total += max(0, capacity - used) * MAX_SCORE // capacity
                scored += 1
        return total // scored if scored else 0


class BalancedAllocation(Plugin):
    name = "NodeResourcesBalancedAllocation"
    local = True
    scores = True

    def prepare_score(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> Any:
        # A pod that asks for nothing changes no balance.
        return None if any(info.requests.get(name) for name in _SCORED) else SKIP

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        shares = []
        for name in _SCORED:
            capacity = node.allocatable.get(name, 0)
            if capacity:
                used = node.requested.get(name, 0) + info.requests.get(name, 0)
                shares.append(min(1.0, used / capacity))
        # The standard deviation of two shares is half of their distance.
        deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
        return int((1 - deviation) * MAX_SCORE)
