"""Resources of other API servers, as controllers find them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from controllers.cluster import Cluster
from podling import clock
from podling.api import apiextensions_v1
from podling.api import apiregistration_v1 as v1
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers import aggregated
from podling.controllers.aggregated import Aggregated, Discovered, parse
from podling.controllers.resources import Resources

ALL = ["create", "delete", "get", "list", "watch"]


def resource(name: str, verbs: list[str] = ALL, scope: str = "Namespaced") -> dict[str, Any]:
    return {"resource": name, "responseKind": {"kind": name.title()}, "scope": scope, "verbs": verbs}


def group(name: str, **versions: Any) -> dict[str, Any]:
    """A version without resources is stale."""
    shown = [
        {"version": v, "resources": found, "freshness": "Current"} if found else {"version": v, "freshness": "Stale"}
        for v, found in versions.items()
    ]
    return {"metadata": {"name": name}, "versions": shown}


def test_what_a_document_says() -> None:
    document = {
        "items": [
            group("apps", v1=[resource("deployments")]),
            group("a.com", v2=[resource("things")], v1=[resource("things"), resource("olds", ["get"], "Cluster")]),
            group("b.com", v1=None),
        ]
    }
    found = parse(document, {("a.com", "v1"), ("a.com", "v2"), ("b.com", "v1")})
    assert [(r.version, r.name, r.kind, r.namespaced, r.verbs) for r in found.resources] == [
        ("v2", "things", "Things", True, tuple(ALL)),
        ("v1", "olds", "Olds", False, ("get",)),
    ]
    assert [aggregated.followable(r) for r in found.resources] == [True, False]
    assert found.failed == {"b.com/v1": "stale GroupVersion discovery: b.com/v1"}


def test_the_failure_is_said_in_one_sentence() -> None:
    assert Discovered([], {}).failure == ""
    assert Discovered([], {"b/v1": "x", "a/v1": "y"}).failure == (
        "Discovery failed for some groups, 2 failing: unable to retrieve the complete list of server APIs: "
        "a/v1: y, b/v1: x"
    )


class Discovering:
    """A cluster whose server answers discovery as the test wants it."""

    def __init__(self, cluster: Cluster) -> None:
        self.items: list[dict[str, Any]] = []
        self.asked = 0
        self.client = cluster.client
        self.aggregated = Aggregated(cluster.client, cluster.informers.of(v1.APIService))
        self.definitions = cluster.informers.of(apiextensions_v1.CustomResourceDefinition)
        self.changes = 0
        cluster.client.document = self._document  # type: ignore[method-assign]

    async def _document(self, path: str, *, accept: str = "") -> bytes:
        self.asked += 1
        return json.dumps({"items": self.items}).encode()

    def changed(self) -> None:
        self.changes += 1

    def names(self) -> list[str]:
        return [r.name for r in self.aggregated.known]


def service(*, remote: bool = True) -> v1.APIService:
    spec = v1.APIServiceSpec(group="a.com", version="v1", group_priority_minimum=10, version_priority=10)
    if remote:
        spec.service = v1.ServiceReference(name="a", namespace="default")
    return v1.APIService(metadata=ObjectMeta(name="v1.a.com"), spec=spec)


def following(test: Callable[[Discovering], Any]) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            discovering = Discovering(cluster)
            task = asyncio.create_task(discovering.aggregated.follow(discovering.changed))
            await test(discovering)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    clock.run_virtual(main())


def test_nobody_asks_while_all_is_local() -> None:
    async def test(found: Discovering) -> None:
        await found.client.create(service(remote=False))
        await asyncio.sleep(100)
        assert found.asked == 0 and await found.aggregated.discover() == Discovered([], {})

    following(test)


def test_what_comes_and_goes_is_known() -> None:
    async def test(found: Discovering) -> None:
        found.items = [group("a.com", v1=[resource("things"), resource("reviews", ["create"])])]
        await found.client.create(service())
        await asyncio.sleep(1)
        assert found.names() == ["things"] and found.changes == 1
        # What is new is found within half a minute, and what stays the same is no change.
        await asyncio.sleep(60)
        assert found.changes == 1
        found.items = [group("a.com", v1=[resource("things"), resource("more")])]
        await asyncio.sleep(31)
        assert found.names() == ["things", "more"] and found.changes == 2
        # Of a server that can't be reached the last is kept.
        found.items = [group("a.com", v1=None)]
        await asyncio.sleep(31)
        assert found.names() == ["things", "more"] and found.changes == 2
        changed = clone(await found.client.get(v1.APIService, "v1.a.com"))
        changed.spec.service = None
        await found.client.update(changed)
        await asyncio.sleep(1)
        assert found.names() == [] and found.changes == 3
        asked = found.asked
        await asyncio.sleep(100)
        assert found.asked == asked

    following(test)


def test_rows_are_found_by_kind() -> None:
    async def test(found: Discovering) -> None:
        found.items = [group("a.com", v1=[resource("things")])]
        await found.client.create(service())
        await asyncio.sleep(1)
        rows = Resources(found.definitions, found.aggregated)
        row = rows.by_kind("a.com/v1", "Things")
        assert row is not None and row.name == "things" and row in rows.all()
        assert rows.by_kind("a.com/v2", "Things") is None

    following(test)
