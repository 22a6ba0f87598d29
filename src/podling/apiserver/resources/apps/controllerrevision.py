"""ControllerRevisions: snapshots that only count up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import apps_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, immutable, nonnegative, required


class ControllerRevisionStrategy(Strategy[apps_v1.ControllerRevision]):
    columns = (printing.NAME, printing.text("Controller"), printing.text("Revision"), printing.AGE)

    def validate(self, obj: apps_v1.ControllerRevision) -> Findings:
        found: Findings = []
        if obj.data is None:
            found.append(required(Path("data"), "data is mandatory"))
        return found + nonnegative(obj.revision, Path("revision"))

    def validate_update(self, new: apps_v1.ControllerRevision, old: apps_v1.ControllerRevision) -> Findings:
        return self.validate(new) + immutable(new.data, old.data, Path("data"))

    def row(self, obj: apps_v1.ControllerRevision, now: datetime) -> list[Any]:
        owner = next((r for r in obj.metadata.owner_references or () if r.controller), None)
        controller = printing.NONE
        if owner is not None:
            group = owner.api_version.rpartition("/")[0]
            kind = owner.kind.lower()
            controller = f"{kind}.{group}/{owner.name}" if group else f"{kind}/{owner.name}"
        return [
            printing.name(obj.metadata), controller, str(obj.revision or 0), printing.age(obj.metadata, now)
        ]  # fmt: skip
