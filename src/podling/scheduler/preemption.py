"""When no node has room: would one, without some pods of lower priority? Pure; the scheduler acts on the answer.

On each node that might help, all lower pods are taken away in thought; if the pod then fits, as many of them as
possible are spared, the most important first. Of all nodes, the one is chosen where it does the least harm (upstream's
DefaultPreemption).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podling.api import policy_v1, selectors
from podling.scheduler.algorithm import Algorithm, Failure, fit_message
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import Rejection

_NOT_HELPFUL = Rejection(("Preemption is not helpful for scheduling",))
_NO_VICTIMS = Rejection(("No preemption victims found for incoming pod",))
#: How many nodes that would do are compared: a tenth of all, but at least this many.
_CANDIDATES = 100


class Candidate(msgspec.Struct, frozen=True):
    """Without `victims`, the pod fits on `node`; `violations` of them are protected by a disruption budget."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int


def ineligible(info: PodInfo, cache: Cache) -> str | None:
    """Why this pod may not preempt others."""
    if info.pod.spec.preemption_policy == "Never":
        return "not eligible due to preemptionPolicy=Never."
    node = cache.nodes.get(info.pod.status.nominated_node_name or "")
    if node is not None and any(
        p.priority < info.priority and p.pod.metadata.deletion_timestamp for p in node.pods.values()
    ):
        return "not eligible due to a terminating pod on the nominated node."
    return None


def preempt(
    info: PodInfo,
    cache: Cache,
    algorithm: Algorithm,
    failure: Failure,
    budgets: Iterable[policy_v1.PodDisruptionBudget],
) -> Candidate | str:
    """The best candidate, or what upstream says when there is none."""
    if why := ineligible(info, cache):
        return why
    candidates: list[Candidate] = []
    answers: list[Rejection] = []
    protected = _Budgets(budgets)
    most = max(_CANDIDATES, len(cache.nodes) // 10)
    for name, rejection in failure.rejections.items():
        found = _victims(info, cache, algorithm, cache.nodes[name], protected) if rejection.resolvable else _NOT_HELPFUL
        if isinstance(found, Candidate):
            candidates.append(found)
            if len(candidates) == most:
                break
        else:
            answers.append(found)
    if not candidates:
        return fit_message(failure.total, answers)
    return min(candidates, key=_harm)


def _harm(candidate: Candidate) -> tuple[int, int, int, int, str]:
    """Less is better. The last: of equals, the one whose most important victim has run for the shortest time."""
    priorities = [v.priority for v in candidate.victims]
    highest = max(priorities)
    started = min(_start(v) for v in candidate.victims if v.priority == highest)
    return candidate.violations, highest, sum(priorities), len(priorities), _latest_first(started)


def _start(info: PodInfo) -> str:
    return info.pod.status.start_time or info.pod.metadata.creation_timestamp or ""


def _latest_first(time: str) -> str:
    """A key that sorts times backwards."""
    return "".join(chr(0x7F - ord(c)) for c in time)


def _victims(
    info: PodInfo, cache: Cache, algorithm: Algorithm, node: NodeInfo, budgets: _Budgets
) -> Candidate | Rejection:
    lower = [p for p in node.pods.values() if p.priority < info.priority]
    if not lower:
        return _NO_VICTIMS
    if refused := _fits(info, cache, algorithm, node, lower):
        return refused
    lower.sort(key=lambda p: (-p.priority, _start(p)))
    violating, free = budgets.split(lower)
    victims = list(lower)
    violations = 0
    for group, violates in ((violating, 1), (free, 0)):
        for pod in group:
            spared = [v for v in victims if v is not pod]
            if _fits(info, cache, algorithm, node, spared) is None:
                victims = spared
            else:
                violations += violates
    return Candidate(node.name, tuple(victims), violations)


def _fits(info: PodInfo, cache: Cache, algorithm: Algorithm, node: NodeInfo, gone: list[PodInfo]) -> Rejection | None:
    """Whether the pod fits when `gone` have left the node."""
    changed = node.without(gone)
    view = cache.with_node(changed)
    states, failure = algorithm.prepare(info, view)
    if failure is not None:
        return failure.rejections.get(node.name, _NOT_HELPFUL)
    refused = algorithm.fits(states, info, changed, view)
    return refused[1] if refused else None


class _Budgets:
    """The disruption budgets, by namespace."""

    def __init__(self, budgets: Iterable[policy_v1.PodDisruptionBudget]) -> None:
        self._by_namespace: dict[str, list[tuple[selectors.LabelSelector, policy_v1.PodDisruptionBudget]]] = {}
        for budget in budgets:
            selector = selectors.from_label_selector(budget.spec.selector)
            self._by_namespace.setdefault(budget.metadata.namespace or "", []).append((selector, budget))

    def split(self, pods: list[PodInfo]) -> tuple[list[PodInfo], list[PodInfo]]:
        """Those whose eviction breaks a budget, and the others; each eviction uses up an allowed disruption."""
        left: dict[int, int] = {}
        violating: list[PodInfo] = []
        free: list[PodInfo] = []
        for info in pods:
            broken = False
            labels = info.pod.metadata.labels or {}
            for selector, budget in self._by_namespace.get(info.pod.metadata.namespace or "", ()):
                if not labels or not selector.matches(labels):
                    continue
                if info.pod.metadata.name in (budget.status.disrupted_pods or {}):
                    continue
                allowed = left.get(id(budget), budget.status.disruptions_allowed or 0) - 1
                left[id(budget)] = allowed
                broken = broken or allowed < 0
            (violating if broken else free).append(info)
        return violating, free
