"""Time is a dependency.

Wall time comes from `now()`, waiting from the event loop (`asyncio.sleep`, `loop.call_later`). Nothing else in podling
asks what time it is. So a whole cluster runs as well on `VirtualLoop`, where time stands still while anything can
still run and jumps to the next timer when nothing can: five minutes of CrashLoopBackOff take a millisecond, and the
same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

#: Where virtual time starts unless a test says otherwise.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def _real_now() -> datetime:
    return datetime.now(UTC)


_now: Callable[[], datetime] = _real_now


def now() -> datetime:
    """The wall time, timezone-aware, UTC."""
    return _now()


def elapsed() -> float:
    """Seconds on the running event loop's monotonic clock; only differences mean anything."""
    return asyncio.get_running_loop().time()


class Alarm:
    """Calls `ring` at the earliest of the times that it was set to; then it may be set again.

    It keeps itself what it is set to: a fast event loop rounds to milliseconds, so that a timer may go off before its
    own time, and gives one of no delay no time at all. Whoever asks such a timer whether it is still to come is misled.
    """

    __slots__ = ("_due", "_handle", "_ring")

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, delay: float) -> None:
        """Ring in `delay` seconds, or sooner if that is set already."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if self._handle is not None:
            if self._due <= due:
                return
            self._handle.cancel()
        self._due = due
        self._handle = loop.call_later(delay, self._go_off)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _go_off(self) -> None:
        self._handle = None
        self._ring()


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for `timeout` seconds, moves the loop's clock forward by them.

    File descriptors that are ready are still served (the loop's own self-pipe is one), so code that uses real pipes
    works; but nothing outside the process is ever waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("virtual time stands still: nothing is runnable and no timer is set (a deadlock)")
        self.elapsed += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time costs nothing."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._jumping = _JumpingSelector()
        self._start = start
        super().__init__(self._jumping)
        # asyncio runs timers that are due within this; its own nanosecond vanishes in a float after half a year.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        # Rounded: sums of small floats must not leave a timer a femtosecond in the future for ever.
        return round(self._jumping.elapsed, 9)

    def now(self) -> datetime:
        """Wall time on this loop: its start plus what has elapsed."""
        return self._start + timedelta(seconds=self.time())

    def jump(self, by: timedelta) -> None:
        """Set the wall clock forward or back, as an administrator does; what waits goes on waiting."""
        self._start += by


def run_virtual(main: Coroutine[Any, Any, T], *, start: datetime = EPOCH, seed: int = 0) -> T:
    """Run `main` to its end on virtual time, with `random` seeded; all that it left running is cancelled.

    While it runs, `now()` is the virtual wall time for the whole process.
    """
    global _now
    loop = VirtualLoop(start)
    before, state = _now, random.getstate()
    _now = loop.now
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main)
    finally:
        _now = before
        random.setstate(state)


def real_seconds() -> float:
    """Real monotonic seconds, for measuring how long the work itself took (metrics, traces), whatever `now()` says."""
    return time.perf_counter()
