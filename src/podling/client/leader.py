"""Leader election: of several instances one is active, by a Lease that it renews.

An instance that cannot renew stops leading after `renew_deadline`, before the others may take over after
`lease_duration`; so there are never two. Clocks need not agree: a candidate measures with its own clock how long the
Lease has not changed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from podling import clock, log
from podling.api import coordination_v1, errors, times
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.client.base import Client
from podling.client.events import NORMAL, Recorder
from podling.metrics import PROCESS

_log = log.get(__name__)

LEADING = PROCESS.gauge(
    "leader_election_master_status",
    "[ALPHA] Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. "
    "'name' is the string used to identify the lease. Please make sure to group by name.",
    ("name",),
)

#: Waiting candidates spread out by up to this factor (client-go).
JITTER = 1.2


class Timing(msgspec.Struct, frozen=True):
    """Seconds; upstream's defaults for control-plane components."""

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0


class LeaderElector:
    """Runs `lead` while this instance holds the Lease `namespace/name`; `lead` is cancelled when it is lost."""

    def __init__(
        self,
        client: Client,
        name: str,
        identity: str,
        lead: Callable[[], Awaitable[None]],
        *,
        namespace: str = "kube-system",
        timing: Timing | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._client = client
        self._name, self._namespace, self._identity = name, namespace, identity
        self._lead = lead
        self._timing = timing or Timing()
        self._recorder = recorder
        self._seen: coordination_v1.Lease | None = None
        self._seen_at = 0.0
        LEADING.set(0, name)

    @property
    def leader(self) -> str:
        """Who leads, as far as is known; "" if nobody."""
        return (self._seen.spec.holder_identity or "") if self._seen else ""

    @property
    def is_leader(self) -> bool:
        return self.leader == self._identity

    async def run(self) -> None:
        """Wait for the lead, lead, and return when the lead is lost or `lead` has returned; then the Lease is free."""
        while not await self._try():  # noqa: ASYNC110 - a Lease is polled: candidates measure its age by their own clock
            await asyncio.sleep(self._timing.retry_period * (1 + JITTER * random.random()))
        self._say("became leader")
        LEADING.set(1, self._name)
        work = asyncio.ensure_future(self._lead())
        renewing = asyncio.create_task(self._renew(), name=f"renew lease {self._name}")
        try:
            await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unfinished = [t for t in (work, renewing) if not t.done()]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            LEADING.set(0, self._name)
            self._say("stopped leading")
            await self._release()
        if work.done() and not work.cancelled():
            work.result()

    async def _renew(self) -> None:
        """Keep the Lease; returns when it could not be renewed in time."""
        renewed = clock.elapsed()
        while True:
            await asyncio.sleep(self._timing.retry_period)
            left = renewed + self._timing.renew_deadline - clock.elapsed()
            try:
                async with asyncio.timeout(max(left, 0)):
                    held = await self._try()
            except TimeoutError:
                held = False
            if held:
                renewed = clock.elapsed()
            elif self._seen is not None and not self.is_leader:
                return
            elif clock.elapsed() - renewed >= self._timing.renew_deadline:
                _log.warning("the lease %s/%s could not be renewed in time", self._namespace, self._name)
                return

    async def _try(self) -> bool:
        """Take or renew the Lease; whether we hold it now."""
        now = clock.now()
        try:
            lease = await self._client.get(coordination_v1.Lease, self._name, self._namespace)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                _log.debug("lease %s: %s", self._name, error)
                return False
            return await self._put(self._client.create, self._claim(None, now))
        self._note(lease)
        if lease.spec.holder_identity and not self.is_leader and not self._expired(lease):
            return False
        return await self._put(self._client.update, self._claim(lease, now))

    def _expired(self, lease: coordination_v1.Lease) -> bool:
        duration = lease.spec.lease_duration_seconds or self._timing.lease_duration
        return self._seen_at + duration <= clock.elapsed()

    def _note(self, lease: coordination_v1.Lease) -> None:
        if self._seen is None or self._seen.metadata.resource_version != lease.metadata.resource_version:
            self._seen, self._seen_at = lease, clock.elapsed()

    def _claim(self, lease: coordination_v1.Lease | None, now: datetime) -> coordination_v1.Lease:
        claim = clone(lease) if lease else coordination_v1.Lease()
        if lease is None:
            claim.metadata = ObjectMeta(name=self._name, namespace=self._namespace)
        spec, stamp = claim.spec, times.format_micro(now)
        if spec.holder_identity != self._identity:
            spec.lease_transitions = (spec.lease_transitions or 0) + 1 if lease else 0
            spec.acquire_time = stamp
        spec.holder_identity = self._identity
        spec.lease_duration_seconds = max(1, round(self._timing.lease_duration))
        spec.renew_time = stamp
        return claim

    async def _put(
        self, write: Callable[[coordination_v1.Lease], Awaitable[coordination_v1.Lease]], claim: coordination_v1.Lease
    ) -> bool:
        try:
            self._note(await write(claim))
        except errors.StatusError as error:
            _log.debug("lease %s: %s", self._name, error)
            return False
        return True

    async def _release(self) -> None:
        """Leave the Lease to the next one at once."""
        if self._seen is None or not self.is_leader:
            return
        free = clone(self._seen)
        free.spec.holder_identity = ""
        free.spec.lease_duration_seconds = 1
        free.spec.renew_time = free.spec.acquire_time = times.format_micro(clock.now())
        self._seen = None
        try:
            async with asyncio.timeout(self._timing.retry_period):
                await self._client.update(free)
        except (errors.StatusError, TimeoutError) as error:
            _log.debug("lease %s was not released: %s", self._name, error)

    def _say(self, what: str) -> None:
        _log.info("%s %s (%s/%s)", self._identity, what, self._namespace, self._name)
        if self._recorder is not None and self._seen is not None:
            self._recorder.event(self._seen, NORMAL, "LeaderElection", f"{self._identity} {what}")
