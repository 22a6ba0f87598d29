"""TaintToleration: nodes repel pods that don't tolerate their taints."""

from __future__ import annotations

from typing import Any

from podling.machinery import tolerations
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection, spread_scores

_REPELLED = Rejection(("node(s) had untolerated taint(s)",), resolvable=False)


class TaintToleration(Plugin):
    name = "TaintToleration"
    weight = 3
    filters = True
    scores = True

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        if not node.taints or tolerations.untolerated(info.pod.spec.tolerations, node.taints) is None:
            return None
        return _REPELLED

    def prepare_score(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> Any:
        soft = any(t.effect == "PreferNoSchedule" for n in nodes for t in n.taints)
        if not soft:
            return SKIP
        return [t for t in info.pod.spec.tolerations or () if t.effect in (None, "", "PreferNoSchedule")]

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        return sum(1 for t in node.taints if t.effect == "PreferNoSchedule" and not tolerations.tolerates(state, t))

    def normalize(self, state: Any, scores: list[int]) -> list[int]:
        return spread_scores(scores, reverse=True)
