"""EndpointSlices: the addresses behind every service with a selector, and whether they can be talked to."""

from __future__ import annotations

from podling.api import core_v1, discovery_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.client.events import WARNING
from podling.client.informer import NODE, node_name
from podling.controllers import pods as pod_rules
from podling.controllers import service_pods, slice_metrics, slices
from podling.controllers.base import Context, Controller, namespace_terminating
from podling.controllers.references import controller_reference
from podling.controllers.slice_metrics import SliceCounts
from podling.controllers.slice_tracker import SliceTracker

CONTROLLER_NAME = "endpointslice-controller.k8s.io"
#: Slices by the service they are of.
BY_SERVICE = "service"
_RESERVED = {slices.SERVICE_NAME, slices.MANAGED_BY, service_pods.HEADLESS}


def by_service(slice_: discovery_v1.EndpointSlice) -> list[str]:
    """The index BY_SERVICE: of the slices that this controller manages."""
    labels = slice_.metadata.labels or {}
    name = labels.get(slices.SERVICE_NAME)
    return [f"{slice_.metadata.namespace}/{name}"] if name and labels.get(slices.MANAGED_BY) == CONTROLLER_NAME else []


def endpoint(pod: core_v1.Pod, service: core_v1.Service, address_type: str, zone: str | None) -> discovery_v1.Endpoint:
    """A pod as an endpoint. Terminating pods are never ready, unless the service publishes what is not."""
    serving = pod_rules.is_ready(pod)
    terminating = pod.metadata.deletion_timestamp is not None
    found = discovery_v1.Endpoint(
        addresses=[
            service_pods.canonical(a) for a in service_pods.addresses(pod) if service_pods.family(a) == address_type
        ],
        conditions=discovery_v1.EndpointConditions(
            ready=bool(service.spec.publish_not_ready_addresses) or (serving and not terminating),
            serving=serving,
            terminating=terminating,
        ),
        target_ref=service_pods.target(pod),
        node_name=pod.spec.node_name or None,
        zone=zone,
        hostname=service_pods.hostname(pod, service),
    )
    found.hints = hints(service, found)
    return found


def hints(service: core_v1.Service, found: discovery_v1.Endpoint) -> discovery_v1.EndpointHints | None:
    """Who should prefer the endpoint, by spec.trafficDistribution (KEP-4444, KEP-3015)."""
    wanted = service.spec.traffic_distribution
    if not found.conditions or not found.conditions.ready or not wanted:
        return None
    zones = [discovery_v1.ForZone(name=found.zone)] if found.zone else None
    if wanted in ("PreferClose", "PreferSameZone"):
        return discovery_v1.EndpointHints(for_zones=zones) if zones else None
    if wanted == "PreferSameNode" and found.node_name:
        nodes = [discovery_v1.ForNode(name=found.node_name)]
        return discovery_v1.EndpointHints(for_zones=zones, for_nodes=nodes)
    return None


def ports(service: core_v1.Service, pod: core_v1.Pod) -> list[slices.Port]:
    """The service's ports as numbers in this pod; one whose name the pod does not have is left out."""
    found = []
    for port in service.spec.ports or ():
        number = service_pods.container_port(pod, port)
        if number is not None:
            found.append(slices.Port(port.name or "", number, port.protocol or "TCP", port.app_protocol))
    return found


def desired(
    service: core_v1.Service, pods: list[core_v1.Pod], zones: dict[str, str]
) -> dict[slices.Group, list[discovery_v1.Endpoint]]:
    """All endpoints of a service by the slices they belong into; without any, an empty group for each address type.

    `zones` are of nodes, by name.
    """
    groups: dict[slices.Group, list[discovery_v1.Endpoint]] = {}
    for address_type in service_pods.families(service):
        any_pod = False
        for pod in pods:
            if not service_pods.belongs(pod, terminating=True):
                continue
            found = endpoint(pod, service, address_type, zones.get(pod.spec.node_name or ""))
            if found.addresses:
                any_pod = True
                groups.setdefault(slices.group(address_type, ports(service, pod)), []).append(found)
        if not any_pod:
            groups[slices.group(address_type, [])] = []
    return groups


