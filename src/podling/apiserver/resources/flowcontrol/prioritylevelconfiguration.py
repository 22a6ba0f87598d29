"""PriorityLevelConfigurations: how many requests of a level run at once, and what becomes of the others."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import msgspec

from podling.api import flowcontrol_v1 as v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.flowcontrol import mandatory
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, forbidden, invalid, not_supported, required

_SPEC = Path("spec")
_MAX_QUEUES = 10_000_000
_MAX_ENTROPY_BITS = 60


class PriorityLevelConfigurationStrategy(Strategy[v1.PriorityLevelConfiguration]):
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

    def default(self, obj: v1.PriorityLevelConfiguration) -> None:
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

    def prepare_create(self, obj: v1.PriorityLevelConfiguration, context: Context) -> None:
        obj.status = v1.PriorityLevelConfigurationStatus()

    def validate(self, obj: v1.PriorityLevelConfiguration) -> Findings:
        spec, name = obj.spec, obj.metadata.name or ""
        found: Findings = []
        if (name == "exempt") != (spec.type == "Exempt"):
            detail = "type must be 'Exempt' if and only if name is 'exempt'"
            found.append(invalid(_SPEC.child("type"), spec.type, detail))
        found += _by_type(spec)
        fixed = mandatory.PRIORITY_LEVELS.get(name)
        if fixed is None:
            return found
        if name == "exempt":
            if msgspec.structs.replace(spec, exempt=fixed.exempt) != fixed:
                detail = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
                found.append(invalid(_SPEC, spec, detail))
        elif spec != fixed:
            found.append(invalid(_SPEC, spec, f"spec of '{name}' must equal the fixed value"))
        return found

    def validate_status_update(
        self, new: v1.PriorityLevelConfiguration, old: v1.PriorityLevelConfiguration
    ) -> Findings:
        return mandatory.conditions(new.status.conditions)

    def row(self, obj: v1.PriorityLevelConfiguration, now: datetime) -> list[Any]:
        limited = obj.spec.limited
        queuing = limited.limit_response.queuing if limited else None
        none = printing.NONE
        return [
            printing.name(obj.metadata),
            obj.spec.type,
            none if limited is None else limited.nominal_concurrency_shares or 0,
            none if queuing is None else queuing.queues or 0,
            none if queuing is None else queuing.hand_size or 0,
            none if queuing is None else queuing.queue_length_limit or 0,
            printing.age(obj.metadata, now),
        ]


def _by_type(spec: v1.PriorityLevelConfigurationSpec) -> Findings:
    found: Findings = []
    if spec.type == "Exempt":
        if spec.limited is not None:
            found.append(forbidden(_SPEC.child("limited"), "must be nil if the type is not Limited"))
        if spec.exempt is not None:
            at = _SPEC.child("exempt")
            found += _shares(spec.exempt.nominal_concurrency_shares, spec.exempt.lendable_percent, at)
    elif spec.type == "Limited":
        if spec.exempt is not None:
            found.append(forbidden(_SPEC.child("exempt"), "must be nil if the type is Limited"))
        if spec.limited is None:
            found.append(required(_SPEC.child("limited"), "must not be empty when type is Limited"))
        else:
            found += _limited(spec.limited, _SPEC.child("limited"))
    else:
        found.append(not_supported(_SPEC.child("type"), spec.type, ("Exempt", "Limited")))
    return found


def _shares(shares: int | None, lendable: int | None, path: Path) -> Findings:
    found: Findings = []
    if shares is not None and shares < 0:
        at = path.child("nominalConcurrencyShares")
        found.append(invalid(at, shares, "must be a non-negative integer"))
    if lendable is not None and not 0 <= lendable <= 100:
        at = path.child("lendablePercent")
        found.append(invalid(at, lendable, "must be between 0 and 100, inclusive"))
    return found


def _limited(limited: v1.LimitedPriorityLevelConfiguration, path: Path) -> Findings:
    found = _shares(limited.nominal_concurrency_shares, None, path)
    response, at = limited.limit_response, path.child("limitResponse")
    if response.type == "Reject":
        if response.queuing is not None:
            detail = "must be nil if limited.limitResponse.type is not Limited"
            found.append(forbidden(at.child("queuing"), detail))
    elif response.type != "Queue":
        found.append(not_supported(at.child("type"), response.type, ("Queue", "Reject")))
    elif response.queuing is None:
        detail = "must not be empty if limited.limitResponse.type is Limited"
        found.append(required(at.child("queuing"), detail))
    else:
        found += _queuing(response.queuing, at.child("queuing"))
    found += _shares(None, limited.lendable_percent, path)
    borrowing = limited.borrowing_limit_percent
    if borrowing is not None and borrowing < 0:
        detail = "if specified, must be a non-negative integer"
        found.append(invalid(path.child("borrowingLimitPercent"), borrowing, detail))
    return found


def _queuing(queuing: v1.QueuingConfiguration, path: Path) -> Findings:
    found: Findings = []
    length, queues, hand = queuing.queue_length_limit or 0, queuing.queues or 0, queuing.hand_size or 0
    if length <= 0:
        found.append(invalid(path.child("queueLengthLimit"), length, "must be positive"))
    if queues <= 0:
        found.append(invalid(path.child("queues"), queues, "must be positive"))
    elif queues > _MAX_QUEUES:
        found.append(invalid(path.child("queues"), queues, f"must not be greater than {_MAX_QUEUES}"))
    at = path.child("handSize")
    if hand <= 0:
        found.append(invalid(at, hand, "must be positive"))
    elif hand > queues:
        found.append(invalid(at, hand, f"should not be greater than queues ({queues})"))
    elif math.ceil(math.log2(queues) * hand) > _MAX_ENTROPY_BITS:
        detail = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than"
        found.append(invalid(at, hand, f"{detail} {_MAX_ENTROPY_BITS}"))
    return found
