"""PATCH: JSON patch, merge patch, strategic merge patch. A patch that loses a race is applied again."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import errors, meta_v1
from podling.api.errors import FieldError, StatusError, bad_request
from podling.apiserver import body, metadata
from podling.apiserver.call import Answer, Call
from podling.apiserver.facet import WHOLE, Facet
from podling.apiserver.handlers.write import modify

JSON, MERGE, STRATEGIC, APPLY = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_MAX_OPERATIONS = 10_000


async def patch(call: Call) -> Answer:
    """PATCH of an object."""
    return await patch_facet(call, WHOLE)


async def patch_facet(call: Call, facet: Facet) -> Answer:
    """PATCH of an object, or of what a subresource shows of it."""
    kind = body.media_type(call.request)
    supported = (JSON, MERGE, STRATEGIC)
    if kind not in supported:
        raise errors.unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(supported)
        )
    document = body.load(call.request)
    codec = facet.codec_of(call)

    def make(old: Any) -> Any:
        shown = facet.show(old)
        before = codec.to_dict(shown)
        after = apply_patch(kind, before, document, shown)
        try:
            new = codec.from_dict(after)
        except msgspec.ValidationError as error:
            try:
                new = codec.from_dict(body.without_nulls(after))
            except msgspec.ValidationError:
                raise _unreadable(kind, after, body.go_type_error(error, after, codec)) from None
        metadata.check_name(
            new.metadata, call.info.name, call.info.namespace if call.served.resource.namespaced else ""
        )
        if new.metadata.resource_version == old.metadata.resource_version and not _says_version(document, kind):
            # Not a precondition of the client's: it only came along with the old state.
            new.metadata.resource_version = None
        return facet.merge(old, new)

    return facet.answer(await modify(call, make, facet.settle(call)))


def _says_version(document: Any, kind: str) -> bool:
    """Whether the client made the version a condition."""
    if kind == JSON:
        return any(str(op.get("path", "")).startswith("/metadata/resourceVersion") for op in document)
    meta = document.get("metadata")
    return isinstance(meta, dict) and bool(meta.get("resourceVersion"))


def apply_patch(kind: str, before: dict[str, Any], document: Any, shown: Any) -> Any:
    """`before` with the patch applied. StatusError 400, 413 or 422 in upstream's words."""
    if kind == JSON:
        from podling.machinery import json_patch

        if not isinstance(document, list):
            raise bad_request(
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
            )
        if len(document) > _MAX_OPERATIONS:
            raise errors.request_entity_too_large(
                f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(document)}"
            )
        try:
            return json_patch.apply(before, document)
        except ValueError as error:
            raise _refused(str(error)) from None
    if not isinstance(document, dict):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    if kind == MERGE:
        from podling.machinery import merge_patch

        return merge_patch.apply(before, document)
    from podling.machinery import strategic_merge

    try:
        return strategic_merge.apply(before, document, type(shown))
    except ValueError as error:
        raise _refused(str(error)) from None


def _refused(message: str) -> StatusError:
    """422 that is about the patch rather than about an object."""
    return StatusError(meta_v1.Status(status="Failure", code=422, reason="Invalid", message=message))


def _unreadable(kind: str, after: Any, why: str) -> StatusError:
    shown = msgspec.json.encode(after).decode()
    finding = FieldError("FieldValueInvalid", "patch", f"Invalid value: {_quoted(shown)}: {why}")
    return errors.invalid("", "", "", [finding])


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
