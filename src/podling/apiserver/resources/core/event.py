"""Events, in the older of their two forms (events.k8s.io shows the same objects)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, names, times
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Column, Strategy
from podling.machinery.validation import Findings, Path, each, immutable, invalid, not_supported, required

COLUMNS = (
    printing.text("Last Seen"),
    printing.text("Type"),
    printing.text("Reason"),
    printing.text("Object"),
    printing.text("Subobject", wide=True),
    printing.text("Source", wide=True),
    printing.text("Message"),
    printing.text("First Seen", wide=True),
    printing.text("Count", wide=True),
    Column("Name", format="name", priority=1),
)
_INVOLVED = Path("involvedObject")


class EventStrategy(Strategy[core_v1.Event]):
    create_on_update = True
    selectable_fields = (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    )
    columns = COLUMNS

    def validate(self, obj: core_v1.Event) -> Findings:
        found = _involved(obj)
        if obj.event_time:
            found += _new_style(obj)
        return found

    def validate_update(self, new: core_v1.Event, old: core_v1.Event) -> Findings:
        found = self.validate(new)
        if new.event_time or old.event_time:
            for name, now, before in (
                ("involvedObject", new.involved_object, old.involved_object),
                ("reason", new.reason, old.reason),
                ("message", new.message, old.message),
                ("type", new.type, old.type),
                ("eventTime", new.event_time, old.event_time),
                ("reportingController", new.reporting_component, old.reporting_component),
                ("reportingInstance", new.reporting_instance, old.reporting_instance),
                ("action", new.action, old.action),
                ("related", new.related, old.related),
            ):
                found += immutable(now, before, Path(name))
        return found

    def fields(self, obj: core_v1.Event) -> dict[str, str]:
        thing = obj.involved_object
        source = obj.source.component if obj.source else None
        return {
            "involvedObject.kind": thing.kind or "",
            "involvedObject.namespace": thing.namespace or "",
            "involvedObject.name": thing.name or "",
            "involvedObject.uid": thing.uid or "",
            "involvedObject.apiVersion": thing.api_version or "",
            "involvedObject.resourceVersion": thing.resource_version or "",
            "involvedObject.fieldPath": thing.field_path or "",
            "reason": obj.reason or "",
            "reportingComponent": obj.reporting_component or "",
            "source": source or obj.reporting_component or "",
            "type": obj.type or "",
        }

    def row(self, obj: core_v1.Event, now: datetime) -> list[Any]:
        first = obj.first_timestamp or obj.event_time
        last = obj.last_timestamp or first
        count = obj.count or 1
        if obj.series is not None:
            last, count = obj.series.last_observed_time, obj.series.count or 0
        thing = obj.involved_object
        kind = (thing.kind or "").lower()
        source = obj.source or core_v1.EventSource()
        component = source.component or obj.reporting_component or ""
        host = source.host or (obj.reporting_instance if not source.component else "") or ""
        return [
            times.age(last, now),
            obj.type or "",
            obj.reason or "",
            f"{kind}/{thing.name}" if thing.name else kind,
            thing.field_path or "",
            f"{component}, {host}" if host else component,
            (obj.message or "").strip(),
            times.age(first, now),
            str(count),
            printing.name(obj.metadata),
        ]


def _involved(event: core_v1.Event) -> Findings:
    """An event lies in the namespace of what it is about; of things without one, in the default namespace."""
    thing, namespace = event.involved_object, event.metadata.namespace or ""
    if not thing.namespace:
        if namespace not in ("default", "kube-system", ""):
            return [invalid(_INVOLVED.child("namespace"), thing.namespace or "", "does not match event.namespace")]
        return []
    if thing.namespace != namespace:
        return [invalid(_INVOLVED.child("namespace"), thing.namespace, "does not match event.namespace")]
    return []


def _new_style(event: core_v1.Event) -> Findings:
    found: Findings = []
    controller, instance = event.reporting_component or "", event.reporting_instance or ""
    if not controller:
        found.append(required(Path("reportingController")))
    found += each(Path("reportingController"), controller, names.qualified_name(controller) if controller else [])
    if not instance:
        found.append(required(Path("reportingInstance")))
    if len(instance) > 128:
        found.append(invalid(Path("reportingInstance"), "", "can have at most 128 characters"))
    for name, value in (("action", event.action), ("reason", event.reason)):
        if not value:
            found.append(required(Path(name)))
        if len(value or "") > 128:
            found.append(invalid(Path(name), "", "can have at most 128 characters"))
    if len(event.message or "") > 1024:
        found.append(invalid(Path("message"), "", "can have at most 1024 characters"))
    if event.type not in ("Normal", "Warning"):
        found.append(not_supported(Path("type"), event.type or "", ("Normal", "Warning")))
    return found
