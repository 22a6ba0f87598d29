"""LimitRanger: the LimitRanges of a namespace give containers default requests and limits, and bound what is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from podling.api import core_v1, quantity
from podling.api.quantity import Quantity
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import aggregate, forbidden

ANNOTATION = "kubernetes.io/limit-ranger"
_CLAIMS = "persistentvolumeclaims"
Amounts = dict[str, Quantity]


class LimitRanger(Plugin):
    name = "LimitRanger"
    resources = frozenset(("pods", _CLAIMS))
    mutates = True
    validates = True

    def _ranges(self, namespace: str) -> list[core_v1.LimitRangeItem]:
        served = self.app.lookup("", "limitranges")
        if served is None or not served.cache.keys:
            return []
        found: list[core_v1.LimitRangeItem] = []
        for entry in served.cache.in_namespace(namespace):
            if entry.object.spec is not None:
                found += entry.object.spec.limits
        return found

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.operation != CREATE or attributes.qualified != "pods" or attributes.obj.spec is None:
            return
        items = [i for i in self._ranges(attributes.namespace) if i.type == "Container"]
        if items:
            set_defaults(attributes.obj, items)

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj.spec is None or (attributes.operation == UPDATE and obj.metadata.deletion_timestamp):
            return
        if attributes.operation == UPDATE and attributes.qualified == "pods":
            # What a pod asks for changes by its resize subresource only.
            return
        items = self._ranges(attributes.namespace)
        if not items:
            return
        check = pod_violations if attributes.qualified == "pods" else claim_violations
        if found := check(obj, items):
            raise forbidden(attributes, aggregate(found))


def set_defaults(pod: core_v1.Pod, items: Iterable[core_v1.LimitRangeItem]) -> None:
    """Requests and limits that containers left out, and an annotation that says which."""
    limits: dict[str, Any] = {}
    requests: dict[str, Any] = {}
    for item in items:
        limits |= item.default or {}
        requests |= item.default_request or {}
    said = []
    assert pod.spec is not None
    for what, containers in (("container", pod.spec.containers), ("init container", pod.spec.init_containers or [])):
        for container in containers:
            resources = container.resources = container.resources or core_v1.ResourceRequirements()
            for kind, defaults in (("request", requests), ("limit", limits)):
                attribute = f"{kind}s"
                present = getattr(resources, attribute) or {}
                missing = sorted(k for k in defaults if k not in present)
                if missing:
                    setattr(resources, attribute, {**present, **{k: defaults[k] for k in missing}})
                    said.append(f"{', '.join(missing)} {kind} for {what} {container.name}")
    if said:
        text = f"LimitRanger plugin set: {'; '.join(said)}"
        pod.metadata.annotations = {**(pod.metadata.annotations or {}), ANNOTATION: text}


def _amounts(given: Mapping[str, Any] | None) -> Amounts:
    return {name: quantity.parse(value) for name, value in (given or {}).items()}


def pod_violations(pod: core_v1.Pod, items: Iterable[core_v1.LimitRangeItem]) -> list[str]:
    """What of a pod is outside of the ranges."""
    assert pod.spec is not None
    containers = [*pod.spec.containers, *(pod.spec.init_containers or [])]
    found: list[str] = []
    for item in items:
        if item.type == "Container":
            for container in containers:
                resources = container.resources or core_v1.ResourceRequirements()
                found += _violations(item, _amounts(resources.requests), _amounts(resources.limits))
        elif item.type == "Pod":
            found += _violations(item, _total(pod.spec, "requests"), _total(pod.spec, "limits"))
    return found


def _total(spec: core_v1.PodSpec, which: str) -> Amounts:
    """What a pod asks for: all containers together, or the init container that asks for most if that is more."""

    def of(container: core_v1.Container) -> Amounts:
        return _amounts(getattr(container.resources, which) if container.resources is not None else None)

    total: Amounts = {}
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.init_containers or []:
        asked = of(container)
        if container.restart_policy == "Always":
            _add(total, asked)
            _add(sidecars, asked)
            asked = dict(sidecars)
        else:
            asked = {**sidecars, **{k: v + sidecars[k] if k in sidecars else v for k, v in asked.items()}}
        for name, amount in asked.items():
            if name not in peak or peak[name] < amount:
                peak[name] = amount
    for container in spec.containers:
        _add(total, of(container))
    for name, amount in peak.items():
        if name not in total or total[name] < amount:
            total[name] = amount
    return total


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def _violations(item: core_v1.LimitRangeItem, requests: Amounts, limits: Amounts) -> list[str]:
    found: list[str] = []
    kind = item.type
    for name, least in _amounts(item.min).items():
        asked, limit = requests.get(name), limits.get(name)
        bound = f"minimum {name} usage per {kind} is {least}"
        if asked is None:
            found.append(f"{bound}.  No request is specified")
        elif asked < least:
            found.append(f"{bound}, but request is {asked}")
        elif limit is not None and limit < least:
            found.append(f"{bound}, but limit is {limit}")
    for name, most in _amounts(item.max).items():
        asked, limit = requests.get(name), limits.get(name)
        bound = f"maximum {name} usage per {kind} is {most}"
        if limit is None:
            found.append(f"{bound}.  No limit is specified")
        elif limit > most:
            found.append(f"{bound}, but limit is {limit}")
        elif asked is not None and asked > most:
            found.append(f"{bound}, but request is {asked}")
    for name, ratio in _amounts(item.max_limit_request_ratio).items():
        bound = f"{name} max limit to request ratio per {kind} is {ratio}"
        asked, limit = requests.get(name), limits.get(name)
        if asked is None or not asked.milli():
            found.append(f"{bound}, but no request is specified or request is 0")
        elif limit is None or not limit.milli():
            found.append(f"{bound}, but no limit is specified or limit is 0")
        elif (actual := limit.milli() / asked.milli()) > ratio.milli() / 1000:
            found.append(f"{bound}, but provided ratio is {actual:f}")
    return found


def claim_violations(claim: core_v1.PersistentVolumeClaim, items: Iterable[core_v1.LimitRangeItem]) -> list[str]:
    """What of a claim is outside of the ranges."""
    found = []
    resources = claim.spec.resources if claim.spec is not None else None
    requests = _amounts(resources.requests if resources is not None else None)
    for item in items:
        if item.type != "PersistentVolumeClaim":
            continue
        for name, least in _amounts(item.min).items():
            asked, bound = requests.get(name), f"minimum {name} usage per PersistentVolumeClaim is {least}"
            if asked is None:
                found.append(f"{bound}.  No request is specified")
            elif asked < least:
                found.append(f"{bound}, but request is {asked}")
        for name, most in _amounts(item.max).items():
            asked, bound = requests.get(name), f"maximum {name} usage per PersistentVolumeClaim is {most}"
            if asked is None:
                found.append(f"{bound}.  No request is specified")
            elif asked > most:
                found.append(f"{bound}, but request is {asked}")
    return found
