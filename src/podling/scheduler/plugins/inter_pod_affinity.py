"""InterPodAffinity: pods that want to be near others, or away from them.

Counts are kept per topology pair (key, value): how many pods there match a term. They are made once a pod, over the
pods that can matter: all of them if the pod has terms of its own, else only those that have anti-affinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from podling.api import core_v1
from podling.machinery import affinity
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import MAX_SCORE, SKIP, Plugin, Rejection

_AFFINITY = Rejection(("node(s) didn't match pod affinity rules",), resolvable=False)
_ANTI_AFFINITY = Rejection(("node(s) didn't match pod anti-affinity rules",))
_EXISTING = Rejection(("node(s) didn't satisfy existing pods anti-affinity rules",))
#: How much the pods that are there already, with required affinity to the new one, count (hardPodAffinityWeight).
_HARD_WEIGHT = 1

Pair = tuple[str, str]


class _State:
    def __init__(self, info: PodInfo) -> None:
        spec = info.pod.spec.affinity
        near = spec.pod_affinity if spec else None
        self.near = affinity.terms(info.pod, (near and near.required_during_scheduling_ignored_during_execution) or ())
        self.away = affinity.terms(info.pod, info.anti_affinity)
        self.near_count: dict[Pair, int] = {}
        self.away_count: dict[Pair, int] = {}
        self.repelled: dict[Pair, int] = {}
        self.first = False


def _count(into: dict[Pair, int], topology_key: str, node: NodeInfo, weight: int = 1) -> None:
    value = node.labels.get(topology_key)
    if value is not None:
        pair = (topology_key, value)
        into[pair] = into.get(pair, 0) + weight


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    weight = 2
    filters = True
    scores = True

    def __init__(self) -> None:
        #: Labels of the namespaces, kept by the scheduler.
        self.namespaces: dict[str, Mapping[str, str]] = {}

    def _labels(self, namespace: str) -> Mapping[str, str]:
        return self.namespaces.get(namespace, {})

    def prepare(self, info: PodInfo, cache: Cache) -> Any:
        state = _State(info)
        if not state.near and not state.away and not cache.anti_affinity:
            return SKIP
        for node, other in cache.anti_affinity.values():
            for term in affinity.terms(other.pod, other.anti_affinity):
                if term.matches(info.pod, self._labels):
                    _count(state.repelled, term.topology_key, node)
        if state.near or state.away:
            self._count_own(state, cache)
        # The first pod of a group that wants to be near itself may go anywhere.
        state.first = not state.near_count and all(t.matches(info.pod, self._labels) for t in state.near)
        return state

    def _count_own(self, state: _State, cache: Cache) -> None:
        for node in cache.nodes.values():
            for other in node.pods.values():
                if state.near and all(t.matches(other.pod, self._labels) for t in state.near):
                    for term in state.near:
                        _count(state.near_count, term.topology_key, node)
                for term in state.away:
                    if term.matches(other.pod, self._labels):
                        _count(state.away_count, term.topology_key, node)

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        if state.near:
            keys = [t.topology_key for t in state.near]
            if any(key not in node.labels for key in keys):
                return _AFFINITY
            if not state.first and any(not state.near_count.get((key, node.labels[key])) for key in keys):
                return _AFFINITY
        for term in state.away:
            if state.away_count.get((term.topology_key, node.labels.get(term.topology_key, ""))):
                return _ANTI_AFFINITY
        if state.repelled and any(node.labels.get(key) == value for key, value in state.repelled):
            return _EXISTING
        return None

    def prepare_score(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> Any:
        counts: dict[Pair, int] = {}
        for term, weight in _preferred(info.pod):
            for node in cache.order:
                for other in node.pods.values():
                    if term.matches(other.pod, self._labels):
                        _count(counts, term.topology_key, node, weight)
        for node, other in cache.affinity.values():
            for term, weight in _pulls(other.pod):
                if term.matches(info.pod, self._labels):
                    _count(counts, term.topology_key, node, weight)
        return counts or SKIP

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        return sum(weight for (key, value), weight in state.items() if node.labels.get(key) == value)

    def normalize(self, state: Any, scores: list[int]) -> list[int]:
        low, high = min(scores), max(scores)
        if high == low:
            return [0] * len(scores)
        return [MAX_SCORE * (s - low) // (high - low) for s in scores]


def _preferred(pod: core_v1.Pod) -> Iterable[tuple[affinity.Term, int]]:
    """The pod's preferred terms with their weights, negative for anti-affinity."""
    spec = pod.spec.affinity
    if spec is None:
        return
    for part, sign in ((spec.pod_affinity, 1), (spec.pod_anti_affinity, -1)):
        for weighted in (part and part.preferred_during_scheduling_ignored_during_execution) or ():
            yield affinity.terms(pod, [weighted.pod_affinity_term])[0], sign * weighted.weight


def _pulls(pod: core_v1.Pod) -> Iterable[tuple[affinity.Term, int]]:
    """As _preferred, and its required affinity as well, for a pod that is there already."""
    yield from _preferred(pod)
    near = pod.spec.affinity.pod_affinity if pod.spec.affinity else None
    for term in affinity.terms(pod, (near and near.required_during_scheduling_ignored_during_execution) or ()):
        yield term, _HARD_WEIGHT
