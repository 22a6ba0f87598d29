"""PodTopologySpread: pods spread evenly over zones, nodes or any other label's values (KEP-895).

A pod that says nothing of it is spread from the other pods of its services and its controller, over nodes and, less
strictly, over zones (KEP-1258).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from podling.api import core_v1, selectors
from podling.api.selectors import LabelSelector
from podling.machinery import node_selection, tolerations
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import MAX_SCORE, SKIP, Plugin, Rejection

_NO_LABEL = Rejection(("node(s) didn't match pod topology spread constraints (missing required label)",), False)
_SKEWED = Rejection(("node(s) didn't match pod topology spread constraints",))


class _Constraint:
    """One constraint of a pod, with the number of matching pods per value of its topology key."""

    def __init__(
        self, constraint: core_v1.TopologySpreadConstraint, pod: core_v1.Pod, selector: LabelSelector | None = None
    ) -> None:
        """`selector` stands for that of the constraint."""
        self.key = constraint.topology_key
        self.max_skew = constraint.max_skew
        self.min_domains = constraint.min_domains or 1
        self.honor_affinity = constraint.node_affinity_policy != "Ignore"
        self.honor_taints = constraint.node_taints_policy == "Honor"
        self._selector = selector or selectors.from_label_selector(constraint.label_selector)
        labels = pod.metadata.labels or {}
        self._same = {k: labels[k] for k in constraint.match_label_keys or () if k in labels}
        self._namespace = pod.metadata.namespace
        self.self_match = int(self._matches(labels))
        self.counts: dict[str, int] = {}

    def _matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(k) == v for k, v in self._same.items()) and self._selector.matches(labels)

    def count(self, node: NodeInfo) -> int:
        return sum(
            1
            for other in node.pods.values()
            if other.pod.metadata.namespace == self._namespace
            and other.pod.metadata.deletion_timestamp is None
            and self._matches(other.pod.metadata.labels or {})
        )

    def least(self) -> int:
        """The smallest count of any value; 0 while there are fewer values than minDomains."""
        return min(self.counts.values(), default=0) if len(self.counts) >= self.min_domains else 0


#: What upstream spreads by where nobody has said anything.
DEFAULTS = tuple(
    core_v1.TopologySpreadConstraint(topology_key=key, max_skew=skew, when_unsatisfiable="ScheduleAnyway")
    for key, skew in (("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5))
)


def _constraints(pod: core_v1.Pod, action: str) -> list[_Constraint]:
    listed = pod.spec.topology_spread_constraints or ()
    return [_Constraint(c, pod) for c in listed if c.when_unsatisfiable == action]


def _counts_node(constraint: _Constraint, info: PodInfo, node: NodeInfo, wanted: Callable[..., bool] | None) -> bool:
    if constraint.honor_affinity and wanted is not None and not wanted(node.labels, node.name):
        return False
    if constraint.honor_taints:
        return tolerations.untolerated(info.pod.spec.tolerations, node.taints) is None
    return True


def _fill(constraints: list[_Constraint], info: PodInfo, nodes: list[NodeInfo]) -> None:
    """Count on the nodes that have the topology keys of all constraints."""
    wanted = node_selection.required(info.pod.spec)
    for node in nodes:
        if any(c.key not in node.labels for c in constraints):
            continue
        for constraint in constraints:
            if _counts_node(constraint, info, node, wanted):
                value = node.labels[constraint.key]
                constraint.counts[value] = constraint.counts.get(value, 0) + constraint.count(node)


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    weight = 2
    filters = True
    scores = True

    def __init__(self, together: Callable[[core_v1.Pod], LabelSelector | None] = lambda _: None) -> None:
        """`together` selects the pods that a pod without constraints is spread from."""
        self._together = together

    def prepare(self, info: PodInfo, cache: Cache) -> Any:
        constraints = _constraints(info.pod, "DoNotSchedule")
        if not constraints:
            return SKIP
        _fill(constraints, info, list(cache.nodes.values()))
        return [(c, c.least()) for c in constraints]

    def filter(self, state: Any, info: PodInfo, node: NodeInfo) -> Rejection | None:
        for constraint, least in state:
            value = node.labels.get(constraint.key)
            if value is None:
                return _NO_LABEL
            if constraint.counts.get(value, 0) + constraint.self_match - least > constraint.max_skew:
                return _SKEWED
        return None

    def prepare_score(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> Any:
        said = bool(info.pod.spec.topology_spread_constraints)
        constraints = _constraints(info.pod, "ScheduleAnyway") if said else self._defaults(info.pod)
        if not constraints:
            return SKIP
        if said:
            _fill(constraints, info, list(cache.nodes.values()))
        else:
            by_node, by_zone = constraints
            _fill([by_node], info, nodes)
            if any(by_zone.key in node.labels for node in nodes):
                _fill([by_zone], info, list(cache.nodes.values()))
        # Many values mean small differences: upstream weighs them by the logarithm.
        return said, [(c, math.log(len(c.counts) + 2)) for c in constraints]

    def _defaults(self, pod: core_v1.Pod) -> list[_Constraint]:
        selector = self._together(pod)
        return [_Constraint(c, pod, selector) for c in DEFAULTS] if selector is not None else []

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        said, weighed = state
        if said and any(c.key not in node.labels for c, _ in weighed):
            return -1
        total: float = sum(
            c.counts.get(node.labels[c.key], 0) * w + (c.max_skew - 1) for c, w in weighed if c.key in node.labels
        )
        return round(total)

    def normalize(self, state: Any, scores: list[int]) -> list[int]:
        known = [s for s in scores if s >= 0]
        low, high = min(known, default=0), max(known, default=0)
        if high == 0:
            return [MAX_SCORE if s >= 0 else 0 for s in scores]
        return [MAX_SCORE * (high + low - s) // high if s >= 0 else 0 for s in scores]
