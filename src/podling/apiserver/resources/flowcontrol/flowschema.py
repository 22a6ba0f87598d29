"""FlowSchemas."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import flowcontrol_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, invalid, required


class FlowSchemaStrategy(Strategy[flowcontrol_v1.FlowSchema]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("PriorityLevel"),
        printing.number("MatchingPrecedence"),
        printing.text("DistinguisherMethod"),
        printing.AGE,
        printing.text("MissingPL"),
    )

    def default(self, obj: flowcontrol_v1.FlowSchema) -> None:
        obj.spec.matching_precedence = obj.spec.matching_precedence or 1000

    def prepare_create(self, obj: flowcontrol_v1.FlowSchema, context: Context) -> None:
        obj.status = flowcontrol_v1.FlowSchemaStatus()

    def validate(self, obj: flowcontrol_v1.FlowSchema) -> Findings:
        at = Path("spec")
        found: Findings = []
        precedence = obj.spec.matching_precedence or 0
        if not 0 < precedence <= 10000:
            detail = "must be a positive value" if precedence <= 0 else "must not be greater than 10000"
            found.append(invalid(at.child("matchingPrecedence"), precedence, detail))
        if not obj.spec.priority_level_configuration.name:
            found.append(required(at.child("priorityLevelConfiguration", "name"), "must reference a priority level"))
        return found

    def row(self, obj: flowcontrol_v1.FlowSchema, now: datetime) -> list[Any]:
        method = obj.spec.distinguisher_method
        dangling = next((c.status for c in obj.status.conditions or () if c.type == "Dangling"), None)
        return [
            printing.name(obj.metadata),
            obj.spec.priority_level_configuration.name or printing.NONE,
            obj.spec.matching_precedence or 0,
            method.type if method else printing.NONE,
            printing.age(obj.metadata, now),
            dangling or "?",
        ]
