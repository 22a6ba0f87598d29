"""Whom a more important pod may displace, and upstream's words when nobody."""

from __future__ import annotations

import pytest

from podling.api import core_v1, policy_v1
from podling.api.struct import from_dict
from podling.scheduler import plugins
from podling.scheduler.algorithm import Algorithm, Failure
from podling.scheduler.cache import Cache, PodInfo
from podling.scheduler.preemption import Candidate, preempt
from tests.unit.scheduler.make import cache, node, pod


def attempt(state: Cache, wanted: core_v1.Pod, *budgets: policy_v1.PodDisruptionBudget) -> Candidate | str:
    algorithm, info = Algorithm(plugins.default()), PodInfo(wanted)
    failure = algorithm.decide(info, state)
    assert isinstance(failure, Failure)
    return preempt(info, state, algorithm, failure, budgets)


def names(candidate: Candidate | str) -> tuple[str, list[str]]:
    assert isinstance(candidate, Candidate), candidate
    return candidate.node, sorted(v.pod.metadata.name or "" for v in candidate.victims)


def budget(labels: dict[str, str], allowed: int) -> policy_v1.PodDisruptionBudget:
    return from_dict(
        {
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": labels}},
            "status": {"disruptionsAllowed": allowed},
        },
        policy_v1.PodDisruptionBudget,
    )


def test_as_few_as_possible_and_the_least_important() -> None:
    state = cache(
        node("a", cpu="3"),
        pod("low", cpu="1", on="a", priority=1),
        pod("mid", cpu="1", on="a", priority=5),
        pod("high", cpu="1", on="a", priority=100),
    )
    assert names(attempt(state, pod("p", cpu="1", priority=10))) == ("a", ["low"])


def test_the_node_where_it_does_the_least_harm() -> None:
    state = cache(
        node("a", cpu="1"),
        node("b", cpu="1"),
        pod("mid", cpu="1", on="a", priority=5),
        pod("low", cpu="1", on="b", priority=1),
    )
    assert names(attempt(state, pod("p", cpu="1", priority=10))) == ("b", ["low"])


def test_disruption_budgets_are_spared_where_possible() -> None:
    state = cache(
        node("a", cpu="2"),
        pod("guarded", cpu="1", on="a", priority=1, labels={"app": "g"}),
        pod("free", cpu="1", on="a", priority=5, labels={"app": "f"}),
    )
    assert names(attempt(state, pod("p", cpu="1", priority=10), budget({"app": "g"}, 0))) == ("a", ["free"])


@pytest.mark.parametrize(
    ("objects", "wanted", "message"),
    [
        (
            [node("a", cpu="1"), pod("q", cpu="1", on="a", priority=10)],
            pod("p", cpu="1", priority=10),
            "0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        ),
        (
            [node("a", cpu="1"), node("b", taints=["x=:NoSchedule"])],
            pod("p", cpu="2", priority=10),
            "0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ),
        (
            [node("a", cpu="1"), pod("q", cpu="1", on="a")],
            pod("p", cpu="1", priority=10, preemptionPolicy="Never"),
            "not eligible due to preemptionPolicy=Never.",
        ),
    ],
)
def test_why_not(objects: list[core_v1.Node | core_v1.Pod], wanted: core_v1.Pod, message: str) -> None:
    assert attempt(cache(*objects), wanted) == message


def test_an_anti_affinity_that_leaves_with_its_pod_is_no_obstacle() -> None:
    away = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
            ]
        }
    }
    state = cache(node("a"), pod("q", on="a", priority=1, affinity=away))
    assert names(attempt(state, pod("p", labels={"app": "x"}, priority=10))) == ("a", ["q"])


def test_room_that_was_made_is_kept_for_its_pod() -> None:
    state = cache(node("a", cpu="1"))
    waiting = PodInfo(pod("first", cpu="1", priority=10))
    state.nominate(waiting, "a")
    algorithm = Algorithm(plugins.default())
    assert isinstance(algorithm.decide(PodInfo(pod("second", cpu="1", priority=10)), state), Failure)
    assert not isinstance(algorithm.decide(waiting, state), Failure)
    assert not isinstance(algorithm.decide(PodInfo(pod("urgent", cpu="1", priority=11)), state), Failure)
