"""Seats divided among levels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.apiserver.flowcontrol.allocation import MIN_TARGET, Claim, allocate


@pytest.mark.parametrize(
    ("total", "claims", "given_"),
    [
        (10, [Claim(5, 0, 10), Claim(5, 0, 10)], [5, 5]),
        (10, [Claim(2, 0, 20), Claim(8, 0, 20)], [2, 8]),
        (20, [Claim(2, 0, 20), Claim(8, 0, 20)], [4, 16]),
        # An upper bound: the rest is the others'.
        (20, [Claim(2, 0, 20), Claim(8, 0, 10)], [10, 10]),
        # A lower bound: the others have that much less.
        (10, [Claim(5, 5, 20), Claim(10, 0, 20), Claim(10, 0, 20)], [5, 2.5, 2.5]),
        # Nobody wants any: all get the same, within their bounds.
        (30, [Claim(0, 0, 100), Claim(0, 0, 100), Claim(0, 0, 100)], [10, 10, 10]),
        # No room between the bounds.
        (7, [Claim(3, 3, 9), Claim(4, 4, 9)], [3, 4]),
        (18, [Claim(3, 3, 9), Claim(4, 4, 9)], [9, 9]),
        (0, [Claim(3, 0, 9)], [0]),
    ],
)
def test_allocations(total: float, claims: list[Claim], given_: list[float]) -> None:
    assert allocate(total, claims)[0] == pytest.approx(given_)


@pytest.mark.parametrize(
    ("total", "claims", "said"),
    [
        (1, [Claim(3, 3, 9)], "bounds allow from 3 to 9"),
        (10, [Claim(3, 3, 9)], "bounds allow from 3 to 9"),
        (5, [Claim(3, 4, 9)], "lower bound is above its target"),
    ],
)
def test_what_can_not_be_divided(total: float, claims: list[Claim], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        allocate(total, claims)


@st.composite
def problems(draw: st.DrawFn) -> tuple[float, list[Claim]]:
    claims = []
    for _ in range(draw(st.integers(1, 9))):
        target = draw(st.floats(0, 1000))
        lower = draw(st.floats(0, 1)) * target
        claims.append(Claim(target, lower, lower + draw(st.floats(0, 1000))))
    lowest, highest = sum(c.lower for c in claims), sum(c.upper for c in claims)
    return lowest + draw(st.floats(0, 1)) * (highest - lowest), claims


@given(problems())
def test_everyone_gets_the_same_fraction_within_its_bounds(problem: tuple[float, list[Claim]]) -> None:
    total, claims = problem
    seats, fraction = allocate(total, claims)
    assert sum(seats) == pytest.approx(total, abs=1e-6)
    for claim, got in zip(claims, seats, strict=True):
        due = fraction * max(claim.target, MIN_TARGET)
        assert got == pytest.approx(max(claim.lower, min(claim.upper, due)), abs=1e-6)
