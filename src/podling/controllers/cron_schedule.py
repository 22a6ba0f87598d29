"""Cron schedules: five fields, names, ranges, steps, and the words `@hourly` to `@yearly` and `@every 1h30m`.

Times are found on the wall clock of a time zone: what falls into the hour that daylight saving skips does not happen.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

from podling.api import times
from podling.api.numbers import NumberError, atoi

_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
#: A schedule that does not come true within so long (30 February) never does.
_HORIZON = timedelta(days=5 * 366)


class ScheduleError(ValueError):
    """A schedule that means nothing; the text says why."""


class Schedule(msgspec.Struct, frozen=True):
    """`every` seconds, or the minutes, hours, ... at which it is time."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    #: Day of month and day of week both count if either is open (`*`); else one is enough.
    both: bool = True
    every: float = 0.0

    def next(self, after: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The first time later than `after`, in UTC; None if there is none."""
        if self.every:
            return times.after(after.replace(microsecond=0).astimezone(UTC), self.every)
        at = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        end = at + _HORIZON
        while at < end:
            local = at.astimezone(zone)
            if local.month not in self.months or not self._day_fits(local):
                midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
                # Where midnight itself is skipped, its wall time maps to before the gap.
                at = max(midnight.astimezone(UTC), at + timedelta(minutes=1))
            elif local.hour not in self.hours:
                at += timedelta(minutes=60 - local.minute)
            elif local.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at
        return None

    def _day_fits(self, local: datetime) -> bool:
        day, weekday = local.day in self.days, (local.weekday() + 1) % 7 in self.weekdays
        return day and weekday if self.both else day or weekday


def parse(text: str) -> Schedule:
    """Raises ScheduleError."""
    text = text.strip()
    if text.startswith("@every "):
        return Schedule(every=_duration(text.removeprefix("@every ").strip()))
    if text.startswith("@"):
        if text not in _WORDS:
            raise ScheduleError(f"unrecognized descriptor: {text}")
        text = _WORDS[text]
    fields = text.split()
    if len(fields) != 5:
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    minutes, _ = _field(fields[0], 0, 59)
    hours, _ = _field(fields[1], 0, 23)
    days, any_day = _field(fields[2], 1, 31)
    months, _ = _field(fields[3], 1, 12, _MONTHS)
    weekdays, any_weekday = _field(fields[4], 0, 6, _DAYS)
    return Schedule(minutes, hours, days, months, weekdays, any_day or any_weekday)


def _field(text: str, low: int, high: int, names: dict[str, int] | None = None) -> tuple[frozenset[int], bool]:
    """The values of a field, and whether it is open."""
    values: set[int] = set()
    is_open = False
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, part) if slash else 1
        if step < 1:
            raise ScheduleError(f"step of range should be a positive number: {part}")
        if span in ("*", "?"):
            first, last = low, high
            is_open = is_open or step == 1
        else:
            start, dash, stop = span.partition("-")
            first = _named(start, names, part)
            last = _named(stop, names, part) if dash else high if slash else first
        if first < low:
            raise ScheduleError(f"beginning of range ({first}) below minimum ({low}): {part}")
        if last > high:
            raise ScheduleError(f"end of range ({last}) above maximum ({high}): {part}")
        if first > last:
            raise ScheduleError(f"beginning of range ({first}) beyond end of range ({last}): {part}")
        values.update(range(first, last + 1, step))
    return frozenset(values), is_open


def _named(text: str, names: dict[str, int] | None, part: str) -> int:
    found = (names or {}).get(text.lower())
    return found if found is not None else _number(text, part)


def _number(text: str, part: str) -> int:
    try:
        return atoi(text)
    except NumberError:
        raise ScheduleError(f"failed to parse int from {text}: {part}") from None


def _duration(text: str) -> float:
    try:
        return max(1.0, float(times.parse_duration(text) // 10**9))
    except ValueError as error:
        raise ScheduleError(f"failed to parse duration @every {text}: {error}") from None


def latest(schedule: Schedule, since: datetime, now: datetime, zone: tzinfo = UTC) -> tuple[datetime | None, int]:
    """The last time after `since` and not after `now`, and about how many there were."""
    first = schedule.next(since, zone)
    if first is None or now < first:
        return None, 0
    second = schedule.next(first, zone)
    if second is None or now < second:
        return first, 1
    gap = (second - first).total_seconds()
    missed = int((now - first).total_seconds() / gap) + 1
    found = first
    at = schedule.next(first + timedelta(seconds=max(0, missed - 2) * gap - 1), zone)
    while at is not None and at <= now:
        found = at
        at = schedule.next(at, zone)
    return found, missed
