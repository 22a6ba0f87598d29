"""PATCH: JSON patch, merge patch, strategic merge patch. A patch that loses a race is applied again.

Server-side apply is a patch of its own kind: see `apply`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import errors, meta_v1
from podling.api.errors import FieldError, StatusError, bad_request
from podling.apiserver import body, content, metadata
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec
from podling.apiserver.facet import WHOLE, Facet
from podling.apiserver.handlers import apply
from podling.apiserver.handlers.write import modify
from podling.apiserver.negotiate import unsupported
from podling.machinery import json_patch, merge_patch, nesting, schema, strategic_merge, validation

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
    kind = call.request.headers.get("content-type", "").partition(";")[0]
    if kind not in (supported := _supported(call)):
        raise unsupported(supported)
    if kind in (apply.MEDIA_TYPE, apply.CBOR_TYPE):
        return await apply.apply(call, facet)
    document = content.load(call.request)
    wanted = body.directive(call.request.query, "PatchOptions")
    if "force" in call.request.query:
        finding = validation.forbidden(validation.Path("force"), "may not be specified for non-apply patch")
        raise errors.invalid("PatchOptions", "meta.k8s.io", "", [finding])
    owners = _says_owners(document, kind)
    codec = facet.codec_of(call)
    namespace = call.info.namespace if call.served.resource.namespaced else ""

    def make(old: Any) -> Any:
        shown = facet.show(old)
        # Who owns what is most of an object's metadata, and hardly ever what a patch is about.
        before = codec.to_dict(shown if owners else apply.bare(shown))
        after = apply_patch(kind, before, document, shown)
        new = _typed(call, codec, kind, after, document, wanted)
        if not owners:
            new.metadata.managed_fields = shown.metadata.managed_fields
        metadata.check_name(new.metadata, call.info.name, namespace)
        if not _says_version(document, kind):
            # Not a precondition of the client's: it only came along with the old state.
            new.metadata.resource_version = None
        return facet.merge(old, new)

    return facet.answer(await modify(call, make, facet.settle(call)))


def _supported(call: Call) -> tuple[str, ...]:
    """The kinds of patches that the resource takes."""
    kinds = (JSON, MERGE, STRATEGIC) if call.served.strategy.merges_strategically else (JSON, MERGE)
    return (*kinds, apply.MEDIA_TYPE, apply.CBOR_TYPE) if call.app.cbor else (*kinds, apply.MEDIA_TYPE)


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
        return any(path.startswith("/metadata/resourceVersion") for path in _paths(document, "path"))
    meta = document.get("metadata") if isinstance(document, dict) else None
    return isinstance(meta, dict) and bool(meta.get("resourceVersion"))


def _says_owners(document: Any, kind: str) -> bool:
    """Whether the patch is about managedFields too."""
    if kind == JSON:
        paths = _paths(document, "path", "from")
        return any(p in ("", "/metadata") or p.startswith("/metadata/managedFields") for p in paths)
    meta = document.get("metadata") if isinstance(document, dict) else None
    return isinstance(meta, dict) and "managedFields" in meta


def _paths(operations: Any, *names: str) -> list[str]:
    """What the operations of a JSON patch, which may still be anything, say in these fields."""
    found = operations if isinstance(operations, list) else []
    return [str(op.get(name, "")) for op in found if isinstance(op, dict) for name in names]


def apply_patch(kind: str, before: dict[str, Any], document: Any, shown: Any) -> Any:
    """`before` with the patch applied. StatusError 400, 413, 422 or 500 in upstream's words."""
    try:
        if kind == JSON:
            after = json_patch.apply(before, document)
            if nesting.deeper(after):
                raise refused()
            return after
        if not isinstance(document, dict):
            raise bad_request(
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
            )
        if kind == MERGE:
            return merge_patch.apply(before, document)
        return strategic_merge.apply(before, document, type(shown))
    except (json_patch.MalformedPatch, strategic_merge.MalformedPatch) as error:
        raise bad_request(str(error)) from None
    except json_patch.TooLarge as error:
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
