"""VolumeAttachments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Column, Context, Strategy
from podling.machinery.validation import Findings, Path, immutable, required

_SPEC = Path("spec")


class VolumeAttachmentStrategy(Strategy[storage_v1.VolumeAttachment]):
    has_status = True
    columns = (
        printing.NAME,
        Column("Attacher", format="name"),
        printing.text("PV"),
        printing.text("Node"),
        Column("Attached", type="boolean"),
        printing.AGE,
    )

    def prepare_create(self, obj: storage_v1.VolumeAttachment, context: Context) -> None:
        obj.status = storage_v1.VolumeAttachmentStatus()

    def validate(self, obj: storage_v1.VolumeAttachment) -> Findings:
        spec = obj.spec
        found: Findings = []
        for name, value in (("attacher", spec.attacher), ("nodeName", spec.node_name)):
            if not value:
                found.append(required(_SPEC.child(name)))
        source = spec.source
        if source.inline_volume_spec is None and not source.persistent_volume_name:
            found.append(
                required(_SPEC.child("source"), "must specify one of inlineVolumeSpec and persistentVolumeName")
            )
        return found

    def validate_update(self, new: storage_v1.VolumeAttachment, old: storage_v1.VolumeAttachment) -> Findings:
        return self.validate(new) + immutable(new.spec, old.spec, _SPEC)

    def row(self, obj: storage_v1.VolumeAttachment, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            obj.spec.attacher,
            obj.spec.source.persistent_volume_name or "",
            obj.spec.node_name,
            obj.status.attached,
            printing.age(obj.metadata, now),
        ]
