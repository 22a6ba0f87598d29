"""The proxy of a node: hears of Services and EndpointSlices, and keeps the kernel's rules in step with them.

A service is compiled anew when it or one of its slices changes, and only what differs goes to the kernel: a change
among 10,000 endpoints costs what it costs among ten.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable

import msgspec

from podling.api import core_v1, discovery_v1
from podling.client.informer import Informers, key_of
from podling.network import conntrack
from podling.network.rtnetlink import Netlink
from podling.proxy import rules
from podling.proxy.config import ProxyConfig
from podling.proxy.endpoints import SERVICE_NAME_LABEL
from podling.proxy.health import HealthChecks
from podling.proxy.ruleset import Ruleset
from podling.proxy.static_rules import static_rules
from podling.proxy.syncer import Syncer, remove_table

_INDEX = "service"


def service_of(item: discovery_v1.EndpointSlice) -> str | None:
    """The key (namespace/name) of the service that a slice belongs to."""
    name = (item.metadata.labels or {}).get(SERVICE_NAME_LABEL)
    return f"{item.metadata.namespace}/{name}" if name else None


class Proxier:
    """`start` returns when the rules for all that is known are in the kernel; `close` leaves them there."""

    def __init__(self, informers: Informers, config: ProxyConfig) -> None:
        self.config = config
        self._services = informers.of(core_v1.Service)
        self._slices = informers.of(discovery_v1.EndpointSlice)
        self._slices.add_index(_INDEX, lambda item: [key] if (key := service_of(item)) else [])
        self._ruleset: Ruleset[rules.ServiceFragment] = Ruleset(config.table, static_rules(config))
        self._syncer = Syncer(
            "services",
            self._ruleset,
            netns=config.netns,
            interval=config.interval,
            prepare=self._prepare,
            finished=self._finished,
        )
        self._healths = HealthChecks(config.netns)
        self._dirty: dict[str, None] = {}
        self._changed_udp: rules.UDPTargets = {}
        self._changed_healths: dict[str, tuple[int, int]] = {}
        self._remove: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Wait for the informers (started by their owner), install all rules, and follow changes from then on."""
        self._remove = [
            self._services.add_handler(
                on_add=lambda new: self._mark(key_of(new)),
                on_update=lambda _, new: self._mark(key_of(new)),
                on_delete=lambda old: self._mark(key_of(old)),
            ),
            self._slices.add_handler(on_add=self._mark_slice, on_update=self._mark_slices, on_delete=self._mark_slice),
        ]
        await self._services.wait_synced()
        await self._slices.wait_synced()
        await self._syncer.start()

    async def close(self) -> None:
        """Stop following; services keep working as they are."""
        for remove in self._remove:
            remove()
        self._remove = []
        await self._syncer.close()
        await self._healths.close()

    async def teardown(self) -> None:
        """Stop, and remove the rules."""
        await self.close()
        await asyncio.to_thread(remove_table, self.config.table, self.config.netns)

    def set_zone(self, zone: str) -> None:
        """The node's topology.kubernetes.io/zone, which endpoints' hints speak of."""
        if zone != self.config.zone:
            self.config = msgspec.structs.replace(self.config, zone=zone)
            for service in self._services.list():
                self._mark(key_of(service))

    @property
    def pending(self) -> bool:
        """Whether a change that is known here is not in the kernel yet."""
        return self._syncer.pending

    def _mark(self, key: str) -> None:
        self._dirty[key] = None
        self._syncer.mark()

    def _mark_slice(self, item: discovery_v1.EndpointSlice) -> None:
        if key := service_of(item):
            self._mark(key)

    def _mark_slices(self, old: discovery_v1.EndpointSlice, new: discovery_v1.EndpointSlice) -> None:
        self._mark_slice(old)
        self._mark_slice(new)

    def _prepare(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for key in dirty:
            service = self._services.get(key)
            before, after = self._ruleset.get(key), None
            if service is not None:
                after = rules.compile_service(service, self._slices.by_index(_INDEX, key), self.config)
            self._ruleset.update(key, after)
            self._changed_healths[key] = (after.health_port, after.local) if after else (0, 0)
            old, new = before.udp if before else {}, after.udp if after else {}
            for target in {**old, **new}:
                if old.get(target) != new.get(target):
                    self._changed_udp[target] = new.get(target, frozenset())

    async def _finished(self) -> None:
        if self._changed_udp:
            changed, self._changed_udp = self._changed_udp, {}
            await self._syncer.in_thread(functools.partial(forget_flows, changed, self.config.netns))
        healths, self._changed_healths = self._changed_healths, {}
        await self._healths.update(healths)


def forget_flows(changed: rules.UDPTargets, netns: str) -> int:
    """Delete the UDP flows to what is in `changed` that do not go where it says; how many they were."""
    own: frozenset[str] = frozenset()
    if any(not address for address, _ in changed):
        with contextlib.closing(Netlink(netns)) as netlink:
            own = frozenset(a.split("/")[0] for a in netlink.all_addresses())

    def doomed(flow: conntrack.Flow) -> bool:
        targets = changed.get((flow.daddr, flow.dport))
        if targets is None and flow.daddr in own:
            targets = changed.get(("", flow.dport))
        return targets is not None and (flow.replier, flow.replier_port) not in targets

    return conntrack.delete_udp(doomed, netns=netns)
