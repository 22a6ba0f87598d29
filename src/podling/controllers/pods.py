"""What a pod's status means to those who count pods, and which of several goes first when there are too many."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from podling.api import core_v1, times
from podling.api.struct import clone

#: The annotation by which a pod says what its removal costs; cheaper ones go first.
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


def condition(pod: core_v1.Pod, type_: str) -> core_v1.PodCondition | None:
    for found in pod.status.conditions or ():
        if found.type == type_:
            return found
    return None


def is_ready(pod: core_v1.Pod) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found.status == "True"


def is_terminal(pod: core_v1.Pod) -> bool:
    """Whether all containers have ended for good."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: core_v1.Pod) -> bool:
    """Neither ended nor on its way out: what counts as a replica."""
    return not is_terminal(pod) and pod.metadata.deletion_timestamp is None


def is_terminating(pod: core_v1.Pod) -> bool:
    """On its way out, not yet ended."""
    return not is_terminal(pod) and pod.metadata.deletion_timestamp is not None


def ready_since(pod: core_v1.Pod) -> datetime | None:
    found = condition(pod, "Ready")
    if found is None or found.status != "True" or not found.last_transition_time:
        return None
    return times.parse(found.last_transition_time)


def is_available(pod: core_v1.Pod, min_ready_seconds: int, now: datetime) -> bool:
    """Ready for at least `min_ready_seconds`."""
    if not is_ready(pod):
        return False
    if min_ready_seconds == 0:
        return True
    since = ready_since(pod)
    return since is not None and (now - since).total_seconds() >= min_ready_seconds


def seconds_to_available(pods: Iterable[core_v1.Pod], min_ready_seconds: int, now: datetime) -> float | None:
    """When the next ready pod will count as available; None if none is underway."""
    if not min_ready_seconds:
        return None
    waits = []
    for pod in pods:
        since = ready_since(pod)
        if since is not None:
            left = min_ready_seconds - (now - since).total_seconds()
            if left > 0:
                waits.append(left)
    return min(waits, default=None)


def with_condition(pod: core_v1.Pod, new: core_v1.PodCondition, now: datetime) -> core_v1.Pod | None:
    """A copy of the pod with the condition set; None if it is so already."""
    old = condition(pod, new.type)
    new.last_transition_time = times.format(now)
    if old is not None:
        if old.status == new.status:
            new.last_transition_time = old.last_transition_time
        same = (old.status, old.reason, old.message, old.observed_generation)
        if same == (new.status, new.reason, new.message, new.observed_generation):
            return None
    changed = clone(pod)
    kept = [c for c in changed.status.conditions or () if c.type != new.type]
    changed.status.conditions = [*kept, new]
    return changed


def deletion_cost(pod: core_v1.Pod) -> int:
    """What the pod says its removal costs; 0 if it says nothing or nonsense."""
    value = (pod.metadata.annotations or {}).get(DELETION_COST, "0")
    try:
        return int(value) if value == "0" or value.lstrip("-")[:1] not in ("", "0") else 0
    except ValueError:
        return 0


def max_restarts(pod: core_v1.Pod) -> tuple[int, int]:
    """The most restarts of a container and of a sidecar."""
    sidecars = {c.name for c in pod.spec.init_containers or () if c.restart_policy == "Always"}
    regular = max((c.restart_count for c in pod.status.container_statuses or ()), default=0)
    sidecar = max((c.restart_count for c in pod.status.init_container_statuses or () if c.name in sidecars), default=0)
    return regular, sidecar


def deletion_order(pods: list[core_v1.Pod], related: Mapping[str, int], now: datetime) -> list[core_v1.Pod]:
    """The order in which pods are given up (upstream's ActivePodsWithRanks).

    Unassigned before assigned; Pending, Unknown, Running; not ready before ready; cheaper before dearer; those with
    more `related` pods on their node (by node name) first; younger before older on a logarithmic scale, so that ties
    are broken by uid, not by a second's difference; more restarts before fewer.
    """

    def compare(a: core_v1.Pod, b: core_v1.Pod) -> int:
        for x, y in (
            (bool(a.spec.node_name), bool(b.spec.node_name)),
            (_PHASE_ORDER.get(a.status.phase or "", 0), _PHASE_ORDER.get(b.status.phase or "", 0)),
            (is_ready(a), is_ready(b)),
            (deletion_cost(a), deletion_cost(b)),
            (related.get(b.spec.node_name or "", 0), related.get(a.spec.node_name or "", 0)),
        ):
            if x != y:
                return -1 if x < y else 1
        if is_ready(a) and is_ready(b) and (by := _compare_ages(a, b, ready_since(a), ready_since(b), now)):
            return by
        if max_restarts(a) != max_restarts(b):
            return -1 if max_restarts(a) > max_restarts(b) else 1
        return _compare_ages(a, b, _created(a), _created(b), now)

    return sorted(pods, key=functools.cmp_to_key(compare))


def _created(pod: core_v1.Pod) -> datetime | None:
    return times.parse(pod.metadata.creation_timestamp) if pod.metadata.creation_timestamp else None


def _compare_ages(a: Any, b: Any, since_a: datetime | None, since_b: datetime | None, now: datetime) -> int:
    if since_a == since_b:
        return 0
    if since_a is None or since_b is None:
        return -1 if since_a is None else 1
    rank_a, rank_b = _age_rank(now, since_a), _age_rank(now, since_b)
    if rank_a != rank_b:
        return -1 if rank_a < rank_b else 1
    return -1 if (a.metadata.uid or "") < (b.metadata.uid or "") else 1


def _age_rank(now: datetime, since: datetime) -> int:
    nanoseconds = (now - since).total_seconds() * 1e9
    return int(math.log2(nanoseconds)) if nanoseconds >= 1 else -1
