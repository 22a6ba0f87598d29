"""How many seats a request is worth."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.harness import Server, config_map, virtual
from podling.apiserver.flowcontrol import work
from podling.apiserver.flowcontrol.work import Work, estimate
from podling.apiserver.request_info import resolve
from podling.apiserver.watch import Scope, Watch

PATH = "/api/v1/namespaces/default/configmaps"


def of(server: Server, method: str, path: str, *, most: int = 10, **query: str) -> Work:
    cache = server.app.served["", "v1", "configmaps"].cache
    return estimate(resolve(method, path, query), query, cache, most)


@virtual
async def test_lists_weigh_what_they_load(server: Server) -> None:
    assert of(server, "GET", PATH) == Work(1)
    for index in range(50):
        await server.client.create(config_map(f"a{index:02}", data={"k": "x" * 9_900}))
    await server.app.hub.current()
    cache = server.app.served["", "v1", "configmaps"].cache
    assert cache.size == sum(len(e.wire) for e in cache.all())
    assert of(server, "GET", PATH) == Work(6)
    assert of(server, "GET", PATH, most=4) == Work(4)
    assert of(server, "GET", PATH, limit="10") == Work(2)
    assert of(server, "GET", PATH, limit="nonsense") == Work(6)
    assert of(server, "GET", PATH, limit="9" * 5000) == Work(6)
    assert of(server, "GET", PATH, fieldSelector="metadata.name=a01") == Work(1)
    # What is not answered from the cache alone has to look at more than it gives.
    assert of(server, "GET", PATH, limit="10", **{"continue": "t", "labelSelector": "a=b"}) == Work(3)
    await server.client.delete(type(config_map("x")), "a00", "default")
    await server.app.hub.current()
    assert cache.size == sum(len(e.wire) for e in cache.all())


@virtual
async def test_lists_never_weigh_more_than_what_is_in_memory(server: Server) -> None:
    for index in range(12):
        await server.client.create(config_map(f"a{index}", data={"k": "x" * 200_000}))
    await server.app.hub.current()
    assert of(server, "GET", PATH, most=100) == Work(10)
    assert of(server, "GET", PATH, most=100, resourceVersionMatch="Exact", resourceVersion="9") == Work(25)


@virtual
async def test_watches_weigh_as_much_as_what_they_begin_with(server: Server) -> None:
    for index in range(20):
        await server.client.create(config_map(f"a{index}", data={"k": "x" * 9_900}))
    await server.app.hub.current()
    assert of(server, "GET", PATH, watch="true") == Work(3)
    assert of(server, "GET", PATH, watch="true", resourceVersion="0") == Work(3)
    assert of(server, "GET", PATH, watch="true", resourceVersion="7") == Work(1)
    assert of(server, "GET", PATH, watch="true", resourceVersion="7", sendInitialEvents="true") == Work(3)


@virtual
async def test_writes_weigh_by_their_watchers(server: Server) -> None:
    cache = server.app.served["", "v1", "configmaps"].cache

    def watch(count: int, scope: Scope) -> None:
        for _ in range(count):
            cache.register(Watch(cache, scope))

    def put(most: int = 10) -> Work:
        return of(server, "PUT", f"{PATH}/a", most=most)

    watch(4, Scope())
    watch(3, Scope(namespace="default"))
    watch(9, Scope(namespace="other"))
    watch(2, Scope(key="default/a"))
    assert put() == Work(1)
    watch(1, Scope(key="default/a"))
    # Ten watchers take one seat for 5 ms.
    assert put() == Work(1, 1, 0.005)
    assert of(server, "POST", PATH) == Work(1)
    watch(85, Scope())
    assert put() == Work(1, 10, pytest.approx(0.005))
    # The same work on fewer seats.
    assert put(4) == Work(1, 4, pytest.approx(0.0125))
    assert of(server, "PUT", f"{PATH}/a/status").final == 10


@pytest.mark.parametrize(
    ("nominal", "hand", "most"), [(245, 6, 10), (49, 6, 8), (25, 4, 4), (13, 6, 2), (1, 6, 1), (600, 1, 10)]
)
def test_no_request_takes_more_than_a_part_of_a_level(nominal: int, hand: int, most: Any) -> None:
    assert work.max_seats(nominal, hand) == most
