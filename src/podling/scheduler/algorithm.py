"""The decision about one pod: which nodes can take it, and which of them is best. Pure: it changes nothing.

As upstream, a large cluster is not searched to its end: when enough nodes fit, the best of those is taken, and the next
pod's search begins where this one stopped. And what the plugins that look at a node by itself have said is remembered:
most pods are like the one before, and most nodes have not changed since.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import msgspec

from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection
from podling.scheduler.metrics import SUCCESS, UNSCHEDULABLE_STATUS, Points

#: Clusters up to this size are searched to the end.
_SEARCH_ALL = 100
#: At least this share of the nodes is found feasible before the search stops.
_LEAST_PERCENT = 5


class Failure(msgspec.Struct):
    """No node fits. `rejections` is by node name; `plugins` are those that rejected something; `of_all` is what was
    said of all nodes at once, before any was looked at."""

    total: int
    rejections: dict[str, Rejection]
    plugins: set[str]
    of_all: str = ""

    def message(self) -> str:
        """Upstream's words: `0/5 nodes are available: 2 Insufficient cpu, 3 Insufficient memory.`"""
        if self.of_all and self.total:
            return f"0/{self.total} nodes are available: {self.of_all}."
        return fit_message(self.total, list(self.rejections.values()))


def fit_message(total: int, rejections: list[Rejection]) -> str:
    """The sorted reasons with how many nodes gave each."""
    if not total:
        return "no nodes available to schedule pods"
    counts = Counter(reason for rejection in rejections for reason in rejection.reasons)
    reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    return f"0/{total} nodes are available: {reasons}." if reasons else f"0/{total} nodes are available."


class _Memory(msgspec.Struct, gc=False):
    """What the local plugins said of a node at its `version`; the score once it was asked for."""

    version: int
    refused: tuple[str, Rejection] | None
    score: int | None = None


#: Shapes of pods that are remembered at once.
_SHAPES = 16

States = list[tuple[Plugin, Any]]


class Algorithm:
    """The plugins of one profile, what they have said, and where the next search begins."""

    def __init__(self, plugins: list[Plugin], points: Points | None = None) -> None:
        """`points` are told when the plugins of an extension point have run."""
        self.plugins = plugins
        self._points = points or Points("")
        self._filters = [p for p in plugins if p.filters]
        self._local_scorers = [p for p in plugins if p.scores and p.local]
        self._scorers = [p for p in plugins if p.scores and not p.local]
        self._memory: OrderedDict[bytes, dict[str, _Memory]] = OrderedDict()
        self._next = 0

    def gate(self, info: PodInfo) -> tuple[str, Rejection] | None:
        """The plugin that keeps the pod from being looked at, with its reason."""
        for plugin in self.plugins:
            if rejection := plugin.gate(info):
                return plugin.name, rejection
        return None

    def decide(self, info: PodInfo, cache: Cache) -> NodeInfo | Failure:
        """The best node, or why there is none."""
        points = self._points
        points.begin()
        states, failure = self.prepare(info, cache)
        if failure is not None:
            points.done("PreFilter", UNSCHEDULABLE_STATUS)
            return failure
        points.done("PreFilter")
        nominated = info.pod.status.nominated_node_name
        if nominated and (node := cache.nodes.get(nominated)) and self.fits(states, info, node, cache) is None:
            return node
        feasible, failed = self._search(states, info, cache)
        points.done("Filter", SUCCESS if feasible else UNSCHEDULABLE_STATUS)
        if not feasible:
            return failed
        if len(feasible) == 1:
            return feasible[0]
        best = self._best(info, cache, feasible)
        points.done("Score")
        return best

    def prepare(self, info: PodInfo, cache: Cache) -> tuple[States, Failure | None]:
        """The filters that have something to say, with their states."""
        states: States = []
        for plugin in self._filters:
            state = plugin.prepare(info, cache)
            if isinstance(state, Rejection):
                rejections = dict.fromkeys(cache.nodes, state)
                return [], Failure(len(cache.nodes), rejections, {plugin.name}, ", ".join(state.reasons))
            if state is not SKIP:
                states.append((plugin, state))
        return states, None

    def fits(self, states: States, info: PodInfo, node: NodeInfo, cache: Cache) -> tuple[str, Rejection] | None:
        """None if the node can take the pod, beside those of its rank that room was made for there."""
        expected = cache.expected(node.name, info)
        if expected:
            node = node.without(())
            for other in expected:
                node.add(other)
        return _first_refusal(states, info, node)

    def _search(self, states: States, info: PodInfo, cache: Cache) -> tuple[list[NodeInfo], Failure]:
        nodes = cache.order
        total = len(nodes)
        wanted = enough(total)
        start = self._next % total if total else 0
        feasible: list[NodeInfo] = []
        failure = Failure(total, {}, set())
        memory = self._remembered(info.shape)
        local = [(p, s) for p, s in states if p.local]
        rest = [(p, s) for p, s in states if not p.local]
        looked = 0
        for position in range(start, start + total):
            node = nodes[position if position < total else position - total]
            looked += 1
            if cache.nominated:
                refused = self.fits(states, info, node, cache)
            else:
                known = memory.get(node.name)
                if known is None or known.version != node.version:
                    known = memory[node.name] = _Memory(node.version, _first_refusal(local, info, node))
                refused = known.refused
                if refused is None and rest:
                    refused = _first_refusal(rest, info, node)
            if refused is None:
                feasible.append(node)
                if len(feasible) == wanted:
                    break
            else:
                failure.plugins.add(refused[0])
                failure.rejections[node.name] = refused[1]
        self._next = start + looked
        return feasible, failure

    def _remembered(self, shape: bytes) -> dict[str, _Memory]:
        memory = self._memory.get(shape)
        if memory is None:
            memory = self._memory[shape] = {}
            if len(self._memory) > _SHAPES:
                self._memory.popitem(last=False)
        else:
            self._memory.move_to_end(shape)
        return memory

    def _best(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> NodeInfo:
        """The node with the highest sum of weighted scores; of equals, the first found."""
        totals = self._local_scores(info, cache, nodes)
        for plugin in self._scorers:
            state = plugin.prepare_score(info, cache, nodes)
            if state is SKIP:
                continue
            scores = plugin.normalize(state, [plugin.score(state, info, node) for node in nodes])
            for n, score in enumerate(scores):
                totals[n] += plugin.weight * score
        return nodes[totals.index(max(totals))]

    def _local_scores(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> list[int]:
        memory = self._remembered(info.shape)
        scorers: list[tuple[Plugin, Any]] | None = None
        totals: list[int] = []
        for node in nodes:
            known = memory.get(node.name)
            if known is None or known.version != node.version:
                known = memory[node.name] = _Memory(node.version, None)
            if known.score is None:
                if scorers is None:
                    prepared = [(p, p.prepare_score(info, cache, nodes)) for p in self._local_scorers]
                    scorers = [(p, s) for p, s in prepared if s is not SKIP]
                known.score = sum(p.weight * p.score(s, info, node) for p, s in scorers)
            totals.append(known.score)
        return totals


def _first_refusal(states: States, info: PodInfo, node: NodeInfo) -> tuple[str, Rejection] | None:
    for plugin, state in states:
        rejection = plugin.filter(state, info, node)
        if rejection is not None:
            return plugin.name, rejection
    return None


def enough(nodes: int) -> int:
    """How many feasible nodes end a search (upstream's adaptive percentageOfNodesToScore)."""
    if nodes < _SEARCH_ALL:
        return nodes
    percent = max(_LEAST_PERCENT, 50 - nodes // 125)
    return max(_SEARCH_ALL, nodes * percent // 100)
