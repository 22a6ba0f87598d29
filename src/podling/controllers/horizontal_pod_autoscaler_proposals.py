"""What each metric of an autoscaler proposes: asked for, computed, and told as its status, its name, or its failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from podling import clock
from podling.api import autoscaling_v2 as v2
from podling.api import core_v1, meta_v1, quantity, selectors
from podling.controllers import horizontal_pod_autoscaler_replicas as replicas
from podling.controllers.horizontal_pod_autoscaler_replicas import Limits, Proposal, Uncomputable
from podling.controllers.horizontal_pod_autoscaler_sources import Sources


class Failed(Exception):
    """A metric proposes nothing: `reason` and `cause` are for its event and condition, the text is for all."""

    def __init__(self, reason: str, cause: str, text: str, *, spec: bool = False) -> None:
        super().__init__(text)
        self.reason, self.cause, self.spec = reason, cause, spec


class Look(NamedTuple):
    """One look at what an autoscaler scales."""

    namespace: str
    selector: str
    pods: list[core_v1.Pod]
    wanted: int
    present: int
    limits: Limits


class Proposed(NamedTuple):
    replicas: int
    metric: str
    status: v2.MetricStatus


async def propose(sources: Sources, spec: v2.MetricSpec, look: Look) -> Proposed:
    """Raises Failed."""
    compute = _BY_TYPE.get(spec.type)
    if compute is None:
        text = f'unknown metric source type "{spec.type}"'
        raise Failed("InvalidMetricSourceType", text, text, spec=True)
    return await compute(sources, spec, look)


def shown(selector: meta_v1.LabelSelector | None) -> str:
    """A selector as Go prints one, in the names of metrics and their errors."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.match_labels or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{e.key},Operator:{e.operator},Values:[{' '.join(e.values or ())}],}},"
        for e in selector.match_expressions or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def _selector(selector: meta_v1.LabelSelector | None) -> str:
    """As it stands in a query; of all if there is none."""
    if selector is None:
        return ""
    try:
        return str(selectors.from_label_selector(selector))
    except selectors.SelectorError as error:
        raise Uncomputable(str(error)) from error


def _milli(value: int) -> str:
    return str(quantity.of_milli(value))


# Resources of pods, and of one container of each.


async def _resource(sources: Sources, spec: v2.MetricSpec, look: Look) -> Proposed:
    source = spec.resource or v2.ResourceMetricSource()
    proposal, metric, current = await _used(
        sources, source, "", look, "FailedGetResourceMetric", f"failed to get {source.name} resource metric value"
    )
    status = v2.ResourceMetricStatus(name=source.name, current=current)
    return Proposed(proposal.replicas, metric, v2.MetricStatus(type=spec.type, resource=status))


async def _container_resource(sources: Sources, spec: v2.MetricSpec, look: Look) -> Proposed:
    source = spec.container_resource or v2.ContainerResourceMetricSource()
    reason, text = "FailedGetContainerResourceMetric", f"failed to get {source.container} container metric value"
    proposal, metric, current = await _used(sources, source, source.container, look, reason, text)
    status = v2.ContainerResourceMetricStatus(container=source.container, name=source.name, current=current)
    return Proposed(proposal.replicas, metric, v2.MetricStatus(type=spec.type, container_resource=status))


async def _used(
    sources: Sources,
    source: v2.ResourceMetricSource | v2.ContainerResourceMetricSource,
    container: str,
    look: Look,
    reason: str,
    text: str,
) -> tuple[Proposal, str, v2.MetricValueStatus]:
    name, target, now = source.name, source.target, clock.now()
    what = "usage" if target.average_value is not None else "utilization"
    try:
        try:
            samples = await sources.resource(name, look.namespace, look.selector, container)
        except Uncomputable as error:
            raise Uncomputable(f"unable to get metrics for resource {name}: {error}") from error
        if target.average_value is not None:
            wanted = quantity.parse(target.average_value).milli()
            found = replicas.by_average(look.pods, samples, wanted, look.wanted, name, look.limits, now)
            return found, f"{name} resource", v2.MetricValueStatus(average_value=_milli(found.value))
        percent = target.average_utilization
        if percent is None:
            cause = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set"  # noqa: E501
            raise Failed(reason, cause, f"{text}: {cause}", spec=True)
        found = replicas.by_utilization(look.pods, samples, percent, look.wanted, name, look.limits, now, container)
    except Uncomputable as error:
        cause = f"failed to get {name} {what}: {error}"
        raise Failed(reason, cause, f"{text}: {cause}") from error
    current = v2.MetricValueStatus(average_utilization=found.percent, average_value=_milli(found.value))
    return found, f"{name} resource utilization (percentage of request)", current


