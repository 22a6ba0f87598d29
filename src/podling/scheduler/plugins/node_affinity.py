"""NodeAffinity: nodeSelector and node affinity, required and preferred."""

from __future__ import annotations

from typing import Any

from podling.machinery import node_selection
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection, spread_scores

_MISMATCH = Rejection(("node(s) didn't match Pod's node affinity/selector",), resolvable=False)


class NodeAffinity(Plugin):
    name = "NodeAffinity"
    weight = 2
    filters = True
    scores = True

    def prepare(self, info: PodInfo, cache: Cache) -> Any:
        return node_selection.required(info.pod.spec) or SKIP

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        return None if state(node.labels, node.name) else _MISMATCH

    def prepare_score(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> Any:
        affinity = info.pod.spec.affinity
        node_affinity = affinity.node_affinity if affinity else None
        return (node_affinity and node_affinity.preferred_during_scheduling_ignored_during_execution) or SKIP

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        return sum(t.weight for t in state if node_selection.term_matches(t.preference, node.labels, node.name))

    def normalize(self, state: Any, scores: list[int]) -> list[int]:
        return spread_scores(scores)
