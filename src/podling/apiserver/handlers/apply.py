"""PATCH of application/apply-patch+yaml or +cbor: server-side apply (KEP-555).

The author sends what they care about; it is merged into the live object, what they cared about before and no longer
say goes, and what others own is left alone, unless the request forces it. What does not exist yet is created.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from podling.api import errors, meta_v1
from podling.api.errors import StatusError, bad_request
from podling.apiserver import body, content, managed_fields, metadata
from podling.apiserver.answer import Answer
from podling.apiserver.authz.attributes import Undecided
from podling.apiserver.call import Call
from podling.apiserver.facet import WHOLE, Facet
from podling.apiserver.handlers.write import modify
from podling.apiserver.managed_fields import APPLY, UPDATE, Ownership
from podling.apiserver.request_info import truthy
from podling.apiserver.wire import yaml
from podling.machinery import apply as ssa
from podling.machinery import schema, validation
from podling.machinery.apply import ApplyConflict, Conflict, Manager, SchemaMismatch
from podling.machinery.field_set import FieldSet
from podling.machinery.merge_schema import Node

MEDIA_TYPE, CBOR_TYPE = "application/apply-patch+yaml", "application/apply-patch+cbor"

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ANNOTATIONS_LIMIT = 256 * 1024


async def apply(call: Call, facet: Facet) -> Answer:
    """Apply to an object, or to what a subresource shows of it."""
    request = call.request
    name = _field_manager(call)
    force = truthy(request.query.get("force"))
    wanted = body.directive(request.query, "PatchOptions")
    intent = _intent(call)
    repeated = request.obj is None and wanted != "Ignore" and content.has_duplicates(intent)

    may_create = False

    def make(old: Any) -> Any:
        if old is None:
            _check_create(call, intent, allowed=may_create)
        new = _applied(call, facet, old, intent, name, force)
        if repeated:
            _report_duplicates(call, wanted, intent)
        return new

    def track(call: Call, new: Any, old: Any) -> bool:
        # `make` has written who owns what, together with the object.
        return False

    creates = facet is WHOLE
    while True:
        try:
            return facet.answer(await modify(call, make, facet.settle(call), create_missing=creates, track=track))
        except Undecided as pending:
            await pending.settled
            may_create = True


def _field_manager(call: Call) -> str:
    name = call.request.query.get("fieldManager", "")
    if not name:
        finding = validation.required(validation.Path("fieldManager"), "is required for apply patch")
        raise errors.invalid("PatchOptions", "meta.k8s.io", "", [finding])
    managed_fields.check_name(name, "PatchOptions")
    return name


def _intent(call: Call) -> dict[str, Any]:
    """What the author sent. StatusError 400."""
    request = call.request
    if request.obj is not None or content.media_type(request) == CBOR_TYPE:
        found = content.load(request)
    else:
        try:
            found = content.decoded(request, "", "")
        except schema.DecodeError as error:
            raise bad_request(f"error decoding patch: {error}") from None
    if not isinstance(found, dict):
        what = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}.get(type(found), "null")
        raise bad_request(
            f"error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into "
            "Go value of type map[string]interface {}"
        )
    return found


def _report_duplicates(call: Call, wanted: str, intent: dict[str, Any]) -> None:
    """Keys that the author's document has twice: a warning, or a refusal. Unknown fields are refused in any case."""
    found = yaml.duplicate_keys(intent)
    lines = "".join(f'\n  line {line}: key "{key}" already set in map' for line, key in found)
    why = f"error converting YAML to JSON: yaml: unmarshal errors:{lines}"
    if wanted == "Strict":
        raise bad_request(f"error strict decoding patch: {why}")
    call.warn(why)


def _check_create(call: Call, intent: dict[str, Any], *, allowed: bool) -> None:
    """StatusError 403 unless the author may also create, 409 if they meant an object that is gone."""
    info = call.info
    if not allowed and (pending := call.app.authorize(call.user, info._replace(verb="create"))) is not None:
        raise Undecided(pending)
    meta = intent.get("metadata")
    uid = meta.get("uid") if isinstance(meta, dict) else None
    if uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise errors.conflict(info.resource, info.group, info.name, why)


