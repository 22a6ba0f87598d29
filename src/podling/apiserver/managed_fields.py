"""metadata.managedFields: which manager wrote which field (KEP-555), kept on every write.

It runs on every create, update and patch, so it is built to be cheap. Objects are compared as they are, field sets stay
bytes in objects and are parsed once for all objects that have the same ones (a Deployment's pods, say), and a set that
a write leaves as it is keeps its bytes.

What a write is held responsible for is what its author sent, after defaulting and before admission and the kind's own
strategy; so a cluster IP that the server allocates belongs to nobody.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from podling.api import meta_v1, times
from podling.api.errors import invalid
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec
from podling.apiserver.served import Served
from podling.errors import PodlingError
from podling.machinery import apply as ssa
from podling.machinery import validation
from podling.machinery.apply import Manager, Managers, SchemaMismatch
from podling.machinery.field_set import FieldSet
from podling.machinery.merge_schema import DEDUCED, Node

Entries = list[meta_v1.ManagedFieldsEntry]

APPLY, UPDATE = "Apply", "Update"
#: Entries of updates beyond so many are merged, the oldest first.
MOST_UPDATERS = 10
ANCIENT = "ancient-changes"
#: Who owns the fields of an object that was not tracked before it was first applied.
BEFORE_FIRST_APPLY = "before-first-apply"

_NAME_LIMIT = 128
#: Field sets by their bytes, with the bytes as they are put into objects. Emptied when it is full.
_CACHE_SIZE = 16384
_parsed: dict[bytes, tuple[FieldSet, msgspec.Raw]] = {}


class Undecodable(PodlingError):
    """managedFields that are not what they should be."""


class Ownership:
    """Who owns what in one object: field sets, and for each the version of its paths and the time of the last change.

    An applier is the same manager in all versions, so its key has none.
    """

    __slots__ = ("fields", "times", "versions")

    def __init__(self) -> None:
        self.fields: Managers = {}
        self.versions: dict[Manager, str] = {}
        self.times: dict[Manager, str] = {}

    def copy(self) -> Ownership:
        twin = Ownership()
        twin.fields, twin.versions, twin.times = dict(self.fields), dict(self.versions), dict(self.times)
        return twin


# -- to and from the wire --------------------------------------------------------------------------------------------


def parse(raw: msgspec.Raw) -> FieldSet:
    """The set of a fieldsV1 document. Raises Undecodable."""
    data = bytes(raw) or b"{}"
    known = _parsed.get(data)
    if known is not None:
        return known[0]
    try:
        fields = FieldSet.from_bytes(data)
    except ValueError as error:
        raise Undecodable(str(error)) from None
    fields.to_bytes()
    _remember(data, fields)
    return fields


def _remember(data: bytes, fields: FieldSet) -> msgspec.Raw:
    if len(_parsed) >= _CACHE_SIZE:
        _parsed.clear()
    raw = msgspec.Raw(data)
    _parsed[data] = fields, raw
    return raw


def written(fields: FieldSet) -> msgspec.Raw:
    """A set as a fieldsV1 document; equal ones are the same object."""
    data = fields.to_bytes()
    known = _parsed.get(data)
    return known[1] if known is not None else _remember(data, fields)


def decode(entries: Entries | None) -> Ownership:
    """Raises Undecodable in upstream's words."""
    found = Ownership()
    for n, entry in enumerate(entries or ()):
        if entry.operation not in (APPLY, UPDATE):
            raise Undecodable("operation must be `Apply` or `Update`")
        if not entry.api_version:
            raise Undecodable("apiVersion must not be empty")
        if entry.fields_type != "FieldsV1":
            if not entry.fields_type:
                raise Undecodable(f"missing fieldsType in managed fields entry {n}")
            raise Undecodable(f'invalid fieldsType "{entry.fields_type}" in managed fields entry {n}')
        version = entry.api_version if entry.operation == UPDATE else ""
        manager = Manager(entry.manager or "", entry.operation, version, entry.subresource or "")
        found.fields[manager] = parse(entry.fields_v1)
        found.versions[manager] = entry.api_version
        if entry.time:
            found.times[manager] = entry.time
    return found


def encode(owners: Ownership) -> Entries | None:
    """In upstream's order."""
    entries = [
        _entry(m.name, m.operation, owners.versions[m], m.subresource or None, fields, owners.times.get(m))
        for m, fields in owners.fields.items()
    ]
    return sorted(entries, key=_order) or None


def same_but_for_time(one: Entries | None, other: Entries | None) -> bool:
    """Whether nothing differs but times."""
    if one is other:
        return True
    if one is None or other is None or len(one) != len(other):
        return False
    return all(
        a.fields_v1 == b.fields_v1
        and a.manager == b.manager
        and a.operation == b.operation
        and a.api_version == b.api_version
        and a.subresource == b.subresource
        for a, b in zip(one, other, strict=True)
    )


