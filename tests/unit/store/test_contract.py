"""What every store promises (podling.store.base.Store)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podling.store.base import Compacted, Conflict, Delete, Event, Op, Put, Store, StoreError
from podling.store.memory import MemoryStore


async def take(store: Store, prefix: str, revision: int, commits: int) -> list[list[Event]]:
    """The first `commits` commits that a watch gives."""
    got: list[list[Event]] = []
    async for events in store.watch(prefix, revision):
        got.append(list(events))
        if len(got) == commits:
            break
    return got


async def test_an_empty_store_is_at_revision_zero(store: Store) -> None:
    assert store.revision == 0
    assert await store.get("/a") is None
    assert (await store.list("/")).items == []


async def test_a_put_is_read_back_with_its_revisions(store: Store) -> None:
    assert await store.commit([Put("/a", b"1")]) == 1
    assert await store.commit([Put("/a", b"2")]) == 2
    found = await store.get("/a")
    assert found is not None
    assert (found.value, found.create_revision, found.mod_revision) == (b"2", 1, 2)


async def test_a_key_made_again_has_a_new_create_revision(store: Store) -> None:
    await store.commit([Put("/a", b"1")])
    await store.commit([Delete("/a")])
    await store.commit([Put("/a", b"2")])
    found = await store.get("/a")
    assert found is not None and found.create_revision == 3


@pytest.mark.parametrize(
    ("op", "current"),
    [
        (Put("/a", b"x", expected=0), 1),
        (Put("/a", b"x", expected=7), 1),
        (Put("/b", b"x", expected=1), None),
        (Delete("/a", expected=7), 1),
        (Delete("/b", expected=0), None),
        (Delete("/b", expected=1), None),
    ],
)
async def test_an_unmet_expectation_is_a_conflict_that_tells_the_current_value(
    store: Store, op: Op, current: int | None
) -> None:
    await store.commit([Put("/a", b"1")])
    with pytest.raises(Conflict) as caught:
        await store.commit([op])
    assert (caught.value.current.mod_revision if caught.value.current else None) == current
    assert store.revision == 1


async def test_a_conflict_leaves_nothing_of_the_commit(store: Store) -> None:
    await store.commit([Put("/a", b"1")])
    with pytest.raises(Conflict):
        await store.commit([Put("/b", b"2"), Put("/a", b"2", expected=9), Put("/c", b"3")])
    assert [kv.key for kv in (await store.list("/")).items] == ["/a"]
    assert await store.commit([Put("/d", b"4")]) == 2


async def test_a_commit_without_effect_takes_no_revision(store: Store) -> None:
    await store.commit([Put("/a", b"1")])
    assert await store.commit([Delete("/missing")]) == 1


async def test_of_many_writers_of_one_key_one_wins_each_round(store: Store) -> None:
    await store.commit([Put("/a", b"0")])
    results = await asyncio.gather(
        *(store.commit([Put("/a", b"x", expected=1)]) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(r, int) for r in results) == 1
    assert sum(isinstance(r, Conflict) for r in results) == 19


@pytest.mark.parametrize("winner", [Put("/a", b"2", expected=1), Delete("/a", expected=1)])
async def test_who_loses_a_race_sees_what_it_was_lost_to(store: Store, winner: Op) -> None:
    await store.commit([Put("/a", b"1")])
    won = asyncio.create_task(store.commit([winner]))
    await asyncio.sleep(0)
    with pytest.raises(Conflict) as caught:
        await store.commit([Delete("/a", expected=1)])
    assert store.revision == 2
    assert caught.value.current == await store.get("/a")
    assert (caught.value.current is None) is isinstance(winner, Delete)
    assert await won == 2


async def test_lists_are_in_order_paged_and_consistent(store: Store) -> None:
    for name in ("b", "a", "d", "c"):
        await store.commit([Put(f"/x/{name}", name.encode())])
    await store.commit([Put("/y/a", b"other")])
    first = await store.list("/x/", limit=2)
    assert [kv.key for kv in first.items] == ["/x/a", "/x/b"]
    assert first.remaining == 2
    await store.commit([Delete("/x/c")])
    await store.commit([Put("/x/d", b"changed"), Put("/x/e", b"new")])
    second = await store.list("/x/", start="/x/b\0", limit=2, revision=first.revision)
    assert [(kv.key, kv.value) for kv in second.items] == [("/x/c", b"c"), ("/x/d", b"d")]
    assert (second.remaining, second.revision) == (0, first.revision)


async def test_an_old_revision_shows_the_old_value(store: Store) -> None:
    await store.commit([Put("/a", b"1")])
    await store.commit([Put("/a", b"2")])
    await store.commit([Delete("/a")])
    values = [await store.get("/a", revision=r) for r in (1, 2, 3)]
    assert [v.value if v else None for v in values] == [b"1", b"2", None]


async def test_the_future_can_not_be_read(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.list("/", revision=5)


async def test_a_watch_replays_then_follows(store: Store) -> None:
    await store.commit([Put("/a", b"1")])
    await store.commit([Put("/a", b"2"), Put("/b", b"3")])
    watching = asyncio.create_task(take(store, "/", 1, 3))
    await asyncio.sleep(0.01)
    await store.commit([Delete("/a")])
    await store.commit([Put("/a", b"4")])
    assert await watching == [
        [Event(2, "/a", b"2"), Event(2, "/b", b"3")],
        [Event(3, "/a", None)],
        [Event(4, "/a", b"4")],
    ]


async def test_a_watch_sees_its_prefix_only(store: Store) -> None:
    watching = asyncio.create_task(take(store, "/x/", 0, 1))
    await asyncio.sleep(0)
    await store.commit([Put("/y/a", b"1")])
    await store.commit([Put("/x/a", b"2")])
    assert (await watching)[0][0].key == "/x/a"


async def test_compaction_ends_what_is_older_and_keeps_the_present(store: Store) -> None:
    for value in (b"1", b"2", b"3"):
        await store.commit([Put("/a", value)])
    await store.commit([Put("/gone", b"x")])
    await store.commit([Delete("/gone")])
    await store.compact(5)
    assert store.compacted == 5
    found = await store.get("/a")
    assert found is not None and (found.value, found.create_revision) == (b"3", 1)
    with pytest.raises(Compacted):
        await store.list("/", revision=4)
    with pytest.raises(Compacted):
        await take(store, "/", 4, 1)
    assert (await store.list("/", revision=5)).revision == 5
    assert await store.commit([Put("/b", b"1")]) == 6
    assert (await take(store, "/", 5, 1)) == [[Event(6, "/b", b"1")]]


async def test_a_watch_that_began_before_a_compaction_goes_on(store: Store) -> None:
    watching = asyncio.create_task(take(store, "/", 0, 3))
    await asyncio.sleep(0)
    for value in (b"1", b"2"):
        await store.commit([Put("/a", value)])
    await store.compact(2)
    await store.commit([Put("/a", b"3")])
    assert [e[0].value for e in await watching] == [b"1", b"2", b"3"]


async def test_closing_ends_the_watches(store: Store) -> None:
    async def drain() -> int:
        return sum([len(events) async for events in store.watch("/", 0)])

    watching = asyncio.create_task(drain())
    await asyncio.sleep(0)
    await store.commit([Put("/a", b"1")])
    await store.close()
    assert await asyncio.wait_for(watching, 5) == 1


operations = st.lists(
    st.lists(
        st.one_of(
            st.builds(Put, st.sampled_from(["/a", "/b", "/c/d", "/c/e"]), st.binary(max_size=4)),
            st.builds(Delete, st.sampled_from(["/a", "/b", "/c/d", "/c/e"])),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda op: op.key,
    ),
    max_size=25,
)


@given(operations)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_state_is_the_replay_of_its_events(commits: Sequence[Sequence[Op]]) -> None:
    """A reader that applies all events from revision 0 has, at each revision, what list gives at that revision."""

    async def run() -> None:
        store = MemoryStore()
        await store.open()
        for ops in commits:
            await store.commit(ops)
        state: dict[str, bytes] = {}
        replayed = {0: dict(state)}
        if store.revision:
            async for events in store.watch("/", 0):
                for event in events:
                    if event.value is None:
                        del state[event.key]
                    else:
                        state[event.key] = event.value
                replayed[events[0].revision] = dict(state)
                if events[0].revision == store.revision:
                    break
        for revision, expected in replayed.items():
            page = await store.list("/", revision=revision)
            assert {kv.key: kv.value for kv in page.items} == expected

    asyncio.run(run())
