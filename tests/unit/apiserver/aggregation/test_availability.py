"""The condition Available: what decides it, and when it is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from apiserver.harness import Server, running
from podling import clock
from podling.api import apiregistration_v1 as v1
from podling.api import core_v1, discovery_v1, meta_v1
from podling.api.struct import clone
from podling.apiserver.aggregation import availability, documents
from podling.apiserver.aggregation.aggregator import Aggregator
from podling.apiserver.aggregation.availability import LOCAL, PASSED, Verdict, missing, said
from podling.apiserver.aggregation.remote import Remote, Unreachable
from tests.conformance.aggregated import NAME, api_service, endpoints, service

WANTED = v1.ServiceReference(name="sample-api", namespace="wardle", port=443)
SHOWN = 'service/sample-api in "wardle"'
NO_PORT = 'endpointslices for service/sample-api in "wardle" have no addresses with port name "https"'


def two_slices() -> list[discovery_v1.EndpointSlice]:
    """One is ready, the other has the port."""
    return [endpoints(1, port_name="other"), endpoints(1, ready=False)]


@pytest.mark.parametrize(
    ("found", "slices", "verdict"),
    [
        (None, [], Verdict("False", "ServiceNotFound", f"{SHOWN} is not present")),
        (
            service(ports=[core_v1.ServicePort(port=80)]),
            [],
            Verdict("False", "ServicePortError", f"{SHOWN} is not listening on port 443"),
        ),
        (
            service(),
            [],
            Verdict("False", "EndpointsNotFound", f"cannot find endpointslices for {SHOWN}"),
        ),
        (service(), [endpoints(1, ready=False)], Verdict("False", "MissingEndpoints", NO_PORT)),
        (service(), [endpoints(1, port_name="http")], Verdict("False", "MissingEndpoints", NO_PORT)),
        (service(), two_slices(), Verdict("False", "MissingEndpoints", NO_PORT)),
        (service(), [*two_slices(), endpoints(1)], None),
        (service(type="NodePort"), [], None),
        (service(type="ExternalName", external_name="elsewhere", ports=None), [], None),
    ],
)
def test_what_can_be_told_without_asking(
    found: core_v1.Service | None, slices: list[discovery_v1.EndpointSlice], verdict: Verdict | None
) -> None:
    assert missing(WANTED, found, slices) == verdict


def test_the_condition_keeps_its_time_while_its_status_stays() -> None:
    obj, now = api_service(), clock.EPOCH
    first = said(obj, Verdict("False", "ServiceNotFound", "a"), now)
    assert first is not None
    (condition,) = first.status.conditions or ()
    assert condition.last_transition_time == "2026-01-01T00:00:00Z"
    later = now.replace(hour=1)
    second = said(first, Verdict("False", "EndpointsNotFound", "b"), later)
    assert second is not None
    (condition,) = second.status.conditions or ()
    assert (condition.reason, condition.last_transition_time) == ("EndpointsNotFound", "2026-01-01T00:00:00Z")
    third = said(second, PASSED, later)
    assert third is not None
    (condition,) = third.status.conditions or ()
    assert (condition.status, condition.last_transition_time) == ("True", "2026-01-01T01:00:00Z")
    assert said(third, PASSED, later.replace(hour=2)) is None


def test_other_conditions_stay() -> None:
    obj = api_service()
    obj.status.conditions = [v1.APIServiceCondition(type="Other", status="True")]
    found = said(obj, PASSED, clock.EPOCH)
    assert found is not None
    assert [c.type for c in found.status.conditions or ()] == ["Other", "Available"]


class Probed:
    """A server of which the test says whether it answers."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.wrong = ""

    async def __call__(self, remote: Remote) -> None:
        self.times.append(clock.elapsed())
        if self.wrong:
            raise Unreachable(self.wrong)


@asynccontextmanager
async def aggregating(probed: Probed) -> AsyncIterator[tuple[Server, Aggregator]]:
    async with running(admission=False) as server:
        aggregator = Aggregator(server.app, probe=probed)
        await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="wardle")))
        try:
            yield server, aggregator
        finally:
            await aggregator.close()


