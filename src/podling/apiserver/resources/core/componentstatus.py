"""ComponentStatuses: parts of the control plane, deprecated and computed when they are asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy


class ComponentStatusStrategy(Strategy[core_v1.ComponentStatus]):
    deprecation = "v1 ComponentStatus is deprecated in v1.19+"
    columns = (printing.NAME, printing.text("Status"), printing.text("Message"), printing.text("Error"))

    def row(self, obj: core_v1.ComponentStatus, now: datetime) -> list[Any]:
        healthy = next((c for c in obj.conditions or () if c.type == "Healthy"), None)
        if healthy is None:
            return [printing.name(obj.metadata), "Unknown", "", ""]
        state = "Healthy" if healthy.status == "True" else "Unhealthy"
        return [printing.name(obj.metadata), state, healthy.message or "", healthy.error or ""]
