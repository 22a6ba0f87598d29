"""What becomes of a recommended number of replicas: stabilized over time, limited in speed, kept within bounds.

Pure but for `Memory`, which is what an autoscaler remembers between two looks, and is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

import msgspec

from podling.api import autoscaling_v2 as v2
from podling.api import quantity, times

ABLE, ACTIVE, LIMITED, SCALED_TO_ZERO = "AbleToScale", "ScalingActive", "ScalingLimited", "ScaledToZero"
#: Without a behavior: twice as many at a time, or four.
UP_FACTOR, UP_LEAST = 2, 4
#: No policy looks back longer (validation), so that no change of replicas is remembered longer.
LONGEST_PERIOD = 1800.0
INT32 = 2**31 - 1

_IN_RANGE = "DesiredWithinRange", "the desired count is within the acceptable range"
_TOO_FAST_UP = "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
_TOO_FAST_DOWN = "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"
_TOO_MANY = "TooManyReplicas", "the desired replica count is more than the maximum replica count"
_TOO_FEW = "TooFewReplicas", "the desired replica count is less than the minimum replica count"
_READY = "ReadyForNewScale", "recommended size matches current size"
_HELD_UP = "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"  # fmt: skip  # noqa: E501
_HELD_DOWN = "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"  # fmt: skip  # noqa: E501


class Dated(msgspec.Struct, frozen=True):
    """A recommendation, or by how many replicas were changed."""

    count: int
    when: datetime


class Memory(msgspec.Struct):
    """What an autoscaler remembers: recommendations before stabilization, replicas that it added and took away."""

    recommendations: list[Dated] = []
    added: list[Dated] = []
    removed: list[Dated] = []

    def begin(self, current: int, now: datetime) -> None:
        """The first look: what is there counts as recommended."""
        if not self.recommendations:
            self.recommendations.append(Dated(current, now))

    def scaled(self, before: int, after: int, now: datetime) -> None:
        """The replicas were changed by an autoscaler with a behavior."""
        changes = self.added if after > before else self.removed
        cutoff = times.after(now, -LONGEST_PERIOD)
        changes[:] = [c for c in changes if c.when > cutoff]
        changes.append(Dated(abs(after - before), now))


class Bounds(msgspec.Struct, frozen=True):
    """How many replicas there are, are recommended, and may be."""

    current: int
    wanted: int
    least: int
    most: int


class Condition(msgspec.Struct, frozen=True):
    type: str
    status: bool
    reason: str
    message: str


class Normalized(msgspec.Struct, frozen=True):
    replicas: int
    conditions: tuple[Condition, Condition]


def normalize(
    memory: Memory, behavior: v2.HorizontalPodAutoscalerBehavior | None, bounds: Bounds, now: datetime, window: float
) -> Normalized:
    """How many replicas to have; `window` is for how many seconds a higher recommendation counts, unless a behavior
    says so. The recommendation is remembered."""
    if behavior is None:
        stable, held = _stabilize_down(memory, bounds, now, window), _HELD_DOWN
    else:
        stable = _stabilize(memory, behavior, bounds, now, window)
        held = _HELD_UP if bounds.wanted >= bounds.current else _HELD_DOWN
    able = Condition(ABLE, True, *(held if stable != bounds.wanted else _READY))
    bounds = msgspec.structs.replace(bounds, wanted=stable)
    replicas, why = _limit(bounds) if behavior is None else _limit_rate(memory, behavior, bounds, now)
    return Normalized(replicas, (able, Condition(LIMITED, replicas != stable, *why)))


def _stabilize_down(memory: Memory, bounds: Bounds, now: datetime, window: float) -> int:
    """The highest recommendation of late."""
    cutoff = times.after(now, -window)
    recent = [r for r in memory.recommendations if r.when >= cutoff]
    memory.recommendations = [*recent, Dated(bounds.wanted, now)]
    return max(r.count for r in memory.recommendations)


def _stabilize(
    memory: Memory, behavior: v2.HorizontalPodAutoscalerBehavior, bounds: Bounds, now: datetime, window: float
) -> int:
    """Between the lowest recommendation within the window for growing, and the highest within that for shrinking."""
    up, down = _window(behavior.scale_up, 0.0), _window(behavior.scale_down, window)
    low = high = bounds.wanted
    for recommendation in memory.recommendations:
        if recommendation.when > times.after(now, -up):
            low = min(low, recommendation.count)
        if recommendation.when > times.after(now, -down):
            high = max(high, recommendation.count)
    cutoff = times.after(now, -max(up, down))
    memory.recommendations = [r for r in memory.recommendations if r.when >= cutoff]
    memory.recommendations.append(Dated(bounds.wanted, now))
    return min(max(bounds.current, low), high)


def _window(rules: v2.HPAScalingRules | None, otherwise: float) -> float:
    seconds = rules.stabilization_window_seconds if rules is not None else None
    return otherwise if seconds is None else float(seconds)


def _limit(bounds: Bounds) -> tuple[int, tuple[str, str]]:
    fastest = max(UP_FACTOR * bounds.current, UP_LEAST)
    most, why = (fastest, _TOO_FAST_UP) if bounds.most > fastest else (bounds.most, _TOO_MANY)
    if bounds.wanted < bounds.least:
        return bounds.least, _TOO_FEW
    if bounds.wanted > most:
        return most, why
    return bounds.wanted, _IN_RANGE


def _limit_rate(
    memory: Memory, behavior: v2.HorizontalPodAutoscalerBehavior, bounds: Bounds, now: datetime
) -> tuple[int, tuple[str, str]]:
    current, wanted = bounds.current, bounds.wanted
    if wanted > current:
        fastest = max(current, most_replicas(memory, behavior.scale_up, current, now))
        most, why = (fastest, _TOO_FAST_UP) if bounds.most > fastest else (bounds.most, _TOO_MANY)
        if wanted > most:
            return most, why
    elif wanted < current:
        fastest = min(current, least_replicas(memory, behavior.scale_down, current, now))
        least, why = (fastest, _TOO_FAST_DOWN) if bounds.least < fastest else (bounds.least, _TOO_FEW)
        if wanted < least:
            return least, why
    return wanted, _IN_RANGE


def most_replicas(memory: Memory, rules: v2.HPAScalingRules | None, current: int, now: datetime) -> int:
    """What the policies allow to grow to."""

    def allowed(policy: v2.HPAScalingPolicy, before: int) -> int:
        if policy.type == "Pods":
            return before + policy.value
        return math.ceil(before * (1 + policy.value / 100))

    return _allowed(memory, rules, current, now, allowed, {"Min": min}.get(_select(rules), max))


def least_replicas(memory: Memory, rules: v2.HPAScalingRules | None, current: int, now: datetime) -> int:
    """What the policies allow to shrink to; the policy Min, the smallest change, leaves the most."""

    def allowed(policy: v2.HPAScalingPolicy, before: int) -> int:
        if policy.type == "Pods":
            return before - policy.value
        return int(before * (1 - policy.value / 100))

    return _allowed(memory, rules, current, now, allowed, {"Min": max}.get(_select(rules), min))


def _select(rules: v2.HPAScalingRules | None) -> str:
    return (rules.select_policy if rules is not None else None) or "Max"


def _allowed(
    memory: Memory,
    rules: v2.HPAScalingRules | None,
    current: int,
    now: datetime,
    allowed: Callable[[v2.HPAScalingPolicy, int], int],
    choose: Callable[..., int],
) -> int:
    if rules is None or not rules.policies or _select(rules) == "Disabled":
        return current
    found = []
    for policy in rules.policies:
        cutoff = times.after(now, -policy.period_seconds)
        grown = sum(c.count for c in memory.added if c.when > cutoff)
        shrunk = sum(c.count for c in memory.removed if c.when > cutoff)
        found.append(allowed(policy, current - grown + shrunk))
    return choose(found)


def tolerances(behavior: v2.HorizontalPodAutoscalerBehavior | None, otherwise: float) -> tuple[float, float]:
    """By how much the ratio of use to target may be below and above 1 with nothing being done."""

    def of(rules: v2.HPAScalingRules | None) -> float:
        return (
            float(quantity.parse(rules.tolerance)) if rules is not None and rules.tolerance is not None else otherwise
        )

    return (of(behavior.scale_down), of(behavior.scale_up)) if behavior is not None else (otherwise, otherwise)
