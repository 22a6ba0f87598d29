"""Autoscalers on virtual time, whose metrics are what the test says."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.cluster import Cluster, selector, template
from podling import clock
from podling.api import apps_v1, core_v1
from podling.api import autoscaling_v2 as v2
from podling.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from podling.controllers import horizontal_pod_autoscaler_counts as counts
from podling.controllers.deployment import DeploymentController
from podling.controllers.horizontal_pod_autoscaler import HorizontalPodAutoscalerController
from podling.controllers.horizontal_pod_autoscaler_proposals import shown
from podling.controllers.horizontal_pod_autoscaler_replicas import Sample, Uncomputable
from podling.controllers.replicaset import ReplicaSetController

ALL = DeploymentController, ReplicaSetController, HorizontalPodAutoscalerController


class Measured:
    """Stands for the metrics' servers; None is a server that is not there."""

    queue: int | None = 0
    cpu: int | None = 100

    async def external(self, *_: Any) -> list[int]:
        if self.queue is None:
            raise Uncomputable("no metrics returned from external metrics API")
        return [self.queue * 1000]

    async def resource(self, *_: Any) -> dict[str, Sample]:
        if self.cpu is None:
            raise Uncomputable("no metrics returned from resource metrics API")
        return {pod: Sample(self.cpu, clock.now(), 0.0) for pod in self.pods()}

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        controller = cluster.controller(HorizontalPodAutoscalerController)
        controller._loaded()._sources = self

    def pods(self) -> list[str]:
        return [p.metadata.name or "" for p in self._cluster.agent.pods.list("default")]


def queue(each: str = "10") -> v2.MetricSpec:
    source = v2.ExternalMetricSource(
        metric=v2.MetricIdentifier(name="queue"), target=v2.MetricTarget(type="AverageValue", average_value=each)
    )
    return v2.MetricSpec(type="External", external=source)


def cpu() -> v2.MetricSpec:
    target = v2.MetricTarget(type="AverageValue", average_value="100m")
    return v2.MetricSpec(type="Resource", resource=v2.ResourceMetricSource(name="cpu", target=target))


async def deploy(cluster: Cluster, replicas: int = 1) -> None:
    spec = apps_v1.DeploymentSpec(replicas=replicas, selector=selector(), template=template())
    await cluster.client.create(apps_v1.Deployment(metadata=ObjectMeta(name="web", namespace="default"), spec=spec))


async def autoscale(cluster: Cluster, *metrics: v2.MetricSpec, **spec: Any) -> None:
    target = v2.CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")
    made = v2.HorizontalPodAutoscalerSpec(scale_target_ref=target, max_replicas=8, metrics=list(metrics), **spec)
    meta = ObjectMeta(name="web", namespace="default")
    await cluster.client.create(v2.HorizontalPodAutoscaler(metadata=meta, spec=made))


async def size(cluster: Cluster) -> int | None:
    return (await cluster.client.get(apps_v1.Deployment, "web", "default")).spec.replicas


async def condition(cluster: Cluster, kind: str) -> tuple[str, str | None]:
    hpa = await cluster.client.get(v2.HorizontalPodAutoscaler, "web", "default")
    found = next(c for c in hpa.status.conditions or () if c.type == kind)
    return found.status, found.reason


def test_to_zero_and_back_but_not_from_a_persons_zero() -> None:
    async def main() -> None:
        async with Cluster(*ALL) as cluster:
            measured = Measured(cluster)
            measured.queue = 30
            await deploy(cluster)
            await autoscale(cluster, queue(), min_replicas=0)
            await cluster.settle(40)
            assert await size(cluster) == 3
            measured.queue = 0
            await cluster.settle(400)
            assert await size(cluster) == 0
            assert await condition(cluster, "ScaledToZero") == ("True", "ScaledToZero")
            assert await cluster.list(core_v1.Pod) == []
            measured.queue = 12
            await cluster.settle(20)
            assert await size(cluster) == 2
            assert await condition(cluster, "ScaledToZero") == ("False", "NotScaledToZero")
            await cluster.change(apps_v1.Deployment, "web", lambda d: setattr(d.spec, "replicas", 0))
            await cluster.settle(40)
            assert await size(cluster) == 0
            assert await condition(cluster, "ScalingActive") == ("False", "ScalingDisabled")

    clock.run_virtual(main())


