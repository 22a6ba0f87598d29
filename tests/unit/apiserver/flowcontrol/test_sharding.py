"""Hands of queues."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podling.apiserver.flowcontrol.sharding import deal, flow_hash


@given(st.integers(0, 2**64 - 1), st.integers(1, 128), st.data())
def test_a_hand_has_different_queues(value: int, deck: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(deck, 8)))
    hand = deal(value, deck, size)
    assert len(set(hand)) == size and all(0 <= card < deck for card in hand)


def test_every_hand_is_dealt_by_some_hash() -> None:
    # 5 * 4 * 3 ordered hands, one for each value of the mixed base.
    assert len({deal(value, 5, 3) for value in range(60)}) == 60
    assert deal(60, 5, 3) == deal(0, 5, 3)


def test_a_hand_is_dealt_without_replacement() -> None:
    # Digits 0, 0, 0 mean: the first card that is left, three times.
    assert deal(0, 64, 3) == (0, 1, 2)
    assert deal(63, 64, 2) == (63, 0)


def test_flows_are_told_apart_by_schema_and_distinguisher() -> None:
    assert flow_hash("a", "bc") == flow_hash("a", "bc")
    assert len({flow_hash("a", "bc"), flow_hash("ab", "c"), flow_hash("a", "b"), flow_hash("a", "")}) == 4
    # The first eight bytes of the SHA-256 of "catch-all\0ann", least significant first.
    assert flow_hash("catch-all", "ann") == 0xA7E0AFDA299C7670
