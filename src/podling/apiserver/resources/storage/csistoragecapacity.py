"""CSIStorageCapacities: how much room there is for volumes of a class, and where."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.storage import drivers
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, immutable, label_selector


class CSIStorageCapacityStrategy(Strategy[storage_v1.CSIStorageCapacity]):
    unconditional_update = False
    columns = (printing.NAME, printing.text("StorageClassName"), printing.text("Capacity"))

    def validate(self, obj: storage_v1.CSIStorageCapacity) -> Findings:
        found = label_selector(obj.node_topology, Path("nodeTopology"))
        found += each(Path("storageClassName"), obj.storage_class_name, names.dns_subdomain(obj.storage_class_name))
        found += drivers.amount(obj.capacity, Path("capacity"))
        return found + drivers.amount(obj.maximum_volume_size, Path("maximumVolumeSize"))

    def validate_update(self, new: storage_v1.CSIStorageCapacity, old: storage_v1.CSIStorageCapacity) -> Findings:
        found = self.validate(new)
        found += immutable(new.node_topology, old.node_topology, Path("nodeTopology"))
        return found + immutable(new.storage_class_name, old.storage_class_name, Path("storageClassName"))

    def row(self, obj: storage_v1.CSIStorageCapacity, now: datetime) -> list[Any]:
        capacity = printing.UNSET if obj.capacity is None else str(obj.capacity)
        return [printing.name(obj.metadata), obj.storage_class_name, capacity]
