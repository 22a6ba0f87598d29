"""Other forms of an object or a list: the Table that `kubectl get` prints, and its metadata alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from podling.api import autoscaling_v1, meta_v1, times
from podling.api.struct import encode
from podling.apiserver.entry import Entry
from podling.apiserver.negotiate import Media
from podling.apiserver.served import Served

_NAME = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
_CREATED = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_DEFAULT = [
    {"name": "Name", "type": "string", "format": "name", "description": _NAME, "priority": 0},
    {"name": "Created At", "type": "date", "format": "", "description": _CREATED, "priority": 0},
]
_SCALE = [
    {"name": "Name", "type": "string", "format": "name", "description": _NAME, "priority": 0},
    {"name": "Desired", "type": "integer", "format": "", "description": "How many there should be.", "priority": 0},
    {"name": "Available", "type": "integer", "format": "", "description": "How many there are.", "priority": 0},
    {"name": "Age", "type": "string", "format": "", "description": "How long ago it was created.", "priority": 0},
]


def columns(served: Served) -> list[dict[str, Any]]:
    """Column definitions."""
    if not served.strategy.columns:
        return _DEFAULT
    return [
        {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
        for c in served.strategy.columns
    ]


def row(served: Served, entry: Entry, now: datetime, include: str, version: str) -> dict[str, Any]:
    """One row; `include` says what stands beside the cells: None, Metadata (the default) or Object."""
    obj, wire = entry.shown(served.view)
    strategy = served.strategy
    if strategy.columns:
        cells = strategy.row(obj, now)
    else:
        cells = [obj.metadata.name or "", obj.metadata.creation_timestamp or "<unknown>"]
    result: dict[str, Any] = {"cells": cells}
    if include == "Object":
        result["object"] = msgspec.Raw(wire)
    elif include != "None":
        result["object"] = partial(obj, version)
    return result


def table(
    served: Served,
    entries: Sequence[Entry],
    meta: meta_v1.ListMeta,
    now: datetime,
    *,
    include: str = "",
    version: str = "v1",
    headers: bool = True,
) -> dict[str, Any]:
    """A Table. A watch sends the column definitions only with its first event (`headers`)."""
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": meta,
        "columnDefinitions": columns(served) if headers else None,
        "rows": [row(served, e, now, include, version) for e in entries],
    }


def scale(obj: autoscaling_v1.Scale, media: Media, now: datetime, include: str) -> dict[str, Any]:
    """The Table of a Scale, which is a part of many resources and none of its own."""
    meta, spec, status = obj.metadata, obj.spec, obj.status
    wanted, found = (spec.replicas or 0 if spec else 0), (status.replicas or 0 if status else 0)
    result: dict[str, Any] = {"cells": [meta.name or "", wanted, found, times.age(meta.creation_timestamp, now)]}
    if include != "None":
        result["object"] = obj if include == "Object" else partial(obj, media.version)
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{media.version}",
        "metadata": meta_v1.ListMeta(resource_version=meta.resource_version),
        "columnDefinitions": _SCALE,
        "rows": [result],
    }


def partial(obj: Any, version: str = "v1") -> dict[str, Any]:
    """PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj.metadata}


def partial_list(served: Served, entries: Sequence[Entry], meta: meta_v1.ListMeta, version: str) -> dict[str, Any]:
    """PartialObjectMetadataList."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": meta,
        "items": [partial(e.shown(served.view)[0], version) for e in entries],
    }


def transformed(
    served: Served, entry: Entry, media: Media, now: datetime, include: str, *, headers: bool = True
) -> bytes:
    """One object in the form that `media` names."""
    if media.as_ == "Table":
        meta = meta_v1.ListMeta(resource_version=str(entry.revision))
        shown = [entry] if entry.key else []
        return encode(table(served, shown, meta, now, include=include, version=media.version, headers=headers))
    return encode(partial(entry.shown(served.view)[0] if entry.key else entry.object, media.version))
