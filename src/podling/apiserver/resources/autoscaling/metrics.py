"""What autoscalers look at: metrics of resources, pods, objects, or of something outside the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from podling.api import autoscaling_v2 as v2
from podling.api import names, quantity
from podling.machinery.validation import Findings, Path, each, forbidden, invalid, not_supported, required

#: (attribute, field) of the source by type of metric.
SOURCES = {
    "Object": ("object", "object"),
    "External": ("external", "external"),
    "Pods": ("pods", "pods"),
    "Resource": ("resource", "resource"),
    "ContainerResource": ("container_resource", "containerResource"),
}
_TARGETS = ("Utilization", "Value", "AverageValue")


def object_reference(reference: Any, path: Path) -> Findings:
    """A kind and a name, of any version."""
    found: Findings = []
    for name, value in (("kind", reference.kind), ("name", reference.name)):
        at = path.child(name)
        found += each(at, value, names.path_segment(value)) if value else [required(at)]
    return found


def metrics(values: Sequence[v2.MetricSpec], path: Path) -> Findings:
    found: Findings = []
    for index, metric in enumerate(values):
        found += _metric(metric, path.index(index))
    return found


def _metric(metric: v2.MetricSpec, path: Path) -> Findings:
    found: Findings = []
    if not metric.type:
        found.append(required(path.child("type"), "must specify a metric source type"))
    if metric.type not in SOURCES:
        found.append(not_supported(path.child("type"), metric.type, sorted(SOURCES)))
    present = [kind for kind, (attribute, _) in SOURCES.items() if getattr(metric, attribute) is not None]
    if present:
        # Upstream looks into the first one only: the others should not be there.
        attribute, name = SOURCES[present[0]]
        found += _CHECKS[present[0]](getattr(metric, attribute), path.child(name))
    if metric.type in SOURCES and metric.type not in present:
        detail = "must populate information for the given metric source"
        found.append(required(path.child(SOURCES[metric.type][1]), detail))
    if len(present) != 1:
        for kind in present:
            if kind != metric.type:
                found.append(forbidden(path.child(SOURCES[kind][1]), "must populate the given metric source only"))
    return found


def _identifier(identifier: v2.MetricIdentifier, path: Path) -> Findings:
    at = path.child("name")
    if not identifier.name:
        return [required(at, "must specify a metric name")]
    return each(at, identifier.name, names.path_segment(identifier.name))


def _target(target: v2.MetricTarget, path: Path) -> Findings:
    found: Findings = []
    if not target.type:
        found.append(required(path.child("type"), "must specify a metric target type"))
    if target.type not in _TARGETS:
        found.append(invalid(path.child("type"), target.type, "must be either Utilization, Value, or AverageValue"))
    for name, value in (("value", target.value), ("averageValue", target.average_value)):
        if value is not None and quantity.parse(value).nano <= 0:
            found.append(invalid(path.child(name), str(value), "must be positive"))
    used = target.average_utilization
    if used is not None and used < 1:
        found.append(invalid(path.child("averageUtilization"), used, "must be greater than 0"))
    return found


def _needs_value(target: v2.MetricTarget, path: Path) -> Findings:
    if target.value is not None or target.average_value is not None:
        return []
    detail = "must set either a target value for metric or a per-pod target"
    return [required(path.child("target", "averageValue"), detail)]


def _object(source: v2.ObjectMetricSource, path: Path) -> Findings:
    found = object_reference(source.described_object, path.child("describedObject"))
    found += _identifier(source.metric, path.child("metric"))
    return found + _target(source.target, path.child("target")) + _needs_value(source.target, path)


def _external(source: v2.ExternalMetricSource, path: Path) -> Findings:
    found = _identifier(source.metric, path.child("metric"))
    found += _target(source.target, path.child("target")) + _needs_value(source.target, path)
    if source.target.value is not None and source.target.average_value is not None:
        detail = "may not set both a target value for metric and a per-pod target"
        found.append(forbidden(path.child("target", "value"), detail))
    return found


def _pods(source: v2.PodsMetricSource, path: Path) -> Findings:
    found = _identifier(source.metric, path.child("metric")) + _target(source.target, path.child("target"))
    average = source.target.average_value
    if average is None or quantity.parse(average).nano <= 0:
        at = path.child("target", "averageValue")
        found.append(required(at, "must specify a positive target averageValue"))
    return found


def _resource(source: v2.ResourceMetricSource | v2.ContainerResourceMetricSource, path: Path) -> Findings:
    found: Findings = []
    if not source.name:
        found.append(required(path.child("name"), "must specify a resource name"))
    if isinstance(source, v2.ContainerResourceMetricSource) and not source.container:
        found.append(required(path.child("container"), "must specify a container"))
    target, at = source.target, path.child("target")
    found += _target(target, at)
    if target.average_utilization is None and target.average_value is None:
        detail = "must set either a target raw value or a target utilization"
        found.append(required(at.child("averageUtilization"), detail))
    if target.average_utilization is not None and target.average_value is not None:
        detail = "may not set both a target raw value and a target utilization"
        found.append(forbidden(at.child("averageValue"), detail))
    return found


_CHECKS: dict[str, Callable[[Any, Path], Findings]] = {
    "Object": _object,
    "External": _external,
    "Pods": _pods,
    "Resource": _resource,
    "ContainerResource": _resource,
}
