"""When those who were turned away may come again."""

from __future__ import annotations

import pytest

from podling.apiserver.flowcontrol.dropped import Dropped


def after(*drops: tuple[int, int]) -> int:
    """Retry-After when so many were dropped in each of these seconds."""
    dropped = Dropped()
    for second, count in drops:
        for _ in range(count):
            dropped.record(second)
    return dropped.retry_after


@pytest.mark.parametrize(
    ("drops", "seconds"),
    [
        ([], 1),
        ([(100, 1)], 1),
        # The second in which it is looked at does not count.
        ([(100, 50)], 1),
        ([(100, 2), (101, 1)], 1),
        ([(100, 3), (101, 1)], 2),
        # It is raised again only after a period of itself, and by three times as many.
        ([(100, 3), (101, 6), (102, 1)], 2),
        ([(100, 3), (101, 3), (102, 3), (103, 1)], 4),
        ([(100, 3), (101, 1), (110, 1)], 1),
        ([(s, 200) for s in range(100, 300)], 32),
    ],
)
def test_retry_after(drops: list[tuple[int, int]], seconds: int) -> None:
    assert after(*drops) == seconds
