"""Which node a pod gets, and upstream's words when it gets none."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import core_v1, selectors
from podling.scheduler import plugins
from podling.scheduler.algorithm import Algorithm, Failure, enough
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.plugins.pod_topology_spread import PodTopologySpread
from tests.unit.scheduler.make import cache, node, pod


def decide(state: Cache, wanted: core_v1.Pod) -> str:
    """The node's name, or the message."""
    decision = Algorithm(plugins.default()).decide(PodInfo(wanted), state)
    return decision.name if isinstance(decision, NodeInfo) else decision.message()


def term(labels: dict[str, str], key: str = "zone", **more: Any) -> dict[str, Any]:
    return {"labelSelector": {"matchLabels": labels}, "topologyKey": key, **more}


def required(kind: str, *terms: dict[str, Any]) -> dict[str, Any]:
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}}


ZONES = [node("a", labels={"zone": "1"}), node("b", labels={"zone": "1"}), node("c", labels={"zone": "2"})]

CASES: dict[str, tuple[list[core_v1.Node | core_v1.Pod], core_v1.Pod, str]] = {
    "no nodes": ([], pod("p"), "no nodes available to schedule pods"),
    "room on one": ([node("a", cpu="1"), node("b", cpu="2")], pod("p", cpu="1500m"), "b"),
    "each lack is counted": (
        [node(f"m{n}", memory="1Gi") for n in range(3)] + [node(f"c{n}", cpu="1") for n in range(2)],
        pod("p", cpu="2", memory="2Gi"),
        "0/5 nodes are available: 2 Insufficient cpu, 3 Insufficient memory.",
    ),
    "all lacks of one node": (
        [node("a", cpu="1", memory="1Gi")],
        pod("p", cpu="2", memory="2Gi"),
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
    ),
    "pods on the node count": (
        [node("a", cpu="2"), pod("q", cpu="1500m", on="a")],
        pod("p", cpu="1"),
        "0/1 nodes are available: 1 Insufficient cpu.",
    ),
    "too many pods": (
        [node("a", pods="1"), pod("q", on="a")],
        pod("p"),
        "0/1 nodes are available: 1 Too many pods.",
    ),
    "extended resource": (
        [node("a"), node("b", extra={"nvidia.com/gpu": "1"})],
        pod("p", requests={"nvidia.com/gpu": "1"}),
        "b",
    ),
    "extended resource that nobody has": (
        [node("a")],
        pod("p", requests={"nvidia.com/gpu": "1"}),
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    ),
    "node selector": (ZONES, pod("p", nodeSelector={"zone": "2"}), "c"),
    "node selector without match": (
        ZONES,
        pod("p", nodeSelector={"zone": "9"}),
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
    ),
    "node affinity NotIn": (
        ZONES,
        pod(
            "p",
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["1"]}]}
                        ]
                    }
                }
            },
        ),
        "c",
    ),
    "node affinity by name": (
        ZONES,
        pod(
            "p",
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
                        ]
                    }
                }
            },
        ),
        "b",
    ),
    "preferred node affinity": (
        ZONES,
        pod(
            "p",
            affinity={
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 100,
                            "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["2"]}]},
                        }
                    ]
                }
            },
        ),
        "c",
    ),
    "taints": (
        [node("a", taints=["gpu=yes:NoSchedule"]), node("b", taints=["x=:NoExecute"])],
        pod("p"),
        "0/2 nodes are available: 2 node(s) had untolerated taint(s).",
    ),
    "tolerated taint": (
        [node("a", taints=["gpu=yes:NoSchedule"]), node("b", taints=["x=:NoExecute"])],
        pod("p", tolerations=[{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]),
        "a",
    ),
    "soft taints are avoided": ([node("a", taints=["old=:PreferNoSchedule"]), node("b")], pod("p"), "b"),
    "cordoned": (
        [node("a", unschedulable=True)],
        pod("p"),
        "0/1 nodes are available: 1 node(s) were unschedulable.",
    ),
    "host port": (
        [node("a"), pod("q", ports=[80], on="a")],
        pod("p", ports=[80]),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
    ),
    "the emptier node": ([node("a"), node("b"), pod("q", cpu="2", memory="4Gi", on="a")], pod("p", cpu="1"), "b"),
    "reasons are sorted": (
        [node("a", unschedulable=True), node("b", cpu="1"), node("c", taints=["t=:NoSchedule"])],
        pod("p", cpu="2"),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), "
        "1 node(s) were unschedulable.",
    ),
    "near another pod": (
        [*ZONES, pod("db", labels={"app": "db"}, on="c")],
        pod("p", **required("podAffinity", term({"app": "db"}))),
        "c",
    ),
    "near nobody": (
        ZONES,
        pod("p", **required("podAffinity", term({"app": "db"}))),
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.",
    ),
    "the first of a group that wants to be together": (
        [ZONES[2]],
        pod("p", labels={"app": "x"}, **required("podAffinity", term({"app": "x"}))),
        "c",
    ),
    "away from its own kind": (
        [*ZONES, pod("q", labels={"app": "x"}, on="a")],
        pod("p", labels={"app": "x"}, **required("podAntiAffinity", term({"app": "x"}))),
        "c",
    ),
    "away, but no zone is left": (
        [*ZONES, pod("q", labels={"app": "x"}, on="a"), pod("r", labels={"app": "x"}, on="c")],
        pod("p", labels={"app": "x"}, **required("podAntiAffinity", term({"app": "x"}))),
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.",
    ),
    "repelled by a pod that is there": (
        [ZONES[0], pod("q", on="a", **required("podAntiAffinity", term({"app": "x"})))],
        pod("p", labels={"app": "x"}),
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
    ),
    "anti-affinity is about its namespace only": (
        [ZONES[0], pod("q", on="a", **required("podAntiAffinity", term({"app": "x"}, namespaces=["other"])))],
        pod("p", labels={"app": "x"}),
        "a",
    ),
    "spread over zones": (
        [*ZONES, pod("q", labels={"app": "x"}, on="a")],
        pod(
            "p",
            labels={"app": "x"},
            topologySpreadConstraints=[
                {
                    "maxSkew": 1,
                    "topologyKey": "zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "x"}},
                }
            ],
        ),
        "c",
    ),
    "spread over a label that no node has": (
        ZONES,
        pod(
            "p",
            topologySpreadConstraints=[
                {
                    "maxSkew": 1,
                    "topologyKey": "rack",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "x"}},
                }
            ],
        ),
        "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints (missing required label).",
    ),
    "init containers count at their peak": (
        [node("a", cpu="2")],
        pod(
            "p",
            cpu="1",
            initContainers=[{"name": "i", "image": "i", "resources": {"requests": {"cpu": "3"}}}],
        ),
        "0/1 nodes are available: 1 Insufficient cpu.",
    ),
    "sidecars count beside the containers": (
        [node("a", cpu="2")],
        pod(
            "p",
            cpu="1500m",
            initContainers=[
                {"name": "s", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
            ],
        ),
        "0/1 nodes are available: 1 Insufficient cpu.",
    ),
    "pod-level resources override": (
        [node("a", cpu="2")],
        pod("p", cpu="1", resources={"requests": {"cpu": "3"}}),
        "0/1 nodes are available: 1 Insufficient cpu.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_where_a_pod_goes(case: str) -> None:
    objects, wanted, expected = CASES[case]
    assert decide(cache(*objects), wanted) == expected


def test_gates_keep_a_pod_from_being_looked_at() -> None:
    algorithm = Algorithm(plugins.default())
    assert algorithm.gate(PodInfo(pod("p"))) is None
    gated = algorithm.gate(PodInfo(pod("p", schedulingGates=[{"name": "example.com/a"}])))
    assert gated is not None and gated[0] == "SchedulingGates"


def test_pods_spread_when_nothing_else_tells_nodes_apart() -> None:
    state = cache(*(node(f"n{n}") for n in range(4)))
    algorithm = Algorithm(plugins.default())
    for n in range(8):
        info = PodInfo(pod(f"p{n}"))
        chosen = algorithm.decide(info, state)
        assert isinstance(chosen, NodeInfo)
        state.assume(info, chosen.name)
    assert [len(n.pods) for n in state.nodes.values()] == [2, 2, 2, 2]


def test_pods_without_constraints_spread_from_those_they_belong_with() -> None:
    """Over nodes, though one of them has the image already; and of nodes that are equal, over zones."""
    zones = {"topology.kubernetes.io/zone": "a"}, {"topology.kubernetes.io/zone": "b"}
    state = cache(node("a1", labels=zones[0]), node("a2", labels=zones[0]), node("b1", labels=zones[1]))
    state.nodes["a1"].images["i:latest"] = 900 << 20
    selector = selectors.parse("app=web")
    chosen = [p for p in plugins.default() if not isinstance(p, PodTopologySpread)]
    algorithm = Algorithm([*chosen, PodTopologySpread(lambda p: selector if p.metadata.labels else None)])
    places = []
    for n in range(3):
        info = PodInfo(pod(f"p{n}", labels={"app": "web"}))
        found = algorithm.decide(info, state)
        assert isinstance(found, NodeInfo)
        state.assume(info, found.name)
        places.append(found.name)
    assert places == ["a1", "b1", "a2"]
    stranger = algorithm.decide(PodInfo(pod("stranger")), state)
    assert isinstance(stranger, NodeInfo) and stranger.name == "a1"


@pytest.mark.parametrize(("nodes", "wanted"), [(10, 10), (99, 99), (100, 100), (1000, 420), (5000, 500), (7000, 350)])
def test_a_large_cluster_is_not_searched_to_its_end(nodes: int, wanted: int) -> None:
    assert enough(nodes) == wanted


def test_removing_a_pod_gives_its_room_back() -> None:
    state = cache(node("a", cpu="1"), running := pod("q", cpu="1", on="a", ports=[80]))
    assert isinstance(Algorithm(plugins.default()).decide(PodInfo(pod("p", cpu="1")), state), Failure)
    state.drop_pod(running)
    assert decide(state, pod("p", cpu="1", ports=[80])) == "a"
