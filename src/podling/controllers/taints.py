"""Taints and tolerations: which taint a pod bears, and for how long."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import core_v1

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure"
DISK_PRESSURE = "node.kubernetes.io/disk-pressure"
PID_PRESSURE = "node.kubernetes.io/pid-pressure"
NETWORK_UNAVAILABLE = "node.kubernetes.io/network-unavailable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

NO_SCHEDULE, NO_EXECUTE, PREFER_NO_SCHEDULE = "NoSchedule", "NoExecute", "PreferNoSchedule"


def tolerates(toleration: core_v1.Toleration, taint: core_v1.Taint) -> bool:
    """Whether the toleration is for this taint, whatever its duration."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator or "Equal":
        case "Equal":
            return (toleration.value or "") == (taint.value or "")
        case "Exists":
            return True
        case "Lt" | "Gt" as operator:
            return _compares(operator, toleration.value or "", taint.value or "")
    return False


def _compares(operator: str, wanted: str, value: str) -> bool:
    """Numeric tolerations: the taint's value is below (above) the toleration's (KEP-5471)."""
    try:
        return int(value) < int(wanted) if operator == "Lt" else int(value) > int(wanted)
    except ValueError:
        return False


def borne(taints: Iterable[core_v1.Taint], tolerations: list[core_v1.Toleration]) -> list[core_v1.Toleration] | None:
    """For each taint the first toleration that fits; None if one has none."""
    used = []
    for taint in taints:
        found = next((t for t in tolerations if tolerates(t, taint)), None)
        if found is None:
            return None
        used.append(found)
    return used


def seconds_borne(taints: list[core_v1.Taint], tolerations: list[core_v1.Toleration]) -> float | None:
    """How long a pod may stay on a node with these NoExecute taints; None is for ever."""
    used = borne(taints, tolerations)
    if used is None:
        return 0.0
    limits = [max(t.toleration_seconds, 0) for t in used if t.toleration_seconds is not None]
    return float(min(limits)) if limits else None


def no_execute(node: core_v1.Node | None) -> list[core_v1.Taint]:
    return [t for t in (node.spec.taints or ()) if t.effect == NO_EXECUTE] if node is not None else []
