"""Autoscalers of a simulated cluster: containers that use CPU, and Deployments that grow and shrink with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podling import clock
from podling.api import apps_v1, autoscaling_v1, autoscaling_v2, core_v1, errors
from podling.cluster.inprocess import Cluster
from podling.runtime.base import ContainerConfig
from podling.runtime.fake_behaviour import Behaviour


def deployment(name: str, image: str, replicas: int = 1) -> dict[str, Any]:
    container = {"name": "c", "image": image, "resources": {"requests": {"cpu": "100m"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


def autoscaler(name: str, target: str, kind: str = "Deployment", version: str = "apps/v1", **spec: Any) -> Any:
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": version, "kind": kind, "name": target},
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": cpu}],
            **spec,
        },
    }


def conditions(hpa: autoscaling_v2.HorizontalPodAutoscaler) -> dict[str, tuple[str, str | None, str | None]]:
    return {c.type: (c.status, c.reason, c.message) for c in hpa.status.conditions or ()}


async def events(cluster: Cluster) -> list[tuple[str | None, str | None]]:
    found = (await cluster.client.list(core_v1.Event, "default")).items
    return [(e.reason, e.message) for e in found if e.involved_object.kind == "HorizontalPodAutoscaler"]


def test_a_deployment_grows_with_its_load_and_shrinks_again() -> None:
    load = {"cores": 0.15}

    def choose(config: ContainerConfig) -> Behaviour:
        return Behaviour(cpu=load["cores"])

    async def use(cluster: Cluster, cores: float, expected: int) -> apps_v1.Deployment:
        """From now on new pods use this; the old ones are replaced."""
        load["cores"] = cores
        await cluster.client.delete_collection(core_v1.Pod, "default", label_selector="app=web")
        return await cluster.until(apps_v1.Deployment, "web", lambda d: d.spec.replicas == expected, seconds=1200)

    async def scenario() -> None:
        async with Cluster(behaviour=choose) as cluster:
            await cluster.apply(deployment("web", "app:1"))
            await cluster.apply(autoscaler("web", "web"))
            began = clock.elapsed()
            await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.ready_replicas == 5)
            assert clock.elapsed() - began < 150
            hpa = await cluster.client.get(autoscaling_v2.HorizontalPodAutoscaler, "web", "default")
            assert conditions(hpa)["ScaledToZero"][:2] == ("False", "NotScaledToZero")
            await asyncio.sleep(60)
            hpa = await cluster.client.get(autoscaling_v2.HorizontalPodAutoscaler, "web", "default")
            assert (hpa.status.current_replicas, hpa.status.desired_replicas) == (5, 5)
            assert hpa.status.observed_generation == hpa.metadata.generation
            current = (hpa.status.current_metrics or [])[0].resource
            assert current is not None
            assert (current.current.average_utilization, current.current.average_value) == (150, "150m")
            assert conditions(hpa)["ScalingActive"] == (
                "True", "ValidMetricFound", "the HPA was able to successfully calculate a replica count from cpu "
                "resource utilization (percentage of request)",
            )  # fmt: skip
            assert conditions(hpa)["ScalingLimited"][:2] == ("True", "TooManyReplicas")
            v1 = await cluster.client.get(autoscaling_v1.HorizontalPodAutoscaler, "web", "default")
            assert v1.status.current_cpu_utilization_percentage == 150
            assert "autoscaling.alpha.kubernetes.io/conditions" in (v1.metadata.annotations or {})
            before = clock.elapsed()
            await use(cluster, 0.005, 1)
            # Five minutes in which more were recommended must have passed.
            assert 240 < clock.elapsed() - before < 900
            await asyncio.sleep(30)
            said = await events(cluster)
            above = "reason: cpu resource utilization (percentage of request) above target"
            assert ("SuccessfulRescale", f"New size: 3; {above}") in said
            assert ("SuccessfulRescale", f"New size: 5; {above}") in said
            assert ("SuccessfulRescale", "New size: 1; reason: All metrics below target") in said
            hpa = await cluster.client.get(autoscaling_v2.HorizontalPodAutoscaler, "web", "default")
            assert hpa.status.last_scale_time is not None

    clock.run_virtual(scenario())


SCALE = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
         "labelSelectorPath": ".status.selector"}  # fmt: skip
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "fleets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "fleets", "singular": "fleet", "kind": "Fleet"},
        "versions": [{
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {}, "scale": SCALE},
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        }],
    },
}  # fmt: skip


def test_bounds_pauses_and_targets_of_any_kind() -> None:
    async def scenario() -> None:
        async with Cluster() as cluster:
            await cluster.apply(CRD)
            await asyncio.sleep(5)
            fleet = {"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "f"}}
            await cluster.apply({**fleet, "spec": {"replicas": 9}})
            await cluster.apply(deployment("off", "app:1", 0))
            for hpa in (
                autoscaler("custom", "f", "Fleet", "example.com/v1"),
                autoscaler("off", "off"),
                autoscaler("absent", "absent"),
                autoscaler("unknown", "x", "Nothing"),
            ):
                await cluster.apply(hpa)
            await asyncio.sleep(20)
            found = {
                h.metadata.name: conditions(h)
                for h in (await cluster.client.list(autoscaling_v2.HorizontalPodAutoscaler, "default")).items
            }
            message = "the HPA controller was able to update the target scale to 5"
            assert found["custom"]["AbleToScale"] == ("True", "SucceededRescale", message)
            assert ("SuccessfulRescale", "New size: 5; reason: Current number of replicas above Spec.MaxReplicas") in (
                await events(cluster)
            )
            message = "scaling is disabled since the replica count of the target is zero"
            assert found["off"]["ScalingActive"] == ("False", "ScalingDisabled", message)
            unable = "the HPA controller was unable to get the target's current scale"
            text = f'{unable}: deployments.apps "absent" not found'
            assert found["absent"]["AbleToScale"] == ("False", "FailedGetScale", text)
            text = f'{unable}: no matches for kind "Nothing" in group "apps"'
            assert found["unknown"]["AbleToScale"] == ("False", "FailedGetScale", text)
            await asyncio.sleep(15)
            hpa = await cluster.client.get(autoscaling_v2.HorizontalPodAutoscaler, "custom", "default")
            text = "the HPA target's scale is missing a selector"
            assert conditions(hpa)["ScalingActive"] == ("False", "InvalidSelector", text)
            assert ("SelectorRequired", "selector is required") in await events(cluster)

    clock.run_virtual(scenario())


def test_metrics_that_nobody_serves_and_pods_of_two_autoscalers() -> None:
    async def scenario() -> None:
        async with Cluster() as cluster:
            await cluster.apply(deployment("web", "app:1"))
            queue = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "5"}}
            await cluster.apply(autoscaler("one", "web", metrics=[{"type": "External", "external": queue}]))
            await asyncio.sleep(20)
            hpa = await cluster.client.get(autoscaling_v2.HorizontalPodAutoscaler, "one", "default")
            text = (
                "unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: "
                "the server could not find the requested resource (get queue.external.metrics.k8s.io)"
            )
            assert conditions(hpa)["ScalingActive"] == (
                "False", "FailedGetExternalMetric", f"the HPA was unable to compute the replica count: {text}",
            )  # fmt: skip
            said = await events(cluster)
            assert ("FailedGetExternalMetric", text) in said
            whole = (
                "invalid metrics (1 invalid out of 1), first error is: failed to get queue external metric value: "
                f"failed to get queue external metric: {text}"
            )
            assert ("FailedComputeMetricsReplicas", whole) in said
            await cluster.apply(autoscaler("two", "web", metrics=[{"type": "Pods", "pods": queue}]))
            await asyncio.sleep(50)
            hpa = await cluster.client.get(autoscaling_v2.HorizontalPodAutoscaler, "two", "default")
            text = "pods by selector app=web are controlled by multiple HPAs: [default/one default/two]"
            assert conditions(hpa)["ScalingActive"] == ("False", "AmbiguousSelector", text)
            await cluster.client.delete(autoscaling_v2.HorizontalPodAutoscaler, "one", "default")
            await asyncio.sleep(40)
            hpa = await cluster.client.get(autoscaling_v2.HorizontalPodAutoscaler, "two", "default")
            status, reason, message = conditions(hpa)["ScalingActive"]
            assert (status, reason) == ("False", "FailedGetPodsMetric")
            assert message is not None and message.endswith(
                "unable to get metric queue: unable to fetch metrics from custom metrics API: no custom metrics API "
                "(custom.metrics.k8s.io) registered"
            )

    clock.run_virtual(scenario())


def test_zero_needs_a_metric_that_needs_no_pods() -> None:
    async def scenario() -> None:
        async with Cluster() as cluster:
            with pytest.raises(errors.StatusError, match="must specify at least one Object or External metric"):
                await cluster.apply(autoscaler("zero", "web", minReplicas=0))

    clock.run_virtual(scenario())
