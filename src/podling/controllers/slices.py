"""Packing endpoints into EndpointSlices: as few slices as sensible, and as few changes as possible.

Every watcher on every node receives a slice that changes. So endpoints stay in the slice they are in, new ones fill
slices that change anyway, then ones with room, then new ones; nothing is moved to tidy up.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from podling.api import discovery_v1
from podling.api.struct import clone

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

Slice = discovery_v1.EndpointSlice


class Port(msgspec.Struct, frozen=True):
    """A port of a slice, comparable."""

    name: str = ""
    port: int | None = None
    protocol: str = "TCP"
    app_protocol: str | None = None


#: All endpoints with the same address type and the same ports share slices.
Group = tuple[str, tuple[Port, ...]]


class Changes(msgspec.Struct):
    """What is to be done; `create` has no names yet."""

    create: list[Slice] = []
    update: list[Slice] = []
    delete: list[Slice] = []


def group_of(slice_: Slice) -> Group:
    ports = [Port(p.name or "", p.port, p.protocol or "TCP", p.app_protocol) for p in slice_.ports or ()]
    return group(slice_.address_type, ports)


def group(address_type: str, ports: list[Port]) -> Group:
    return address_type, tuple(sorted(ports, key=lambda p: (p.name, p.protocol, p.port or 0, p.app_protocol or "")))


def identity(endpoint: discovery_v1.Endpoint) -> tuple[object, ...]:
    """What makes two endpoints the same one, whatever its state."""
    ref = endpoint.target_ref
    return (tuple(endpoint.addresses), endpoint.hostname, ref.uid if ref else None, ref.name if ref else None)


def plan(
    desired: Mapping[Group, list[discovery_v1.Endpoint]], existing: list[Slice], blank: Slice, most: int
) -> Changes:
    """How to get from `existing` to `desired`, at most `most` endpoints a slice.

    `blank` has the metadata that slices should have; where existing ones differ in labels they are updated. With
    nothing desired one empty slice stays, for each address type that `desired` names.
    """
    changes = Changes()
    by_group: dict[Group, list[Slice]] = {}
    for slice_ in existing:
        by_group.setdefault(group_of(slice_), []).append(slice_)
    for key, slices in by_group.items():
        if key not in desired:
            changes.delete.extend(slices)
    for key, endpoints in desired.items():
        _plan_group(key, endpoints, by_group.get(key, []), blank, most, changes)
    _reuse(changes, blank)
    return changes


def _reuse(changes: Changes, blank: Slice) -> None:
    """A slice that goes becomes one that is to come, if its address type fits (nothing else is immutable)."""
    for made in list(changes.create):
        old = next((s for s in changes.delete if s.address_type == made.address_type), None)
        if old is not None:
            changes.delete.remove(old)
            changes.create.remove(made)
            changed = with_metadata(old, blank)
            changed.ports, changed.endpoints = made.ports, made.endpoints
            changes.update.append(changed)


def _plan_group(
    key: Group,
    endpoints: list[discovery_v1.Endpoint],
    existing: list[Slice],
    blank: Slice,
    most: int,
    changes: Changes,
) -> None:
    wanted = {identity(e): e for e in endpoints}
    kept: list[tuple[Slice, list[discovery_v1.Endpoint], bool]] = []
    for slice_ in existing:
        content: list[discovery_v1.Endpoint] = []
        changed = slice_.metadata.labels != blank.metadata.labels
        for endpoint in slice_.endpoints or ():
            now = wanted.pop(identity(endpoint), None)
            if now is None:
                changed = True
                continue
            changed = changed or now != endpoint
            content.append(now)
        kept.append((slice_, content, changed))
    left = list(wanted.values())
    _fill(kept, left, most)
    needed = bool(left) or any(content for _, content, _ in kept)
    while left:
        changes.create.append(_new(key, blank, left[:most]))
        del left[:most]
    for slice_, content, changed in kept:
        if not content and (needed or slice_ is not kept[0][0]):
            changes.delete.append(slice_)
        elif changed:
            changes.update.append(_changed(slice_, blank, content))
    if not kept and not endpoints:
        changes.create.append(_new(key, blank, []))


def _fill(
    kept: list[tuple[Slice, list[discovery_v1.Endpoint], bool]], left: list[discovery_v1.Endpoint], most: int
) -> None:
    """Put what is left into slices that change anyway, the fullest first; then, if all fits, into one with room."""
    for _, content, changed in sorted(kept, key=lambda k: len(k[1]), reverse=True):
        if changed and content:
            room = most - len(content)
            content.extend(left[:room])
            del left[:room]
    if not left or len(left) >= most:
        return
    best = [i for i, (_, content, _) in enumerate(kept) if len(content) + len(left) <= most]
    if best:
        index = max(best, key=lambda i: len(kept[i][1]))
        slice_, content, _ = kept[index]
        content.extend(left)
        left.clear()
        kept[index] = (slice_, content, True)


def _new(key: Group, blank: Slice, content: list[discovery_v1.Endpoint]) -> Slice:
    made = clone(blank)
    made.address_type = key[0]
    made.ports = [
        discovery_v1.EndpointPort(name=p.name, port=p.port, protocol=p.protocol, app_protocol=p.app_protocol)
        for p in key[1]
    ]
    made.endpoints = [clone(e) for e in content]
    return made


def with_metadata(slice_: Slice, blank: Slice) -> Slice:
    """A copy with the labels and annotations that it should have."""
    made = clone(slice_)
    made.metadata.labels = dict(blank.metadata.labels or {})
    made.metadata.annotations = dict(blank.metadata.annotations or {}) or None
    return made


def _changed(slice_: Slice, blank: Slice, content: list[discovery_v1.Endpoint]) -> Slice:
    made = with_metadata(slice_, blank)
    made.endpoints = [clone(e) for e in content]
    return made
