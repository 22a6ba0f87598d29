"""How long a level was how full, for upstream's histograms that observe a ratio at the end of every nanosecond.

On the way of a request the time is added to the number that there was; ratios and buckets are made of it when a scraper
asks, or when what the number is compared with changes.
"""

from __future__ import annotations

from podling.metrics import Series

#: The histograms' buckets.
SEATS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
REQUESTS = (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1)
DEMAND = (0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.7, 2, 2.8, 4, 6)


class Occupancy:
    """Of one number. `whole` is what it is a part of."""

    __slots__ = ("_series", "_spent", "_whole")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._series = Series(bounds)
        self._spent: dict[int, float] = {}
        self._whole = 1

    def stayed(self, number: int, seconds: float) -> None:
        """It was this number for so long."""
        self._spent[number] = self._spent.get(number, 0.0) + seconds

    def compare(self, whole: int) -> None:
        """From now on it is a part of this."""
        if whole != self._whole:
            self._settle()
            self._whole = max(whole, 1)

    def series(self) -> Series:
        """All that was, in nanoseconds."""
        self._settle()
        return self._series

    def _settle(self) -> None:
        spent, self._spent = self._spent, {}
        for number, seconds in spent.items():
            self._series.observe(number / self._whole, round(seconds * 1e9))
