"""Where pods go: limits of nodes, selectors, and who makes room for whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conformance.client import Namespace, Object, condition, eventually
from tests.e2e.conformance.pods import agnhost, pod, shell

EXTENDED = "example.com/fakecpu"


def conditions(body: Object, kind: str) -> Object:
    found: Object = next(c for c in body["status"]["conditions"] if c["type"] == kind)
    return found


@pytest.fixture
def classes(space: Namespace) -> Iterator[Namespace]:
    """Priority classes p1 to p4, and five of an extended resource at each node."""
    for level in range(1, 5):
        body = {"metadata": {"name": f"p{level}-{space.name}"}, "value": level}
        space.create("priorityclasses", body)
    for node in ("duo-1", "duo-2"):
        body = space.get("nodes", node)
        body["metadata"]["resourceVersion"] = "0"
        body["status"]["capacity"][EXTENDED] = "5"
        space.api.request("PUT", space.path("nodes", node, "status"), body)
        eventually(lambda node=node: space.get("nodes", node)["status"]["allocatable"][EXTENDED] == "5", 20)  # type: ignore[misc]
    yield space
    for node in ("duo-1", "duo-2"):
        gone = {"status": {"capacity": {EXTENDED: None}, "allocatable": {EXTENDED: None}}}
        space.patch("nodes", node, gone, kind="merge", sub="status")
    for level in range(1, 5):
        space.delete("priorityclasses", f"p{level}-{space.name}")


def wanting(space: Namespace, name: str, level: int, amount: int, **spec: Any) -> Object:
    resources = {"requests": {EXTENDED: str(amount)}, "limits": {EXTENDED: str(amount)}}
    script = shell("trap exit TERM; sleep 600 & wait", resources=resources)
    return pod(name, script, priorityClassName=f"p{level}-{space.name}", **spec)


def test_more_than_a_node_has_is_not_scheduled(space: Namespace) -> None:
    everywhere = "/api/v1/pods"

    def nothing_ends() -> bool:
        pods = space.api.request("GET", everywhere)["items"]
        ending = [p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"]]
        assert not ending, f"still ending: {ending}"
        return True

    eventually(nothing_ends, 60)
    for node in ("duo-1", "duo-2"):
        used = sum(
            int(c["resources"].get("requests", {}).get("cpu", "0m").removesuffix("m"))
            for p in space.api.request("GET", everywhere, fieldSelector=f"spec.nodeName={node}")["items"]
            for c in p["spec"]["containers"]
            if p["status"]["phase"] in ("Pending", "Running")
        )
        rest = int(space.get("nodes", node)["status"]["allocatable"]["cpu"]) * 1000 - used
        resources = {"requests": {"cpu": f"{rest}m"}, "limits": {"cpu": f"{rest}m"}}
        filler = pod(
            f"filler-{node}", agnhost("pause", resources=resources), nodeSelector={"kubernetes.io/hostname": node}
        )
        space.run(filler)
    space.start(pod("additional", agnhost("pause", resources={"requests": {"cpu": "1m"}})))
    eventually(lambda: condition(space.get("pods", "additional"), "PodScheduled") == "False")
    said = eventually(lambda: [e for e in space.events("additional") if e["reason"] == "FailedScheduling"])
    assert said[0]["message"].startswith("0/2 nodes are available: 2 Insufficient cpu.")
    space.delete("pods", "filler-duo-1", gracePeriodSeconds=0)
    space.ready("additional")


def test_selectors_are_kept(space: Namespace) -> None:
    space.start(pod("nowhere", agnhost("pause"), nodeSelector={"label": "nonempty"}))
    eventually(lambda: conditions(space.get("pods", "nowhere"), "PodScheduled")["reason"] == "Unschedulable")
    space.patch("nodes", "duo-2", {"metadata": {"labels": {"label": "nonempty"}}})
    assert space.ready("nowhere")["spec"]["nodeName"] == "duo-2"
    space.patch("nodes", "duo-2", {"metadata": {"labels": {"label": None}}})


def test_the_important_take_the_place_of_others(classes: Namespace) -> None:
    space = classes
    space.run(wanting(space, "low-1", 1, 5), wanting(space, "medium", 2, 5))
    space.patch("pods", "low-1", {"metadata": {"finalizers": ["example.com/held"]}})
    space.run(wanting(space, "high", 4, 5))
    victim = space.get("pods", "low-1")
    assert victim["metadata"]["deletionTimestamp"]
    disrupted = conditions(victim, "DisruptionTarget")
    assert (disrupted["status"], disrupted["reason"]) == ("True", "PreemptionByScheduler")
    assert "deletionTimestamp" not in space.get("pods", "medium")["metadata"]
    space.patch("pods", "low-1", {"metadata": {"finalizers": None}}, kind="merge")


def test_critical_pods_preempt(classes: Namespace) -> None:
    space = classes
    space.run(wanting(space, "low", 1, 5), wanting(space, "other", 2, 5))
    body = wanting(space, "critical", 1, 5)
    body["spec"]["priorityClassName"] = "system-cluster-critical"
    made = space.run(body)[0]
    assert made["spec"]["priority"] == 2000000000
    eventually(lambda: space.gone("pods", "low"))


def test_replica_sets_of_four_priorities(classes: Namespace) -> None:
    """On one node with room for five: 1 of p1 to p3 leave their place to p4, by priority."""
    space = classes
    for level, replicas, amount in ((1, 1, 1), (2, 2, 1), (3, 2, 1), (4, 2, 2)):
        template = wanting(space, "x", level, amount, nodeSelector={"kubernetes.io/hostname": "duo-1"})
        template["metadata"] = {"labels": {"level": f"p{level}"}}
        selector = {"matchLabels": {"level": f"p{level}"}}
        spec = {"replicas": replicas, "selector": selector, "template": template}
        space.create("replicasets", {"metadata": {"name": f"rs-{level}"}, "spec": spec})
        eventually(lambda n=level, r=replicas: space.get("replicasets", f"rs-{n}")["status"].get("readyReplicas") == r)  # type: ignore[misc]

    def ready(level: int) -> int:
        return int(space.get("replicasets", f"rs-{level}")["status"].get("readyReplicas", 0))

    eventually(lambda: [ready(level) for level in range(1, 5)] == [0, 0, 1, 2])


def test_taints_evict_after_each_pods_own_time(space: Namespace) -> None:
    key = f"{space.name}/evict"
    for name, seconds in (("soon", 1), ("later", 6), ("never", None)):
        toleration: Object = {"key": key, "operator": "Exists", "effect": "NoExecute"}
        if seconds:
            toleration["tolerationSeconds"] = seconds
        selector = {"kubernetes.io/hostname": "duo-2"}
        space.start(pod(name, agnhost("pause"), tolerations=[toleration], nodeSelector=selector))
    for name in ("soon", "later", "never"):
        space.ready(name)
    taint = {"spec": {"taints": [{"key": key, "value": "yes", "effect": "NoExecute"}]}}
    space.patch("nodes", "duo-2", taint)
    try:
        eventually(lambda: space.gone("pods", "soon"), 10)
        assert "deletionTimestamp" not in space.get("pods", "later")["metadata"]
    finally:
        space.patch("nodes", "duo-2", {"spec": {"taints": None}}, kind="merge")
    for name in ("later", "never"):
        assert "deletionTimestamp" not in space.get("pods", name)["metadata"]
    said = eventually(lambda: [e for e in space.events("soon") if e["reason"] == "TaintManagerEviction"])
    assert said[0]["message"].startswith("Marking for deletion Pod")
