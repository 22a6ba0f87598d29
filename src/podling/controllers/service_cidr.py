"""ServiceCIDRs: a range is ready when it is protected, and does not go while Services have addresses of it (KEP 1880).

The API server allocates from the ranges that are ready.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from podling import clock
from podling.api import networking_v1, times
from podling.api.meta_v1 import Condition
from podling.api.struct import clone, to_dict
from podling.client.base import PatchType
from podling.client.informer import key_of
from podling.controllers.base import Context, Controller
from podling.controllers.service_addresses import MANAGED_BY, MANAGER

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
#: Seconds that allocators are given to notice that a range goes.
GRACE = 10.0
READY = Condition(type="Ready", status="True", message="Kubernetes Service CIDR is ready")
HELD = Condition(
    type="Ready",
    status="False",
    reason="Terminating",
    message="There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)

Range = networking_v1.ServiceCIDR


class ServiceCidrController(Controller):
    """See the module."""

    name = "service-cidr-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ranges = self.informer(Range)
        self._ranges.add_handler(
            on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new), on_delete=lambda _: self._deleting()
        )
        self._addresses = self.informer(networking_v1.IPAddress)
        self._addresses.add_handler(on_delete=lambda _: self._deleting())

    def _deleting(self) -> None:
        """What held up a deletion may be gone."""
        for found in self._ranges.list():
            if found.metadata.deletion_timestamp is not None:
                self.queue.add(key_of(found))

    async def reconcile(self, key: str) -> None:
        found = self._ranges.get(key)
        if found is None:
            return
        if found.metadata.deletion_timestamp is not None:
            await self._release(key, found)
            return
        if FINALIZER not in (found.metadata.finalizers or ()):
            await self.client.patch(Range, key, None, {"metadata": {"finalizers": [FINALIZER]}})
        await self._set(found, READY)

    async def _release(self, key: str, found: Range) -> None:
        if FINALIZER not in (found.metadata.finalizers or ()):
            return
        addresses = [
            a.metadata.name or ""
            for a in self._addresses.list()
            if (a.metadata.labels or {}).get(MANAGED_BY) == MANAGER
        ]
        if not may_go(found, self._ranges.list(), addresses):
            await self._set(found, HELD)
            return
        due = times.parse(found.metadata.deletion_timestamp or "") + timedelta(seconds=GRACE)
        if (wait := (due - clock.now()).total_seconds()) > 0:
            self.queue.add_after(key, wait)
            return
        patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        await self.client.patch(Range, key, None, patch)

    async def _set(self, found: Range, wanted: Condition) -> None:
        """Write the condition, unless it says so already."""
        for there in found.status.conditions or ():
            same = (there.status, there.reason or "", there.message) == (wanted.status, wanted.reason, wanted.message)
            if there.type == wanted.type and same:
                return
        stamped = clone(wanted)
        stamped.last_transition_time = times.format(clock.now())
        intent = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": found.metadata.name},
            "status": {"conditions": [to_dict(stamped)]},
        }
        await self.client.patch(
            Range,
            found.metadata.name or "",
            None,
            intent,
            type=PatchType.APPLY,
            subresource="status",
            field_manager=self.name,
            force=True,
        )


def may_go(range_: Range, all_: list[Range], addresses: list[str]) -> bool:
    """Whether no address in use would be left without a range."""
    mine = [ipaddress.ip_network(c) for c in range_.spec.cidrs or ()]
    others = [
        ipaddress.ip_network(c)
        for other in all_
        if other.metadata.name != range_.metadata.name and other.metadata.deletion_timestamp is None
        for c in other.spec.cidrs or ()
    ]
    for text in addresses:
        address = ipaddress.ip_address(text)
        if any(address in n for n in mine) and not any(address in n for n in others):
            return False
    return True
