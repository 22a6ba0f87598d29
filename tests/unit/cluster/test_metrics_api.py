"""metrics.k8s.io of a simulated cluster."""

from __future__ import annotations

from typing import Any

import pytest

from podling import clock
from podling.api import core_v1, errors
from podling.api.metrics_v1beta1 import NodeMetrics, PodMetrics
from podling.api.quantity import parse
from podling.cluster.inprocess import Cluster


def pod(name: str, app: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "app:1"}]},
    }


def test_nodes_and_running_pods_have_metrics() -> None:
    async def scenario() -> None:
        async with Cluster(nodes=2) as cluster:
            for name, app in (("a", "web"), ("b", "db")):
                await cluster.apply(pod(name, app))
                await cluster.until(core_v1.Pod, name, lambda p: p.status.phase == "Running")
            await cluster.apply(
                {**pod("waits", "web"), "spec": {"nodeSelector": {"no": "node"}, **pod("", "")["spec"]}}
            )
            nodes = (await cluster.client.list(NodeMetrics)).items
            assert sorted(n.metadata.name or "" for n in nodes) == ["node-1", "node-2"]
            assert all(n.window == "1s" and parse(n.usage["memory"]) is not None for n in nodes)
            assert nodes[0].metadata.labels and "kubernetes.io/hostname" in nodes[0].metadata.labels
            pods = (await cluster.client.list(PodMetrics, "default")).items
            assert sorted(p.metadata.name or "" for p in pods) == ["a", "b"]
            assert [c.name for c in pods[0].containers] == ["c"] and set(pods[0].containers[0].usage) == {
                "cpu",
                "memory",
            }
            chosen = (await cluster.client.list(PodMetrics, label_selector="app=db")).items
            assert [p.metadata.name for p in chosen] == ["b"]
            assert (await cluster.client.get(PodMetrics, "a", "default")).metadata.name == "a"
            with pytest.raises(errors.StatusError, match=r'podmetrics.metrics.k8s.io "default/waits" not found'):
                await cluster.client.get(PodMetrics, "waits", "default")
            with pytest.raises(errors.StatusError, match=r'nodemetrics.metrics.k8s.io "other" not found'):
                await cluster.client.get(NodeMetrics, "other")

    clock.run_virtual(scenario())
