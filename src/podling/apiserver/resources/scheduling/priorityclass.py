"""PriorityClasses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import scheduling_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Column, Strategy
from podling.machinery.validation import Findings, Path, forbidden, immutable, not_supported

_HIGHEST = 1_000_000_000
_SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_POLICIES = ("PreemptLowerPriority", "Never")


class PriorityClassStrategy(Strategy[scheduling_v1.PriorityClass]):
    columns = (
        printing.NAME,
        printing.number("Value"),
        Column("Global-Default", type="boolean"),
        printing.AGE,
        printing.text("PreemptionPolicy"),
    )

    def default(self, obj: scheduling_v1.PriorityClass) -> None:
        obj.preemption_policy = obj.preemption_policy or "PreemptLowerPriority"
        obj.value = obj.value or 0

    def validate(self, obj: scheduling_v1.PriorityClass) -> Findings:
        name = obj.metadata.name or ""
        found: Findings = []
        if name.startswith("system-"):
            if problem := _system_problem(obj):
                detail = "priority class names with 'system-' prefix are reserved for system use only. error: "
                found.append(forbidden(Path("metadata").child("name"), detail + problem))
        elif (obj.value or 0) > _HIGHEST:
            detail = f"maximum allowed value of a user defined priority is {_HIGHEST}"
            found.append(forbidden(Path("value"), detail))
        if obj.preemption_policy not in _POLICIES:
            found.append(not_supported(Path("preemptionPolicy"), obj.preemption_policy or "", _POLICIES))
        return found

    def validate_update(self, new: scheduling_v1.PriorityClass, old: scheduling_v1.PriorityClass) -> Findings:
        found: Findings = []
        if (new.value or 0) != (old.value or 0):
            found.append(forbidden(Path("value"), "may not be changed in an update."))
        return found + immutable(new.preemption_policy, old.preemption_policy, Path("preemptionPolicy"))

    def row(self, obj: scheduling_v1.PriorityClass, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            obj.value or 0,
            bool(obj.global_default),
            printing.age(obj.metadata, now),
            obj.preemption_policy or "",
        ]


def _system_problem(obj: scheduling_v1.PriorityClass) -> str:
    """Why this is not one of the classes that every cluster has; "" if it is."""
    name = obj.metadata.name or ""
    if name not in _SYSTEM:
        return f"{name} is not a known system priority class"
    if (obj.value or 0) != _SYSTEM[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM[name]}"
    if obj.global_default:
        return f"globalDefault of {name} PriorityClass must be false"
    return ""