# Custom metrics of pods and of other objects.


async def _pods(sources: Sources, spec: v2.MetricSpec, look: Look) -> Proposed:
    source = spec.pods or v2.PodsMetricSource()
    metric = source.metric
    try:
        chosen = _selector(metric.selector)
        try:
            samples = await sources.pods(metric, look.namespace, look.selector, chosen)
        except Uncomputable as error:
            raise Uncomputable(f"unable to get metric {metric.name}: {error}") from error
        target = quantity.parse(source.target.average_value or 0).milli()
        found = replicas.by_average(look.pods, samples, target, look.wanted, "", look.limits, clock.now())
    except Uncomputable as error:
        raise Failed("FailedGetPodsMetric", str(error), f"failed to get pods metric value: {error}") from error
    status = v2.PodsMetricStatus(metric=metric, current=v2.MetricValueStatus(average_value=_milli(found.value)))
    return Proposed(found.replicas, f"pods metric {metric.name}", v2.MetricStatus(type=spec.type, pods=status))


async def _object(sources: Sources, spec: v2.MetricSpec, look: Look) -> Proposed:
    source = spec.object or v2.ObjectMetricSource()
    metric, about, target = source.metric, source.described_object, source.target
    reason, text = "FailedGetObjectMetric", "failed to get object metric value"
    if target.type not in ("Value", "AverageValue"):
        cause = "invalid object metric source: neither a value target nor an average value target was set"
        raise Failed(reason, cause, f"{text}: {cause}", spec=True)
    try:
        chosen = _selector(metric.selector)
        try:
            value = await sources.object(metric, look.namespace, about, chosen)
        except Uncomputable as error:
            where = f"{about.kind} on {look.namespace} {about.name}"
            raise Uncomputable(f"unable to get metric {metric.name}: {where}/{error}") from error
        found, current = _compared(value, target, look, target.type == "AverageValue")
    except Uncomputable as error:
        between = f"failed to get {metric.name} object metric: " if target.type == "AverageValue" else ""
        raise Failed(reason, str(error), f"{text}: {between}{error}") from error
    name = f"{about.kind} metric {metric.name}"
    if target.type == "AverageValue":
        name = f"external metric {metric.name}({shown(metric.selector)})"
    status = v2.ObjectMetricStatus(metric=metric, described_object=about, current=current)
    return Proposed(found.replicas, name, v2.MetricStatus(type=spec.type, object=status))


async def _external(sources: Sources, spec: v2.MetricSpec, look: Look) -> Proposed:
    source = spec.external or v2.ExternalMetricSource()
    metric, target = source.metric, source.target
    reason, text = "FailedGetExternalMetric", f"failed to get {metric.name} external metric value"
    if target.average_value is None and target.value is None:
        cause = "invalid external metric source: neither a value target nor an average value target was set"
        raise Failed(reason, cause, f"{text}: {cause}", spec=True)
    averaged = target.average_value is not None
    try:
        chosen = _selector(metric.selector)
        try:
            value = sum(await sources.external(metric, look.namespace, chosen))
        except Uncomputable as error:
            which = f"{look.namespace}/{metric.name}/{shown(metric.selector)}"
            raise Uncomputable(f"unable to get external metric {which}: {error}") from error
        found, current = _compared(value, target, look, averaged)
    except Uncomputable as error:
        between = f"{metric.name} external metric" if averaged else f"external metric {metric.name}"
        raise Failed(reason, str(error), f"{text}: failed to get {between}: {error}") from error
    name = f"external metric {metric.name}({shown(metric.selector)})"
    status = v2.ExternalMetricStatus(metric=metric, current=current)
    return Proposed(found.replicas, name, v2.MetricStatus(type=spec.type, external=status))


def _compared(value: int, target: v2.MetricTarget, look: Look, averaged: bool) -> tuple[Proposal, v2.MetricValueStatus]:
    """One value for all pods, against a target for all or for each."""
    if averaged:
        wanted = quantity.parse(target.average_value or 0).milli()
        found = replicas.per_pod(value, wanted, look.present, look.limits)
        return found, v2.MetricValueStatus(average_value=_milli(found.value))
    wanted = quantity.parse(target.value or 0).milli()
    found = replicas.by_value(look.pods, value, wanted, look.wanted, look.limits)
    return found, v2.MetricValueStatus(value=_milli(found.value))


_BY_TYPE: dict[str, Callable[[Sources, v2.MetricSpec, Look], Awaitable[Proposed]]] = {
    "Resource": _resource,
    "ContainerResource": _container_resource,
    "Pods": _pods,
    "Object": _object,
    "External": _external,
}
