"""The objects of requests and answers, as JSON that is copied into events, and what else events say of them."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import meta_v1
from podling.api.errors import StatusError
from podling.api.request import Request
from podling.apiserver import content, present
from podling.apiserver.answer import Answer
from podling.apiserver.audit.event import ObjectReference, ResponseStatus
from podling.apiserver.audit.event import as_json as as_json
from podling.apiserver.negotiate import JSON, PLAIN, Media


class _Metadata(msgspec.Struct, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata | None = None


_JSON_TYPES = (
    "application/json", "application/json-patch+json", "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)  # fmt: skip
_whole = msgspec.json.Decoder(msgspec.Raw)
_peek = msgspec.json.Decoder(_Object)


def sent(request: Request) -> bytes | None:
    """What a request brought: a JSON body as it is, other forms as JSON. None if there is none or it can't be read."""
    if request.obj is not None:
        return as_json(request.obj)
    if not request.body:
        return None
    try:
        if content.media_type(request) in _JSON_TYPES:
            data = request.body
            if not data.isascii():
                data.decode()
            return compact(bytes(_whole.decode(data)))
        return as_json(content.load(request))
    except (msgspec.DecodeError, UnicodeDecodeError, StatusError):
        return None


def answered(answer: Answer, written: bytes, media: Media, query: dict[str, str]) -> bytes:
    """The object of an answer that was written as `written`: that itself, if it is JSON as it should be."""
    if media.type == JSON and not media.pretty:
        return written
    return present.render(answer, media._replace(type=JSON, pretty=False), query)


def in_process(answer: Answer) -> bytes:
    """The object of an answer that is not written at all."""
    return present.render(answer, PLAIN, {})


def compact(data: bytes) -> bytes:
    """JSON on one line."""
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


def raw(data: bytes, *, bare: bool) -> msgspec.Raw:
    """JSON as a part of an event; `bare`: without managedFields."""
    return msgspec.Raw(without_managed_fields(data) if bare else data)


def referred(ref: ObjectReference, data: bytes) -> ObjectReference:
    """What the request's path left open about its object, the object says itself."""
    try:
        meta = _peek.decode(data).metadata
    except msgspec.DecodeError:
        return ref
    if meta is None:
        return ref
    return msgspec.structs.replace(
        ref,
        namespace=ref.namespace or meta.namespace or "",
        name=ref.name or meta.name or "",
        uid=meta.uid or "",
        resource_version=meta.resource_version or "",
    )


def response_status(code: int, obj: Any = None) -> ResponseStatus:
    """`obj` is what is answered; only of a Status is more said than the code."""
    said = ResponseStatus(code=code)
    if isinstance(obj, meta_v1.Status):
        said.status, said.message, said.reason = obj.status, obj.message or "", obj.reason or ""
        said.details = obj.details
    return said


def without_managed_fields(data: bytes) -> bytes:
    """An object, list or table without managedFields."""
    if b'"managedFields"' not in data:
        return data
    document = msgspec.json.decode(data)
    if not isinstance(document, dict):
        return data
    _drop(document)
    for item in document.get("items") or ():
        _drop(item)
    for row in document.get("rows") or ():
        _drop(row.get("object"))
    return msgspec.json.encode(document)


def _drop(value: Any) -> None:
    if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
        value["metadata"].pop("managedFields", None)
