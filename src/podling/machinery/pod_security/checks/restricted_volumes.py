"""Restricted: volumes of the core types and of drivers only; other sources come by a PersistentVolumeClaim."""

from __future__ import annotations

from functools import cache

import msgspec

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import RESTRICTED, Check, Forbidden, Revision, named, plural, quoted
from podling.machinery.pod_security.checks import host_path_volumes

_ALLOWED = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)


@cache
def _sources() -> dict[str, str]:
    """Attributes of a volume's sources by their wire names."""
    fields = msgspec.structs.fields(core_v1.Volume)
    return {field.encode_name: field.name for field in fields if field.name != "name"}


def _types(volume: core_v1.Volume) -> list[str]:
    return [wire for wire, attribute in _sources().items() if getattr(volume, attribute) is not None]


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    bad: list[str] = []
    types: set[str] = set()
    for volume in spec.volumes or ():
        present = _types(volume)
        if not _ALLOWED.intersection(present):
            bad.append(volume.name)
            types.add(present[0] if present else "unknown")
    if not bad:
        return None
    uses, what = (
        plural("uses", "use", len(bad)),
        plural("restricted volume type", "restricted volume types", len(types)),
    )
    return Forbidden("restricted volume types", f"{named('volume', bad)} {uses} {what} {quoted(sorted(types))}")


CHECK = Check("restrictedVolumes", RESTRICTED, (Revision(0, _v1_0, (host_path_volumes.ID,)),))
