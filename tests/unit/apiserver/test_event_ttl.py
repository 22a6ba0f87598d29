"""Events go an hour after their last write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1, events_v1, meta_v1, struct, times
from podling.apiserver import event_ttl
from podling.apiserver.assembly import Assembly, Settings
from podling.apiserver.event_ttl import last_write
from podling.apiserver.options import Options
from podling.client.client import ApiClient
from podling.store.base import Put, Unavailable
from podling.store.memory import MemoryStore


@asynccontextmanager
async def serving(store: MemoryStore, **settings: Any) -> AsyncIterator[ApiClient]:
    await store.open()
    server = Assembly(store, Settings(options=Options(**settings)))
    await server.start()
    client = ApiClient(server.app)
    try:
        if not (await client.list(core_v1.Namespace)).items:
            await client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
        yield client
    finally:
        await server.close()
        await store.close()


def event(name: str, **more: Any) -> core_v1.Event:
    involved = core_v1.ObjectReference(kind="Pod", namespace="default", name="web")
    meta = meta_v1.ObjectMeta(name=name, namespace="default")
    return core_v1.Event(metadata=meta, involved_object=involved, reason="Started", type="Normal", **more)


async def names(client: ApiClient) -> list[str]:
    return [e.metadata.name or "" for e in (await client.list(core_v1.Event, "default")).items]


def test_an_event_goes_an_hour_after_its_last_update() -> None:
    async def main() -> None:
        async with serving(MemoryStore()) as client:
            await client.create(event("a"))
            await asyncio.sleep(600)
            b = await client.create(event("b"))
            await asyncio.sleep(1800)
            changed = struct.clone(b)
            changed.count = 2
            await client.update(changed)
            await asyncio.sleep(1190)
            assert await names(client) == ["a", "b"]
            await asyncio.sleep(15)
            assert await names(client) == ["b"]
            await asyncio.sleep(2380)
            assert await names(client) == ["b"]
            await asyncio.sleep(40)
            assert await names(client) == []

    clock.run_virtual(main())


def test_watchers_see_events_go_in_both_groups() -> None:
    async def main() -> None:
        async with serving(MemoryStore()) as client:
            await client.create(event("a"))
            await asyncio.sleep(3500)
            seen = []
            async for change in client.watch(events_v1.Event, "default", send_initial_events=True):
                if change.type != "BOOKMARK":
                    seen.append(change.type)
                if change.type == "DELETED":
                    break
            assert seen == ["ADDED", "DELETED"]
            assert clock.now() - clock.EPOCH < event_ttl.TTL * 1.001

    clock.run_virtual(main())


def test_without_events_nothing_waits_and_with_many_one_timer_does() -> None:
    async def main() -> None:
        async with serving(MemoryStore()) as client:
            loop: Any = asyncio.get_running_loop()

            def timers() -> int:
                return sum("_fire" in repr(t) and not t.cancelled() for t in loop._scheduled)

            assert timers() == 0
            for number in range(50):
                await client.create(event(f"e{number}"))
            assert timers() == 1
            await asyncio.sleep(3605)
            assert await names(client) == []
            assert timers() == 0

    clock.run_virtual(main())


def test_more_than_a_batch_go_together_in_few_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_ttl, "BATCH", 7)

    async def main() -> None:
        store = MemoryStore()
        async with serving(store) as client:
            for number in range(20):
                await client.create(event(f"e{number}"))
            await asyncio.sleep(1)  # What a server makes for itself is there.
            before = store.revision
            await asyncio.sleep(3605)
            assert await names(client) == []
            assert store.revision - before == 3

    clock.run_virtual(main())


def test_after_a_restart_the_hour_counts_from_what_the_event_tells() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with serving(store) as client:
            await client.create(event("old"))
            later = times.format(clock.now() + event_ttl.TTL / 2)
            await client.create(event("observed", last_timestamp=later))
        await asyncio.sleep(3000)
        async with serving(store) as client:
            await asyncio.sleep(590)
            assert await names(client) == ["observed", "old"]
            await asyncio.sleep(20)
            assert await names(client) == ["observed"]
            await asyncio.sleep(1800)
            assert await names(client) == []

    clock.run_virtual(main())


def test_one_that_was_written_at_the_last_moment_stays_and_the_others_go() -> None:
    class Racing(MemoryStore):
        """Somebody else writes `b` just before the removal comes."""

        armed = False

        async def commit(self, ops: Any) -> int:
            if self.armed and len(ops) == 2:
                self.armed = False
                key = ops[1].key
                found = await self.get(key)
                assert found is not None
                await super().commit([Put(key, found.value)])
            return await super().commit(ops)

    async def main() -> None:
        store = Racing()
        async with serving(store) as client:
            await client.create(event("a"))
            await client.create(event("b"))
            store.armed = True
            await asyncio.sleep(3605)
            assert await names(client) == ["b"]
            await asyncio.sleep(3605)
            assert await names(client) == []

    clock.run_virtual(main())


def test_a_store_that_does_not_answer_is_asked_again() -> None:
    class Failing(MemoryStore):
        broken = False

        async def commit(self, ops: Any) -> int:
            if self.broken:
                raise Unavailable("disk full")
            return await super().commit(ops)

    async def main() -> None:
        store = Failing()
        async with serving(store) as client:
            await client.create(event("a"))
            store.broken = True
            await asyncio.sleep(3700)
            assert await names(client) == ["a"]
            store.broken = False
            await asyncio.sleep(10)
            assert await names(client) == []

    clock.run_virtual(main())


def test_zero_keeps_events_for_ever() -> None:
    async def main() -> None:
        async with serving(MemoryStore(), event_ttl=0) as client:
            await client.create(event("a"))
            await asyncio.sleep(36000)
            assert await names(client) == ["a"]

    clock.run_virtual(main())


@pytest.mark.parametrize(
    ("wire", "seconds"),
    [
        (b'{"metadata":{}}', 0),
        (b'{"metadata":{"creationTimestamp":"2025-12-31T23:59:00Z"}}', -60),
        (b'{"metadata":{"creationTimestamp":"2025-12-31T23:59:00Z"},"lastTimestamp":"2025-12-31T23:59:30Z"}', -30),
        (b'{"metadata":{"creationTimestamp":null},"eventTime":"2025-12-31T23:59:59.000000Z"}', -1),
        (b'{"metadata":{},"series":{"count":2,"lastObservedTime":"2025-12-31T23:59:58.000000Z"}}', -2),
        (b'{"metadata":{},"lastTimestamp":"2027-01-01T00:00:00Z"}', 0),
        (b'{"metadata":{},"lastTimestamp":"soon"}', 0),
    ],
)
def test_the_last_write_of_a_stored_event(wire: bytes, seconds: int) -> None:
    assert (last_write(wire, clock.EPOCH) - clock.EPOCH).total_seconds() == seconds
