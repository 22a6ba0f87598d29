"""Seats divided among levels that lend to each other: everyone the same fraction of what it wants, within its bounds.

The rule of KEP-1040, "computing the concurrency allocation": with one fraction for all, each gets fraction x target,
but never less than its lower and never more than its upper bound; the fraction is such that all seats are given away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: A level that wants nothing is treated as if it wanted this much, so that idle levels share what is left over.
MIN_TARGET = 0.001


class Claim(NamedTuple):
    """What a level wants, and between which bounds. 0 <= lower <= target, lower <= upper."""

    target: float
    lower: float
    upper: float


def allocate(total: float, claims: Sequence[Claim]) -> tuple[list[float], float]:
    """The seats of each claim, which add up to `total`, and the fraction. ValueError if the bounds do not allow it."""
    lowest, highest = sum(c.lower for c in claims), sum(c.upper for c in claims)
    for index, claim in enumerate(claims):
        if not (0 <= claim.lower <= max(claim.target, MIN_TARGET) and claim.lower <= claim.upper):
            raise ValueError(f"claim {index} is {claim}: its lower bound is above its target or its upper bound")
    if lowest > total + 1e-7 or highest < total - 1e-7:
        raise ValueError(f"{total} seats can't be divided: the bounds allow from {lowest} to {highest}")
    targets = [max(c.target, MIN_TARGET) for c in claims]

    def given(fraction: float) -> list[float]:
        return [
            max(c.lower, min(c.upper, fraction * t)) for c, t in zip(claims, targets, strict=True)
        ]  # fmt: skip

    # What is given grows with the fraction, in straight lines between the points at which a bound begins to count.
    points = sorted({b / t for c, t in zip(claims, targets, strict=True) for b in (c.lower, c.upper)})
    before, sum_before = 0.0, lowest
    for point in points:
        sum_at = sum(given(point))
        if sum_at >= total:
            rise = sum_at - sum_before
            fraction = point if rise <= 0 else before + (point - before) * (total - sum_before) / rise
            return given(fraction), fraction
        before, sum_before = point, sum_at
    return given(before), before
