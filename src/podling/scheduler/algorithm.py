"""The decision about one pod: which nodes can take it, and which of them is best. Pure: it changes nothing.

As upstream, a large cluster is not searched to its end: when enough nodes fit, the best of those is taken, and the next
pod's search begins where this one stopped.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection

#: Clusters up to this size are searched to the end.
_SEARCH_ALL = 100
#: At least this share of the nodes is found feasible before the search stops.
_LEAST_PERCENT = 5


class Failure(msgspec.Struct):
    """No node fits. `rejections` is by node name; `plugins` are those that rejected something."""

    total: int
    rejections: dict[str, Rejection]
    plugins: set[str]

    def message(self) -> str:
        """Upstream's words: `0/5 nodes are available: 2 Insufficient cpu, 3 Insufficient memory.`"""
        return fit_message(self.total, list(self.rejections.values()))


def fit_message(total: int, rejections: list[Rejection]) -> str:
    """The sorted reasons with how many nodes gave each."""
    if not total:
        return "no nodes available to schedule pods"
    counts = Counter(reason for rejection in rejections for reason in rejection.reasons)
    reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    return f"0/{total} nodes are available: {reasons}." if reasons else f"0/{total} nodes are available."


class Algorithm:
    """The plugins of one profile, and where the next search begins."""

    def __init__(self, plugins: list[Plugin]) -> None:
        self.plugins = plugins
        self._filters = [p for p in plugins if p.filters]
        self._scorers = [p for p in plugins if p.scores]
        self._next = 0

    def gate(self, info: PodInfo) -> tuple[str, Rejection] | None:
        """The plugin that keeps the pod from being looked at, with its reason."""
        for plugin in self.plugins:
            if rejection := plugin.gate(info):
                return plugin.name, rejection
        return None

    def decide(self, info: PodInfo, cache: Cache) -> NodeInfo | Failure:
        """The best node, or why there is none."""
        states, failure = self.prepare(info, cache)
        if failure is not None:
            return failure
        nominated = info.pod.status.nominated_node_name
        if nominated and (node := cache.nodes.get(nominated)) and self.fits(states, info, node, cache) is None:
            return node
        feasible, failed = self._search(states, info, cache)
        if not feasible:
            return failed
        if len(feasible) == 1:
            return feasible[0]
        return self._best(info, cache, feasible)

    def prepare(self, info: PodInfo, cache: Cache) -> tuple[list[tuple[Plugin, Any]], Failure | None]:
        """The filters that have something to say, with their states."""
        states: list[tuple[Plugin, Any]] = []
        for plugin in self._filters:
            state = plugin.prepare(info, cache)
            if isinstance(state, Rejection):
                return [], Failure(len(cache.nodes), dict.fromkeys(cache.nodes, state), {plugin.name})
            if state is not SKIP:
                states.append((plugin, state))
        return states, None

    def fits(
        self, states: list[tuple[Plugin, Any]], info: PodInfo, node: NodeInfo, cache: Cache
    ) -> tuple[str, Rejection] | None:
        """None if the node can take the pod, beside those of its rank that room was made for there."""
        expected = cache.expected(node.name, info)
        if expected:
            node = node.without(())
            for other in expected:
                node.add(other)
        for plugin, state in states:
            rejection = plugin.filter(state, info, node)
            if rejection is not None:
                return plugin.name, rejection
        return None

    def _search(self, states: list[tuple[Plugin, Any]], info: PodInfo, cache: Cache) -> tuple[list[NodeInfo], Failure]:
        nodes = list(cache.nodes.values())
        wanted = enough(len(nodes))
        start = self._next % len(nodes) if nodes else 0
        feasible: list[NodeInfo] = []
        failure = Failure(len(nodes), {}, set())
        looked = 0
        for node in nodes[start:] + nodes[:start]:
            looked += 1
            refused = self.fits(states, info, node, cache)
            if refused is None:
                feasible.append(node)
                if len(feasible) == wanted:
                    break
            else:
                failure.plugins.add(refused[0])
                failure.rejections[node.name] = refused[1]
        self._next = start + looked
        return feasible, failure

    def _best(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> NodeInfo:
        """The node with the highest sum of weighted scores; of equals, the first found."""
        totals = [0] * len(nodes)
        for plugin in self._scorers:
            state = plugin.prepare_score(info, cache, nodes)
            if state is SKIP:
                continue
            scores = plugin.normalize(state, [plugin.score(state, info, node) for node in nodes])
            for n, score in enumerate(scores):
                totals[n] += plugin.weight * score
        return nodes[totals.index(max(totals))]


def enough(nodes: int) -> int:
    """How many feasible nodes end a search (upstream's adaptive percentageOfNodesToScore)."""
    if nodes < _SEARCH_ALL:
        return nodes
    percent = max(_LEAST_PERCENT, 50 - nodes // 125)
    return max(_SEARCH_ALL, nodes * percent // 100)
