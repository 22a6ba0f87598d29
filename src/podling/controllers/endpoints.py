"""Endpoints: the older form of EndpointSlices, one object a service, kept for those who still read it."""

from __future__ import annotations

import msgspec

from podling.api import core_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.client.events import WARNING
from podling.client.informer import key_of
from podling.controllers import pods as pod_rules
from podling.controllers import service_pods
from podling.controllers.base import Context, Controller, namespace_terminating

OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
CONTROLLER_NAME = "endpoint-controller"
#: The most addresses an Endpoints object holds (KEP-752).
CAPACITY = 1000


class _Subset(msgspec.Struct):
    ready: dict[str, core_v1.EndpointAddress] = {}
    not_ready: dict[str, core_v1.EndpointAddress] = {}


_Ports = tuple[tuple[str, int, str, str | None], ...]


def subsets(service: core_v1.Service, pods: list[core_v1.Pod]) -> list[core_v1.EndpointSubset]:
    """Addresses by the ports they share, all in a fixed order."""
    tolerant = bool(service.spec.publish_not_ready_addresses)
    groups: dict[_Ports, _Subset] = {}
    # Each address with its ports, then addresses of the same ports together: what repacking of subsets comes to.
    by_address: dict[tuple[bool, str, str], tuple[core_v1.EndpointAddress, list[tuple[str, int, str, str | None]]]] = {}
    wanted = service_pods.families(service)[0]
    for pod in pods:
        if not service_pods.belongs(pod, terminating=tolerant):
            continue
        ip = next((a for a in service_pods.addresses(pod) if service_pods.family(a) == wanted), None)
        if ip is None:
            continue
        found, any_port = [], False
        for port in service.spec.ports or ():
            number = service_pods.container_port(pod, port)
            if number is not None:
                any_port = True
                found.append((port.name or "", number, port.protocol or "TCP", port.app_protocol))
        if service.spec.ports and not any_port:
            continue
        address = core_v1.EndpointAddress(
            ip=service_pods.canonical(ip),
            hostname=service_pods.hostname(pod, service),
            node_name=pod.spec.node_name or None,
            target_ref=service_pods.target(pod),
        )
        by_address[tolerant or pod_rules.is_ready(pod), address.ip, pod.metadata.uid or ""] = (address, found)
    for (ready, ip, uid), (address, found) in by_address.items():
        subset = groups.setdefault(tuple(sorted(found, key=lambda p: (p[0], p[1], p[2], p[3] or ""))), _Subset())
        (subset.ready if ready else subset.not_ready)[f"{ip}/{uid}"] = address
    return [_packed(ports, groups[ports]) for ports in sorted(groups, key=str)]


def _packed(ports: _Ports, subset: _Subset) -> core_v1.EndpointSubset:
    def listed(found: dict[str, core_v1.EndpointAddress]) -> list[core_v1.EndpointAddress] | None:
        return [found[k] for k in sorted(found)] or None

    return core_v1.EndpointSubset(
        addresses=listed(subset.ready),
        not_ready_addresses=listed(subset.not_ready),
        ports=[
            core_v1.EndpointPort(name=name or None, port=port, protocol=protocol, app_protocol=app)
            for name, port, protocol, app in ports
        ]
        or None,
    )


def truncated(
    found: list[core_v1.EndpointSubset], capacity: int = CAPACITY
) -> tuple[list[core_v1.EndpointSubset], bool]:
    """No more than `capacity` addresses, shared among the subsets in proportion, ready ones before others."""
    total = sum(len(s.addresses or ()) + len(s.not_ready_addresses or ()) for s in found)
    if total <= capacity:
        return found, False
    ready_total = sum(len(s.addresses or ()) for s in found)
    most_ready = min(ready_total, capacity)
    most_others = capacity - most_ready
    result = []
    for subset in found:
        ready, others = subset.addresses or [], subset.not_ready_addresses or []
        keep_ready = len(ready) * most_ready // ready_total if ready_total else 0
        keep_others = len(others) * most_others // (total - ready_total) if total > ready_total else 0
        cut = msgspec.structs.replace(
            subset, addresses=ready[:keep_ready] or None, not_ready_addresses=others[:keep_others] or None
        )
        result.append(cut)
    return result, True


class EndpointsController(Controller):
    """See the module."""

    name = "endpoints-controller"
    component = "endpoint-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.watch(core_v1.Service)
        self._pods = self.informer(core_v1.Pod)
        service_pods.follow_pods(self._pods, self._services, self.queue.add)
        self._endpoints = self.informer(core_v1.Endpoints)
        self._endpoints.add_handler(on_add=self._seen, on_delete=self.enqueue)
        self._triggers = service_pods.TriggerTimes()

    def _seen(self, endpoints: core_v1.Endpoints) -> None:
        """Ours, and its service is gone already: removed at the next look."""
        if (endpoints.metadata.labels or {}).get(MANAGED_BY) == CONTROLLER_NAME:
            self.enqueue(endpoints)

    async def reconcile(self, key: str) -> None:
        service = self._services.get(key)
        current = self._endpoints.get(key)
        if service is None:
            self._triggers.forget(key)
            await self._delete(current)
            return
        if not service.spec.selector or service.spec.type == "ExternalName":
            return
        pods = service_pods.pods_of(self._pods, service)
        trigger = self._triggers.latest_change(service, pods)
        found, cut = truncated(subsets(service, pods))
        labels = dict(service.metadata.labels or {})
        if not service_pods.has_ip(service):
            labels[service_pods.HEADLESS] = ""
        else:
            labels.pop(service_pods.HEADLESS, None)
        labels[MANAGED_BY] = CONTROLLER_NAME
        if current is not None and self._same(current, found, labels, cut):
            return
        wanted = clone(current) if current is not None else core_v1.Endpoints(
            metadata=ObjectMeta(name=service.metadata.name, namespace=service.metadata.namespace)
        )  # fmt: skip
        wanted.subsets = found or None
        wanted.metadata.labels = labels
        notes = service_pods.annotate(wanted.metadata.annotations, trigger)
        notes.pop(OVER_CAPACITY, None)
        wanted.metadata.annotations = {**notes, **({OVER_CAPACITY: "truncated"} if cut else {})} or None
        await self._write(service, wanted, create=current is None)

    @staticmethod
    def _same(
        current: core_v1.Endpoints, found: list[core_v1.EndpointSubset], labels: dict[str, str], cut: bool
    ) -> bool:
        marked = (current.metadata.annotations or {}).get(OVER_CAPACITY) == "truncated"
        return (current.subsets or []) == found and current.metadata.labels == labels and marked == cut

    async def _delete(self, current: core_v1.Endpoints | None) -> None:
        """With the service its Endpoints go, those written by hand too: nothing owns them."""
        if current is None:
            return
        try:
            await self.client.delete(core_v1.Endpoints, current.metadata.name or "", current.metadata.namespace)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _write(self, service: core_v1.Service, wanted: core_v1.Endpoints, *, create: bool) -> None:
        try:
            if create:
                await self.client.create(wanted)
            else:
                await self.client.update(wanted)
        except errors.StatusError as error:
            if namespace_terminating(error):
                return
            if create:
                message = f"Failed to create endpoint for service {key_of(service)}: {error}"
                self.recorder.event(service, WARNING, "FailedToCreateEndpoint", message)
            else:
                message = f"Failed to update endpoint {key_of(service)}: {error}"
                self.recorder.event(service, WARNING, "FailedToUpdateEndpoint", message)
            raise