def virtual(monkeypatch: pytest.MonkeyPatch, test: Callable[[Server, Aggregator, Probed], Any]) -> None:
    async def nothing(*_: Any) -> None:
        raise Unreachable("no server in this test")

    monkeypatch.setattr(documents.Documents, "_look", nothing)

    async def main() -> None:
        probed = Probed()
        async with aggregating(probed) as (server, aggregator):
            await test(server, aggregator, probed)

    clock.run_virtual(main())


async def condition_of(server: Server) -> tuple[str, str, str]:
    found = await server.client.get(v1.APIService, NAME)
    (condition,) = found.status.conditions or (v1.APIServiceCondition(),)
    return condition.status, condition.reason or "", condition.message or ""


def test_a_healthy_server_is_looked_at_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, aggregator: Aggregator, probed: Probed) -> None:
        for obj in (service(), endpoints(7443), api_service()):
            await server.client.create(obj)
        await asyncio.sleep(0.1)
        assert await condition_of(server) == PASSED
        began = len(probed.times)
        await asyncio.sleep(95)
        gaps = [b - a for a, b in pairwise(probed.times[began - 1 :])]
        assert gaps == pytest.approx([30, 30, 30])

    virtual(monkeypatch, test)


def test_a_failure_is_repeated_with_growing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, aggregator: Aggregator, probed: Probed) -> None:
        probed.wrong = "failing or missing response from somewhere"
        for obj in (service(), endpoints(7443), api_service()):
            await server.client.create(obj)
        await asyncio.sleep(300)
        assert await condition_of(server) == ("False", "FailedDiscoveryCheck", probed.wrong)
        assert not aggregator._app.remotes["wardle.example.com", "v1alpha1"].available
        gaps = [b - a for a, b in pairwise(probed.times)]
        assert gaps[-1] == pytest.approx(30) and min(gaps) < 0.05
        assert all(later >= sooner * 0.99 for sooner, later in pairwise(gaps[3:]))
        probed.wrong = ""
        await asyncio.sleep(31)
        assert await condition_of(server) == PASSED

    virtual(monkeypatch, test)


def test_changes_of_service_and_endpoints_are_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, aggregator: Aggregator, probed: Probed) -> None:
        await server.client.create(api_service())
        await asyncio.sleep(0.1)
        assert (await condition_of(server))[1] == "ServiceNotFound"
        await server.client.create(service())
        await asyncio.sleep(0.1)
        assert (await condition_of(server))[1] == "EndpointsNotFound"
        await server.client.create(endpoints(7443))
        await asyncio.sleep(0.1)
        assert await condition_of(server) == PASSED
        # Other services are none of its business.
        looked = len(probed.times)
        other = service()
        other.metadata.name = "other"
        await server.client.create(other)
        await asyncio.sleep(0.1)
        assert len(probed.times) == looked

    virtual(monkeypatch, test)


def test_what_becomes_local_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, aggregator: Aggregator, probed: Probed) -> None:
        await server.client.create(api_service())
        await asyncio.sleep(0.1)
        found = clone(await server.client.get(v1.APIService, NAME))
        found.spec.service = None
        await server.client.update(found)
        await server.app.hub.current()
        assert server.app.remotes == {}
        await asyncio.sleep(0.1)
        assert await condition_of(server) == LOCAL

    virtual(monkeypatch, test)


def test_nothing_runs_without_remote_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, aggregator: Aggregator, probed: Probed) -> None:
        before = asyncio.all_tasks()
        local = api_service(service=None)
        await server.client.create(local)
        await server.client.create(service())
        await asyncio.sleep(100)
        assert aggregator._parts is None and probed.times == []
        assert asyncio.all_tasks() == before
        assert availability.INTERVAL == 30.0

    virtual(monkeypatch, test)


def test_deleted_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, aggregator: Aggregator, probed: Probed) -> None:
        for obj in (service(), endpoints(7443), api_service()):
            await server.client.create(obj)
        await asyncio.sleep(0.1)
        await server.client.delete(v1.APIService, NAME)
        looked = len(probed.times)
        await asyncio.sleep(100)
        assert len(probed.times) == looked and server.app.remotes == {}
        assert server.app.discovery.remote == {}

    virtual(monkeypatch, test)
