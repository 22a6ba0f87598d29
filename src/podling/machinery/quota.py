"""What objects count against a ResourceQuota, and which quotas they count against.

Shared by admission, which refuses what would go over, and by the controller, which counts what is there (upstream's
k8s.io/apiserver quota and pkg/quota evaluators).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from podling.api import core_v1, quantity, times
from podling.api.quantity import Format, Quantity
from podling.api.registry import Resource
from podling.machinery import pod_resources
from podling.machinery.qos import qos_class

Usage = dict[str, Quantity]

#: Kinds with a quota name of their own besides `count/<resource>`.
_PLAIN = {"configmaps", "secrets", "replicationcontrollers", "resourcequotas", "services", "persistentvolumeclaims"}
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
ONE = quantity.of(1)


def count_name(resource: Resource) -> str:
    """`count/deployments.apps`."""
    return f"count/{resource.qualified}"


def usage(resource: Resource, obj: Any, now: datetime) -> Usage:
    """What one object uses. `obj` needs no more than metadata, but for pods, services and claims."""
    used: Usage = {count_name(resource): ONE}
    if resource.group:
        return used
    if resource.name in _PLAIN:
        used[resource.name] = ONE
    if resource.name == "pods":
        used |= _pod(obj, now)
    elif resource.name == "services":
        used |= _service(obj)
    elif resource.name == "persistentvolumeclaims":
        used |= _claim(obj)
    return used


def _amount(name: str, value: int) -> Quantity:
    if name == "cpu":
        return quantity.of_milli(value)
    binary = name in ("memory", "ephemeral-storage") or name.startswith("hugepages-")
    return quantity.of(value, Format.BINARY_SI if binary else Format.DECIMAL_SI)


def _pod(pod: core_v1.Pod, now: datetime) -> Usage:
    """Requests and limits of a pod that still runs; ended pods use nothing but their object."""
    if not counts(pod, now):
        return {}
    used: Usage = {"pods": ONE}
    for name, value in pod_resources.requests(pod).items():
        shown = _amount(name, value)
        if name in _STANDARD or name.startswith("hugepages-"):
            used[name] = shown
        used[f"requests.{name}"] = shown
    for name, value in pod_resources.limits(pod).items():
        if name in _STANDARD:
            used[f"limits.{name}"] = _amount(name, value)
    return used


def counts(pod: core_v1.Pod, now: datetime) -> bool:
    """Neither ended nor long past the end of its grace period (its node is lost)."""
    if pod.status.phase in ("Succeeded", "Failed"):
        return False
    meta = pod.metadata
    if meta.deletion_timestamp is None or meta.deletion_grace_period_seconds is None:
        return True
    return now <= times.after(times.parse(meta.deletion_timestamp), meta.deletion_grace_period_seconds)


def _service(service: core_v1.Service) -> Usage:
    spec, used = service.spec, {}
    ports = len(spec.ports or ())
    if spec.type == "LoadBalancer":
        used["services.loadbalancers"] = ONE
        given = sum(1 for p in spec.ports or () if p.node_port)
        number = ports if spec.allocate_load_balancer_node_ports in (None, True) else given
        used["services.nodeports"] = quantity.of(number)
    elif spec.type == "NodePort":
        used["services.nodeports"] = quantity.of(ports)
    return used


def _claim(claim: core_v1.PersistentVolumeClaim) -> Usage:
    used: Usage = {}
    spec = claim.spec
    storage_class = spec.storage_class_name or (claim.metadata.annotations or {}).get(
        "volume.beta.kubernetes.io/storage-class", ""
    )
    if storage_class:
        used[f"{storage_class}{_CLASS_SUFFIX}persistentvolumeclaims"] = ONE
    asked = _storage(claim)
    if asked is not None:
        used["requests.storage"] = asked
        if storage_class:
            used[f"{storage_class}{_CLASS_SUFFIX}requests.storage"] = asked
    return used


def _storage(claim: core_v1.PersistentVolumeClaim) -> Quantity | None:
    """What is asked for in whole bytes, or what was allocated if that is more: a volume never shrinks."""
    spec, status = claim.spec, claim.status
    asked = (spec.resources.requests or {}).get("storage") if spec.resources else None
    if asked is None:
        return None
    most = quantity.parse(asked)
    allocated = (status.allocated_resources or {}).get("storage")
    if allocated is not None and (given := quantity.parse(allocated)) > most:
        most = given
    return most if most.nano % 10**9 == 0 else quantity.of(most.value(), most.format)


_POD_NAMES = frozenset(("pods", *_STANDARD, *(f"{w}.{n}" for w in ("requests", "limits") for n in _STANDARD)))
_SERVICE_NAMES = frozenset(("services", "services.nodeports", "services.loadbalancers"))
_CLAIM_NAMES = ("persistentvolumeclaims", "requests.storage")


def covers(name: str, resource: Resource) -> bool:
    """Whether objects of the resource can count under this name of a quota."""
    if name == count_name(resource):
        return True
    if resource.group:
        return False
    match resource.name:
        case "pods":
            return name in _POD_NAMES or name.startswith(("hugepages-", "requests.hugepages-")) or _extended(name)
        case "services":
            return name in _SERVICE_NAMES
        case "persistentvolumeclaims":
            return name in _CLAIM_NAMES or name.endswith(tuple(_CLASS_SUFFIX + n for n in _CLAIM_NAMES))
    return name == resource.name and name in _PLAIN


def _extended(name: str) -> bool:
    """`requests.example.com/gpu`: extended resources have requests only."""
    return name.startswith("requests.") and "/" in name and "kubernetes.io/" not in name


#: A quota of one of these wants every container to say how much; upstream calls it a mistake that must stay.
_MUST_BE_SAID = frozenset(("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))


def unsaid(names: Iterable[str], pod: core_v1.Pod) -> dict[str, list[str]]:
    """Of the names that a quota limits: those that containers must set and don't, with these containers; sorted."""
    missing: dict[str, list[str]] = {}
    containers = [*pod.spec.containers, *(pod.spec.init_containers or ())]
    for name in sorted(_MUST_BE_SAID.intersection(names)):
        kind, _, compute = name.rpartition(".")
        for container in containers:
            said = getattr(container.resources, kind or "requests") if container.resources else None
            if compute not in (said or {}):
                missing.setdefault(name, []).append(container.name)
    return {name: sorted(set(found)) for name, found in missing.items()}


