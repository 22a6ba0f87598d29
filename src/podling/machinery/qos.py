"""Quality of service (Guaranteed, Burstable, BestEffort): who suffers first, by requests and limits."""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import core_v1, quantity
from podling.api.scalars import Quantity

_COMPUTE = ("cpu", "memory")


def qos_class(pod: core_v1.Pod) -> str:
    """The class of a pod, which never changes: what its status says, or else what follows from its spec."""
    return pod.status.qos_class or compute(pod.spec)


def compute(spec: core_v1.PodSpec) -> str:
    """What follows from the requests and limits of all containers, or of the pod as a whole if it has some."""
    requested: set[str] = set()
    guaranteed = True
    resources = spec.resources
    if resources is not None and (resources.requests or resources.limits):
        groups = [resources]
    else:
        groups = [
            c.resources or core_v1.ResourceRequirements() for c in (*spec.containers, *(spec.init_containers or ()))
        ]
    for group in groups:
        requests, limits = _positive(group.requests), _positive(group.limits)
        requested |= requests.keys() | limits.keys()
        guaranteed &= limits.keys() == set(_COMPUTE)
        guaranteed &= all(requests.get(name, limit) == limit for name, limit in limits.items())
    if not requested:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(amounts: Mapping[str, Quantity] | None) -> dict[str, quantity.Quantity]:
    if not amounts:
        return {}
    parsed = {name: quantity.parse(amounts[name]) for name in _COMPUTE if name in amounts}
    return {name: value for name, value in parsed.items() if value.nano > 0}
