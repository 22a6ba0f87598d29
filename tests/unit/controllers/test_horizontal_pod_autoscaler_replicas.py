"""How many replicas measured values ask for, by table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1, times
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import horizontal_pod_autoscaler_replicas as replicas
from podling.controllers.horizontal_pod_autoscaler_replicas import Limits, Sample, Uncomputable

NOW = clock.EPOCH


def pod(
    name: str, state: str = "ready", cpu: str | None = "1", age: float = 3600, ready_for: float = 3000
) -> core_v1.Pod:
    """`state` is ready, unready, pending, failed or ending."""
    requests = core_v1.ResourceRequirements(requests={"cpu": cpu} if cpu is not None else {"memory": "1Mi"})
    made = core_v1.Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="i", resources=requests)]),
    )
    made.status.phase = {"pending": "Pending", "failed": "Failed"}.get(state, "Running")
    made.status.start_time = times.format(NOW - timedelta(seconds=age))
    turned = times.format(NOW - timedelta(seconds=ready_for))
    status = "True" if state in ("ready", "ending") else "False"
    made.status.conditions = [core_v1.PodCondition(type="Ready", status=status, last_transition_time=turned)]
    if state == "ending":
        made.metadata.deletion_timestamp = times.format(NOW)
    return made


def utilized(pods: list[core_v1.Pod], values: list[int | None], target: int, **limits: Any) -> tuple[int, int | None]:
    samples = {p.metadata.name or "": Sample(v, NOW, 15.0) for p, v in zip(pods, values, strict=True) if v is not None}
    found = replicas.by_utilization(pods, samples, target, len(pods), "cpu", Limits(**limits), NOW)
    return found.replicas, found.percent


@pytest.mark.parametrize(
    ("states", "values", "target", "expected"),
    [
        ("ready ready ready", [300, 500, 700], 30, (5, 50)),
        ("ready ready ready", [100, 100, 100], 50, (1, 10)),
        ("ready ready ready", [500, 550, 560], 50, (3, 53)),
        ("ready ready ready", [500, 560, 620], 50, (4, 56)),
        # Without a sample: nothing on the way up, all that is requested on the way down, never the other way round.
        ("ready ready ready", [900, 900, None], 50, (4, 90)),
        ("ready ready ready", [600, 600, None], 50, (3, 60)),
        ("ready ready ready ready", [100, 100, 100, None], 80, (2, 10)),
        ("ready ready", [100, None], 50, (2, 10)),
        # More than 100 percent is wanted: so much it counts as.
        ("ready ready ready ready", [500, 500, 500, None], 200, (2, 50)),
        # Pods that start count on the way up only; those that end not at all.
        ("ready ready pending", [900, 900, None], 50, (4, 90)),
        ("ready ready pending", [100, 100, None], 50, (1, 10)),
        ("ready ready ending", [900, 900, 900], 50, (4, 90)),
        ("ready ready failed", [900, 900, None], 50, (4, 90)),
    ],
)
def test_utilization(states: str, values: list[int | None], target: int, expected: tuple[int, int]) -> None:
    pods = [pod(f"p{n}", state) for n, state in enumerate(states.split())]
    assert utilized(pods, values, target) == expected


def test_tolerance_has_two_directions() -> None:
    pods = [pod("a"), pod("b")]
    assert utilized(pods, [600, 600], 50) == (3, 60)
    assert utilized(pods, [600, 600], 50, up=0.25) == (2, 60)
    assert utilized(pods, [200, 200], 50, up=0.9) == (1, 40 // 2)
    assert utilized(pods, [200, 200], 50, down=0.9) == (2, 20)


@pytest.mark.parametrize(
    ("state", "age", "ready_for", "counts"),
    [
        ("ready", 100, 50, True),
        # Not a whole window since it became ready.
        ("ready", 100, 10, False),
        ("unready", 100, 50, False),
        # Past its start: unready only if it never was ready.
        ("ready", 400, 10, True),
        ("unready", 400, 380, False),
        ("unready", 400, 100, True),
    ],
)
def test_the_cpu_of_young_pods(state: str, age: float, ready_for: float, counts: bool) -> None:
    one, sample = pod("a", state, age=age, ready_for=ready_for), {"a": Sample(900, NOW, 15.0)}
    groups = replicas.group([one], sample, "cpu", Limits(), NOW)
    assert (groups.ready, groups.unready) == ((1, set()) if counts else (0, {"a"}))
    assert replicas.group([one], sample, "memory", Limits(), NOW).ready == 1


@pytest.mark.parametrize(
    ("pods", "values", "text"),
    [
        ([], [], "no pods returned by selector while calculating replica count"),
        ([pod("a", "pending")], [5], "did not receive metrics for targeted pods (pods might be unready)"),
        ([pod("a", cpu=None)], [5], "missing request for cpu in container c of Pod a"),
        ([pod("a", cpu="0")], [5], "no metrics returned matched known pods"),
    ],
)
def test_what_can_not_be_computed(pods: list[core_v1.Pod], values: list[int | None], text: str) -> None:
    with pytest.raises(Uncomputable) as failure:
        utilized(pods, values, 50)
    assert str(failure.value) == text


def test_averages() -> None:
    pods = [pod("a"), pod("b"), pod("c")]

    def of(values: list[int], target: int) -> tuple[int, int]:
        samples = {f"{'abc'[n]}": Sample(v, NOW, 60.0) for n, v in enumerate(values)}
        found = replicas.by_average(pods, samples, target, 3, "", Limits(), NOW)
        return found.replicas, found.value

    assert of([10_000, 20_000, 30_000], 10_000) == (6, 20_000)
    assert of([1000, 1000, 1000], 10_000) == (1, 1000)
    assert of([1000, 1000], 10_000) == (2, 1000)
    assert of([30_000, 30_000], 10_000) == (6, 30_000)


def test_one_value_for_all() -> None:
    pods = [pod("a"), pod("b"), pod("c", "unready")]
    limits = Limits()
    assert replicas.by_value(pods, 20_000, 10_000, 3, limits).replicas == 4
    assert replicas.by_value(pods, 10_500, 10_000, 3, limits).replicas == 3
    assert replicas.by_value([], 25_000, 10_000, 0, limits).replicas == 3
    assert replicas.by_value(pods, 0, 10_000, 3, limits).replicas == 0
    with pytest.raises(Uncomputable, match="unable to calculate ready pods: no pods returned by selector"):
        replicas.by_value([], 50_000, 10_000, 3, limits)
    assert replicas.per_pod(50_000, 10_000, 3, limits) == replicas.Proposal(5, 16_667)
    assert replicas.per_pod(31_000, 10_000, 3, limits).replicas == 3
    assert replicas.per_pod(31_000, 10_000, 0, limits) == replicas.Proposal(4, 0)


def test_requests_of_sidecars_and_whole_pods() -> None:
    one = pod("a", cpu="500m")
    side = core_v1.ResourceRequirements(requests={"cpu": "250m"})
    one.spec.init_containers = [
        core_v1.Container(name="s", image="i", restart_policy="Always", resources=side),
        core_v1.Container(name="init", image="i"),
    ]
    assert replicas.request(one, "cpu") == 750
    assert replicas.request(one, "cpu", "c") == 500
    one.spec.resources = core_v1.ResourceRequirements(requests={"cpu": "2"})
    assert replicas.request(one, "cpu") == 2000
    assert replicas.request(one, "cpu", "s") == 250
