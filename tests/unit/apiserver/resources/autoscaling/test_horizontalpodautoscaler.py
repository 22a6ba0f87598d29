from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import Kind, changed

V2 = Kind("autoscaling/v2", "HorizontalPodAutoscaler")
V1 = Kind("autoscaling/v1", "HorizontalPodAutoscaler")
WEB: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 5},
}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
PODS = {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "10"}}}


def test_defaults() -> None:
    spec = V2.defaulted(WEB)["spec"]
    assert spec["minReplicas"] == 1
    assert spec["metrics"] == [CPU]
    assert "behavior" not in spec
    assert V2.create(WEB) == []
    assert V1.create(WEB) == []


def test_behavior_of_one_direction_brings_defaults_of_both() -> None:
    behavior = V2.defaulted(changed(WEB, spec__behavior={"scaleDown": {"stabilizationWindowSeconds": 60}}))["spec"]
    assert behavior["behavior"] == {
        "scaleDown": {
            "stabilizationWindowSeconds": 60,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ],
        },
    }


@pytest.mark.parametrize("kind", [V1, V2])
@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({"minReplicas": -1}, ["minReplicas: Invalid value: -1: must be greater than or equal to 0"]),
        ({"minReplicas": 0}, [
            "metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero "
            "replicas",
        ]),
        ({"maxReplicas": 0}, [
            "maxReplicas: Invalid value: 0: must be greater than 0",
            "maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ]),
        ({"scaleTargetRef": {"kind": "", "name": "a/b"}}, [
            "scaleTargetRef.kind: Required value",
            'scaleTargetRef.name: Invalid value: "a/b": may not contain \'/\'',
        ]),
    ],
)  # fmt: skip
def test_specs(kind: Kind, changes: dict[str, Any], findings: list[str]) -> None:
    bad = changed(WEB, **{f"spec__{path}": value for path, value in changes.items()})
    assert kind.create(bad) == [f"spec.{f}" for f in findings]


@pytest.mark.parametrize(
    ("metric", "findings"),
    [
        (CPU, []),
        (PODS, []),
        ({"type": "Magic"}, [
            'type: Unsupported value: "Magic": supported values: "ContainerResource", "External", "Object", "Pods", '
            '"Resource"'
        ]),
        ({"type": "Pods"}, ["pods: Required value: must populate information for the given metric source"]),
        ({**CPU, "pods": PODS["pods"]}, ["pods: Forbidden: must populate the given metric source only"]),
        ({"type": "Resource", "resource": {"name": "", "target": {"type": "Some"}}}, [
            "resource.name: Required value: must specify a resource name",
            'resource.target.type: Invalid value: "Some": must be either Utilization, Value, or AverageValue',
            "resource.target.averageUtilization: Required value: must set either a target raw value or a target "
            "utilization",
        ]),
        ({"type": "Resource", "resource": {"name": "cpu", "target": {
            "type": "Utilization", "averageUtilization": 0, "averageValue": "-1"}}}, [
            'resource.target.averageValue: Invalid value: "-1": must be positive',
            "resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            "resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
        ]),
        ({"type": "ContainerResource", "containerResource": {**CPU["resource"], "container": ""}}, [
            "containerResource.container: Required value: must specify a container"
        ]),
        ({"type": "Pods", "pods": {"metric": {"name": ""}, "target": {"type": "Value", "value": "1"}}}, [
            "pods.metric.name: Required value: must specify a metric name",
            "pods.target.averageValue: Required value: must specify a positive target averageValue",
        ]),
        ({"type": "Object", "object": {
            "describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "qps"}, "target": {"type": "Value"}
        }}, [
            "object.target.averageValue: Required value: must set either a target value for metric or a per-pod target"
        ]),
        ({"type": "External", "external": {
            "metric": {"name": "q"}, "target": {"type": "Value", "value": "1", "averageValue": "1"}}}, [
            "external.target.value: Forbidden: may not set both a target value for metric and a per-pod target"
        ]),
    ],
)  # fmt: skip
def test_metrics(metric: dict[str, Any], findings: list[str]) -> None:
    assert V2.create(changed(WEB, spec__metrics=[metric])) == [f"spec.metrics[0].{f}" for f in findings]


@pytest.mark.parametrize(
    ("rules", "findings"),
    [
        ({"stabilizationWindowSeconds": 3601}, [
            "stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600"
        ]),
        ({"selectPolicy": "Odd"}, [
            'selectPolicy: Unsupported value: "Odd": supported values: "Disabled", "Max", "Min"'
        ]),
        ({"policies": [{"type": "Bytes", "value": 0, "periodSeconds": 1801}]}, [
            'policies[0].type: Unsupported value: "Bytes": supported values: "Percent", "Pods"',
            "policies[0].value: Invalid value: 0: must be greater than zero",
            "policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ]),
    ],
)  # fmt: skip
def test_behavior(rules: dict[str, Any], findings: list[str]) -> None:
    bad = changed(WEB, spec__behavior={"scaleUp": rules})
    assert V2.create(bad) == [f"spec.behavior.scaleUp.{f}" for f in findings]


@pytest.mark.parametrize(
    ("metrics", "status", "targets"),
    [
        ([CPU], [], "cpu: <unknown>/80%"),
        (
            [CPU],
            [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 20}}}],
            "cpu: 20%/80%",
        ),
        ([PODS], [{"type": "Pods", "pods": {"metric": {"name": "qps"}, "current": {"averageValue": "7"}}}], "7/10"),
        ([CPU, PODS, PODS], [], "cpu: <unknown>/80%, <unknown>/10 + 1 more..."),
    ],
)  # fmt: skip
def test_row(metrics: list[Any], status: list[Any], targets: str) -> None:
    shown = changed(WEB, spec__metrics=metrics, status={"desiredReplicas": 2, "currentReplicas": 2,
                                                        "currentMetrics": status})  # fmt: skip
    assert V2.row(shown) == {
        "Name": "web",
        "Reference": "Deployment/web",
        "Targets": targets,
        "MinPods": "1",
        "MaxPods": 5,
        "Replicas": 2,
        "Age": "<unknown>",
    }