def blank(service: core_v1.Service, trigger: str | None) -> discovery_v1.EndpointSlice:
    """A slice with nothing in it but the metadata that slices of the service have."""
    labels = {k: v for k, v in (service.metadata.labels or {}).items() if k not in _RESERVED}
    if not service_pods.has_ip(service):
        labels[service_pods.HEADLESS] = ""
    labels |= {slices.SERVICE_NAME: service.metadata.name or "", slices.MANAGED_BY: CONTROLLER_NAME}
    return discovery_v1.EndpointSlice(
        metadata=ObjectMeta(
            generate_name=f"{service.metadata.name}-",
            namespace=service.metadata.namespace,
            labels=labels,
            annotations=service_pods.annotate(None, trigger) or None,
            owner_references=[controller_reference(service)],
        )
    )


class EndpointSliceController(Controller):
    """See the module."""

    name = "endpointslice-controller"
    component = "endpoint-slice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.watch(core_v1.Service)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(NODE, node_name)
        service_pods.follow_pods(self._pods, self._services, self.queue.add)
        self._slices = self.informer(discovery_v1.EndpointSlice)
        self._slices.add_index(BY_SERVICE, by_service)
        self._tracker = SliceTracker(self.client, self._slices, by_service, self.queue.add)
        self._nodes = self.informer(core_v1.Node)
        self._nodes.add_handler(on_add=self._node_changed, on_update=self._node_updated)
        self._triggers = service_pods.TriggerTimes()
        self._counts = SliceCounts(context.config.endpoints_per_slice)

    def _node_changed(self, node: core_v1.Node) -> None:
        if (node.metadata.labels or {}).get(service_pods.ZONE):
            for pod in self._pods.by_index(NODE, node.metadata.name or ""):
                for key in service_pods.services_of(self._services, pod):
                    self.queue.add(key)

    def _node_updated(self, old: core_v1.Node, new: core_v1.Node) -> None:
        zone = service_pods.ZONE
        if (old.metadata.labels or {}).get(zone) != (new.metadata.labels or {}).get(zone):
            self._node_changed(new)

    async def reconcile(self, key: str) -> None:
        service = self._services.get(key)
        existing = self._slices.by_index(BY_SERVICE, key)
        if service is None:
            # The garbage collector takes the slices: the service owns them.
            self._triggers.forget(key)
            self._tracker.forget(key)
            self._counts.forget(key)
            return
        if not service.spec.selector or service.metadata.deletion_timestamp is not None:
            return
        if service.spec.type == "ExternalName":
            return
        if self._tracker.stale(key):
            slice_metrics.SYNCS.add("stale")
            return
        pods = service_pods.pods_of(self._pods, service)
        trigger = self._triggers.latest_change(service, pods)
        wanted = desired(service, pods, self._zones(pods))
        existing = [s for s in existing if s.metadata.deletion_timestamp is None]
        changes = slices.plan(
            wanted,
            existing,
            blank(service, trigger),
            self.context.config.endpoints_per_slice,
        )
        try:
            await self._tracker.apply(key, changes)
        except errors.StatusError as error:
            if namespace_terminating(error):
                return
            message = f"Error updating Endpoint Slices for Service {key}: {error}"
            self.recorder.event(service, WARNING, "FailedToUpdateEndpointSlices", message)
            slice_metrics.SYNCS.add("error")
            raise
        self._counts.synced(key, service, wanted, existing, changes)

    def _zones(self, pods: list[core_v1.Pod]) -> dict[str, str]:
        zones = {}
        for name in {p.spec.node_name for p in pods if p.spec.node_name}:
            node = self._nodes.get(name)
            zone = (node.metadata.labels or {}).get(service_pods.ZONE) if node is not None else None
            if zone:
                zones[name] = zone
        return zones
