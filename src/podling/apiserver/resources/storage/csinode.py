"""CSINodes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy


class CSINodeStrategy(Strategy[storage_v1.CSINode]):
    columns = (printing.NAME, printing.number("Drivers"), printing.AGE)

    def row(self, obj: storage_v1.CSINode, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), len(obj.spec.drivers), printing.age(obj.metadata, now)]
