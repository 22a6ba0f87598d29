"""Which routes change when nodes come and go."""

from __future__ import annotations

import pytest

from podling.network.routes import changes
from podling.network.rtnetlink import Route

ONE, TWO = Route("10.244.1.0/24", gateway="10.213.0.11"), Route("10.244.2.0/24", gateway="10.213.0.12")
MOVED = Route("10.244.2.0/24", gateway="10.213.0.13")


@pytest.mark.parametrize(
    ("present", "wanted", "gone", "new"),
    [
        ([], [ONE, TWO], [], [ONE, TWO]),
        ([ONE, TWO], [ONE, TWO], [], []),
        ([ONE, TWO], [ONE], [TWO], []),
        ([ONE, TWO], [ONE, MOVED], [], [MOVED]),
        ([ONE], [], [ONE], []),
    ],
)
def test_changes(present: list[Route], wanted: list[Route], gone: list[Route], new: list[Route]) -> None:
    assert changes(present, wanted) == (gone, new)
