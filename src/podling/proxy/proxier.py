"""The proxy of a node: hears of Services and EndpointSlices, and keeps the kernel's rules in step with them.

The first change after a quiet time goes to the kernel at once; what comes while that is under way, or shortly after,
goes together. One transaction, with only what differs: a change among 10,000 endpoints costs what it costs among ten.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from podling import clock, log
from podling.api import core_v1, discovery_v1
from podling.client.informer import Informers, key_of
from podling.network import conntrack
from podling.network.base import NetworkFailure
from podling.network.nftables import Nft, delete_table
from podling.network.rtnetlink import Netlink
from podling.proxy import rules
from podling.proxy.config import ProxyConfig
from podling.proxy.endpoints import SERVICE_NAME_LABEL
from podling.proxy.health import HealthChecks
from podling.proxy.ruleset import Ruleset

_log = log.get(__name__)
T = TypeVar("T")

_INDEX = "service"
#: Back-off after the kernel refused the rules, in seconds, doubling.
_RETRY_FIRST, _RETRY_MOST = 0.5, 30.0


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
        self._ruleset = Ruleset(config)
        self._dirty: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._changed_udp: rules.UDPTargets = {}
        self._healths = HealthChecks(config.netns)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="proxy")
        self._nft: Nft | None = None
        self._whole = True
        self._busy = False
        self._task: asyncio.Task[None] | None = None
        self._remove: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Wait for the informers (started by their owner), install all rules, and follow changes from then on."""
        self._remove = [
            self._services.add_handler(
                on_add=lambda new: self._mark(key_of(new)),
                on_update=lambda _, new: self._mark(key_of(new)),
                on_delete=lambda old: self._mark(key_of(old)),
            ),
            self._slices.add_handler(
                on_add=self._mark_slice,
                on_update=self._mark_slices,
                on_delete=self._mark_slice,
            ),
        ]
        await self._services.wait_synced()
        await self._slices.wait_synced()
        with contextlib.suppress(NetworkFailure):
            await self._sync()
        self._task = asyncio.create_task(self._run(), name="proxier")

    async def close(self) -> None:
        """Stop following; services keep working as they are."""
        for remove in self._remove:
            remove()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._healths.close()
        self._worker.shutdown()
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    async def teardown(self) -> None:
        """Stop, and remove the rules."""
        await self.close()
        await asyncio.to_thread(remove_rules, self.config)

    def set_zone(self, zone: str) -> None:
        """The node's topology.kubernetes.io/zone, which endpoints' hints speak of."""
        if zone != self.config.zone:
            self.config = self._ruleset.config = _with_zone(self.config, zone)
            for service in self._services.list():
                self._mark(key_of(service))

    @property
    def pending(self) -> bool:
        """Whether a change that is known here is not in the kernel yet."""
        return self._busy or bool(self._dirty)

    def _mark(self, key: str) -> None:
        self._dirty[key] = None
        self._changed.set()

    def _mark_slice(self, item: discovery_v1.EndpointSlice) -> None:
        if key := service_of(item):
            self._mark(key)

    def _mark_slices(self, old: discovery_v1.EndpointSlice, new: discovery_v1.EndpointSlice) -> None:
        self._mark_slice(old)
        self._mark_slice(new)

    async def _run(self) -> None:
        retry = _RETRY_FIRST
        while True:
            await self._changed.wait()
            try:
                await self._sync()
                retry = _RETRY_FIRST
                await asyncio.sleep(self.config.interval)
            except NetworkFailure:
                await asyncio.sleep(retry)
                retry = min(retry * 2, _RETRY_MOST)
                self._changed.set()

    async def _sync(self) -> None:
        """Bring the kernel to what the informers hold; after a refusal all of it, for it may have lost our table."""
        self._changed.clear()
        began = clock.real_seconds()
        dirty, self._dirty = self._dirty, {}
        self._busy = True
        try:
            await self._install(dirty)
        except NetworkFailure as error:
            _log.error("services: %s", error)
            self._whole = True
            self._dirty.update(dirty)
            raise
        finally:
            self._busy = False
        _log.debug("%d services in %.1f ms", len(dirty), (clock.real_seconds() - began) * 1000)

    async def _install(self, dirty: dict[str, None]) -> None:
        for key in dirty:
            self._compile(key)
        script = self._ruleset.full() if self._whole else self._ruleset.changes()
        if script:
            await self._load(script)
        self._whole = False
        self._ruleset.installed()
        if self._changed_udp:
            changed, self._changed_udp = self._changed_udp, {}
            await self._in_thread(functools.partial(forget_flows, changed, self.config.netns))
        await self._healths.update(self._health_ports(dirty))

    async def _load(self, script: str) -> None:
        """The script is on its way to the kernel: what changes from here on belongs to the next."""

        def load() -> None:
            if self._nft is None:
                self._nft = Nft(self.config.netns)
            self._nft.run(script)

        await self._in_thread(load)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    def _compile(self, key: str) -> None:
        service = self._services.get(key)
        before = self._ruleset.get(key)
        after = None
        if service is not None:
            after = rules.compile_service(service, self._slices.by_index(_INDEX, key), self.config)
        self._ruleset.update(key, after)
        old, new = before.udp if before else {}, after.udp if after else {}
        for target in {**old, **new}:
            if old.get(target) != new.get(target):
                self._changed_udp[target] = new.get(target, frozenset())

    def _health_ports(self, dirty: dict[str, None]) -> dict[str, tuple[int, int]]:
        """(port, local endpoints) of the services in `dirty`; port 0 for those without a health check."""
        found: dict[str, tuple[int, int]] = {}
        for key in dirty:
            fragment = self._ruleset.get(key)
            found[key] = (fragment.health_port, fragment.local) if fragment else (0, 0)
        return found


def _with_zone(config: ProxyConfig, zone: str) -> ProxyConfig:
    return msgspec.structs.replace(config, zone=zone)


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


def remove_rules(config: ProxyConfig) -> None:
    """Remove the proxy's table."""
    with contextlib.closing(Nft(config.netns)) as nft:
        nft.run(delete_table(config.table))
