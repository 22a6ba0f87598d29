"""PriorityLevelConfigurations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import flowcontrol_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, forbidden, not_supported, required


class PriorityLevelConfigurationStrategy(Strategy[flowcontrol_v1.PriorityLevelConfiguration]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Type"),
        printing.text("NominalConcurrencyShares"),
        printing.text("Queues"),
        printing.text("HandSize"),
        printing.text("QueueLengthLimit"),
        printing.AGE,
    )

    def default(self, obj: flowcontrol_v1.PriorityLevelConfiguration) -> None:
        limited, exempt = obj.spec.limited, obj.spec.exempt
        if limited is not None:
            if limited.nominal_concurrency_shares is None:
                limited.nominal_concurrency_shares = 30
            limited.lendable_percent = limited.lendable_percent or 0
            queuing = limited.limit_response.queuing
            if queuing is not None:
                queuing.hand_size = queuing.hand_size or 8
                queuing.queues = queuing.queues or 64
                queuing.queue_length_limit = queuing.queue_length_limit or 50
        if exempt is not None:
            exempt.nominal_concurrency_shares = exempt.nominal_concurrency_shares or 0
            exempt.lendable_percent = exempt.lendable_percent or 0

    def prepare_create(self, obj: flowcontrol_v1.PriorityLevelConfiguration, context: Context) -> None:
        obj.status = flowcontrol_v1.PriorityLevelConfigurationStatus()

    def validate(self, obj: flowcontrol_v1.PriorityLevelConfiguration) -> Findings:
        spec, at = obj.spec, Path("spec")
        if spec.type == "Exempt":
            if spec.limited is not None:
                detail = "must be nil if the type is not Limited"
                return [forbidden(at.child("limited"), detail)]
            return []
        if spec.type != "Limited":
            return [not_supported(at.child("type"), spec.type, ("Exempt", "Limited"))]
        if spec.exempt is not None:
            return [forbidden(at.child("exempt"), "must be nil if the type is Limited")]
        if spec.limited is None:
            return [required(at.child("limited"), "must not be empty when type is Limited")]
        return []

    def row(self, obj: flowcontrol_v1.PriorityLevelConfiguration, now: datetime) -> list[Any]:
        limited = obj.spec.limited
        queuing = limited.limit_response.queuing if limited else None
        none = printing.NONE
        return [
            printing.name(obj.metadata),
            obj.spec.type,
            none if limited is None else str(limited.nominal_concurrency_shares),
            none if queuing is None else str(queuing.queues),
            none if queuing is None else str(queuing.hand_size),
            none if queuing is None else str(queuing.queue_length_limit),
            printing.age(obj.metadata, now),
        ]
