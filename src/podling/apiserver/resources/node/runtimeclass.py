"""RuntimeClasses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, names, node_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.podspec import requirements, scheduling
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, immutable, labels


class RuntimeClassStrategy(Strategy[node_v1.RuntimeClass]):
    unconditional_update = False
    columns = (printing.NAME, printing.text("Handler"), printing.AGE)

    def validate(self, obj: node_v1.RuntimeClass) -> Findings:
        found = each(Path("handler"), obj.handler, names.dns_label(obj.handler))
        if obj.overhead is not None:
            amounts = core_v1.ResourceRequirements(limits=obj.overhead.pod_fixed)
            found += requirements.requirements(amounts, (), Path("overhead"))
        if obj.scheduling is not None:
            at = Path("scheduling")
            found += labels(obj.scheduling.node_selector, at.child("nodeSelector"))
            found += scheduling.tolerations(obj.scheduling.tolerations, at.child("tolerations"))
        return found

    def validate_update(self, new: node_v1.RuntimeClass, old: node_v1.RuntimeClass) -> Findings:
        return immutable(new.handler, old.handler, Path("handler"))

    def row(self, obj: node_v1.RuntimeClass, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), obj.handler, printing.age(obj.metadata, now)]