# -- the object ------------------------------------------------------------------------------------------------------


def _applied(call: Call, facet: Facet, old: Any, intent: dict[str, Any], name: str, force: bool) -> Any:
    """The new object with its managedFields. StatusError 400, 409 or 500 in upstream's words."""
    kind, version = facet.kind or (call.served.resource.kind, call.served.resource.group_version)
    _check_intent(intent, kind, version)
    codec = facet.codec_of(call)
    node = managed_fields.schema(codec)
    shown = facet.show(old) if old is not None else None
    live = codec.to_dict(bare(shown)) if shown is not None else {}
    try:
        owners = managed_fields.decode(facet.entries(call, old)) if old is not None else Ownership()
    except managed_fields.Undecodable as error:
        raise _broken(f"failed to decode managed fields: {error}") from None
    context = f"{_where(live)}; {_gvk(version, kind)}"
    manager = Manager(name, APPLY, "", call.info.subresource)
    ignored = managed_fields.ignored(call, live if facet.kind is None else intent)
    if old is not None and not owners.fields:
        past = managed_fields.difference(codec, None, shown, ignored)
        owners = _track_past(call, past, version)
    try:
        result = _merge(live, intent, node, owners, manager, force, ignored)
    except SchemaMismatch as error:
        where = f"{_where(intent)}; {_gvk(version, kind)}"
        raise _broken(f"failed to create typed patch object ({where}): {error}") from None
    unchanged = old is not None and result.object == live
    _own(call, owners, result.managers, manager, version, now="" if unchanged else managed_fields.stamp(call.app.now()))
    if name == "kubectl":
        _renew_last_applied(result.object, intent)
    try:
        new = codec.convert({**result.object, "kind": kind, "apiVersion": version})
    except schema.DecodeError as error:
        raise _broken(f"failed to convert new object ({context}) to proper version: {error}") from None
    namespace = call.info.namespace if call.served.resource.namespaced else ""
    metadata.check_name(new.metadata, call.info.name, namespace)
    said = intent.get("metadata") or {}
    # The live object's version came along with it: only the author's own is a condition.
    new.metadata.resource_version = said.get("resourceVersion")
    merged = facet.merge(old, new)
    merged.metadata.managed_fields = facet.own_entries(call, old, managed_fields.encode(owners))
    return merged


def bare(obj: Any) -> Any:
    """The object without managedFields, which are dealt with apart."""
    bare = copy.copy(obj)
    bare.metadata = msgspec.structs.replace(obj.metadata, managed_fields=None)
    return bare


def _check_intent(intent: dict[str, Any], kind: str, version: str) -> None:
    said, its_version = (intent[key] if isinstance(intent.get(key), str) else "" for key in ("kind", "apiVersion"))
    if said != kind or its_version != version:
        raise bad_request(f"invalid object type: {_gvk(its_version, said)}")
    meta = intent.get("metadata")
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")


def _merge(
    live: dict[str, Any],
    intent: dict[str, Any],
    node: Node,
    owners: Ownership,
    manager: Manager,
    force: bool,
    ignored: FieldSet,
) -> ssa.Applied:
    def attempt(force: bool) -> ssa.Applied:
        return ssa.apply(live, intent, node, owners.fields, manager, force=force, ignored=ignored)

    try:
        return attempt(force)
    except ApplyConflict as error:
        conflicts = error.conflicts
        if manager.name == "kubectl":
            # What kubectl itself applied before, on the client's side, is no conflict.
            allowed = _last_applied_fields(live, node, intent["apiVersion"])
            conflicts = [c for c in conflicts if c.path not in allowed]
            if not conflicts:
                return attempt(True)
        raise conflict(conflicts) from None