# -- who writes, and what of it counts -------------------------------------------------------------------------------


@lru_cache(1024)
def _from_agent(agent: str) -> str:
    """A User-Agent up to its first slash, printable, in at most 128 bytes."""
    kept = b""
    for character in agent.partition("/")[0]:
        encoded = character.encode()
        if not character.isprintable():
            continue
        if len(kept) + len(encoded) > _NAME_LIMIT:
            break
        kept += encoded
    return kept.decode() or "unknown"


def check_name(name: str, options: str) -> None:
    """StatusError 422 unless it may be a field manager's name."""
    findings = validation.field_manager(name, validation.Path("fieldManager"))
    if findings:
        raise invalid(options, "meta.k8s.io", "", findings)


_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


def name_of(call: Call) -> str:
    """The request's field manager: what it says, or the first word of its User-Agent. StatusError 422."""
    name = call.request.query.get("fieldManager")
    if name:
        check_name(name, _OPTIONS.get(call.info.verb, "CreateOptions"))
        return name
    return _from_agent(call.request.headers.get("user-agent", ""))


_WIRE = {"owner_references": "ownerReferences"}
#: What else a subresource's writes do not change, besides what `_resets` says of all kinds.
_RESETS: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("pods", "status"): (("f:metadata", "f:deletionTimestamp"),),
    ("certificatesigningrequests.certificates.k8s.io", "status"): (("f:status", "f:conditions"),),
    ("certificatesigningrequests.certificates.k8s.io", "approval"): (("f:spec",), ("f:status", "f:certificate")),
}


def ignored(call: Call, obj: Any) -> FieldSet:
    """What a write through this endpoint does not change, whatever it says (upstream's reset fields)."""
    served, subresource = call.served, call.info.subresource
    found = served.resets.get(subresource)
    if found is None:
        typed = tuple(f.name for f in schema(served.codec).fields)
        # A custom resource's fields are those that the object happens to have.
        names = typed or tuple(obj if isinstance(obj, dict) else served.codec.to_dict(obj))
        found = _resets(served, subresource, names, typed=bool(typed))
        if typed:
            served.resets[subresource] = found
    return found


def _resets(served: Served, subresource: str, names: tuple[str, ...], *, typed: bool) -> FieldSet:
    paths: list[tuple[str, ...]] = []
    if subresource == "status":
        kept = ("kind", "apiVersion", "metadata", "status") if typed else ("kind", "apiVersion", "status")
        paths = [(f"f:{name}",) for name in names if name not in kept]
        paths += [("f:metadata", f"f:{_WIRE.get(name, name)}") for name in served.strategy.kept_by_status]
    elif subresource != "approval" and served.strategy.has_status:
        paths = [("f:status",)]
    return FieldSet([*paths, *_RESETS.get((served.resource.qualified, subresource), ())])


def schema(codec: Codec) -> Node:
    """How a codec's objects merge; what a codec does not say is deduced from the objects."""
    found: Node = getattr(codec, "merge_schema", DEDUCED)
    return found


# -- plain writes ----------------------------------------------------------------------------------------------------


def _is_reset(entries: Entries | None) -> bool:
    """A list that is there but empty, or holds one empty entry, takes all ownership away."""
    return entries is not None and (not entries or (len(entries) == 1 and entries[0] == meta_v1.ManagedFieldsEntry()))


def track(call: Call, new: Any, old: Any) -> bool:
    """Write into `new` who owns what, after a plain write over `old` (None: it is new).

    Says whether the client sent ownership of its own that now counts (and that has to be validated).
    """
    meta = new.metadata
    given: Entries | None = meta.managed_fields
    known: Entries | None = old.metadata.managed_fields if old is not None else None
    own = False
    before = known
    if not call.info.subresource and given is not None and given is not known and given != known:
        if _is_reset(given):
            known, before, own = None, None, True
        elif given and (read := _canonical(given)) is not None and read != known:
            before, own = read, True
    meta.managed_fields = known if before is known else before
    # What was not tracked so far is not from the middle of its life on.
    if not before and old is not None:
        return own
    try:
        _take(call, new, old, before)
    except (SchemaMismatch, Undecodable):
        meta.managed_fields = known
    return own


def _canonical(entries: Entries) -> Entries | None:
    """What a client sent as the server would write it; None if it can't be read."""
    try:
        return encode(decode(entries))
    except Undecodable:
        return None


