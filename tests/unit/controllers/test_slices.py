"""Packing endpoints into slices: nothing lost, nothing doubled, few changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podling.api import core_v1, discovery_v1
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers import slices

BLANK = discovery_v1.EndpointSlice(metadata=ObjectMeta(generate_name="web-", namespace="n", labels={"a": "b"}))
HTTP = slices.group("IPv4", [slices.Port("http", 80)])


def endpoint(number: int, ready: bool = True) -> discovery_v1.Endpoint:
    return discovery_v1.Endpoint(
        addresses=[f"10.0.{number // 250}.{number % 250}"],
        conditions=discovery_v1.EndpointConditions(ready=ready),
        target_ref=core_v1.ObjectReference(kind="Pod", name=f"p{number}", uid=str(number)),
    )


def applied(existing: list[slices.Slice], changes: slices.Changes) -> list[slices.Slice]:
    names = {s.metadata.name for s in (*changes.update, *changes.delete)}
    result = [s for s in existing if s.metadata.name not in names] + changes.update
    for number, made in enumerate(changes.create):
        made = clone(made)
        made.metadata.name = f"s{number}-{len(existing)}-{id(made)}"
        result.append(made)
    return result


def numbers(found: list[slices.Slice]) -> list[list[int]]:
    return sorted(
        sorted(int((e.target_ref or core_v1.ObjectReference()).uid or "") for e in s.endpoints or ()) for s in found
    )


def plan(existing: list[slices.Slice], wanted: list[int], most: int = 3) -> slices.Changes:
    return slices.plan({HTTP: [endpoint(n) for n in wanted]}, existing, BLANK, most)


def test_slices_are_filled_up_to_their_size() -> None:
    changes = plan([], list(range(7)))
    assert numbers(changes.create) == [[0, 1, 2], [3, 4, 5], [6]]
    made = changes.create[0]
    assert made.address_type == "IPv4" and made.metadata.labels == {"a": "b"}
    assert made.ports == [discovery_v1.EndpointPort(name="http", port=80, protocol="TCP")]


def test_one_more_endpoint_changes_one_slice() -> None:
    state = applied([], plan([], [0, 1, 2, 3]))
    changes = plan(state, [0, 1, 2, 3, 4])
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)
    assert numbers(applied(state, changes)) == [[0, 1, 2], [3, 4]]


def test_what_goes_makes_room_for_what_comes() -> None:
    state = applied([], plan([], [0, 1, 2, 3, 4, 5]))
    changes = plan(state, [0, 2, 3, 4, 5, 6])
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)
    assert numbers(applied(state, changes)) == [[0, 2, 6], [3, 4, 5]]


def test_nothing_changed_changes_nothing_and_nothing_is_moved_to_tidy_up() -> None:
    state = applied([], plan([], [0, 1, 2, 3, 4, 5]))
    state = applied(state, plan(state, [0, 3]))
    assert numbers(state) == [[0], [3]]
    changes = plan(state, [0, 3])
    assert not (changes.create or changes.update or changes.delete)


def test_a_change_of_readiness_updates_in_place() -> None:
    state = applied([], plan([], [0, 1]))
    changes = slices.plan({HTTP: [endpoint(0), endpoint(1, ready=False)]}, state, BLANK, 3)
    assert len(changes.update) == 1 and [e.conditions.ready for e in changes.update[0].endpoints or ()] == [True, False]  # type: ignore[union-attr]


def test_the_last_endpoint_leaves_an_empty_slice_of_the_same_name() -> None:
    state = applied([], plan([], [0]))
    changes = slices.plan({slices.group("IPv4", []): []}, state, BLANK, 3)
    assert not changes.create and not changes.delete
    (updated,) = changes.update
    assert updated.metadata.name == state[0].metadata.name and updated.endpoints == [] and updated.ports == []
    again = slices.plan({slices.group("IPv4", []): []}, [updated], BLANK, 3)
    assert not (again.create or again.update or again.delete)


def test_labels_are_brought_up_to_date() -> None:
    state = applied([], plan([], [0]))
    relabelled = clone(BLANK)
    relabelled.metadata.labels = {"a": "c"}
    (updated,) = slices.plan({HTTP: [endpoint(0)]}, state, relabelled, 3).update
    assert updated.metadata.labels == {"a": "c"}


def test_address_types_do_not_disturb_each_other() -> None:
    six = slices.group("IPv6", [])
    state = applied([], slices.plan({slices.group("IPv4", []): [], six: []}, [], BLANK, 3))
    assert len(state) == 2
    changes = slices.plan({HTTP: [endpoint(0)], six: []}, state, BLANK, 3)
    assert not changes.create and not changes.delete and [s.address_type for s in changes.update] == ["IPv4"]


@given(st.lists(st.sets(st.integers(0, 30), max_size=20), min_size=1, max_size=6), st.integers(1, 5))
def test_every_step_leads_exactly_to_what_is_desired(steps: list[set[int]], most: int) -> None:
    state: list[slices.Slice] = []
    for wanted in steps:
        before = numbers(state)
        changes = plan(state, sorted(wanted), most)
        state = applied(state, changes)
        assert sorted(n for s in numbers(state) for n in s) == sorted(wanted), before
        assert all(len(s.endpoints or ()) <= most for s in state)
        assert len(state) == 1 or all(s.endpoints for s in state)
        again = plan(state, sorted(wanted), most)
        assert not (again.create or again.update or again.delete)
