"""Times as the API writes them: RFC 3339 in UTC, whole seconds (metav1.Time) or microseconds (metav1.MicroTime)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from podling import clock
from podling.api.numbers import INT_MAX


def format(when: datetime) -> str:
    """`2026-01-02T03:04:05Z`; fractions of a second are cut off, as upstream does."""
    when = when.astimezone(UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}Z" if when.year >= 1000 else f"{when.year:04}{when:-%m-%dT%H:%M:%S}Z"


def format_micro(when: datetime) -> str:
    """`2026-01-02T03:04:05.678901Z`."""
    when = when.astimezone(UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"


def parse(text: str) -> datetime:
    """Either form, any offset, as an aware UTC datetime. Raises ValueError."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is before the first or after the last year that there is") from None


def now() -> str:
    """The present, in whole seconds."""
    return format(clock.now())


def now_micro() -> str:
    """The present, in microseconds."""
    return format_micro(clock.now())


#: The end of time, as far as it can be written down.
LAST = datetime.max.replace(tzinfo=UTC)


def after(when: datetime, seconds: float) -> datetime:
    """So long after a moment, or before it if negative; as far as time goes: anybody may ask for 2**63 seconds."""
    try:
        return when + timedelta(seconds=seconds)
    except OverflowError:
        return LAST if seconds > 0 else datetime.min.replace(tzinfo=UTC)


_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
#: Characters of a span of time, more than 64 bits of nanoseconds need.
_LONGEST = 1000
_SPAN = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> int:
    """Nanoseconds of a span in Go's notation: `1h30m`, `1.5s`, `-3m`, `0`. Raises ValueError in Go's words."""
    body = text[1:] if text[:1] in ("-", "+") else text
    total, at = 0, 0
    while body != "0" and at < len(body) <= _LONGEST:
        match = _SPAN.match(body, at)
        if match is None or not (match[1] or match[2]):
            break
        fraction = match[2] or ""
        unit = _NANOSECONDS[match[3]]
        total += int(match[1] or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        at = match.end()
    if body != "0" and (at != len(body) or not body or total > INT_MAX):
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text[:1] == "-" else total


def human_duration(length: timedelta) -> str:
    """Two or three significant figures for people: `45s`, `3m20s`, `5h`, `2d3h`, `400d`. The AGE column."""
    seconds = int(length.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours = seconds // 60, seconds // 3600
    if minutes < 10:
        return _pair(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _pair(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return _pair(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def short_human_duration(length: timedelta) -> str:
    """One figure: `45s`, `3m`, `5h`, `2d`, `1y`."""
    seconds = int(length.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 60:
        return f"{max(seconds, 0)}s"
    for size, top, unit in ((60, 60, "m"), (3600, 24, "h"), (86400, 365, "d")):
        if seconds // size < top:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400 // 365}y"


def _pair(first: int, first_unit: str, second: int, second_unit: str) -> str:
    return f"{first}{first_unit}{second}{second_unit}" if second else f"{first}{first_unit}"


def age(since: str | None, now: datetime) -> str:
    """How long ago `since` was, for people; `<unknown>` without a time."""
    return human_duration(now - parse(since)) if since else "<unknown>"
