"""VolumeAttachments: that a volume is to be attached to a node."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, storage_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.storage import drivers
from podling.apiserver.strategy import Column, Context, Strategy
from podling.machinery.validation import Findings, Path, each, forbidden, immutable, required, too_long

_SPEC = Path("spec")
_STATUS = Path("status")
_ONE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
_MAX_MESSAGE = 1024
_MAX_METADATA = 256 * 1024


class VolumeAttachmentStrategy(Strategy[storage_v1.VolumeAttachment]):
    has_status = True
    unconditional_update = False
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
        found = drivers.driver_name(spec.attacher, _SPEC.child("attacher"))
        found += _source(spec.source, _SPEC.child("source"))
        return found + each(_SPEC.child("nodeName"), spec.node_name, names.dns_subdomain(spec.node_name))

    def validate_update(self, new: storage_v1.VolumeAttachment, old: storage_v1.VolumeAttachment) -> Findings:
        return self.validate(new) + immutable(new.spec, old.spec, _SPEC)

    def validate_status_update(self, new: storage_v1.VolumeAttachment, old: storage_v1.VolumeAttachment) -> Findings:
        found: Findings = []
        status = new.status
        metadata = status.attachment_metadata or {}
        for key in metadata:
            found += each(_STATUS.child("attachmentMetadata"), key, names.qualified_name(key.lower()))
        if sum(len(k.encode()) + len(v.encode()) for k, v in metadata.items()) > _MAX_METADATA:
            found.append(too_long(_STATUS.child("attachmentMetadata"), _MAX_METADATA))
        for name, error in (("attachError", status.attach_error), ("detachError", status.detach_error)):
            if error is not None and len((error.message or "").encode()) > _MAX_MESSAGE:
                found.append(too_long(_STATUS.child(name, "message"), _MAX_MESSAGE))
        return found

    def row(self, obj: storage_v1.VolumeAttachment, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            obj.spec.attacher,
            obj.spec.source.persistent_volume_name or "",
            obj.spec.node_name,
            obj.status.attached,
            printing.age(obj.metadata, now),
        ]


def _source(source: storage_v1.VolumeAttachmentSource, path: Path) -> Findings:
    name = source.persistent_volume_name
    if name is None and source.inline_volume_spec is None:
        return [required(path, _ONE)]
    if name is not None and source.inline_volume_spec is not None:
        return [forbidden(path, _ONE)]
    at = path.child("persistentVolumeName")
    if name == "":
        return [required(at, "must specify non empty persistentVolumeName")]
    return each(at, name, names.dns_subdomain(name)) if name else []
