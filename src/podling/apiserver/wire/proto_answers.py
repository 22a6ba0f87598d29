"""Answers in protobuf. The message of a version of an object is made once, however many lists and watches show it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from podling.api import errors, meta_v1
from podling.apiserver.answer import Answer
from podling.apiserver.entry import Entry, View
from podling.apiserver.negotiate import Media
from podling.apiserver.served import Served
from podling.apiserver.wire import fields, protobuf
from podling.apiserver.wire.proto_writer import body, delimited

_FORM = "protobuf"
#: So many messages are made before others get their turn.
_SLICE = 100


async def prepare(answer: Answer, media: Media) -> None:
    """Make the messages of a long list, a few at a time."""
    entries, served = answer.entries, answer.served
    if entries is None or served is None or media.as_ or len(entries) <= _SLICE:
        return
    made = 0
    for entry in entries:
        if not entry.has_form(_FORM, served.view):
            _message(entry, served.view)
            made += 1
            if made % _SLICE == 0:
                await asyncio.sleep(0)


def render(answer: Answer, media: Media) -> bytes:
    """The body of an answer that is not a watch."""
    served = answer.served
    if answer.entry is not None:
        assert served is not None
        return document(served, answer.entry, media)
    if answer.entries is not None:
        assert served is not None and answer.list_meta is not None
        return _list(served, answer.entries, answer.list_meta, media)
    if answer.body is not None:
        return answer.body
    if media.as_ and not isinstance(answer.obj, meta_v1.Status):
        return _partial(answer.obj.metadata, media)
    return of(answer.obj)


def of(obj: Any) -> bytes:
    """An object of any built-in kind. StatusError 406 if it has no protobuf form."""
    if not isinstance(obj, msgspec.Struct) or not fields.known(fields.name_of(type(obj))):
        raise errors.not_acceptable(
            f"object {type(obj).__name__} does not implement the protobuf marshalling interface and cannot be encoded "
            "to a protobuf message"
        )
    return protobuf.encode(obj)


def document(served: Served, entry: Entry, media: Media, *, as_stored: bool = False) -> bytes:
    """One object with its kind; `as_stored`: not as the view shows it, which is so with bookmarks."""
    view = None if as_stored else served.view
    if media.as_:
        if media.as_ != "PartialObjectMetadata":
            raise errors.not_acceptable(
                f"you requested {media.as_}, but the requested object is not a list ({served.resource.kind})"
            )
        return _partial(entry.shown(view)[0].metadata, media)
    return protobuf.wrap(served.resource.group_version, served.resource.kind, _message(entry, view))


def event(type_: str, served: Served, entry: Entry, media: Media) -> bytes:
    """The frame of a watch's event."""
    return protobuf.event(type_, document(served, entry, media, as_stored=type_ == "BOOKMARK"))


def _message(entry: Entry, view: View | None) -> bytes:
    return entry.form(_FORM, view, body)


def _partial(meta: meta_v1.ObjectMeta, media: Media) -> bytes:
    return protobuf.wrap(f"{media.group}/{media.version}", "PartialObjectMetadata", delimited(1, body(meta)))


def _list(served: Served, entries: Sequence[Entry], meta: meta_v1.ListMeta, media: Media) -> bytes:
    resource, view = served.resource, served.view
    if not media.as_:
        kind = resource.list_kind or f"{resource.kind}List"
        messages = [_message(e, view) for e in entries]
        return protobuf.wrap(resource.group_version, kind, protobuf.list_message(meta, messages))
    if media.as_ != "PartialObjectMetadataList":
        raise errors.not_acceptable(f"you requested {media.as_}, but the requested object is a list ({resource.kind})")
    parts = [delimited(1, body(e.shown(view)[0].metadata)) for e in entries]
    return protobuf.wrap(f"{media.group}/{media.version}", media.as_, protobuf.list_message(meta, parts))
