"""Whether what an APIService promises is there: its condition Available.

A remote one is looked at when it, its Service or the endpoints of that change, half a minute after the last look, and
after a failed probe sooner, with growing waits. A local one is always available. Source: kube-aggregator's
controllers/status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import NamedTuple

import aiohttp

from podling import log
from podling.api import apiregistration_v1 as v1
from podling.api import core_v1, discovery_v1, times
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK, Request
from podling.api.struct import clone
from podling.apiserver.admission.webhooks_client import NoPlace
from podling.apiserver.aggregation import remote as remotes
from podling.apiserver.aggregation.registration import available
from podling.apiserver.aggregation.remote import AGGREGATOR, Remote, Unreachable
from podling.apiserver.core import Core
from podling.client.workqueue import WorkQueue
from podling.metrics import Counter

LOG = log.get(__name__)

#: Seconds between two looks at a remote one, which is also the longest wait after a failure.
INTERVAL = 30.0
FIRST_RETRY = 0.005
#: How often a server is asked at once, each time at one of its endpoints: it is well if one answers in time.
ATTEMPTS = 5
PROBE_TIMEOUT = 5.0
WORKERS = 5


class Verdict(NamedTuple):
    """The condition Available."""

    status: str
    reason: str
    message: str


LOCAL = Verdict("True", "Local", "Local APIServices are always available")
PASSED = Verdict("True", "Passed", "all checks passed")

#: Ask the server itself; Unreachable says what is wrong.
Probe = Callable[[Remote], Awaitable[None]]


def missing(
    wanted: v1.ServiceReference, service: core_v1.Service | None, slices: Iterable[discovery_v1.EndpointSlice]
) -> Verdict | None:
    """What can be told without asking the server; None if it may be there."""
    shown = f'service/{wanted.name} in "{wanted.namespace}"'
    if service is None:
        return Verdict("False", "ServiceNotFound", f"{shown} is not present")
    if (service.spec.type or "ClusterIP") != "ClusterIP":
        return None
    port = next((p for p in service.spec.ports or () if p.port == wanted.port), None)
    if port is None:
        return Verdict("False", "ServicePortError", f"{shown} is not listening on port {wanted.port}")
    slices = list(slices)
    if not slices:
        return Verdict("False", "EndpointsNotFound", f"cannot find endpointslices for {shown}")
    if not any(_serves(piece, port.name or "") for piece in slices):
        message = f'endpointslices for {shown} have no addresses with port name "{port.name or ""}"'
        return Verdict("False", "MissingEndpoints", message)
    return None


def _serves(piece: discovery_v1.EndpointSlice, port_name: str) -> bool:
    ready = any(e.conditions is None or e.conditions.ready is not False for e in piece.endpoints or ())
    return ready and any((p.name or "") == port_name and p.port is not None for p in piece.ports or ())


def said(service: v1.APIService, verdict: Verdict, now: datetime) -> v1.APIService | None:
    """The APIService with the verdict as its condition; None if it says so already."""
    before = next((c for c in service.status.conditions or () if c.type == "Available"), None)
    if before is not None and (before.status, before.reason or "", before.message or "") == verdict:
        return None
    since = before.last_transition_time if before is not None and before.status == verdict.status else None
    condition = v1.APIServiceCondition(
        type="Available",
        status=verdict.status,
        reason=verdict.reason,
        message=verdict.message,
        last_transition_time=since or times.format(now),
    )
    new = clone(service)
    conditions = new.status.conditions or []
    if before is None:
        new.status.conditions = [*conditions, condition]
    else:
        new.status.conditions = [condition if c.type == "Available" else c for c in conditions]
    return new


class Availability:
    """The controller. `enqueue` what has changed; nothing runs before that."""

    def __init__(self, app: Core, probe: Probe | None = None) -> None:
        self._app = app
        self._services = app.served["apiregistration.k8s.io", "v1", "apiservices"].cache
        self._probe = probe or probing
        self._queue: WorkQueue[str] = WorkQueue(name="RemoteAvailabilityController", base=FIRST_RETRY, most=INTERVAL)
        self._workers: list[asyncio.Task[None]] = []
        self.unavailable = Counter(
            "aggregator_unavailable_apiservice_total",
            "[ALPHA] Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
            ("name", "reason"),
        )

    def enqueue(self, name: str) -> None:
        self._queue.add(name)
        if not self._workers:
            loop = asyncio.get_running_loop()
            self._workers = [
                loop.create_task(self._queue.serve(self._sync, self._failed), name=f"availability {n}")
                for n in range(WORKERS)
            ]

    async def close(self) -> None:
        self._queue.shutdown()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _failed(self, name: str, error: Exception) -> None:
        if isinstance(error, Unreachable):
            LOG.debug("%s is not available: %s", name, error)
        else:
            LOG.warning("whether %s is available can't be said, trying again: %s", name, error)

    async def _sync(self, name: str) -> None:
        entry = self._services.get(name)
        if entry is None:
            return
        service: v1.APIService = entry.object
        wanted = service.spec.service
        if wanted is None:
            await self._say(service, LOCAL)
            return
        self._queue.add_after(name, INTERVAL)
        remote = self._app.remotes.get((service.spec.group or "", service.spec.version or ""))
        if remote is None:
            return
        key = f"{wanted.namespace}/{wanted.name}"
        slices = remotes.slices_of(self._app, wanted.namespace or "", wanted.name or "")
        verdict = missing(wanted, self._app.cached("", "services", key), slices)
        if verdict is not None:
            await self._say(service, verdict)
            return
        try:
            await self._probe(remote)
        except Unreachable as error:
            await self._say(service, Verdict("False", "FailedDiscoveryCheck", str(error)))
            raise
        await self._say(service, PASSED)

    async def _say(self, service: v1.APIService, verdict: Verdict) -> None:
        new = said(service, verdict, self._app.now())
        if new is None:
            return
        path = f"/apis/apiregistration.k8s.io/v1/apiservices/{service.metadata.name}/status"
        headers = {"user-agent": "kube-apiserver"}
        try:
            await self._app.send(Request("PUT", path, obj=new, user=LOOPBACK, headers=headers))
        except StatusError as error:
            # It has changed or gone meanwhile, and comes here again for that.
            if error.reason not in ("Conflict", "NotFound"):
                raise
            return
        if available(service) and verdict.status != "True":
            self.unavailable.add(service.metadata.name or "", verdict.reason)


async def probing(remote: Remote) -> None:
    """Ask for the discovery document, several times at once. Raises Unreachable if no answer is a good one."""
    tasks = [asyncio.ensure_future(_ask(remote)) for _ in range(ATTEMPTS)]
    try:
        last: Unreachable | None = None
        for answered in asyncio.as_completed(tasks):
            try:
                await answered
                return
            except Unreachable as error:
                last = error
        assert last is not None
        raise last
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(remote: Remote) -> None:
    try:
        place = remote.place()
    except NoPlace as error:
        raise Unreachable(str(error)) from None
    url = f"https://{place.authority}{remote.path}"
    shown = f"failing or missing response from {url}"
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            answer = await remote.open(place, "GET", remote.path, remotes.identity(AGGREGATOR))
            answer.close()
    except TimeoutError:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise Unreachable(f'{shown}: Get "{url}": {why}') from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unreachable(f'{shown}: Get "{url}": {remotes.why(error)}') from error
    if not 200 <= answer.status < 300:
        raise Unreachable(f"{shown}: bad status from {url}: {answer.status}")
