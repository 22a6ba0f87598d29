"""Aliases: what is stored once and shown as two kinds. Each pair of functions is a lossless conversion."""

from __future__ import annotations

from typing import Any

from podling.api import meta_v1
from podling.api.registry import Resource
from podling.apiserver.codec import Codec
from podling.apiserver.entry import View


def view_of(resource: Resource, codec: Codec) -> View:
    """The view of an aliased resource."""
    show, store = _VIEWS[resource.group_version, resource.name]
    return View(f"{resource.group_version}/{resource.name}", codec, show, store)


def show_event(event: Any) -> Any:
    """A stored core/v1 Event as events.k8s.io/v1."""
    from podling.api import core_v1, events_v1

    return events_v1.Event(
        metadata=event.metadata,
        event_time=event.event_time,
        series=events_v1.EventSeries(
            count=event.series.count or 0, last_observed_time=event.series.last_observed_time or ""
        )
        if event.series
        else None,
        reporting_controller=event.reporting_component or None,
        reporting_instance=event.reporting_instance or None,
        action=event.action,
        reason=event.reason,
        regarding=event.involved_object if event.involved_object != core_v1.ObjectReference() else None,
        related=event.related,
        note=event.message,
        type=event.type,
        deprecated_source=event.source,
        deprecated_first_timestamp=event.first_timestamp,
        deprecated_last_timestamp=event.last_timestamp,
        deprecated_count=event.count,
    )


def store_event(event: Any) -> Any:
    """An events.k8s.io/v1 Event as it is stored."""
    from podling.api import core_v1

    return core_v1.Event(
        metadata=event.metadata,
        event_time=event.event_time,
        series=core_v1.EventSeries(count=event.series.count, last_observed_time=event.series.last_observed_time)
        if event.series
        else None,
        reporting_component=event.reporting_controller or "",
        reporting_instance=event.reporting_instance or "",
        action=event.action,
        reason=event.reason,
        involved_object=event.regarding or core_v1.ObjectReference(),
        related=event.related,
        message=event.note,
        type=event.type,
        source=event.deprecated_source,
        first_timestamp=event.deprecated_first_timestamp,
        last_timestamp=event.deprecated_last_timestamp,
        count=event.deprecated_count,
    )


_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_KEPT = (_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR)


def _is_cpu(metric: Any) -> bool:
    return bool(metric.type == "Resource" and metric.resource and metric.resource.name == "cpu")


def show_autoscaler(hpa: Any) -> Any:
    """A stored autoscaling/v2 HPA as v1: CPU utilization as a number, all else in annotations as upstream writes it."""
    import msgspec

    from podling.api import autoscaling_v1

    spec, status = hpa.spec, hpa.status
    annotations = dict(hpa.metadata.annotations or {})
    result = autoscaling_v1.HorizontalPodAutoscaler(metadata=hpa.metadata)
    if spec is not None:
        target = None
        others = []
        for metric in spec.metrics or []:
            utilization = metric.resource.target.average_utilization if _is_cpu(metric) else None
            if utilization is not None and target is None:
                target = utilization
            else:
                others.append(metric)
        if others:
            annotations[_METRICS] = msgspec.json.encode(others).decode()
        if spec.behavior is not None:
            annotations[_BEHAVIOR] = msgspec.json.encode(spec.behavior).decode()
        result.spec = autoscaling_v1.HorizontalPodAutoscalerSpec(
            max_replicas=spec.max_replicas,
            min_replicas=spec.min_replicas,
            scale_target_ref=msgspec.convert(
                msgspec.to_builtins(spec.scale_target_ref), autoscaling_v1.CrossVersionObjectReference
            ),
            target_cpu_utilization_percentage=target,
        )
    if status is not None:
        current = None
        others = []
        for metric in status.current_metrics or []:
            utilization = metric.resource.current.average_utilization if _is_cpu(metric) else None
            if utilization is not None and current is None:
                current = utilization
            else:
                others.append(metric)
        if others:
            annotations[_CURRENT] = msgspec.json.encode(others).decode()
        if status.conditions:
            annotations[_CONDITIONS] = msgspec.json.encode(status.conditions).decode()
        result.status = autoscaling_v1.HorizontalPodAutoscalerStatus(
            current_replicas=status.current_replicas or 0,
            desired_replicas=status.desired_replicas or 0,
            last_scale_time=status.last_scale_time,
            observed_generation=status.observed_generation,
            current_cpu_utilization_percentage=current,
        )
    result.metadata = msgspec.structs.replace(hpa.metadata, annotations=annotations or None)
    return result


def store_autoscaler(hpa: Any) -> Any:
    """An autoscaling/v1 HPA as it is stored."""
    import msgspec

    from podling.api import autoscaling_v2

    annotations = dict(hpa.metadata.annotations or {})
    carried = {key: annotations.pop(key) for key in _KEPT if key in annotations}
    meta: meta_v1.ObjectMeta = msgspec.structs.replace(hpa.metadata, annotations=annotations or None)
    result = autoscaling_v2.HorizontalPodAutoscaler(metadata=meta)
    spec, status = hpa.spec, hpa.status
    if spec is not None:
        metrics: list[Any] = []
        if _METRICS in carried:
            metrics = msgspec.json.decode(carried[_METRICS], type=list[autoscaling_v2.MetricSpec])
        if spec.target_cpu_utilization_percentage is not None:
            metrics.append(
                autoscaling_v2.MetricSpec(
                    type="Resource",
                    resource=autoscaling_v2.ResourceMetricSource(
                        name="cpu",
                        target=autoscaling_v2.MetricTarget(
                            type="Utilization", average_utilization=spec.target_cpu_utilization_percentage
                        ),
                    ),
                )
            )
        result.spec = autoscaling_v2.HorizontalPodAutoscalerSpec(
            max_replicas=spec.max_replicas,
            min_replicas=spec.min_replicas,
            scale_target_ref=msgspec.convert(
                msgspec.to_builtins(spec.scale_target_ref), autoscaling_v2.CrossVersionObjectReference
            ),
            metrics=metrics or None,
        )
        if _BEHAVIOR in carried:
            behavior = autoscaling_v2.HorizontalPodAutoscalerBehavior
            result.spec.behavior = msgspec.json.decode(carried[_BEHAVIOR], type=behavior)
    if status is not None:
        result.status = autoscaling_v2.HorizontalPodAutoscalerStatus(
            current_replicas=status.current_replicas,
            desired_replicas=status.desired_replicas,
            last_scale_time=status.last_scale_time,
            observed_generation=status.observed_generation,
        )
        current: list[Any] = []
        if _CURRENT in carried:
            current = msgspec.json.decode(carried[_CURRENT], type=list[autoscaling_v2.MetricStatus])
        if status.current_cpu_utilization_percentage is not None:
            current.append(
                autoscaling_v2.MetricStatus(
                    type="Resource",
                    resource=autoscaling_v2.ResourceMetricStatus(
                        name="cpu",
                        current=autoscaling_v2.MetricValueStatus(
                            average_utilization=status.current_cpu_utilization_percentage
                        ),
                    ),
                )
            )
        result.status.current_metrics = current or None
        if _CONDITIONS in carried:
            conditions = list[autoscaling_v2.HorizontalPodAutoscalerCondition]
            result.status.conditions = msgspec.json.decode(carried[_CONDITIONS], type=conditions)
    return result


_VIEWS = {
    ("events.k8s.io/v1", "events"): (show_event, store_event),
    ("autoscaling/v1", "horizontalpodautoscalers"): (show_autoscaler, store_autoscaler),
}
