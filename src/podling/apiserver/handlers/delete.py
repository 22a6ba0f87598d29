"""delete and deletecollection: finalizers, graceful deletion, propagation to dependents, preconditions."""

from __future__ import annotations

from typing import Any, NamedTuple

from podling.api import errors, meta_v1, times
from podling.api.errors import FieldError, StatusError, bad_request, invalid
from podling.apiserver import body, content, listing
from podling.apiserver.admission.base import DELETE, Attributes
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call, check_dry_run, integer
from podling.apiserver.codec import splice
from podling.apiserver.entry import Entry
from podling.apiserver.handlers.write import ATTEMPTS, modified, write
from podling.apiserver.request_info import truthy
from podling.machinery import schema
from podling.store.base import Conflict
from podling.store.base import Delete as DeleteOp

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Verdict(NamedTuple):
    """What a delete request does to an object: removes it now, or leaves it as `marked` (None: as it is)."""

    remove: bool
    marked: Any = None


async def delete(call: Call) -> Answer:
    """DELETE of one object."""
    options = read_options(call)
    await call.app.hub.current()
    return await delete_one(call, call.info.name, call.info.namespace, options)


async def delete_collection(call: Call) -> Answer:
    """DELETE of all objects that are selected, one after the other."""
    options = read_options(call)
    listing.parse(call.request.query, watch=False)
    selection = listing.selection_of(call)
    await call.app.hub.current()
    while selection.matches is not None and await call.served.ready(selection.candidates()):
        await call.app.hub.current()
    meta = meta_v1.ListMeta(resource_version=str(call.app.hub.revision))
    found = selection.entries()
    for entry in found:
        try:
            await delete_one(call, entry.name, entry.namespace, options)
        except StatusError as error:
            if error.reason != "NotFound":
                raise
    return Answer(entries=found, list_meta=meta, served=call.served)


async def delete_one(call: Call, name: str, namespace: str, options: meta_v1.DeleteOptions) -> Answer:
    """Delete one object of the call's resource."""
    served = call.served
    key = served.key(namespace, name)
    for _ in range(ATTEMPTS):
        entry = served.cache.get(key)
        if entry is None:
            raise errors.not_found(call.info.resource, call.info.group, name)
        try:
            return await _attempt(call, entry, options)
        except Conflict:
            await call.app.hub.current()
    raise modified(call)


async def _attempt(call: Call, entry: Entry, options: meta_v1.DeleteOptions) -> Answer:
    served, hub = call.served, call.app.hub
    await served.ready((entry,))
    old = entry.shown(served.view)[0]
    check_preconditions(call, old, options)
    dry_run = bool(options.dry_run)
    attributes = Attributes(
        DELETE, served.resource, "", entry.namespace or (entry.name if served.resource.name == "namespaces" else ""),
        entry.name, None, old, call.user, dry_run, call.warnings, options,
    )  # fmt: skip
    await call.app.admission.mutate(attributes)
    await call.app.admission.validate(attributes)
    verdict = decide(served, old, options, call.app.now())
    full = served.prefix + entry.key
    if verdict.remove:
        if not dry_run:
            await hub.store.commit((DeleteOp(full, entry.revision),))
            await served.strategy.after_delete(old)
        return _removed(call, entry)
    if verdict.marked is None:
        return Answer(entry=entry, served=served)
    stored = verdict.marked if served.view is None else await served.view.stored(verdict.marked)
    stored.metadata.resource_version = None
    value = served.stored_codec.encode(stored)
    revision = entry.revision if dry_run else await write(call, full, value, stored, entry.revision)
    shown = Entry(entry.key, revision, splice(value, revision), served.stored_codec)
    status = 202 if options.orphan_dependents is False else 200
    return Answer(status=status, entry=shown, served=served)


def _removed(call: Call, entry: Entry) -> Answer:
    served, info = call.served, call.info
    if served.strategy.returns_deleted:
        return Answer(entry=entry, served=served)
    details = meta_v1.StatusDetails(
        name=entry.name, group=info.group or None, kind=info.resource, uid=entry.object.metadata.uid
    )
    return Answer(obj=meta_v1.Status(status="Success", details=details))


def check_preconditions(call: Call, old: Any, options: meta_v1.DeleteOptions) -> None:
    """StatusError 409 unless the object is the one that the request means."""
    wanted = options.preconditions
    if wanted is None:
        return
    meta, resource = old.metadata, call.served.resource
    if wanted.uid and wanted.uid != meta.uid:
        why = (
            f"the UID in the precondition ({wanted.uid}) does not match the UID in record ({meta.uid}). The object "
            "might have been deleted and then recreated"
        )
        raise errors.conflict(resource.kind, resource.group, meta.name, why)
    if wanted.resource_version and wanted.resource_version != meta.resource_version:
        why = (
            f"the ResourceVersion in the precondition ({wanted.resource_version}) does not match the ResourceVersion "
            f"in record ({meta.resource_version}). The object might have been modified"
        )
        raise errors.conflict(resource.kind, resource.group, meta.name, why)


