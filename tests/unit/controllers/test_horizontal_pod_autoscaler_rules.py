"""What becomes of recommendations, by table: stabilization, policies, bounds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from podling import clock
from podling.api import autoscaling_v2 as v2
from podling.api.struct import from_dict
from podling.controllers import horizontal_pod_autoscaler_rules as rules
from podling.controllers.horizontal_pod_autoscaler_rules import Bounds, Dated, Memory

NOW = clock.EPOCH


def ago(seconds: float, count: int) -> Dated:
    return Dated(count, NOW - timedelta(seconds=seconds))


def behavior(**directions: Any) -> v2.HorizontalPodAutoscalerBehavior:
    return from_dict(directions, v2.HorizontalPodAutoscalerBehavior)


def policy(kind: str, value: int, period: int = 60) -> dict[str, Any]:
    return {"type": kind, "value": value, "periodSeconds": period}


def normalized(memory: Memory, bounds: Bounds, how: v2.HorizontalPodAutoscalerBehavior | None) -> Any:
    found = rules.normalize(memory, how, bounds, NOW, 300.0)
    able, limited = found.conditions
    return found.replicas, able.reason, limited.reason, limited.status


@pytest.mark.parametrize(
    ("recent", "bounds", "expected"),
    [
        ([], (3, 5, 1, 10), (5, "ReadyForNewScale", "DesiredWithinRange", False)),
        ([], (1, 9, 1, 10), (4, "ReadyForNewScale", "ScaleUpLimit", True)),
        ([], (3, 9, 1, 10), (6, "ReadyForNewScale", "ScaleUpLimit", True)),
        ([], (8, 20, 1, 10), (10, "ReadyForNewScale", "TooManyReplicas", True)),
        ([], (3, 0, 2, 10), (2, "ReadyForNewScale", "TooFewReplicas", True)),
        ([(299, 5)], (5, 2, 1, 10), (5, "ScaleDownStabilized", "DesiredWithinRange", False)),
        ([(301, 5), (10, 3)], (5, 2, 1, 10), (3, "ScaleDownStabilized", "DesiredWithinRange", False)),
    ],
)
def test_without_a_behavior(recent: list[tuple[int, int]], bounds: tuple[int, int, int, int], expected: Any) -> None:
    memory = Memory([ago(*r) for r in recent])
    assert normalized(memory, Bounds(*bounds), None) == expected
    assert memory.recommendations[-1] == Dated(bounds[1], NOW)


DOWN_1 = {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [policy("Pods", 1)]}}


@pytest.mark.parametrize(
    ("how", "recent", "bounds", "expected"),
    [
        ({"scaleUp": {"policies": [policy("Pods", 2)]}}, [], (3, 9, 1, 20),
         (5, "ReadyForNewScale", "ScaleUpLimit", True)),
        ({"scaleUp": {"policies": [policy("Pods", 2), policy("Percent", 100)]}}, [], (3, 9, 1, 20),
         (6, "ReadyForNewScale", "ScaleUpLimit", True)),
        ({"scaleUp": {"selectPolicy": "Min", "policies": [policy("Pods", 2), policy("Percent", 100)]}}, [],
         (3, 9, 1, 20), (5, "ReadyForNewScale", "ScaleUpLimit", True)),
        ({"scaleUp": {"selectPolicy": "Disabled", "policies": [policy("Pods", 2)]}}, [], (3, 9, 1, 20),
         (3, "ReadyForNewScale", "ScaleUpLimit", True)),
        ({"scaleUp": {"policies": [policy("Pods", 50)]}}, [], (3, 30, 1, 20),
         (20, "ReadyForNewScale", "TooManyReplicas", True)),
        ({"scaleUp": {"stabilizationWindowSeconds": 60, "policies": [policy("Pods", 50)]}}, [(30, 4)], (3, 9, 1, 20),
         (4, "ScaleUpStabilized", "DesiredWithinRange", False)),
        (DOWN_1, [], (5, 1, 1, 9), (4, "ReadyForNewScale", "ScaleDownLimit", True)),
        (DOWN_1, [], (2, 0, 2, 9), (2, "ReadyForNewScale", "TooFewReplicas", True)),
        ({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [policy("Percent", 50)]}}, [], (5, 1, 1, 9),
         (2, "ReadyForNewScale", "ScaleDownLimit", True)),
        ({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min",
                        "policies": [policy("Percent", 50), policy("Pods", 1)]}}, [], (5, 1, 1, 9),
         (4, "ReadyForNewScale", "ScaleDownLimit", True)),
        # The default window of shrinking holds where the behavior says nothing of it.
        ({"scaleDown": {"policies": [policy("Percent", 100)]}}, [(200, 5)], (5, 1, 1, 9),
         (5, "ScaleDownStabilized", "DesiredWithinRange", False)),
    ],
)  # fmt: skip
def test_with_a_behavior(how: dict[str, Any], recent: Any, bounds: Any, expected: Any) -> None:
    assert normalized(Memory([ago(*r) for r in recent]), Bounds(*bounds), behavior(**how)) == expected


def test_policies_count_what_was_done_within_their_period() -> None:
    up = behavior(scaleUp={"policies": [policy("Pods", 4)]}).scale_up
    assert rules.most_replicas(Memory(added=[ago(30, 3)]), up, 6, NOW) == 7
    assert rules.most_replicas(Memory(added=[ago(61, 3)]), up, 6, NOW) == 10
    assert rules.most_replicas(Memory(removed=[ago(30, 2)]), up, 6, NOW) == 12
    down = behavior(scaleDown={"policies": [policy("Pods", 4)]}).scale_down
    assert rules.least_replicas(Memory(removed=[ago(30, 3)]), down, 6, NOW) == 5


def test_changes_are_remembered_as_long_as_a_policy_may_look_back() -> None:
    memory = Memory(added=[ago(1801, 1), ago(1799, 2)])
    memory.scaled(2, 5, NOW)
    memory.scaled(5, 1, NOW)
    assert [c.count for c in memory.added] == [2, 3] and [c.count for c in memory.removed] == [4]


def test_tolerances() -> None:
    assert rules.tolerances(None, 0.1) == (0.1, 0.1)
    assert rules.tolerances(behavior(scaleUp={"tolerance": "50m"}, scaleDown={}), 0.1) == (0.1, 0.05)
