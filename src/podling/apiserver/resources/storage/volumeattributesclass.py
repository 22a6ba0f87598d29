"""VolumeAttributesClasses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, forbidden, immutable, required


class VolumeAttributesClassStrategy(Strategy[storage_v1.VolumeAttributesClass]):
    columns = (printing.NAME, printing.text("DriverName"), printing.AGE)

    def validate(self, obj: storage_v1.VolumeAttributesClass) -> Findings:
        found: Findings = []
        if not obj.driver_name:
            found.append(required(Path("driverName")))
        if not obj.parameters:
            found.append(required(Path("parameters"), "must contain at least one key/value pair"))
        return found

    def validate_update(self, new: storage_v1.VolumeAttributesClass, old: storage_v1.VolumeAttributesClass) -> Findings:
        found = immutable(new.driver_name, old.driver_name, Path("driverName"))
        if new.parameters != old.parameters:
            found.append(forbidden(Path("parameters"), "updates to parameters are forbidden."))
        return found

    def row(self, obj: storage_v1.VolumeAttributesClass, now: datetime) -> list[Any]:
        name = printing.name(obj.metadata)
        default = (obj.metadata.annotations or {}).get("storage.alpha.kubernetes.io/is-default-class") == "true"
        return [f"{name} (default)" if default else name, obj.driver_name, printing.age(obj.metadata, now)]
