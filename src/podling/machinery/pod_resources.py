"""What a pod asks of a node: upstream's resource helpers (k8s.io/component-helpers/resource), as integers.

cpu counts in thousandths of a core, everything else in its own unit (bytes, pieces).
"""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import core_v1, quantity
from podling.api.scalars import Quantity

Amounts = dict[str, int]


def amount(resource: str, value: Quantity) -> int:
    """A quantity as an integer: cpu in thousandths, rounded up."""
    parsed = quantity.parse(value)
    return parsed.milli() if resource == "cpu" else parsed.value()


def amounts(quantities: Mapping[str, Quantity] | None) -> Amounts:
    """All of a resource list."""
    return {name: amount(name, value) for name, value in (quantities or {}).items()}


def is_sidecar(container: core_v1.Container) -> bool:
    """An init container that keeps running beside the others."""
    return container.restart_policy == "Always"


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _most(total: Amounts, other: Mapping[str, int]) -> None:
    for name, value in other.items():
        total[name] = max(total.get(name, 0), value)


def _of(container: core_v1.Container, kind: str) -> Amounts:
    resources = container.resources
    return amounts(getattr(resources, kind)) if resources else {}


def _effective(spec: core_v1.PodSpec, kind: str) -> Amounts:
    """All containers at once, or the most that an init container needs beside the sidecars before it."""
    total: Amounts = {}
    for container in spec.containers:
        _add(total, _of(container, kind))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.init_containers or ():
        needs = _of(container, kind)
        if is_sidecar(container):
            _add(total, needs)
            _add(sidecars, needs)
            needs = dict(sidecars)
        else:
            _add(needs, sidecars)
        _most(peak, needs)
    _most(total, peak)
    return total


#: What may be set for a pod as a whole (spec.resources).
_POD_LEVEL = ("cpu", "memory")


def _pod_level(spec: core_v1.PodSpec, kind: str) -> Amounts:
    given = amounts(getattr(spec.resources, kind)) if spec.resources else {}
    return {name: value for name, value in given.items() if name in _POD_LEVEL or name.startswith("hugepages-")}


def requests(pod: core_v1.Pod) -> Amounts:
    """The effective requests: containers, init containers, sidecars, pod-level resources and overhead."""
    total = _effective(pod.spec, "requests")
    total.update(_pod_level(pod.spec, "requests"))
    _add(total, amounts(pod.spec.overhead))
    return total


def limits(pod: core_v1.Pod) -> Amounts:
    """The effective limits; overhead is added to what has a limit."""
    total = _effective(pod.spec, "limits")
    total.update(_pod_level(pod.spec, "limits"))
    for name, value in amounts(pod.spec.overhead).items():
        if name in total:
            total[name] += value
    return total


#: What the scores assume of containers that ask for nothing, so that they spread too (upstream's defaults).
_ASSUMED = {"cpu": 100, "memory": 200 * 1024 * 1024}


def assumed_requests(pod: core_v1.Pod) -> Amounts:
    """As `requests`, for cpu and memory only, each container that asks for nothing counted with a little."""
    total = requests(pod)
    for name, little in _ASSUMED.items():
        if pod.spec.resources and name in (pod.spec.resources.requests or {}):
            continue
        silent = sum(1 for c in pod.spec.containers if name not in ((c.resources and c.resources.requests) or {}))
        total[name] = total.get(name, 0) + silent * little
    return total
