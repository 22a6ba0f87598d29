"""Watches: going on where one ended, selectors that objects leave and meet again, one order for all."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.conformance.web import Web, over_http
from tests.conformance.whole import Api, Watching, in_namespace, virtual

MAPS = in_namespace("v1", "configmaps")
LABEL = "watch-this-configmap"


def config_map(name: str, label: str = "", **data: str) -> dict[str, Any]:
    meta = {"name": name, "labels": {LABEL: label} if label else {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


async def mutate(api: Api, name: str, number: int) -> Any:
    return await api.change(f"{MAPS}/{name}", lambda c: c.setdefault("data", {}).update(mutation=str(number)))


def selecting(*labels: str) -> dict[str, str]:
    return {"labelSelector": f"{LABEL} in ({','.join(labels)})"}


@virtual
async def test_watchers_get_what_their_selectors_match(api: Api) -> None:
    async with (
        api.watch(MAPS, **selecting("a")) as a,
        api.watch(MAPS, **selecting("b")) as b,
        api.watch(MAPS, **selecting("a", "b")) as both,
    ):
        one = await api.post(MAPS, config_map("a", "a"))
        for watching in (a, both):
            assert await watching.next() == ("ADDED", one)
        for number in (1, 2):
            one = await mutate(api, "a", number)
            for watching in (a, both):
                assert await watching.next() == ("MODIFIED", one)
        await api.delete(f"{MAPS}/a")
        for watching in (a, both):
            assert (await watching.next())[0] == "DELETED"
        other = await api.post(MAPS, config_map("b", "b"))
        for watching in (b, both):
            assert await watching.next() == ("ADDED", other)
        await a.silent()
        await api.delete(f"{MAPS}/b")
        for watching in (b, both):
            assert (await watching.next())[0] == "DELETED"


@virtual
async def test_a_watch_from_a_revision_tells_what_came_after(api: Api) -> None:
    await api.post(MAPS, config_map("a", "a"))
    first = await mutate(api, "a", 1)
    second = await mutate(api, "a", 2)
    await api.delete(f"{MAPS}/a")
    since = first["metadata"]["resourceVersion"]
    async with api.watch(MAPS, resourceVersion=since, **selecting("a")) as events:
        assert await events.next() == ("MODIFIED", second)
        assert (await events.next())[0] == "DELETED"
        await events.silent()


@virtual
async def test_a_watch_goes_on_where_another_ended(api: Api) -> None:
    async with api.watch(MAPS, **selecting("a")) as events:
        made = await api.post(MAPS, config_map("a", "a"))
        await mutate(api, "a", 1)
        assert await events.next() == ("ADDED", made)
        _, last = await events.next()
    second = await mutate(api, "a", 2)
    async with api.watch(MAPS, resourceVersion=last["metadata"]["resourceVersion"], **selecting("a")) as events:
        await api.delete(f"{MAPS}/a")
        assert await events.next() == ("MODIFIED", second)
        assert (await events.next())[0] == "DELETED"


@virtual
async def test_an_object_leaves_a_selector_and_meets_it_again(api: Api) -> None:
    async def relabel(to: str) -> Any:
        return await api.change(f"{MAPS}/a", lambda c: c["metadata"]["labels"].update({LABEL: to}))

    async with api.watch(MAPS, **selecting("a")) as events:
        made = await api.post(MAPS, config_map("a", "a"))
        changed = await mutate(api, "a", 1)
        await relabel("wrong")
        assert await events.next() == ("ADDED", made)
        assert await events.next() == ("MODIFIED", changed)
        type_, gone = await events.next()
        # The object as it was when it still matched, at the revision that made it leave.
        assert (type_, gone["data"], gone["metadata"]["labels"]) == ("DELETED", {"mutation": "1"}, {LABEL: "a"})
        assert int(gone["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])
        await mutate(api, "a", 2)
        await events.silent()
        again = await relabel("a")
        third = await mutate(api, "a", 3)
        await api.delete(f"{MAPS}/a")
        assert await events.next() == ("ADDED", again)
        assert await events.next() == ("MODIFIED", third)
        assert (await events.next())[0] == "DELETED"


@virtual
async def test_all_watches_see_one_order(api: Api) -> None:
    """A new watch at the revision of each event, during writes: all of them go on alike."""
    dice = random.Random(1)

    async def write() -> None:
        there: list[int] = []
        for n in range(10_000):
            await asyncio.sleep(0.005)
            what = dice.choice(["create", "update", "delete"]) if there else "create"
            if what == "create":
                await api.post(MAPS, config_map(f"cm-{n}"))
                there.append(n)
            elif what == "update":
                name = f"cm-{dice.choice(there)}"
                await api.put(f"{MAPS}/{name}", config_map(name, written=str(n)))
            else:
                await api.delete(f"{MAPS}/cm-{there.pop(dice.randrange(len(there)))}")

    revision = (await api.get(MAPS))["metadata"]["resourceVersion"]
    writer = asyncio.create_task(write())
    watches: list[Watching] = []
    closing = []
    try:
        for _ in range(100):
            context = api.watch(MAPS, resourceVersion=revision)
            watches.append(await context.__aenter__())
            closing.append(context)
            _, event = await watches[0].next()
            revision = event["metadata"]["resourceVersion"]
            for watching in watches[1:]:
                _, seen = await watching.next()
                assert seen["metadata"]["resourceVersion"] == revision
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        for context in closing:
            await context.__aexit__(None, None, None)


@over_http
async def test_a_watch_times_out_and_sends_bookmarks(web: Web) -> None:
    """As client-go's RetryWatcher and reflectors use it: the server ends it after timeoutSeconds, on a line's end."""
    await web.ask("POST", MAPS, config_map("a", "a"))
    since = (await web.ask("GET", MAPS))["metadata"]["resourceVersion"]
    query = {"resourceVersion": since, "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
    async with web.watch(MAPS, **query) as following:
        await web.ask("POST", MAPS, config_map("b", "b"))
        assert (await following())["type"] == "ADDED"
        bookmark = await following()
        assert bookmark["type"] == "BOOKMARK" and bookmark["object"]["kind"] == "ConfigMap"
        assert int(bookmark["object"]["metadata"]["resourceVersion"]) > int(since)
