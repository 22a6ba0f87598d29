"""Events of events.k8s.io: another view of the core group's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, events_v1
from podling.apiserver.resources.core import event as core
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, required


class EventStrategy(Strategy[events_v1.Event]):
    create_on_update = True
    selectable_fields = (
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    )
    columns = core.COLUMNS

    def validate(self, obj: events_v1.Event) -> Findings:
        found: Findings = []
        if not obj.event_time:
            found.append(required(Path("eventTime")))
        return found + core.EventStrategy(self.resource).validate(_as_core(obj))

    def validate_update(self, new: events_v1.Event, old: events_v1.Event) -> Findings:
        return core.EventStrategy(self.resource).validate_update(_as_core(new), _as_core(old))

    def fields(self, obj: events_v1.Event) -> dict[str, str]:
        thing = obj.regarding or core_v1.ObjectReference()
        return {
            "regarding.kind": thing.kind or "",
            "regarding.namespace": thing.namespace or "",
            "regarding.name": thing.name or "",
            "regarding.uid": thing.uid or "",
            "regarding.apiVersion": thing.api_version or "",
            "regarding.resourceVersion": thing.resource_version or "",
            "regarding.fieldPath": thing.field_path or "",
            "reason": obj.reason or "",
            "reportingController": obj.reporting_controller or "",
            "type": obj.type or "",
        }

    def row(self, obj: events_v1.Event, now: datetime) -> list[Any]:
        return core.EventStrategy(self.resource).row(_as_core(obj), now)


def _as_core(event: events_v1.Event) -> core_v1.Event:
    series = event.series
    return core_v1.Event(
        metadata=event.metadata,
        event_time=event.event_time or None,
        series=core_v1.EventSeries(count=series.count, last_observed_time=series.last_observed_time)
        if series
        else None,
        reporting_component=event.reporting_controller,
        reporting_instance=event.reporting_instance,
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
