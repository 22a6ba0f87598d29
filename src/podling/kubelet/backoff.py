"""Exponential back-off per key, as client-go's flowcontrol.Backoff has it: doubles with every failure, starts over
after twice the longest delay without one."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from podling import clock


class _Entry(msgspec.Struct):
    delay: float
    updated: datetime


class Backoff:
    """Delays in seconds, from `first` doubling to `most`."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._entries: dict[str, _Entry] = {}

    def get(self, key: str) -> float:
        """The delay that applies now; 0 if there was no failure."""
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def next(self, key: str, when: datetime) -> None:
        """A failure at `when`."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, when):
            self._entries[key] = _Entry(self._first, clock.now())
        else:
            entry.delay = min(entry.delay * 2, self._most)
            entry.updated = clock.now()

    def remaining(self, key: str, since: datetime | None = None) -> float:
        """Seconds to wait still, counted from `since` (None: from the last failure); 0 if it may be tried now."""
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        since = since or entry.updated
        if self._expired(entry, since):
            return 0.0
        remaining = entry.delay - (clock.now() - since).total_seconds()
        # Timers fire a hair early: what is left then is no reason to wait again.
        return remaining if remaining > 0.005 else 0.0

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)

    def collect(self) -> None:
        """Forget what has been quiet for long."""
        now = clock.now()
        for key in [k for k, entry in self._entries.items() if self._expired(entry, now)]:
            del self._entries[key]

    def _expired(self, entry: _Entry, when: datetime) -> bool:
        return when - entry.updated > timedelta(seconds=2 * self._most)


def duration(seconds: float) -> str:
    """As Go prints a time.Duration: `10s`, `1m20s`, `5m0s`, `1.5s`, `250ms`."""
    if seconds == 0:
        return "0s"
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 1:
        for factor, unit in ((1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
            if seconds * factor >= 1:
                return f"{_trim(round(seconds * factor, 9 - (len(str(int(factor))) - 1)))}{unit}"
        return "0s"
    whole, fraction = divmod(round(seconds * 1e9), 1_000_000_000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{second}" + (f".{fraction:09d}".rstrip("0") if fraction else "") + "s"
    if hours:
        return f"{hours}h{minute}m{text}"
    return f"{minute}m{text}" if minute else text


def _trim(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")
