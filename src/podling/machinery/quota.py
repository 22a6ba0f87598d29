"""What objects count against a ResourceQuota, and which quotas they count against.

Shared by admission, which refuses what would go over, and by the controller, which counts what is there (upstream's
k8s.io/apiserver quota and pkg/quota evaluators).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
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
    return now <= times.parse(meta.deletion_timestamp) + timedelta(seconds=meta.deletion_grace_period_seconds)


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
    asked = (spec.resources.requests or {}).get("storage") if spec.resources else None
    if asked is not None:
        used["requests.storage"] = quantity.parse(asked)
        if storage_class:
            used[f"{storage_class}{_CLASS_SUFFIX}requests.storage"] = quantity.parse(asked)
    return used


def covers(name: str, resource: Resource) -> bool:
    """Whether objects of the resource can count under this name of a quota."""
    if name == count_name(resource):
        return True
    if resource.group:
        return False
    match resource.name:
        case "pods":
            compute = name.removeprefix("requests.").removeprefix("limits.")
            if name == "requests.storage" or name.startswith(("count/", "services")) or _CLASS_SUFFIX in name:
                return False
            return name == "pods" or compute in _STANDARD or compute.startswith("hugepages-") or "/" in compute
        case "services":
            return name in ("services", "services.nodeports", "services.loadbalancers")
        case "persistentvolumeclaims":
            return name in ("persistentvolumeclaims", "requests.storage") or _CLASS_SUFFIX in name
    return name == resource.name and name in _PLAIN


def in_scope(spec: core_v1.ResourceQuotaSpec, resource: Resource, obj: Any) -> bool:
    """Whether all scopes of the quota fit the object. Only pods have scopes: a scoped quota counts nothing else."""
    scopes = [core_v1.ScopedResourceSelectorRequirement(scope_name=s, operator="Exists") for s in spec.scopes or ()]
    scopes += list(spec.scope_selector.match_expressions or ()) if spec.scope_selector else []
    if not scopes:
        return True
    if resource.group or resource.name != "pods":
        return False
    return all(_fits(scope, obj) for scope in scopes)


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