def in_scope(spec: core_v1.ResourceQuotaSpec, resource: Resource, obj: Any) -> bool:
    """Whether all scopes of the quota fit the object. Only pods and claims have scopes: nothing else counts then."""
    scopes = [core_v1.ScopedResourceSelectorRequirement(scope_name=s, operator="Exists") for s in spec.scopes or ()]
    scopes += list(spec.scope_selector.match_expressions or ()) if spec.scope_selector else []
    if not scopes:
        return True
    if resource.group or resource.name not in ("pods", "persistentvolumeclaims"):
        return False
    fits = _fits if resource.name == "pods" else _claim_fits
    return all(fits(scope, obj) for scope in scopes)


def _fits(scope: core_v1.ScopedResourceSelectorRequirement, pod: core_v1.Pod) -> bool:
    match scope.scope_name:
        case "Terminating":
            return pod.spec.active_deadline_seconds is not None
        case "NotTerminating":
            return pod.spec.active_deadline_seconds is None
        case "BestEffort":
            return qos_class(pod) == "BestEffort"
        case "NotBestEffort":
            return qos_class(pod) != "BestEffort"
        case "PriorityClass":
            return _selects(scope, pod.spec.priority_class_name or "")
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(pod)
    return False


def _claim_fits(scope: core_v1.ScopedResourceSelectorRequirement, claim: core_v1.PersistentVolumeClaim) -> bool:
    """A claim may have several classes at once: the wanted, the present and the one that is being changed to."""
    if scope.scope_name != "VolumeAttributesClass":
        return False
    status = claim.status
    changing = status.modify_volume_status
    classes = {
        claim.spec.volume_attributes_class_name,
        status.current_volume_attributes_class_name,
        changing.target_volume_attributes_class_name if changing is not None else None,
    } - {None, ""}
    return any(_selects(scope, name or "") for name in classes or ("",))


def _selects(scope: core_v1.ScopedResourceSelectorRequirement, value: str) -> bool:
    match scope.operator:
        case "In":
            return value in (scope.values or ())
        case "NotIn":
            return value not in (scope.values or ())
        case "Exists":
            return bool(value)
        case "DoesNotExist":
            return not value
    return False


def _crosses_namespaces(pod: core_v1.Pod) -> bool:
    affinity = pod.spec.affinity
    terms: list[core_v1.PodAffinityTerm] = []
    for part in (affinity.pod_affinity, affinity.pod_anti_affinity) if affinity else ():
        if part is not None:
            terms += part.required_during_scheduling_ignored_during_execution or []
            weighted = part.preferred_during_scheduling_ignored_during_execution or []
            terms += [w.pod_affinity_term for w in weighted]
    return any(t.namespaces or t.namespace_selector is not None for t in terms)


def total(hard: Iterable[str], usages: Iterable[Mapping[str, Quantity]]) -> Usage:
    """The sum of what is limited; 0 where nothing is used."""
    summed: Usage = {}
    names = set(hard)
    for used in usages:
        for name, value in used.items():
            if name in names:
                summed[name] = summed[name] + value if name in summed else value
    return {name: summed.get(name, quantity.of(0)) for name in sorted(names)}
