"""When those who were turned away may come again: Retry-After grows while a level keeps turning requests away.

It doubles after a period (of itself) in which at least three times as many requests as it has seconds were dropped, up
to 32 s, and shrinks by one second when fewer requests than it has seconds were dropped. It is looked at when a request
is dropped in a new second.
"""

from __future__ import annotations

_MOST = 32


class Dropped:
    """Of one priority level. Seconds are whole numbers."""

    def __init__(self) -> None:
        self.retry_after = 1
        self._second = 0
        self._count = 0
        self._history: list[tuple[int, int]] = []
        self._raised = 0

    def record(self, second: int) -> None:
        """A request is dropped now."""
        if second == self._second:
            self._count += 1
            return
        self._history.append((self._second, self._count))
        keep = min(2 * self.retry_after, _MOST)
        self._history = [h for h in self._history if self._second - h[0] <= keep]
        self._second, self._count = second, 1
        self._adjust(second)

    def _adjust(self, second: int) -> None:
        period = self.retry_after
        dropped = sum(count for when, count in self._history if 0 < second - when <= period)
        if second - self._raised >= period and dropped >= 3 * period:
            self.retry_after = min(2 * period, _MOST)
            self._raised = second
        elif dropped < period and period > 1:
            self.retry_after = period - 1
