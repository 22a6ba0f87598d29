"""create and update: the way of an object from a request into the store.

Everything here is about the served type; the stored type is met only in `_stored` and `Entry.shown`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from podling.api import errors, names
from podling.api.errors import FieldError, StatusError
from podling.api.numbers import NumberError, parse_uint
from podling.apiserver import body, managed_fields, metadata
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.codec import splice
from podling.apiserver.entry import Entry
from podling.apiserver.facet import WHOLE, Facet, Settle
from podling.apiserver.strategy import Release, Strategy
from podling.machinery import validation
from podling.store.base import Conflict, Delete, Op, Put

#: How often a generated name is tried, and an update that lost a race.
NAME_ATTEMPTS = 8
ATTEMPTS = 16

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"

#: Makes the new object of the old one (None if there is none); may be called again after a lost race.
Make = Callable[[Any], Any]
#: Writes into the new object who owns what, given the old one (None: there is none), and says whether the client had a
#: part in that, so that it has to be validated. May be called again after a lost race.
Track = Callable[[Call, Any, Any], bool]


async def create(call: Call) -> Answer:
    """POST of a collection."""
    resource = call.served.resource
    obj = body.read_object(call, call.served.codec, resource.kind, resource.group_version)
    return await create_object(call, obj)


async def create_object(call: Call, obj: Any, track: Track = managed_fields.track) -> Answer:
    """Store a new object; one that a client sent, or one that an update or apply makes."""
    meta = obj.metadata
    if meta.name or not meta.generate_name:
        return await _create_once(call, obj, track)
    for attempt in range(NAME_ATTEMPTS):
        candidate = call.served.codec.decode(call.served.codec.encode(obj))
        try:
            return await _create_once(call, candidate, track)
        except StatusError as error:
            if error.reason != "AlreadyExists" or attempt == NAME_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _create_once(call: Call, obj: Any, track: Track) -> Answer:
    app, served = call.app, call.served
    # Admission looks things up in the cache: what was made before must be there.
    if app.store.revision > app.hub.revision:
        await app.hub.current()
    resource, strategy = served.resource, served.strategy
    meta = obj.metadata
    namespace = call.info.namespace if resource.namespaced else ""
    metadata.settle_namespace(meta, namespace, namespaced=resource.namespaced)
    metadata.drop_empty(meta)
    if meta.resource_version:
        raise StatusError(_failure("resourceVersion should not be set on objects to be created"))
    context = call.context(meta.name or "")
    metadata.fill_system_fields(meta, context.now)
    metadata.dedupe_owners(meta, call.warn)
    strategy.default(obj)
    owns = track(call, obj, None)
    attributes = Attributes(
        CREATE, resource, call.info.subresource, namespace or (meta.name or "" if _is_namespace(call) else ""),
        meta.name or "", obj, None, call.user, context.dry_run, call.warnings,
    )  # fmt: skip
    owners = meta.managed_fields
    if await app.admission.mutate(attributes):
        strategy.default(obj)
        managed_fields.guard(call, obj.metadata, owners)
        metadata.dedupe_owners(meta, call.warn, after_admission=True)
    if meta.generate_name and not meta.name:
        meta.name = names.generate(meta.generate_name)
        context = msgspec.structs.replace(context, name=meta.name)
        attributes.name = meta.name
    if strategy.has_generation:
        meta.generation = 1
    strategy.prepare_create(obj, context)
    release = await strategy.begin_create(obj, context)
    try:
        findings = strategy.validate(obj) or _new_meta_findings(strategy, meta, owns)
        if findings:
            raise errors.invalid(resource.kind, resource.group, meta.name or "", findings)
        await app.admission.validate(attributes)
        for text in strategy.warnings(obj, None):
            call.warn(text)
        entry = await _insert(call, obj, context.dry_run)
    except Exception:
        # Not when cancelled: the commit may be under way, and what it took must stay taken.
        await _undo(release)
        raise
    if context.dry_run:
        await _undo(release)
    return Answer(status=201, entry=entry, served=served)


async def _insert(call: Call, obj: Any, dry_run: bool) -> Entry:
    served, hub = call.served, call.app.hub
    name = obj.metadata.name
    key = served.key(call.info.namespace, name)
    stored, value = await _stored(call, obj)
    if dry_run:
        await hub.current()
        if served.cache.get(key) is not None:
            raise _exists(call, key, name)
        return Entry(key, 0, value, served.stored_codec, stored)
    full = served.prefix + key
    hub.leave(full, value, stored)
    try:
        revision = await hub.store.commit((Put(full, value, 0),))
    except Conflict:
        hub.take_back(full, value)
        await hub.current()
        raise _exists(call, key, name) from None
    except BaseException:
        hub.take_back(full, value)
        raise
    stored.metadata.resource_version = str(revision)
    return Entry(key, revision, splice(value, revision), served.stored_codec, stored)


def _exists(call: Call, key: str, name: str) -> StatusError:
    error = errors.already_exists(call.info.resource, call.info.group, name)
    there = call.served.cache.get(key)
    if there is not None and there.object.metadata.deletion_timestamp:
        error.status.message = f"object is being deleted: {error.status.message}"
        return StatusError(error.status)
    return error


def _is_namespace(call: Call) -> bool:
    resource = call.served.resource
    return resource.name == "namespaces" and resource.group == ""


async def _undo(release: Release | None) -> None:
    if release is not None:
        await release()


async def _stored(call: Call, obj: Any) -> tuple[Any, bytes]:
    """The object in its stored type, and its bytes."""
    view = call.served.view
    stored = obj if view is None else await view.stored(obj)
    stored.metadata.resource_version = None
    return stored, call.served.stored_codec.encode(stored)


def _failure(message: str) -> Any:
    from podling.api import meta_v1

    return meta_v1.Status(status="Failure", code=500, message=message)


# Update


async def update(call: Call) -> Answer:
    """PUT of an object."""
    return await update_facet(call, WHOLE)


async def update_facet(call: Call, facet: Facet) -> Answer:
    """PUT of an object, or of what a subresource shows of it."""
    resource = call.served.resource
    kind, version = facet.kind or (resource.kind, resource.group_version)

    def make(old: Any) -> Any:
        obj = body.read_object(call, facet.codec_of(call), kind, version)
        metadata.check_name(obj.metadata, call.info.name, call.info.namespace if resource.namespaced else "")
        return facet.merge(old, obj)

    creates = facet is WHOLE and call.served.strategy.create_on_update
    return facet.answer(await modify(call, make, facet.settle(call), create_missing=creates))


async def modify(
    call: Call,
    make: Make,
    settle: Settle,
    *,
    create_missing: bool = False,
    track: Track = managed_fields.track,
) -> Answer:
    """Read, change, write; once more after a lost race, unless the change was based on a certain version."""
    await call.app.hub.current()
    for _ in range(ATTEMPTS):
        try:
            answer = await _modify_once(call, make, settle, create_missing, track)
        except Conflict:
            await call.app.hub.current()
            continue
        if answer.entry is not None:
            await call.served.ready((answer.entry,))
        return answer
    raise modified(call)


def modified(call: Call) -> StatusError:
    """409: somebody else was faster."""
    return errors.conflict(call.info.resource, call.info.group, call.info.name, MODIFIED)


async def _modify_once(call: Call, make: Make, settle: Settle, create_missing: bool, track: Track) -> Answer:
    served, info = call.served, call.info
    resource, strategy = served.resource, served.strategy
    key = served.key(info.namespace, info.name)
    entry = served.cache.get(key)
    if entry is None:
        if not create_missing:
            raise errors.not_found(info.resource, info.group, info.name)
        return await create_object(call, _as_new(make(None)), track)
    await served.ready((entry,))
    old = entry.shown(served.view)[0]
    new = make(old)
    meta = new.metadata
    _check_version(call, meta.resource_version, entry)
    if meta.uid and meta.uid != old.metadata.uid:
        why = f"Precondition failed: UID in precondition: {meta.uid}, UID in object meta: {old.metadata.uid}"
        raise errors.conflict(info.resource, info.group, info.name, why)
    based_on_version = bool(meta.resource_version)
    context = call.context(info.name)
    metadata.settle_namespace(meta, info.namespace, namespaced=resource.namespaced)
    metadata.drop_empty(meta)
    metadata.dedupe_owners(meta, call.warn)
    strategy.default(new)
    owns = track(call, new, old)
    attributes = Attributes(
        UPDATE, resource, info.subresource, info.namespace, info.name, new, old, call.user, context.dry_run,
        call.warnings,
    )  # fmt: skip
    owners = meta.managed_fields
    if await call.app.admission.mutate(attributes):
        strategy.default(new)
        managed_fields.guard(call, new.metadata, owners)
        metadata.dedupe_owners(meta, call.warn, after_admission=True)
    keep_system_fields(meta, old.metadata)
    findings = settle(new, old, context)
    meta.resource_version = None
    release = await strategy.begin_update(new, old, context) if not info.subresource else None
    try:
        findings = [*_meta_findings(strategy, meta, old.metadata, owns), *findings]
        if findings:
            raise errors.invalid(resource.kind, resource.group, info.name, findings)
        _count_generation(call, new, old)
        await call.app.admission.validate(attributes)
        for text in strategy.warnings(new, old) if not info.subresource else ():
            call.warn(text)
        answer = await _replace(call, entry, new, context.dry_run)
    except Conflict:
        await _undo(release)
        if based_on_version:
            raise modified(call) from None
        raise
    except Exception:
        # Not when cancelled: the commit may be under way, and what it took must stay taken.
        await _undo(release)
        raise
    if context.dry_run:
        await _undo(release)
    return answer


def _as_new(obj: Any) -> Any:
    obj.metadata.resource_version = None
    return obj


def _check_version(call: Call, version: str | None, entry: Entry) -> None:
    """StatusError 409 if the change is based on another version, 422 if it has to be based on one and is not."""
    info = call.info
    if version and version != "0":
        try:
            parse_uint(version)
        except NumberError as error:
            said = f'Invalid value: "{version}": {error}'
            finding = FieldError("FieldValueInvalid", "metadata.resourceVersion", said)
            raise errors.invalid(call.served.resource.kind, info.group, info.name, [finding]) from None
        if version != str(entry.revision):
            raise modified(call)
    elif not call.served.strategy.unconditional_update and call.info.verb == "update":
        finding = FieldError(
            "FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0: must be specified for an update"
        )
        raise errors.invalid(info.resource, info.group, info.name, [finding])


def keep_system_fields(new: Any, old: Any) -> None:
    """What an update can't change, or only says again."""
    new.uid = new.uid or old.uid
    new.creation_timestamp = old.creation_timestamp
    new.generation = old.generation
    new.self_link = None
    new.deletion_timestamp = old.deletion_timestamp
    if new.deletion_grace_period_seconds is None or old.deletion_timestamp is None:
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds
    new.generate_name = new.generate_name or old.generate_name


