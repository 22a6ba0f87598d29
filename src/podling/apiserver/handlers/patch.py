"""PATCH: JSON patch, merge patch, strategic merge patch. A patch that loses a race is applied again."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import errors, meta_v1
from podling.api.errors import FieldError, StatusError, bad_request
from podling.apiserver import body, metadata
from podling.apiserver.call import Answer, Call
from podling.apiserver.codec import Codec
from podling.apiserver.facet import WHOLE, Facet
from podling.apiserver.handlers.write import modify
from podling.machinery import json_patch, merge_patch, schema, strategic_merge

JSON, MERGE, STRATEGIC = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


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
    wanted = body.directive(call.request.query, "PatchOptions")
    codec = facet.codec_of(call)
    namespace = call.info.namespace if call.served.resource.namespaced else ""

    def make(old: Any) -> Any:
        shown = facet.show(old)
        before = codec.to_dict(shown)
        after = apply_patch(kind, before, document, shown)
        new = _typed(call, codec, kind, after, document, wanted)
        metadata.check_name(new.metadata, call.info.name, namespace)
        if not _says_version(document, kind):
            # Not a precondition of the client's: it only came along with the old state.
            new.metadata.resource_version = None
        return facet.merge(old, new)

    return facet.answer(await modify(call, make, facet.settle(call)))


def _typed(call: Call, codec: Codec, kind: str, after: Any, document: Any, wanted: str) -> Any:
    """What came out of the patch, as an object. StatusError 422."""
    try:
        new = codec.convert(after)
    except schema.DecodeError as error:
        raise _unreadable(kind, after, document, str(error)) from None
    if wanted != "Ignore" and call.request.obj is None:
        problems = _duplicates(document) + codec.problems(after)
        if problems and wanted == "Strict":
            raise _unreadable(kind, after, document, str(schema.StrictDecodeError(problems)))
        for problem in problems:
            call.warn(problem)
    return new


def _duplicates(document: Any) -> list[str]:
    """Duplicate fields of the patch itself; what is unknown shows in the result."""
    found: list[str] = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, schema.WithDuplicates):
            found.extend(f'duplicate field "{path}{key}"' for key in value.duplicates)
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}{key}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, f"{path.removesuffix('.')}[{index}].")

    walk(document, "")
    return found


def _says_version(document: Any, kind: str) -> bool:
    """Whether the client made the version a condition."""
    if kind == JSON:
        return any(str(op.get("path", "")).startswith("/metadata/resourceVersion") for op in document)
    meta = document.get("metadata")
    return isinstance(meta, dict) and bool(meta.get("resourceVersion"))


def apply_patch(kind: str, before: dict[str, Any], document: Any, shown: Any) -> Any:
    """`before` with the patch applied. StatusError 400, 413, 422 or 500 in upstream's words."""
    try:
        if kind == JSON:
            return json_patch.apply(before, document)
        if not isinstance(document, dict):
            raise bad_request(
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
            )
        if kind == MERGE:
            return merge_patch.apply(before, document)
        return strategic_merge.apply(before, document, type(shown))
    except (json_patch.MalformedPatch, strategic_merge.MalformedPatch) as error:
        raise bad_request(str(error)) from None
    except json_patch.TooManyOperations as error:
        raise errors.request_entity_too_large(str(error)) from None
    except (json_patch.PatchError, strategic_merge.UnprocessablePatch) as error:
        raise refused() from error
    except strategic_merge.PatchError as error:
        raise StatusError(meta_v1.Status(status="Failure", code=500, message=str(error))) from None


def refused() -> StatusError:
    """422 that is about the patch rather than about an object; upstream does not say what is wrong with it."""
    text = "the server rejected our request due to an error in our request"
    return StatusError(
        meta_v1.Status(status="Failure", code=422, reason="Invalid", message=text, details=meta_v1.StatusDetails())
    )


def _unreadable(kind: str, after: Any, document: Any, why: str) -> StatusError:
    """422 that shows the result, or of a strategic merge the patch."""
    text = _go(document) if kind == STRATEGIC else msgspec.json.encode(after).decode()
    finding = FieldError("FieldValueInvalid", "patch", f"Invalid value: {msgspec.json.encode(text).decode()}: {why}")
    return errors.invalid("", "", "", [finding])


def _go(value: Any) -> str:
    """A document as Go prints one."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{k}:{_go(v)}' for k, v in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
