"""The contract of the scheduler's plugins (upstream's scheduling framework, KEP-624).

Every plugin is pure: it looks at a pod and a node and answers. `prepare` runs once a pod and gives the plugin's own
state, which `filter` and `score` get back; a plugin that has nothing to say about a pod returns SKIP from it and is not
asked again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from podling.scheduler.cache import Cache, NodeInfo, PodInfo

MAX_SCORE = 100


class Rejection(msgspec.Struct, frozen=True):
    """Why a node, or the whole cluster, can't take the pod. `resolvable`: removing pods from the node may help."""

    reasons: tuple[str, ...]
    resolvable: bool = True


class _Skip:
    pass


SKIP = _Skip()


class Plugin:
    """Override what the rule needs. `weight` multiplies the score, after `normalize`."""

    name = ""
    weight = 1
    filters = False
    scores = False
    #: What it says of a node depends on nothing but the pod's shape and that node, and scores are not normalized: the
    #: answer is remembered for the next pod of the same shape, until the node changes.
    local = False

    def gate(self, info: PodInfo) -> Rejection | None:
        """Whether the pod may be looked at at all."""
        return None

    def prepare(self, info: PodInfo, cache: Cache) -> Any:
        """State for this pod, SKIP, or a Rejection of all nodes."""
        return None

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        """None if the node can take the pod."""
        return None

    def prepare_score(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> Any:
        """State for scoring, or SKIP."""
        return None

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        """How good the node is; between 0 and MAX_SCORE unless `normalize` sees to it."""
        return 0

    def normalize(self, state: Any, scores: list[int]) -> list[int]:
        """Bring the scores of all nodes between 0 and MAX_SCORE."""
        return scores


def spread_scores(scores: list[int], *, reverse: bool = False) -> list[int]:
    """Upstream's default: the largest becomes MAX_SCORE, the rest in proportion; reversed if less is better."""
    largest = max(scores, default=0)
    if largest == 0:
        return [MAX_SCORE] * len(scores) if reverse else scores
    scaled = [MAX_SCORE * s // largest for s in scores]
    return [MAX_SCORE - s for s in scaled] if reverse else scaled
