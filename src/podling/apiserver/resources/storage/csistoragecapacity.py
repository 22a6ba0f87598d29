"""CSIStorageCapacities."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, immutable, label_selector


class CSIStorageCapacityStrategy(Strategy[storage_v1.CSIStorageCapacity]):
    columns = (printing.NAME, printing.text("StorageClassName"), printing.text("Capacity"))

    def validate(self, obj: storage_v1.CSIStorageCapacity) -> Findings:
        return label_selector(obj.node_topology, Path("nodeTopology"))

    def validate_update(self, new: storage_v1.CSIStorageCapacity, old: storage_v1.CSIStorageCapacity) -> Findings:
        found = immutable(new.node_topology, old.node_topology, Path("nodeTopology"))
        return found + immutable(new.storage_class_name, old.storage_class_name, Path("storageClassName"))

    def row(self, obj: storage_v1.CSIStorageCapacity, now: datetime) -> list[Any]:
        capacity = printing.UNSET if obj.capacity is None else str(obj.capacity)
        return [printing.name(obj.metadata), obj.storage_class_name, capacity]
