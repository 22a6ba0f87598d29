"""Which taints a pod tolerates (k8s.io/component-helpers/scheduling/corev1)."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import core_v1


def matches(toleration: core_v1.Toleration, taint: core_v1.Taint) -> bool:
    """Whether one toleration covers the taint. Lt and Gt compare integers: the toleration's against the taint's."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(toleration.key) and (toleration.value or "") == (taint.value or "")
        case "Lt" | "Gt" as operator:
            try:
                wanted, found = int(toleration.value or ""), int(taint.value or "")
            except ValueError:
                return False
            return found < wanted if operator == "Lt" else found > wanted
    return False


def tolerates(tolerations: Iterable[core_v1.Toleration] | None, taint: core_v1.Taint) -> bool:
    """Whether any of the tolerations covers the taint."""
    return any(matches(t, taint) for t in tolerations or ())


def untolerated(
    tolerations: Iterable[core_v1.Toleration] | None,
    taints: Iterable[core_v1.Taint],
    effects: tuple[str, ...] = ("NoSchedule", "NoExecute"),
) -> core_v1.Taint | None:
    """The first taint of these effects that nothing tolerates."""
    return next((t for t in taints if t.effect in effects and not tolerates(tolerations, t)), None)
