"""How many seats a level could have used, over time: mean, deviation and peak since they were last asked for."""

from __future__ import annotations

import math
from typing import NamedTuple


class Demand(NamedTuple):
    """Of one period of `seconds`; the mean and the standard deviation are weighted by time."""

    seconds: float
    average: float
    deviation: float
    high: float


class DemandMeter:
    """Keeps the integrals of a number and of its square. Times are seconds on any clock that never goes back."""

    __slots__ = ("_high", "_integral", "_last", "_seconds", "_squares", "value")

    def __init__(self, now: float) -> None:
        self.value = 0.0
        self._last = now
        self._high = 0.0
        self._seconds = self._integral = self._squares = 0.0

    def set(self, value: float, now: float) -> None:
        """From now on the number is `value`."""
        self._advance(now)
        self.value = value
        if value > self._high:
            self._high = value

    def reset(self, now: float) -> Demand:
        """What was until now; the next period begins."""
        self._advance(now)
        seconds, average, deviation = self._seconds, 0.0, 0.0
        if seconds > 0:
            average = self._integral / seconds
            # Rounding may leave less than nothing of a number that did not change.
            deviation = math.sqrt(max(0.0, self._squares / seconds - average * average))
        found = Demand(seconds, average, deviation, self._high)
        self._seconds = self._integral = self._squares = 0.0
        self._high = self.value
        return found

    def _advance(self, now: float) -> None:
        elapsed = now - self._last
        self._last = now
        self._seconds += elapsed
        self._integral += self.value * elapsed
        self._squares += self.value * self.value * elapsed
