"""Endpoints written by hand, for services without a selector, mirrored into EndpointSlices: those are what is read."""

from __future__ import annotations

from podling.api import core_v1, discovery_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import service_pods, slices
from podling.controllers.base import Context, Controller, namespace_terminating
from podling.controllers.references import controller_reference
from podling.controllers.rollout import LAST_APPLIED
from podling.controllers.slice_tracker import SliceTracker

CONTROLLER_NAME = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
BY_SERVICE = "mirrored"
#: The most addresses mirrored of one subset.
CAPACITY = 1000


def mirrored(slice_: discovery_v1.EndpointSlice) -> list[str]:
    """The index BY_SERVICE: of the slices that this controller manages."""
    labels = slice_.metadata.labels or {}
    if labels.get(slices.MANAGED_BY) != CONTROLLER_NAME:
        return []
    return [f"{slice_.metadata.namespace}/{labels.get(slices.SERVICE_NAME)}"]


def should_mirror(endpoints: core_v1.Endpoints) -> bool:
    """Not what says no, and not what is in truth an election."""
    return (endpoints.metadata.labels or {}).get(SKIP) != "true" and LEADER not in (
        endpoints.metadata.annotations or {}
    )


def desired(endpoints: core_v1.Endpoints) -> dict[slices.Group, list[discovery_v1.Endpoint]]:
    """The addresses of all subsets as endpoints."""
    groups: dict[slices.Group, list[discovery_v1.Endpoint]] = {}
    for subset in endpoints.subsets or ():
        ports = [slices.Port(p.name or "", p.port, p.protocol or "TCP", p.app_protocol) for p in subset.ports or ()]
        ready = [(a, True) for a in subset.addresses or ()]
        others = [(a, False) for a in subset.not_ready_addresses or ()]
        for address, is_ready in (ready + others)[:CAPACITY]:
            found = discovery_v1.Endpoint(
                addresses=[address.ip],
                conditions=discovery_v1.EndpointConditions(ready=is_ready),
                hostname=address.hostname,
                node_name=address.node_name,
                target_ref=address.target_ref,
            )
            groups.setdefault(slices.group(service_pods.family(address.ip), ports), []).append(found)
    return groups


def blank(endpoints: core_v1.Endpoints) -> discovery_v1.EndpointSlice:
    meta = endpoints.metadata
    reserved = {slices.SERVICE_NAME, slices.MANAGED_BY}
    labels = {k: v for k, v in (meta.labels or {}).items() if k not in reserved}
    labels |= {slices.SERVICE_NAME: meta.name or "", slices.MANAGED_BY: CONTROLLER_NAME}
    notes = {k: v for k, v in (meta.annotations or {}).items() if k not in (LAST_APPLIED, service_pods.LAST_CHANGE)}
    return discovery_v1.EndpointSlice(
        metadata=ObjectMeta(
            generate_name=f"{meta.name}-",
            namespace=meta.namespace,
            labels=labels,
            annotations=notes or None,
            owner_references=[controller_reference(endpoints)],
        )
    )


class EndpointSliceMirroringController(Controller):
    """See the module."""

    name = "endpointslice-mirroring-controller"
    component = "endpoint-slice-mirroring-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._endpoints = self.watch(core_v1.Endpoints)
        self._services = self.watch(core_v1.Service)
        self._slices = self.informer(discovery_v1.EndpointSlice)
        self._slices.add_index(BY_SERVICE, mirrored)
        self._tracker = SliceTracker(self.client, self._slices, mirrored, self.queue.add)

    async def reconcile(self, key: str) -> None:
        endpoints, service = self._endpoints.get(key), self._services.get(key)
        existing = self._slices.by_index(BY_SERVICE, key)
        if endpoints is None or service is None or service.spec.selector or not should_mirror(endpoints):
            for slice_ in existing:
                await self._tracker.delete(key, slice_)
            self._tracker.forget(key)
            return
        if self._tracker.stale(key):
            return
        wanted = blank(endpoints)
        most = self.context.config.endpoints_per_slice
        changes = slices.plan(desired(endpoints), existing, wanted, most)
        noted = {s.metadata.name for s in (*changes.update, *changes.delete)}
        for slice_ in existing:
            if (
                slice_.metadata.name not in noted
                and (slice_.metadata.annotations or None) != wanted.metadata.annotations
            ):
                changes.update.append(slices.with_metadata(slice_, wanted))
        try:
            await self._tracker.apply(key, changes)
        except errors.StatusError as error:
            if not namespace_terminating(error):
                raise