def _new_meta_findings(strategy: Strategy[Any], meta: Any, owns: bool) -> list[FieldError]:
    """Metadata of a new object. Who owns what needs no check if it is the server's own doing."""
    entries = meta.managed_fields
    if not owns:
        meta.managed_fields = None
    found = validation.object_meta(meta, strategy.validate_name, namespaced=strategy.resource.namespaced)
    meta.managed_fields = entries
    return found


def _meta_findings(strategy: Strategy[Any], new: Any, old: Any, owns: bool) -> list[FieldError]:
    """Metadata is checked as that of a new object, and then as changed. The version has been dealt with already.

    Who owns what needs no check if it is the server's own doing (`owns`: the client had a part in it).
    """
    if not owns and msgspec.structs.replace(old, resource_version=None, managed_fields=new.managed_fields) == new:
        return []
    found = validation.object_meta(new, strategy.validate_name, namespaced=strategy.resource.namespaced)
    changed = validation.object_meta_update(msgspec.structs.replace(new, resource_version="1"), old)
    return [*found, *(f for f in changed if f not in found)]


def _count_generation(call: Call, new: Any, old: Any) -> None:
    strategy = call.served.strategy
    if strategy.has_generation and strategy.desired(new) != strategy.desired(old):
        new.metadata.generation = (old.metadata.generation or 0) + 1