def _own(
    call: Call, owners: Ownership, fields: dict[Manager, FieldSet], manager: Manager, version: str, *, now: str
) -> None:
    owners.fields = fields
    owners.versions[manager] = version
    if now:
        owners.times[manager] = now


def _track_past(call: Call, past: ssa.Difference, version: str) -> Ownership:
    """An object that was not tracked so far: all that it has belongs to somebody who was there before."""
    owners = Ownership()
    manager = Manager(managed_fields.BEFORE_FIRST_APPLY, UPDATE, version, call.info.subresource)
    owners.fields = ssa.taken(past, {}, manager)
    owners.versions[manager] = version
    owners.times[manager] = managed_fields.stamp(call.app.now())
    return owners


# -- client-side apply's annotation ----------------------------------------------------------------------------------


def _last_applied(obj: dict[str, Any]) -> str:
    meta = obj.get("metadata") or {}
    return str((meta.get("annotations") or {}).get(LAST_APPLIED) or "")


def _last_applied_fields(live: dict[str, Any], node: Node, version: str) -> FieldSet:
    """The fields that client-side apply set last, as far as they still are what it set."""
    none = FieldSet()
    try:
        applied = schema.parse(_last_applied(live))
    except schema.DecodeError:
        return none
    if not isinstance(applied, dict) or applied.get("apiVersion") != version:
        return none
    try:
        ssa.check(applied, node)
        fields = ssa.fields_of(applied, node)
        changed = ssa.compare(applied, live, node)
    except SchemaMismatch:
        return none
    return fields - changed.modified - changed.added - changed.removed


def _renew_last_applied(obj: dict[str, Any], intent: dict[str, Any]) -> None:
    """Keep client-side apply's annotation, if there is one, at what was applied now."""
    if not _last_applied(obj):
        return
    applied = copy.deepcopy(intent)
    annotations = (applied.get("metadata") or {}).get("annotations")
    if annotations:
        annotations.pop(LAST_APPLIED, None)
    text = msgspec.json.encode(applied, order="deterministic").decode() + "\n"
    kept = {**obj["metadata"]["annotations"], LAST_APPLIED: text}
    if sum(len(k.encode()) + len(v.encode()) for k, v in kept.items()) > _ANNOTATIONS_LIMIT:
        del kept[LAST_APPLIED]
    obj["metadata"] = {**obj["metadata"], "annotations": kept}


# -- failures --------------------------------------------------------------------------------------------------------


def conflict(conflicts: list[Conflict]) -> StatusError:
    """409 that names all fields that others own."""
    causes = [
        meta_v1.StatusCause(reason="FieldManagerConflict", message=f"conflict with {_printed(c.manager)}", field=str(c))
        for c in conflicts
    ]
    if len(conflicts) == 1:
        message = f"Apply failed with 1 conflict: conflict with {_printed(conflicts[0].manager)}: {conflicts[0]}"
    else:
        lines: list[str] = []
        for manager in dict.fromkeys(c.manager for c in conflicts):
            lines.append(f"conflicts with {_printed(manager)}:")
            lines += [f"- {c}" for c in conflicts if c.manager == manager]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    details = meta_v1.StatusDetails(causes=causes)
    return StatusError(meta_v1.Status(status="Failure", code=409, reason="Conflict", message=message, details=details))


def _printed(manager: Manager) -> str:
    text = validation.quote(manager.name)
    if manager.subresource:
        text += f" with subresource {validation.quote(manager.subresource)}"
    return f"{text} using {manager.api_version}" if manager.operation == UPDATE else text


def _broken(message: str) -> StatusError:
    """500: upstream has no better code for an intent that does not fit its schema."""
    return StatusError(meta_v1.Status(status="Failure", code=500, message=message))


def _where(obj: dict[str, Any]) -> str:
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return f"{meta.get('namespace') or ''}/{meta.get('name') or ''}"


def _gvk(version: str, kind: str) -> str:
    """As Go prints one: `apps/v1, Kind=Deployment`."""
    return f"{version if '/' in version else '/' + version}, Kind={kind}"
