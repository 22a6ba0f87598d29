"""VolumeAttributesClasses: what of a volume may be changed while it is in use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.storage import drivers
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, forbidden

_DEFAULT = "storage.alpha.kubernetes.io/is-default-class"


class VolumeAttributesClassStrategy(Strategy[storage_v1.VolumeAttributesClass]):
    columns = (printing.NAME, printing.text("DriverName"), printing.AGE)

    def validate(self, obj: storage_v1.VolumeAttributesClass) -> Findings:
        found = drivers.provisioner(obj.driver_name, Path("driverName"))
        return found + drivers.parameters(obj.parameters, Path("parameters"), needed=True)

    def validate_update(self, new: storage_v1.VolumeAttributesClass, old: storage_v1.VolumeAttributesClass) -> Findings:
        found: Findings = []
        if new.driver_name != old.driver_name:
            found.append(forbidden(Path("driverName"), "updates to driverName are forbidden."))
        if new.parameters != old.parameters:
            found.append(forbidden(Path("parameters"), "updates to parameters are forbidden."))
        return found

    def row(self, obj: storage_v1.VolumeAttributesClass, now: datetime) -> list[Any]:
        name = printing.name(obj.metadata)
        default = drivers.is_default(obj.metadata, _DEFAULT)
        return [f"{name} (default)" if default else name, obj.driver_name, printing.age(obj.metadata, now)]
