"""Answers that are good for a while: the least recently used of too many go first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from podling import clock

K = TypeVar("K")
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """Holds `limit` values at most, each until its time is over."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        found = self._held.get(key)
        if found is None:
            return None
        if found[0] <= clock.elapsed():
            del self._held[key]
            return None
        self._held.move_to_end(key)
        return found[1]

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep a value for so long; not at all for no time."""
        if seconds <= 0:
            return
        self._held[key] = clock.elapsed() + seconds, value
        self._held.move_to_end(key)
        if len(self._held) > self._limit:
            self._held.popitem(last=False)

    def clear(self) -> None:
        self._held.clear()
