"""APIServices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import apiregistration_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, invalid, required

_SPEC = Path("spec")


class APIServiceStrategy(Strategy[apiregistration_v1.APIService]):
    has_status = True
    columns = (printing.NAME, printing.text("Service"), printing.text("Available"), printing.AGE)

    def default(self, obj: apiregistration_v1.APIService) -> None:
        if obj.spec.service is not None and obj.spec.service.port is None:
            obj.spec.service.port = 443

    def prepare_create(self, obj: apiregistration_v1.APIService, context: Context) -> None:
        status = apiregistration_v1.APIServiceStatus()
        if obj.spec.service is None:
            condition = apiregistration_v1.APIServiceCondition(
                type="Available",
                status="True",
                reason="Local",
                message="Local APIServices are always available",
            )
            status.conditions = [condition]
        obj.status = status

    def validate(self, obj: apiregistration_v1.APIService) -> Findings:
        spec = obj.spec
        found: Findings = []
        wanted = f"{spec.version or ''}.{spec.group or ''}"
        if obj.metadata.name != wanted:
            at = Path("metadata").child("name")
            found.append(
                invalid(at, obj.metadata.name, f'must be `spec.version+"."+spec.group`: {wanted!r}'.replace("'", '"'))
            )
        if not spec.version:
            found.append(required(_SPEC.child("version")))
        for name, value, highest in (
            ("groupPriorityMinimum", spec.group_priority_minimum, 20000),
            ("versionPriority", spec.version_priority, 1000),
        ):
            if not 0 < value <= highest:
                found.append(invalid(_SPEC.child(name), value, f"must be positive and less than {highest}"))
        return found

    def row(self, obj: apiregistration_v1.APIService, now: datetime) -> list[Any]:
        service = obj.spec.service
        available = next((c for c in obj.status.conditions or () if c.type == "Available"), None)
        state = "Unknown" if available is None else available.status
        if available is not None and state != "True":
            state = f"{state} ({available.reason or ''})"
        return [
            printing.name(obj.metadata),
            f"{service.namespace}/{service.name}" if service else "Local",
            state,
            printing.age(obj.metadata, now),
        ]
