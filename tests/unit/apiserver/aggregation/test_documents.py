"""Discovery and OpenAPI of other servers: when they are fetched, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from apiserver.harness import Server, running
from podling import clock
from podling.api import core_v1, meta_v1
from podling.apiserver.aggregation import documents, relay
from podling.apiserver.aggregation.aggregator import Aggregator
from podling.apiserver.aggregation.documents import from_legacy
from podling.apiserver.aggregation.remote import Remote, Unreachable
from tests.conformance.aggregated import api_service, endpoints, service

KEY = ("wardle.example.com", "v1alpha1")


def test_legacy_resources() -> None:
    listed: list[dict[str, Any]] = [
        {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get"]},
        {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["update"]},
        {"name": "others/log", "namespaced": False, "kind": "", "verbs": ["get"]},
        {"name": "short", "namespaced": False, "kind": "S", "verbs": [], "shortNames": ["s"], "categories": ["all"]},
    ]
    empty = {"group": "", "version": "", "kind": ""}
    flunder = {"group": "", "version": "", "kind": "Flunder"}
    assert from_legacy(listed) == [
        {
            "resource": "flunders",
            "responseKind": flunder,
            "scope": "Namespaced",
            "singularResource": "flunder",
            "verbs": ["get"],
            "subresources": [{"subresource": "status", "responseKind": flunder, "verbs": ["update"]}],
        },
        {
            "resource": "short",
            "responseKind": {**empty, "kind": "S"},
            "scope": "Cluster",
            "singularResource": "",
            "verbs": [],
            "shortNames": ["s"],
            "categories": ["all"],
        },
        {
            "resource": "others",
            "responseKind": empty,
            "scope": "Cluster",
            "singularResource": "",
            "verbs": [],
            "subresources": [{"subresource": "log", "responseKind": empty, "verbs": ["get"]}],
        },
    ]


class Other:
    """The other server's documents, as the test has them."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str, str]] = []
        self.broken = ""
        self.resources: list[dict[str, Any]] = [{"resource": "flunders", "scope": "Namespaced", "verbs": ["list"]}]
        self.etag = '"1"'

    async def fetch(
        self, remote: Remote, path: str, user: Any, headers: dict[str, str], *, timeout: float, probing: bool = False
    ) -> tuple[int, dict[str, str], bytes]:
        self.asked.append((round(clock.elapsed(), 3), path, user.name))
        if self.broken:
            raise Unreachable(self.broken)
        if path == "/apis":
            if headers.get("If-None-Match") == self.etag:
                return 304, {}, b""
            version = {"version": "v1alpha1", "resources": self.resources, "freshness": "Current"}
            items = [{"metadata": {"name": KEY[0]}, "versions": [version]}]
            kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return 200, {"content-type": kind, "etag": self.etag}, json.dumps({"items": items}).encode()
        return 404, {}, b""

    def times(self, path: str) -> list[float]:
        return [at for at, asked, _ in self.asked if asked == path]


def virtual(monkeypatch: pytest.MonkeyPatch, test: Callable[[Server, Other], Awaitable[None]]) -> None:
    other = Other()
    monkeypatch.setattr(relay, "fetch", other.fetch)

    async def well(remote: Remote) -> None:
        if other.broken:
            raise Unreachable(other.broken)

    async def main() -> None:
        async with running(admission=False) as server:
            aggregator = Aggregator(server.app, probe=well)
            await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="wardle")))
            for obj in (service(), endpoints(7443)):
                await server.client.create(obj)
            await test(server, other)
            await aggregator.close()

    clock.run_virtual(main())


def test_a_new_server_is_asked_at_once_and_then_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, other: Other) -> None:
        await server.client.create(api_service())
        await asyncio.sleep(1)
        shown = server.app.discovery.remote[KEY]
        assert (shown["freshness"], shown["resources"][0]["resource"]) == ("Current", "flunders")
        assert shown["resources"][0]["responseKind"] == {"group": "", "version": "", "kind": ""}
        assert {user for _, path, user in other.asked if path == "/apis"} == {"system:kube-aggregator"}
        assert {user for _, path, user in other.asked if path == "/openapi/v2"} == {"system:aggregator"}
        before = len(other.times("/apis"))
        other.resources, other.etag = [], '"2"'
        await asyncio.sleep(121)
        assert len(other.times("/apis")) == before + 2
        assert server.app.discovery.remote[KEY]["resources"] == []
        assert documents.INTERVAL == 60.0

    virtual(monkeypatch, test)


def test_a_server_that_fails_is_asked_again_sooner_and_its_version_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, other: Other) -> None:
        await server.client.create(api_service())
        await asyncio.sleep(1)
        other.broken = "service unavailable"
        await asyncio.sleep(60)
        assert server.app.discovery.remote[KEY] == {"version": "v1alpha1", "freshness": "Stale"}
        await asyncio.sleep(300)
        times = other.times("/apis")
        gaps = [round(b - a, 1) for a, b in pairwise(times)]
        assert gaps[-1] == 60.0 and any(0 < gap <= 1 for gap in gaps)
        other.broken = ""
        await asyncio.sleep(61)
        assert server.app.discovery.remote[KEY]["freshness"] == "Current"

    virtual(monkeypatch, test)


def test_nonsense_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server, other: Other) -> None:
        other.resources = "nonsense"  # type: ignore[assignment]
        await server.client.create(api_service())
        await asyncio.sleep(1)
        assert server.app.discovery.remote[KEY]["freshness"] == "Stale"
        other.resources = []
        await asyncio.sleep(61)
        assert server.app.discovery.remote[KEY]["freshness"] == "Current"

    virtual(monkeypatch, test)
