"""ResourceSlices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import resource_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy


class ResourceSliceStrategy(Strategy[resource_v1.ResourceSlice]):
    selectable_fields = ("spec.nodeName", "spec.driver")
    columns = (printing.NAME, printing.text("Node"), printing.text("Driver"), printing.text("Pool"), printing.AGE)

    def fields(self, obj: resource_v1.ResourceSlice) -> dict[str, str]:
        return {"spec.nodeName": obj.spec.node_name or "", "spec.driver": obj.spec.driver}

    def row(self, obj: resource_v1.ResourceSlice, now: datetime) -> list[Any]:
        spec = obj.spec
        return [
            printing.name(obj.metadata),
            spec.node_name or printing.UNSET,
            spec.driver,
            spec.pool.name,
            printing.age(obj.metadata, now),
        ]
