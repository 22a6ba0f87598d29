"""Which pods belong to which services: what all endpoint controllers ask.

Services are found from a pod by an index over one pair of their selector, not by trying all services of the namespace
on every pod event.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from podling.api import core_v1
from podling.client.informer import Informer, key_of
from podling.controllers import pods as pod_rules

#: Services by one label of their selector.
SELECTED = "selected-label"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"


def selected_label(service: core_v1.Service) -> list[str]:
    """The index SELECTED: `namespace/key=value` of the selector's first pair, in order of keys."""
    if not service.spec.selector:
        return []
    key, value = min(service.spec.selector.items())
    return [f"{service.metadata.namespace}/{key}={value}"]


def services_of(services: Informer[core_v1.Service], pod: core_v1.Pod) -> set[str]:
    """The keys of the services that select the pod's labels."""
    labels = pod.metadata.labels or {}
    found = set()
    for key, value in labels.items():
        for service in services.by_index(SELECTED, f"{pod.metadata.namespace}/{key}={value}"):
            if (service.spec.selector or {}).items() <= labels.items():
                found.add(key_of(service))
    return found


def pods_of(pods: Informer[core_v1.Pod], service: core_v1.Service) -> list[core_v1.Pod]:
    """The pods that a service selects, by name."""
    wanted = (service.spec.selector or {}).items()
    found = [p for p in pods.list(service.metadata.namespace or "") if wanted <= (p.metadata.labels or {}).items()]
    return sorted(found, key=lambda p: p.metadata.name or "")


def follow_pods(
    pods: Informer[core_v1.Pod], services: Informer[core_v1.Service], enqueue: Callable[[str], None]
) -> None:
    """Queue the services concerned whenever something of a pod changes that its endpoints show."""
    services.add_index(SELECTED, selected_label)

    def changed(pod: core_v1.Pod) -> None:
        for key in services_of(services, pod):
            enqueue(key)

    def updated(old: core_v1.Pod, new: core_v1.Pod) -> None:
        relabelled = old.metadata.labels != new.metadata.labels or old.spec.hostname != new.spec.hostname
        if relabelled:
            changed(old)
        if relabelled or endpoint_view(old) != endpoint_view(new):
            changed(new)

    pods.add_handler(on_add=changed, on_update=updated, on_delete=changed)


def endpoint_view(pod: core_v1.Pod) -> tuple[object, ...]:
    """What of a pod its endpoints show."""
    return (
        pod.status.pod_ip,
        tuple(ip.ip for ip in pod.status.pod_ips or ()),
        pod.spec.node_name,
        pod_rules.is_ready(pod),
        pod_rules.is_terminal(pod),
        pod.metadata.deletion_timestamp is not None,
        pod.metadata.uid,
    )


def belongs(pod: core_v1.Pod, *, terminating: bool) -> bool:
    """Whether a selected pod has endpoints at all; `terminating` ones only if asked for."""
    if pod.metadata.deletion_timestamp is not None and not terminating:
        return False
    return not pod_rules.is_terminal(pod) and bool(addresses(pod))


def addresses(pod: core_v1.Pod) -> list[str]:
    return [ip.ip for ip in pod.status.pod_ips or () if ip.ip] or ([pod.status.pod_ip] if pod.status.pod_ip else [])


def family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def families(service: core_v1.Service) -> list[str]:
    """The address types that a service's endpoints have."""
    if service.spec.ip_families:
        return [f for f in service.spec.ip_families if f in ("IPv4", "IPv6")]
    if has_ip(service):
        return [family(service.spec.cluster_ip or "")]
    return ["IPv4", "IPv6"] if service.spec.cluster_ip == "None" else ["IPv4"]


def canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def has_ip(service: core_v1.Service) -> bool:
    """Not headless."""
    return service.spec.cluster_ip not in (None, "", "None")


def hostname(pod: core_v1.Pod, service: core_v1.Service) -> str | None:
    """The name under which a pod is found below its service, if it asks for one."""
    same = pod.spec.subdomain == service.metadata.name and pod.metadata.namespace == service.metadata.namespace
    return pod.spec.hostname if pod.spec.hostname and same else None


def container_port(pod: core_v1.Pod, port: core_v1.ServicePort) -> int | None:
    """The number behind a service port in this pod; None if the pod has no port of that name."""
    target = port.target_port if port.target_port is not None else port.port
    if isinstance(target, int):
        return target or port.port
    sidecars = (c for c in pod.spec.init_containers or () if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for found in container.ports or ():
            if found.name == target and (found.protocol or "TCP") == (port.protocol or "TCP"):
                return found.container_port
    return None


def target(pod: core_v1.Pod) -> core_v1.ObjectReference:
    meta = pod.metadata
    return core_v1.ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid)


class TriggerTimes:
    """When what made a service's endpoints change happened: how long the network's answer takes is measured by it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, dict[str, str]]] = {}

    def latest_change(self, service: core_v1.Service, pods: Iterable[core_v1.Pod]) -> str | None:
        """The earliest of the changes since the last call (RFC 3339), None if nothing known changed."""
        key = key_of(service)
        seen = self._known.get(key)
        times = {key_of(p): since for p in pods if (since := _ready_transition(p))}
        created = service.metadata.creation_timestamp or ""
        self._known[key] = (created, times)
        if seen is None:
            changes = [t for t in times.values() if t] or []
            return min(changes, default=created or None)
        changes = [t for pod, t in times.items() if seen[1].get(pod) != t]
        if seen[0] != created:
            changes.append(created)
        return min(changes, default=None)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)


def _ready_transition(pod: core_v1.Pod) -> str:
    found = pod_rules.condition(pod, "Ready")
    return (found.last_transition_time if found else None) or ""


def annotate(annotations: dict[str, str] | None, trigger: str | None) -> dict[str, str]:
    """With the trigger time, or without if there is none."""
    kept = {k: v for k, v in (annotations or {}).items() if k != LAST_CHANGE}
    return {**kept, LAST_CHANGE: trigger} if trigger else kept