def _take(call: Call, new: Any, old: Any, before: Entries | None) -> None:
    """Entries that the write leaves as they are stay the same objects. Raises SchemaMismatch, Undecodable."""
    changed = difference(call.served.codec, old, new, ignored(call, new))
    touched, removed = changed.added | changed.modified, changed.removed
    if not touched.tree and not removed.tree:
        return
    name, version, subresource = name_of(call), call.served.resource.group_version, call.info.subresource or None
    result: Entries = []
    mine: meta_v1.ManagedFieldsEntry | None = None
    for entry in before or ():
        if entry.manager == name and entry.operation == UPDATE and (entry.api_version, entry.subresource) == (
            version, subresource,
        ):  # fmt: skip
            mine = entry
            continue
        fields = parse(entry.fields_v1)
        kept = fields - removed - touched
        if kept is fields:
            result.append(entry)
        elif kept.tree:
            result.append(msgspec.structs.replace(entry, fields_v1=written(kept)))
    own = touched if mine is None else (parse(mine.fields_v1) - removed) | touched
    if own.tree:
        time = mine.time if mine is not None else None
        # Of /scale upstream keeps the time that the manager has in the object itself, which is mostly none.
        if touched.tree and subresource != "scale":
            time = stamp(call.app.now())
        result.append(_entry(name, UPDATE, version, subresource, own, time))
    if len(result) > 1:
        result = _capped(result) if len(result) > MOST_UPDATERS else sorted(result, key=_order)
    new.metadata.managed_fields = result or None


def _entry(
    name: str, operation: str, version: str, subresource: str | None, fields: FieldSet, time: str | None
) -> meta_v1.ManagedFieldsEntry:
    return meta_v1.ManagedFieldsEntry(
        api_version=version,
        fields_type="FieldsV1",
        fields_v1=written(fields),
        manager=name or None,
        operation=operation,
        subresource=subresource,
        time=time,
    )


def _order(entry: meta_v1.ManagedFieldsEntry) -> tuple[str, ...]:
    """Upstream's: appliers first, then by time (in seconds), name, version and subresource."""
    return (
        entry.operation or "", entry.time or "", entry.manager or "", entry.api_version or "", entry.subresource or "",
    )  # fmt: skip


def difference(codec: Codec, old: Any, new: Any, ignored_: FieldSet) -> ssa.Difference:
    """What a write of `new` over `old` (None: it is new) changes. Raises SchemaMismatch."""
    node = schema(codec)
    if old is None:
        old = _blank(codec)
    if not node.fields and not isinstance(new, dict):
        old, new = codec.to_dict(old), codec.to_dict(new)
    return ssa.compare(old, new, node, ignored_)


def _blank(codec: Codec) -> Any:
    """An object before anybody wrote anything."""
    found = codec.__dict__.get("blank")
    if found is None:
        found = codec.__dict__["blank"] = codec.empty()
    return found


_stamped: tuple[tuple[int, ...], str] = (), ""


def stamp(now: datetime) -> str:
    """`now` in RFC 3339; made once a second."""
    global _stamped
    second = (now.second, now.minute, now.hour, now.day, now.month, now.year)
    if _stamped[0] != second:
        _stamped = second, times.format(now)
    return _stamped[1]


def _capped(entries: Entries) -> Entries:
    """At most ten entries of updates: beyond, the oldest of each version go into one."""
    updaters = sorted((e for e in entries if e.operation == UPDATE), key=lambda e: _order(e)[1:])
    excess = len(updaters) - MOST_UPDATERS
    first: dict[str, meta_v1.ManagedFieldsEntry] = {}
    ancient = {e.api_version or "": e for e in updaters if e.manager == ANCIENT and not e.subresource}
    left = list(entries)
    for entry in updaters:
        version = entry.api_version or ""
        if excess <= 0:
            break
        if version not in first:
            first[version] = entry
            continue
        bucket = ancient.get(version, first[version])
        if bucket is entry:
            continue
        fields = parse(bucket.fields_v1) | parse(entry.fields_v1)
        # The time of the later one, for that is when the bucket changed last.
        ancient[version] = merged = _entry(ANCIENT, UPDATE, version, None, fields, entry.time)
        left = [e for e in left if e is not bucket and e is not entry]
        left.append(merged)
        excess -= 1
    return sorted(left, key=_order)


def guard(call: Call, meta: meta_v1.ObjectMeta, before: Entries | None) -> None:
    """After admission: what it left of managedFields must be readable, or it is as it was before, with a warning."""
    if meta.managed_fields is before:
        return
    try:
        decode(meta.managed_fields)
    except Undecodable as error:
        meta.managed_fields = before
        call.warn(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated "
            f"mutating admission controller; please fix your requests: {error}"
        )


def settle_times(new: Any, old: Any) -> None:
    """A write that changes nothing does not change times either."""
    entries, known = new.metadata.managed_fields, old.metadata.managed_fields
    if entries is known or not entries or not same_but_for_time(entries, known):
        return
    for name in new.__struct_fields__:
        if name != "metadata" and getattr(new, name) != getattr(old, name):
            return
    bare = {"managed_fields": None, "resource_version": None}
    if msgspec.structs.replace(new.metadata, **bare) == msgspec.structs.replace(old.metadata, **bare):
        new.metadata.managed_fields = known
