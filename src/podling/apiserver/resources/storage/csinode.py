"""CSINodes: the drivers that run on a node."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.storage import drivers
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import (
    IMMUTABLE,
    Findings,
    Path,
    duplicate,
    each,
    invalid,
    nonnegative,
    required,
)

_DRIVERS = Path("spec").child("drivers")
_MAX_NODE_ID = 256


class CSINodeStrategy(Strategy[storage_v1.CSINode]):
    unconditional_update = False
    columns = (printing.NAME, printing.number("Drivers"), printing.AGE)

    def validate(self, obj: storage_v1.CSINode) -> Findings:
        found: Findings = []
        seen: set[str] = set()
        for index, driver in enumerate(obj.spec.drivers):
            at = _DRIVERS.index(index)
            found += _driver(driver, at)
            if driver.name in seen:
                found.append(duplicate(at.child("name"), driver.name))
            seen.add(driver.name)
        return found

    def validate_update(self, new: storage_v1.CSINode, old: storage_v1.CSINode) -> Findings:
        found = self.validate(new)
        before = {driver.name: driver for driver in old.spec.drivers}
        for driver in new.spec.drivers:
            known = before.get(driver.name)
            # How many volumes there may be is the one thing that a driver finds out again and again.
            if known is not None and (driver.node_id, driver.topology_keys) != (known.node_id, known.topology_keys):
                found.append(invalid(Path("CSINodeDriver"), driver, IMMUTABLE))
        return found

    def row(self, obj: storage_v1.CSINode, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), len(obj.spec.drivers), printing.age(obj.metadata, now)]


def _driver(driver: storage_v1.CSINodeDriver, path: Path) -> Findings:
    found = drivers.driver_name(driver.name, path.child("name"))
    at = path.child("nodeID")
    if not driver.node_id:
        found.append(required(at))
    elif len(driver.node_id) > _MAX_NODE_ID:
        found.append(invalid(at, driver.node_id, f"must be {_MAX_NODE_ID} characters or less"))
    if driver.allocatable is not None:
        found += nonnegative(driver.allocatable.count, path.child("allocatable", "count"))
    keys, at = driver.topology_keys or [], path.child("topologyKeys")
    for index, key in enumerate(keys):
        if not key:
            found.append(required(at))
        if key in keys[:index]:
            found.append(duplicate(at, key))
        found += each(at, keys, names.qualified_name(key))
    return found
