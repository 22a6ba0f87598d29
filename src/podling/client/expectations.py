"""Expectations: what a controller has done and its cache does not show yet.

A controller that has created three pods and looks into its cache at once would see none and create three more. So it
notes how many creations and which deletions it awaits, the informer's handlers tick them off, and until then it does
not act again. After five minutes it acts anyway: an event that has not come by then was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from podling import clock

#: Seconds after which unmet expectations no longer hold a controller back.
TIMEOUT = 300.0


class _Expected(msgspec.Struct):
    creations: int
    deletions: set[str]
    since: float

    @property
    def met(self) -> bool:
        return self.creations <= 0 and not self.deletions


class Expectations:
    """Per controller key: a number of creations, and deletions by the key or uid of what is deleted."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._expected: dict[str, _Expected] = {}

    def satisfied(self, key: str) -> bool:
        """Whether the controller may act: nothing is awaited, or for too long."""
        expected = self._expected.get(key)
        return expected is None or expected.met or clock.elapsed() - expected.since > self._timeout

    def expect_creations(self, key: str, count: int) -> None:
        self._expected[key] = _Expected(count, set(), clock.elapsed())

    def expect_deletions(self, key: str, ids: Iterable[str]) -> None:
        self._expected[key] = _Expected(0, set(ids), clock.elapsed())

    def expect(self, key: str, creations: int, deletions: Iterable[str]) -> None:
        """Both at once."""
        self._expected[key] = _Expected(creations, set(deletions), clock.elapsed())

    def created(self, key: str, count: int = 1) -> None:
        """A creation was seen, or did not happen."""
        expected = self._expected.get(key)
        if expected is not None:
            expected.creations -= count

    def deleted(self, key: str, id_: str) -> None:
        """A deletion was seen, or did not happen."""
        expected = self._expected.get(key)
        if expected is not None:
            expected.deletions.discard(id_)

    def awaits(self, key: str) -> tuple[int, int]:
        """Outstanding creations and deletions."""
        expected = self._expected.get(key)
        return (max(expected.creations, 0), len(expected.deletions)) if expected else (0, 0)

    def forget(self, key: str) -> None:
        """The controller object is gone."""
        self._expected.pop(key, None)


class OwnWrites:
    """Versions of the controller's objects that it has written and its cache does not show yet.

    Who acts on an object as it was before the last write does things twice and then fails with a conflict. The write's
    own event wakes the controller, so there is nothing to do until it has come.
    """

    def __init__(self) -> None:
        self._written: dict[str, int] = {}

    def note(self, key: str, obj: Any) -> None:
        """`obj` is what the server answered to a write."""
        self._written[key] = int(obj.metadata.resource_version or 0)

    def awaited(self, key: str, cached: Any) -> bool:
        """Whether `cached` is older than what was written last."""
        written = self._written.get(key)
        if written is None:
            return False
        if int(cached.metadata.resource_version or 0) < written:
            return True
        del self._written[key]
        return False

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._written.pop(key, None)