async def _replace(call: Call, entry: Entry, new: Any, dry_run: bool) -> Answer:
    """Write the new version; remove the object if it only waited for its finalizers; do nothing if nothing changed."""
    served, hub = call.served, call.app.hub
    meta = new.metadata
    managed_fields.settle_times(new, entry.shown(served.view)[0])
    stored, value = await _stored(call, new)
    gone = (
        meta.deletion_timestamp and not meta.deletion_grace_period_seconds and not served.strategy.delays_deletion(new)
    )
    if dry_run:
        meta.resource_version = str(entry.revision)
        return Answer(
            entry=Entry(entry.key, entry.revision, splice(value, entry.revision), served.stored_codec), served=served
        )
    full = served.prefix + entry.key
    if gone:
        revision = await hub.store.commit((Delete(full, entry.revision),))
        await served.strategy.after_delete(entry.shown(served.view)[0])
        return Answer(entry=Entry(entry.key, revision, splice(value, revision), served.stored_codec), served=served)
    if splice(value, entry.revision) == entry.wire and not (hub.outdated is not None and hub.outdated(full)):
        return Answer(entry=entry, served=served)
    revision = await write(call, full, value, stored, entry.revision)
    return Answer(entry=Entry(entry.key, revision, splice(value, revision), served.stored_codec, stored), served=served)


async def write(call: Call, full: str, value: bytes, stored: Any, expected: int, *more: Op) -> int:
    """Commit a new version, which the cache takes as it is. Raises store.Conflict."""
    hub = call.app.hub
    hub.leave(full, value, stored)
    try:
        revision = await hub.store.commit((Put(full, value, expected), *more))
    except BaseException:
        hub.take_back(full, value)
        raise
    stored.metadata.resource_version = str(revision)
    return revision
