"""IPAddresses of Services: one object for each cluster IP, so that everybody sees which addresses are taken by whom.

The API server decides who has an address, and remembers it in the Service; these objects follow (KEP 1880). An address
that somebody else has an object for is not given to a Service.
"""

from __future__ import annotations

import ipaddress

from podling.api import core_v1, errors, networking_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers.base import Context, Controller

MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
FAMILY = "ipaddress.kubernetes.io/ip-family"
#: Upstream's name of the allocator.
MANAGER = "ipallocator.k8s.io"


def cluster_ips(service: core_v1.Service) -> list[str]:
    """The addresses that a Service has."""
    return [ip for ip in service.spec.cluster_ips or () if ip != "None"]


class ServiceAddressController(Controller):
    """See the module. Keys are addresses."""

    name = "ipallocator-repair-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.informer(core_v1.Service)
        self._services.add_index("cluster-ip", cluster_ips)
        self._services.add_handler(
            on_add=self._changed, on_update=lambda old, new: self._both(old, new), on_delete=self._changed
        )
        self._addresses = self.watch(networking_v1.IPAddress)

    def _changed(self, service: core_v1.Service) -> None:
        for ip in cluster_ips(service):
            self.queue.add(ip)

    def _both(self, old: core_v1.Service, new: core_v1.Service) -> None:
        if old.spec.cluster_ips != new.spec.cluster_ips:
            self._changed(old)
            self._changed(new)

    async def reconcile(self, key: str) -> None:
        services = self._services.by_index("cluster-ip", key)
        there = self._addresses.get(key)
        wanted = _reference(services[0]) if services else None
        if there is not None and (there.metadata.labels or {}).get(MANAGED_BY) == MANAGER:
            if there.spec.parent_ref == wanted:
                return
            await self._delete(there)
            there = None
        if there is None and wanted is not None:
            await self._create(key, wanted)

    async def _create(self, ip: str, parent: networking_v1.ParentReference) -> None:
        labels = {FAMILY: f"IPv{ipaddress.ip_address(ip).version}", MANAGED_BY: MANAGER}
        made = networking_v1.IPAddress(metadata=ObjectMeta(name=ip, labels=labels))
        made.spec.parent_ref = parent
        try:
            await self.client.create(made)
        except errors.StatusError as error:
            if not errors.is_already_exists(error):
                raise

    async def _delete(self, address: networking_v1.IPAddress) -> None:
        try:
            await self.client.delete(networking_v1.IPAddress, address.metadata.name or "", uid=address.metadata.uid)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise


def _reference(service: core_v1.Service) -> networking_v1.ParentReference:
    meta = service.metadata
    return networking_v1.ParentReference(resource="services", namespace=meta.namespace, name=meta.name or "")
