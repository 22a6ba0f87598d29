"""APIServices that are made by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest

from podling import clock
from podling.api import apiregistration_v1 as v1
from podling.api import meta_v1, registry
from podling.api.errors import StatusError
from podling.api.struct import clone
from podling.apiserver.aggregation import registration
from podling.apiserver.aggregation.registration import ALWAYS, LABEL, ON_START, decide, make
from podling.apiserver.assembly import Assembly, Settings
from podling.client.client import ApiClient
from podling.store.memory import MemoryStore
from tests.conformance.custom import definition, version


def other(service: v1.APIService, **labels: str) -> v1.APIService:
    """The same with another priority and, if there are any, other labels."""
    new = clone(service)
    new.spec.group_priority_minimum = 7
    new.metadata.labels = labels or new.metadata.labels
    return new


ON = make("apps", "v1", ON_START)
CRD = make("example.com", "v1", ALWAYS)
FOREIGN = other(CRD, somebody="else")


@pytest.mark.parametrize(
    ("desired", "current", "synced", "at_start", "what"),
    [
        (None, None, False, False, ""),
        (ON, None, False, False, "create"),
        (ON, None, True, False, ""),
        (CRD, None, True, False, "create"),
        (ON, FOREIGN, False, True, ""),
        (CRD, FOREIGN, False, True, ""),
        (None, FOREIGN, False, True, ""),
        (ON, other(ON), False, False, ""),
        (ON, other(ON), False, True, "update"),
        (ON, other(ON), True, True, ""),
        (ON, ON, False, True, ""),
        (None, ON, False, True, "delete"),
        (None, ON, True, True, ""),
        (CRD, other(CRD), True, False, "update"),
        (CRD, CRD, True, False, ""),
        (None, CRD, True, False, "delete"),
    ],
)
def test_what_is_done(
    desired: v1.APIService | None, current: v1.APIService | None, synced: bool, at_start: bool, what: str
) -> None:
    assert decide(desired, current, synced=synced, at_start=at_start) == what


def test_an_empty_group_is_no_difference() -> None:
    core = make("", "v1", ON_START)
    written = clone(core)
    written.spec.group = ""
    assert decide(core, written, synced=False, at_start=True) == ""
    assert core.metadata.name == "v1."


class Server:
    def __init__(self, store: MemoryStore) -> None:
        self.assembly = Assembly(store, Settings())
        self.client = ApiClient(self.assembly.app)

    async def services(self) -> dict[str, v1.APIService]:
        await self.settled()
        return {s.metadata.name or "": s for s in (await self.client.list(v1.APIService)).items}

    async def settled(self) -> None:
        import asyncio

        await asyncio.sleep(5)

    async def define(self, raw: dict[str, Any]) -> None:
        from podling.api.request import LOOPBACK, Request
        from podling.api.struct import encode

        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await self.assembly.app.send(Request("POST", path, body=encode(raw), user=LOOPBACK))


def virtual(test: Callable[[Server], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        async def main() -> None:
            store = MemoryStore()
            await store.open()
            server = Server(store)
            await server.assembly.start()
            await test(server)
            await server.assembly.close()
            await store.close()

        clock.run_virtual(main())

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


@virtual
async def test_every_built_in_group_version_has_one(server: Server) -> None:
    services = await server.services()
    expected = {f"{r.version}.{r.group}" for r in registry.BUILTIN} - {"v1.apiregistration.k8s.io"}
    assert services.keys() == expected
    apps = services["v1.apps"]
    assert apps.metadata.labels == {LABEL: "onstart"}
    assert (apps.spec.group_priority_minimum, apps.spec.version_priority, apps.spec.service) == (17800, 15, None)
    (condition,) = apps.status.conditions or ()
    assert (condition.type, condition.status, condition.reason) == ("Available", "True", "Local")
    assert condition.message == "Local APIServices are always available"
    assert condition.last_transition_time == "2026-01-01T00:00:00Z"


@virtual
async def test_readyz_waits_for_them(server: Server) -> None:
    from podling.api.request import LOOPBACK, Request

    async def ready() -> tuple[int, str]:
        request = Request("GET", "/readyz/autoregister-completion", user=LOOPBACK)
        answer = await server.assembly.app.send(request)
        return answer.status, (answer.body or b"").decode()

    assert (await ready())[0] == 500
    await server.settled()
    assert await ready() == (200, "ok")


@virtual
async def test_what_an_administrator_changes_stays_until_the_next_start(server: Server) -> None:
    services = await server.services()
    await server.client.update(other(services["v1.apps"]))
    await server.client.delete(v1.APIService, "v1.batch")
    services = await server.services()
    assert services["v1.apps"].spec.group_priority_minimum == 7
    assert "v1.batch" not in services

    await server.assembly.close()
    again = Server(server.assembly.app.store)  # type: ignore[arg-type]
    await again.assembly.start()
    services = await again.services()
    assert services["v1.apps"].spec.group_priority_minimum == 17800
    assert "v1.batch" in services
    await again.assembly.close()


@virtual
async def test_those_of_custom_resources_follow_their_definitions(server: Server) -> None:
    raw = definition("foos", "Foo", version("v1", storage=True), version("v2", served=False), version("v1beta1"))
    await server.define(raw)
    await server.define(definition("bars", "Bar", version("v1", storage=True)))
    services = await server.services()
    mine = {name: s for name, s in services.items() if s.spec.group == "stable.example.com"}
    assert mine.keys() == {"v1.stable.example.com", "v1beta1.stable.example.com"}
    one = mine["v1.stable.example.com"]
    assert one.metadata.labels == {LABEL: "true"}
    assert (one.spec.group_priority_minimum, one.spec.version_priority) == (1000, 100)

    # They are kept as they should be, and made again.
    await server.client.update(other(one))
    await server.client.delete(v1.APIService, "v1beta1.stable.example.com")
    services = await server.services()
    assert services["v1.stable.example.com"].spec.group_priority_minimum == 1000
    assert "v1beta1.stable.example.com" in services

    from podling.api.apiextensions_v1 import CustomResourceDefinition

    await server.client.delete(CustomResourceDefinition, "foos.stable.example.com")
    services = await server.services()
    assert "v1.stable.example.com" in services and "v1beta1.stable.example.com" not in services
    await server.client.delete(CustomResourceDefinition, "bars.stable.example.com")
    assert "v1.stable.example.com" not in await server.services()


@virtual
async def test_without_the_label_it_is_somebody_elses(server: Server) -> None:
    mine = make("stable.example.com", "v1", ALWAYS)
    mine.metadata = meta_v1.ObjectMeta(name=mine.metadata.name)
    mine.spec.group_priority_minimum = 7
    await server.client.create(mine)
    await server.define(definition("foos", "Foo", version("v1", storage=True)))
    assert (await server.services())["v1.stable.example.com"].spec.group_priority_minimum == 7


def test_a_failure_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    send = registration.Registration._send

    async def unwilling(self: registration.Registration, request: Any) -> None:
        sent.append(request.obj.metadata.name)
        if sent.count("v1.apps") == 1 and request.obj.metadata.name == "v1.apps":
            raise StatusError(meta_v1.Status(status="Failure", code=500, reason="InternalError", message="no"))
        await send(self, request)

    monkeypatch.setattr(registration.Registration, "_send", unwilling)

    async def main() -> None:
        store = MemoryStore()
        await store.open()
        server = Server(store)
        await server.assembly.start()
        assert "v1.apps" in await server.services()
        await server.assembly.close()
        await store.close()

    clock.run_virtual(main())
    assert sent.count("v1.apps") == 2 and sent.count("v1.batch") == 1
