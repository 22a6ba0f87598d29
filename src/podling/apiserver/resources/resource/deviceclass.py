"""DeviceClasses: kinds of devices, by what selects them and how they are set up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import resource_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.podspec import requirements
from podling.apiserver.resources.resource import claims
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, invalid

_SPEC = Path("spec")
_MAX = 32


class DeviceClassStrategy(Strategy[resource_v1.DeviceClass]):
    columns = (printing.NAME, printing.AGE)

    def validate(self, obj: resource_v1.DeviceClass) -> Findings:
        spec = obj.spec
        found = claims.selectors(spec.selectors or [], _SPEC.child("selectors"))
        found += claims.many(spec.config or [], _SPEC.child("config"), claims.configuration, limit=_MAX)
        name = spec.extended_resource_name
        if name is not None and not requirements.is_extended(name):
            at = _SPEC.child("extendedResourceName")
            found.append(invalid(at, name, "must be a valid extended resource name"))
        return found

    def row(self, obj: resource_v1.DeviceClass, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), printing.age(obj.metadata, now)]