def decide(served: Any, old: Any, options: meta_v1.DeleteOptions, now: Any) -> Verdict:
    """The rules of deletion: upstream's BeforeDelete and what follows it. `old` is read-only."""
    strategy = served.strategy
    obj = served.codec.decode(served.codec.encode(old))
    meta = obj.metadata
    requested = options.grace_period_seconds
    if requested is not None and requested < 0:
        requested = 1
    graceful = pending = False
    if meta.deletion_timestamp:
        graceful, pending = _again(
            meta, requested, now, graceful_kind=strategy.grace_period(old, requested) is not None
        )
    else:
        period = strategy.grace_period(old, requested)
        if period is not None:
            graceful = True
            meta.deletion_timestamp = times.format(times.after(now, period))
            meta.deletion_grace_period_seconds = period
            _bump(meta)
    if pending:
        return Verdict(False)
    meta.finalizers = _finalizers(meta.finalizers or [], strategy.default_propagation, options) or None
    delayed = strategy.delays_deletion(obj)
    if not graceful:
        if not delayed:
            return Verdict(True)
        if not old.metadata.deletion_timestamp:
            _bump(meta)
            strategy.mark_deleting(obj)
        if not meta.deletion_timestamp or times.parse(meta.deletion_timestamp) > now:
            meta.deletion_timestamp = times.format(now)
        meta.deletion_grace_period_seconds = 0
    elif not delayed and not meta.deletion_grace_period_seconds:
        return Verdict(True)
    return Verdict(False, obj if obj != old else None)


def _again(meta: meta_v1.ObjectMeta, requested: int | None, now: Any, *, graceful_kind: bool) -> tuple[bool, bool]:
    """(graceful, pending) of an object that is being deleted already: its grace period can only get shorter."""
    current = meta.deletion_grace_period_seconds
    if not current or not graceful_kind:
        return False, False
    if requested is None or requested >= current:
        return False, True
    assert meta.deletion_timestamp is not None
    until = times.after(times.parse(meta.deletion_timestamp), requested - current)
    if times.after(now, current) == times.LAST:
        # The end that was said is no moment from which one could count back.
        until = times.after(now, requested)
    if until < now:
        until = now
        if requested != 0:
            requested = 1
    meta.deletion_timestamp = times.format(until)
    meta.deletion_grace_period_seconds = requested
    return True, False


def _bump(meta: meta_v1.ObjectMeta) -> None:
    if meta.generation:
        meta.generation += 1


def _finalizers(present: list[str], default: str, options: meta_v1.DeleteOptions) -> list[str]:
    """Finalizers with those of the garbage collector as the request wants them."""
    if not default:
        return present
    if options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    elif options.propagation_policy:
        policy = options.propagation_policy
    else:
        policy = next(
            ({ORPHAN: "Orphan", FOREGROUND: "Foreground"}[f] for f in present if f in (ORPHAN, FOREGROUND)), default
        )
    kept = [f for f in present if f not in (ORPHAN, FOREGROUND)]
    wanted = {"Orphan": [ORPHAN], "Foreground": [FOREGROUND]}.get(policy, [])
    if set(kept + wanted) == set(present):
        return present
    return kept + wanted


def read_options(call: Call) -> meta_v1.DeleteOptions:
    """DeleteOptions of the body, or of the query. StatusError 400, 422."""
    request = call.request
    if isinstance(request.obj, meta_v1.DeleteOptions):
        options = request.obj
    elif request.body or request.obj:
        body.check_media(call)
        data = content.load(request, "DeleteOptions", "v1")
        if not isinstance(data, dict):
            raise bad_request("decoded object cannot be converted to DeleteOptions")
        if data.get("kind") not in (None, "", "DeleteOptions"):
            raise bad_request(
                f'no kind "{data.get("kind")}" is registered for version "{data.get("apiVersion")}" in scheme '
                '"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:75"'
            )
        try:
            options = schema.convert(data, meta_v1.DeleteOptions)
        except schema.DecodeError as error:
            raise bad_request(str(error)) from None
    else:
        options = _from_query(request.query)
    found = _findings(options)
    if found:
        raise invalid("DeleteOptions", "meta.k8s.io", "", found)
    check_dry_run(options.dry_run or [], "DeleteOptions")
    return options


def _from_query(query: dict[str, str]) -> meta_v1.DeleteOptions:
    options = meta_v1.DeleteOptions()
    if not query:
        return options
    options.grace_period_seconds = integer(query, "gracePeriodSeconds")
    options.propagation_policy = query.get("propagationPolicy") or None
    if "orphanDependents" in query:
        options.orphan_dependents = truthy(query["orphanDependents"])
    if query.get("dryRun"):
        options.dry_run = [query["dryRun"]]
    return options


def _findings(options: meta_v1.DeleteOptions) -> list[FieldError]:
    found = []
    policy = options.propagation_policy
    if policy is not None and options.orphan_dependents is not None:
        why = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
        found.append(FieldError("FieldValueInvalid", "propagationPolicy", why))
    if policy is not None and policy not in ("Foreground", "Background", "Orphan"):
        why = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
        found.append(FieldError("FieldValueNotSupported", "propagationPolicy", why))
    return found
