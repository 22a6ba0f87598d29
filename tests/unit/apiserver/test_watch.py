"""watch: order, selectors, bookmarks, ends."""

import asyncio
from typing import Any

import msgspec

from apiserver.harness import Server, config_map, pod, running, virtual
from podling import clock
from podling.api import core_v1
from podling.api.request import Event
from podling.apiserver.watch import Scope

PATH = "/api/v1/namespaces/default/configmaps"


async def open_watch(server: Server, path: str = PATH, **query: str) -> Any:
    response = await server.ask("GET", path, query={"watch": "1", **query})
    assert response.events is not None
    return response.events


async def take(events: Any, count: int) -> list[tuple[str, str]]:
    found = []
    async with asyncio.timeout(5):
        for _ in range(count):
            event: Event = await anext(events)
            found.append((event.type, event.obj.metadata.name))
    return found


async def silent(events: Any) -> bool:
    """No event is waiting."""
    await asyncio.sleep(0.1)
    return not events._buffer


def changed(obj: Any, **data: str) -> Any:
    return msgspec.structs.replace(obj, data=data)


def relabelled(obj: Any, **labels: str) -> Any:
    return msgspec.structs.replace(obj, metadata=msgspec.structs.replace(obj.metadata, labels=labels))


@virtual
async def test_events_after_a_version_and_only_those(server: Server) -> None:
    a = await server.client.create(config_map("a"))
    version = str(server.store.revision)
    b = await server.client.create(config_map("b"))
    await server.client.update(changed(a, x="1"))
    await server.client.delete(core_v1.ConfigMap, "b", "default")
    events = await open_watch(server, resourceVersion=version)
    assert await take(events, 3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
    again = await open_watch(server, resourceVersion=b.metadata.resource_version or "")
    assert await take(again, 2) == [("MODIFIED", "a"), ("DELETED", "b")]


@virtual
async def test_without_a_version_begins_with_what_there_is(server: Server) -> None:
    await server.client.create(config_map("a"))
    events = await open_watch(server)
    assert await take(events, 1) == [("ADDED", "a")]
    await server.client.create(config_map("b"))
    assert await take(events, 1) == [("ADDED", "b")]


@virtual
async def test_a_deletion_shows_the_last_state_at_its_own_version(server: Server) -> None:
    a = await server.client.create(config_map("a"))
    events = await open_watch(server, resourceVersion=a.metadata.resource_version or "")
    await server.client.delete(core_v1.ConfigMap, "a", "default")
    event = await anext(events)
    assert event.type == "DELETED" and event.obj.data == {"k": "v"}
    assert event.obj.metadata.resource_version == str(server.store.revision)
    assert a.metadata.resource_version != event.obj.metadata.resource_version


@virtual
async def test_entering_and_leaving_a_selector(server: Server) -> None:
    events = await open_watch(server, labelSelector="x=1")
    a = await server.client.create(config_map("a", labels={"x": "1"}))
    a = await server.client.update(relabelled(a, x="2"))
    a = await server.client.update(changed(a, y="1"))
    a = await server.client.update(relabelled(a, x="1"))
    found = [await anext(events) for _ in range(3)]
    assert [e.type for e in found] == ["ADDED", "DELETED", "ADDED"]
    # The object as it was when it matched, at the version at which it no longer did.
    assert found[1].obj.metadata.labels == {"x": "1"}
    assert int(found[1].obj.metadata.resource_version) > int(found[0].obj.metadata.resource_version)
    assert await silent(events)


@virtual
async def test_a_kubelet_is_told_of_its_own_pods(server: Server) -> None:
    path = "/api/v1/pods"
    one = await open_watch(server, path, fieldSelector="spec.nodeName=n1")
    two = await open_watch(server, path, fieldSelector="spec.nodeName=n2")
    nodeless = await open_watch(server, path, fieldSelector="spec.nodeName=")
    await server.client.create(pod("p"))
    binding = core_v1.Binding(target=core_v1.ObjectReference(kind="Node", name="n1"))
    await server.client.post(core_v1.Pod, "p", "default", "binding", binding)
    assert await take(nodeless, 2) == [("ADDED", "p"), ("DELETED", "p")]
    assert await take(one, 1) == [("ADDED", "p")]
    assert await silent(two)
    late = await open_watch(server, path, fieldSelector="spec.nodeName=n1", resourceVersion="1")
    assert await take(late, 1) == [("ADDED", "p")]


@virtual
async def test_watch_of_one_name(server: Server) -> None:
    events = await open_watch(server, fieldSelector="metadata.name=b")
    assert events.scope == Scope(key="default/b")
    for name in ("a", "b", "c"):
        await server.client.create(config_map(name))
    assert await take(events, 1) == [("ADDED", "b")]
    assert await silent(events)


@virtual
async def test_initial_events_and_their_end(server: Server) -> None:
    await server.client.create(config_map("a"))
    events = await open_watch(
        server, sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true"
    )
    first, end = await anext(events), await anext(events)
    assert (first.type, end.type) == ("ADDED", "BOOKMARK")
    assert end.obj.metadata.annotations == {"k8s.io/initial-events-end": "true"}
    assert end.obj.metadata.resource_version == str(server.store.revision)
    assert end.obj.kind == "ConfigMap"


@virtual
async def test_bookmarks_every_minute_and_at_the_end(server: Server) -> None:
    version = str(server.store.revision)
    events = await open_watch(server, resourceVersion=version, allowWatchBookmarks="true", timeoutSeconds="90")
    begun = clock.elapsed()
    found = [(event.type, round(clock.elapsed() - begun)) async for event in events]
    assert found == [("BOOKMARK", 60), ("BOOKMARK", 90)]


@virtual
async def test_a_watch_without_bookmarks_ends_silently(server: Server) -> None:
    events = await open_watch(server, resourceVersion=str(server.store.revision), timeoutSeconds="5")
    assert [e async for e in events] == []
    assert not server.app.served["", "v1", "configmaps"].cache.watches()


@virtual
async def test_several_watchers_see_the_same_order(server: Server) -> None:
    events = [await open_watch(server, resourceVersion=str(server.store.revision)) for _ in range(3)]
    await asyncio.gather(*(server.client.create(config_map(f"c{i}")) for i in range(20)))
    seen = [await take(e, 20) for e in events]
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 20


def test_a_version_older_than_what_is_remembered_is_gone() -> None:
    async def main() -> None:
        async with running(ring=4) as server:
            first = str(server.store.revision)
            for i in range(20):
                await server.client.create(config_map(f"c{i}"))
            (event,) = [e async for e in await open_watch(server, resourceVersion=first)]
            assert (event.type, event.obj.code, event.obj.reason) == ("ERROR", 410, "Expired")
            assert event.obj.message.startswith(f"too old resource version: {first} (")
            events = await open_watch(server, resourceVersion=str(server.store.revision - 2))
            assert await take(events, 2) == [("ADDED", "c18"), ("ADDED", "c19")]

    clock.run_virtual(main())


@virtual
async def test_closing_the_server_ends_the_watches(server: Server) -> None:
    events = await open_watch(server, resourceVersion=str(server.store.revision))
    waiting = asyncio.ensure_future(anext(events, None))
    await asyncio.sleep(0.1)
    await server.app.close()
    assert await waiting is None


@virtual
async def test_a_closed_reader_is_forgotten(server: Server) -> None:
    events = await open_watch(server)
    await events.aclose()
    assert not server.app.served["", "v1", "configmaps"].cache.watches()
    await server.client.create(config_map("a"))
    assert [e async for e in events] == []


@virtual
async def test_objects_written_here_are_not_decoded_again(server: Server) -> None:
    made = await server.client.create(config_map("a"))
    await server.app.hub.current()
    entry = server.app.served["", "v1", "configmaps"].cache.get("default/a")
    assert entry is not None and entry._object is made
