"""Taints and tolerations: which taint a pod bears, and for how long."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import core_v1
from podling.machinery import tolerations

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure"
DISK_PRESSURE = "node.kubernetes.io/disk-pressure"
PID_PRESSURE = "node.kubernetes.io/pid-pressure"
NETWORK_UNAVAILABLE = "node.kubernetes.io/network-unavailable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

NO_SCHEDULE, NO_EXECUTE, PREFER_NO_SCHEDULE = "NoSchedule", "NoExecute", "PreferNoSchedule"


def borne(taints: Iterable[core_v1.Taint], bearing: list[core_v1.Toleration]) -> list[core_v1.Toleration] | None:
    """For each taint the first toleration that fits; None if one has none."""
    used = []
    for taint in taints:
        found = next((t for t in bearing if tolerations.matches(t, taint)), None)
        if found is None:
            return None
        used.append(found)
    return used


def seconds_borne(taints: list[core_v1.Taint], bearing: list[core_v1.Toleration]) -> float | None:
    """How long a pod may stay on a node with these NoExecute taints; None is for ever."""
    used = borne(taints, bearing)
    if used is None:
        return 0.0
    limits = [max(t.toleration_seconds, 0) for t in used if t.toleration_seconds is not None]
    return float(min(limits)) if limits else None


def no_execute(node: core_v1.Node | None) -> list[core_v1.Taint]:
    return [t for t in (node.spec.taints or ()) if t.effect == NO_EXECUTE] if node is not None else []