def test_a_metric_that_fails_only_ever_keeps_replicas() -> None:
    async def main() -> None:
        async with Cluster(*ALL) as cluster:
            measured = Measured(cluster)
            await deploy(cluster, 4)
            policies = [v2.HPAScalingPolicy(type="Percent", value=100, period_seconds=15)]
            at_once = v2.HPAScalingRules(stabilization_window_seconds=0, policies=policies)
            await autoscale(cluster, queue(), cpu(), behavior=v2.HorizontalPodAutoscalerBehavior(scale_down=at_once))
            measured.queue, measured.cpu = None, 50
            await cluster.settle(100)
            assert await size(cluster) == 4
            assert await condition(cluster, "ScalingActive") == ("False", "FailedGetExternalMetric")
            measured.cpu = 150
            await cluster.settle(20)
            assert await size(cluster) == 6
            assert await condition(cluster, "ScalingActive") == ("True", "ValidMetricFound")
            said = await cluster.events()
            assert ("SuccessfulRescale", "New size: 6; reason: cpu resource above target") in said

    clock.run_virtual(main())


def test_the_greatest_proposal_counts_and_policies_slow_it_down() -> None:
    async def main() -> None:
        async with Cluster(*ALL) as cluster:
            measured = Measured(cluster)
            measured.queue, measured.cpu = 70, 100
            await deploy(cluster, 2)
            one = v2.HPAScalingRules(policies=[v2.HPAScalingPolicy(type="Pods", value=1, period_seconds=60)])
            behavior = v2.HorizontalPodAutoscalerBehavior(scale_up=one)
            await autoscale(cluster, cpu(), queue(), behavior=behavior)
            await cluster.settle(20)
            assert await size(cluster) == 3
            assert await condition(cluster, "ScalingLimited") == ("True", "ScaleUpLimit")
            await cluster.settle(40)
            assert await size(cluster) == 3
            await cluster.settle(60)
            assert await size(cluster) == 4
            assert ("SuccessfulRescale", "New size: 4; reason: external metric queue(nil) above target") in (
                await cluster.events()
            )

    clock.run_virtual(main())


def test_nothing_is_awake_without_autoscalers() -> None:
    async def main() -> None:
        async with Cluster(*ALL) as cluster:
            controller = cluster.controller(HorizontalPodAutoscalerController)
            await cluster.settle(60)
            assert controller._autoscaling is None
            Measured(cluster)
            before = sum(counts.RECONCILIATIONS.values.values())
            await deploy(cluster)
            await autoscale(cluster, queue())
            await cluster.settle(14)
            assert sum(counts.RECONCILIATIONS.values.values()) == before
            await cluster.settle(47)
            assert sum(counts.RECONCILIATIONS.values.values()) == before + 4
            await cluster.client.delete(v2.HorizontalPodAutoscaler, "web", "default")
            await cluster.settle(120)
            assert sum(counts.RECONCILIATIONS.values.values()) == before + 4
            assert controller._autoscaling._selectors == {} and controller.queue._alarms == {}

    clock.run_virtual(main())


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (None, "nil"),
        (
            LabelSelector(match_labels={"b": "2", "a": "1"}),
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{},}",
        ),
        (
            LabelSelector(match_expressions=[LabelSelectorRequirement(key="k", operator="In", values=["x", "y"])]),
            "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{"
            "LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}",
        ),
    ],
)
def test_selectors_in_the_names_of_metrics(labels: LabelSelector | None, text: str) -> None:
    assert shown(labels) == text
