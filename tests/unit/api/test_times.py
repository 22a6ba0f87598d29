"""Times and ages."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling import clock
from podling.api import times

INSTANT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_formats() -> None:
    assert times.format(INSTANT) == "2026-01-02T03:04:05Z"
    assert times.format_micro(INSTANT) == "2026-01-02T03:04:05.678901Z"
    assert times.format(INSTANT.astimezone(timezone(timedelta(hours=2)))) == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("text", ["2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05.000000Z"])
def test_parse(text: str) -> None:
    assert times.parse(text) == INSTANT.replace(microsecond=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "0001-01-01T00:00:00+12:00",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        times.parse(text)


def test_now_is_the_clocks() -> None:
    async def main() -> tuple[str, str]:
        return times.now(), times.now_micro()

    assert clock.run_virtual(main(), start=INSTANT) == ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901Z")


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_times_come_back(when: datetime) -> None:
    assert times.parse(times.format_micro(when)) == when
    assert times.parse(times.format(when)) == when.replace(microsecond=0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11100, "3h5m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (51 * 3600, "2d3h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (740 * 86400, "2y10d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_human_duration(seconds: int, text: str) -> None:
    assert times.human_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86400, "1d"), (400 * 86400, "1y")]
)
def test_short_human_duration(seconds: int, text: str) -> None:
    assert times.short_human_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("1h30m", 5400 * 10**9), ("1.5s", 1500 * 10**6), ("-3m", -180 * 10**9), ("2µs", 2000)],
)
def test_durations_in_gos_notation(text: str, nanoseconds: int) -> None:
    assert times.parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "h", "1h30", "1 h", ".", "3000000h", "9" * 5000 + "h"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(ValueError, match="time: invalid duration"):
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "year"), [(60, 2026), (-60, 2026), (2**31 - 1, 2094), (2**40, 9999), (2**63 - 1, 9999), (-(2**40), 1)]
)
def test_time_goes_as_far_as_it_goes(seconds: int, year: int) -> None:
    assert times.after(times.parse("2026-06-01T00:00:00Z"), seconds).year == year
