"""Shuffle sharding: each flow has a hand of queues, dealt by its hash, so that few flows share all of theirs."""

from __future__ import annotations

import hashlib


def flow_hash(schema: str, distinguisher: str) -> int:
    """64 bits that are the same for all requests of a flow."""
    digest = hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def deal(value: int, deck: int, hand: int) -> tuple[int, ...]:
    """`hand` different numbers below `deck`, chosen by the digits of `value` in a falling base."""
    remainders: list[int] = []
    for index in range(hand):
        value, remainder = divmod(value, deck - index)
        remainders.append(remainder)
    cards = []
    for index, card in enumerate(remainders):
        # A remainder counts only what is left in the deck: step over what was dealt before.
        for other in reversed(remainders[:index]):
            if card >= other:
                card += 1
        cards.append(card)
    return tuple(cards)
