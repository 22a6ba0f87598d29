"""HorizontalPodAutoscalers, as autoscaling/v2 and (without table and rules of its own) as autoscaling/v1."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import autoscaling_v2, quantity
from podling.apiserver.resources import printing
from podling.apiserver.resources.autoscaling import metrics
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    forbidden,
    invalid,
    nonnegative,
    not_supported,
    required,
)

_SPEC = Path("spec")
_SHOWN = 2


class HorizontalPodAutoscalerStrategy(Strategy[Any]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Reference"),
        printing.text("Targets"),
        printing.text("MinPods"),
        printing.number("MaxPods"),
        printing.number("Replicas"),
        printing.AGE,
    )

    def default(self, obj: Any) -> None:
        if obj.spec.min_replicas is None:
            obj.spec.min_replicas = 1
        if not isinstance(obj, autoscaling_v2.HorizontalPodAutoscaler):
            return
        if not obj.spec.metrics:
            target = autoscaling_v2.MetricTarget(type="Utilization", average_utilization=80)
            source = autoscaling_v2.ResourceMetricSource(name="cpu", target=target)
            obj.spec.metrics = [autoscaling_v2.MetricSpec(type="Resource", resource=source)]
        if obj.spec.behavior is not None:
            _default_behavior(obj.spec.behavior)

    def prepare_create(self, obj: Any, context: Context) -> None:
        obj.status = type(obj)().status

    def validate(self, obj: Any) -> Findings:
        spec = obj.spec
        found: Findings = []
        lowest = spec.min_replicas
        if lowest is not None and lowest < 0:
            found.append(invalid(_SPEC.child("minReplicas"), lowest, "must be greater than or equal to 0"))
        at = _SPEC.child("maxReplicas")
        if spec.max_replicas < 1:
            found.append(invalid(at, spec.max_replicas, "must be greater than 0"))
        if lowest is not None and spec.max_replicas < lowest:
            found.append(invalid(at, spec.max_replicas, "must be greater than or equal to `minReplicas`"))
        found += metrics.object_reference(spec.scale_target_ref, _SPEC.child("scaleTargetRef"))
        if lowest == 0 and not any(m.type in ("Object", "External") for m in _metrics(obj)):
            detail = "must specify at least one Object or External metric to support scaling to zero replicas"
            found.append(forbidden(_SPEC.child("metrics"), detail))
        if isinstance(obj, autoscaling_v2.HorizontalPodAutoscaler):
            found += metrics.metrics(obj.spec.metrics or [], _SPEC.child("metrics"))
            if obj.spec.behavior is not None:
                found += _behavior(obj.spec.behavior, _SPEC.child("behavior"))
        return found

    def validate_status_update(self, new: Any, old: Any) -> Findings:
        at = Path("status")
        found = nonnegative(new.status.current_replicas, at.child("currentReplicas"))
        return found + nonnegative(new.status.desired_replicas, at.child("desiredReplicas"))

    def row(self, obj: Any, now: datetime) -> list[Any]:
        spec = obj.spec
        target = spec.scale_target_ref
        return [
            printing.name(obj.metadata),
            f"{target.kind}/{target.name}",
            _targets(obj) if isinstance(obj, autoscaling_v2.HorizontalPodAutoscaler) else _cpu(obj),
            str(spec.min_replicas) if spec.min_replicas is not None else printing.UNSET,
            spec.max_replicas,
            obj.status.current_replicas or 0,
            printing.age(obj.metadata, now),
        ]


def _metrics(obj: Any) -> list[autoscaling_v2.MetricSpec]:
    """Those of autoscaling/v1 stand in an annotation, but for the CPU."""
    if not isinstance(obj, autoscaling_v2.HorizontalPodAutoscaler):
        from podling.apiserver.views import store_autoscaler

        obj = store_autoscaler(obj)
    return obj.spec.metrics or []


def _default_behavior(behavior: autoscaling_v2.HorizontalPodAutoscalerBehavior) -> None:
    """Whoever says something of one direction gets the defaults of both."""
    policy, rules = autoscaling_v2.HPAScalingPolicy, autoscaling_v2.HPAScalingRules
    behavior.scale_up = up = behavior.scale_up or rules()
    behavior.scale_down = down = behavior.scale_down or rules()
    if up.stabilization_window_seconds is None:
        up.stabilization_window_seconds = 0
    up.policies = up.policies or [
        policy(type="Pods", value=4, period_seconds=15),
        policy(type="Percent", value=100, period_seconds=15),
    ]
    down.policies = down.policies or [policy(type="Percent", value=100, period_seconds=15)]
    for direction in (up, down):
        direction.select_policy = direction.select_policy or "Max"


def _behavior(behavior: autoscaling_v2.HorizontalPodAutoscalerBehavior, path: Path) -> Findings:
    found: Findings = []
    for name, rules in (("scaleUp", behavior.scale_up), ("scaleDown", behavior.scale_down)):
        if rules is None:
            continue
        at = path.child(name)
        window = rules.stabilization_window_seconds
        if window is not None and not 0 <= window <= 3600:
            what = "must be less than or equal to 3600" if window > 3600 else "must be greater than or equal to zero"
            found.append(invalid(at.child("stabilizationWindowSeconds"), window, what))
        tolerance = rules.tolerance
        if tolerance is not None and quantity.parse(tolerance).nano < 0:
            found.append(invalid(at.child("tolerance"), str(tolerance), "must be greater or equal to 0"))
        if rules.select_policy not in (None, "Max", "Min", "Disabled"):
            found.append(not_supported(at.child("selectPolicy"), rules.select_policy, ("Disabled", "Max", "Min")))
        if not rules.policies:
            found.append(required(at.child("policies"), "must specify at least one Policy"))
        for index, policy in enumerate(rules.policies or ()):
            here = at.child("policies").index(index)
            if policy.type not in ("Pods", "Percent"):
                found.append(not_supported(here.child("type"), policy.type, ("Percent", "Pods")))
            if policy.value <= 0:
                found.append(invalid(here.child("value"), policy.value, "must be greater than zero"))
            if policy.period_seconds <= 0:
                found.append(invalid(here.child("periodSeconds"), policy.period_seconds, "must be greater than zero"))
            if policy.period_seconds > 1800:
                detail = "must be less than or equal to 1800"
                found.append(invalid(here.child("periodSeconds"), policy.period_seconds, detail))
    return found


def _targets(obj: autoscaling_v2.HorizontalPodAutoscaler) -> str:
    wanted, statuses = obj.spec.metrics or [], obj.status.current_metrics or []
    if not wanted:
        return printing.NONE
    shown = [_metric(m, statuses[i] if i < len(statuses) else None) for i, m in enumerate(wanted)]
    more = f" + {len(shown) - _SHOWN} more..." if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _metric(metric: autoscaling_v2.MetricSpec, status: autoscaling_v2.MetricStatus | None) -> str:
    if metric.type not in metrics.SOURCES:
        return "<unknown type>"
    attribute = metrics.SOURCES[metric.type][0]
    source = getattr(metric, attribute)
    measured = getattr(status, attribute, None) if status is not None else None
    current = measured.current if measured is not None else autoscaling_v2.MetricValueStatus()
    target = source.target if source is not None else autoscaling_v2.MetricTarget()
    unknown = printing.UNKNOWN
    if metric.type in ("Resource", "ContainerResource"):
        if target.average_value is not None:
            return f"{source.name}: {current.average_value or unknown}/{target.average_value}"
        used = f"{current.average_utilization}%" if current.average_utilization is not None else unknown
        wanted = f"{target.average_utilization}%" if target.average_utilization is not None else "<auto>"
        return f"{source.name}: {used}/{wanted}"
    if metric.type == "Pods":
        return f"{current.average_value or unknown}/{target.average_value}"
    if target.average_value is not None:
        return f"{current.average_value or unknown}/{target.average_value} (avg)"
    return f"{current.value or unknown}/{target.value}"


def _cpu(obj: Any) -> str:
    """Of autoscaling/v1, which knows the CPU only."""
    used, wanted = obj.status.current_cpu_utilization_percentage, obj.spec.target_cpu_utilization_percentage
    if wanted is None:
        return printing.NONE
    return f"cpu: {f'{used}%' if used is not None else printing.UNKNOWN}/{wanted}%"
