"""Answers as bytes: what the cache holds is sent as it is; other forms are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from podling.api import autoscaling_v1, errors, meta_v1
from podling.api.struct import encode
from podling.apiserver import table
from podling.apiserver.answer import Answer
from podling.apiserver.entry import Change, Entry
from podling.apiserver.negotiate import CBOR, JSON, PROTOBUF, Media
from podling.apiserver.served import Served
from podling.clock import now
from podling.machinery.validation import quote


def render(answer: Answer, media: Media, query: dict[str, str]) -> bytes:
    """The body of an answer that is not a watch."""
    if media.type == PROTOBUF:
        from podling.apiserver.wire import proto_answers

        return proto_answers.render(answer, media)
    if answer.entry is not None:
        served = answer.served
        assert served is not None
        if not media.as_:
            view = served.view
            data = answer.entry.wire if view is None else answer.entry.shown(view)[1]
        else:
            _check_form(media, is_list=False)
            data = table.transformed(served, answer.entry, media, now(), _included(query))
    elif answer.entries is not None:
        data = _list(answer, media, query)
    elif answer.body is not None:
        return answer.body
    elif media.as_ == "Table" and isinstance(answer.obj, autoscaling_v1.Scale):
        data = encode(table.scale(answer.obj, media, now(), _included(query)))
    elif media.as_ == "PartialObjectMetadata" and hasattr(answer.obj, "metadata") and not _is_status(answer.obj):
        data = encode(table.partial(answer.obj, media.version))
    else:
        data = encode(answer.obj)
    return data if media.type == JSON and not media.pretty else formatted(data, media)


async def prepare(answer: Answer, media: Media) -> None:
    """What of a long answer takes time is made in pieces, so that others are answered in between."""
    if media.type == PROTOBUF and answer.entries is not None:
        from podling.apiserver.wire import proto_answers

        await proto_answers.prepare(answer, media)


def _is_status(obj: Any) -> bool:
    return isinstance(obj, meta_v1.Status)


def _check_form(media: Media, *, is_list: bool) -> None:
    wanted = "PartialObjectMetadataList" if is_list else "PartialObjectMetadata"
    if media.as_ not in ("Table", wanted):
        what = "is a list" if is_list else "is not a list"
        raise errors.not_acceptable(f"you requested {media.as_}, but the requested object {what}")


def _included(query: dict[str, str]) -> str:
    """What stands beside the cells of a Table. StatusError 400."""
    value = query.get("includeObject", "")
    if value not in ("", "Metadata", "Object", "None"):
        why = "must be 'Metadata', 'Object', 'None', or empty"
        text = f"includeObject: Invalid value: {quote(value)}: {why}"
        raise errors.bad_request(f"Unable to convert to Table as requested: {text}")
    return value


def _list(answer: Answer, media: Media, query: dict[str, str]) -> bytes:
    served, entries, meta = answer.served, answer.entries, answer.list_meta
    assert served is not None and entries is not None and meta is not None
    if media.as_ == "Table":
        include = _included(query)
        return encode(table.table(served, entries, meta, now(), include=include, version=media.version))
    if media.as_:
        _check_form(media, is_list=True)
        return encode(table.partial_list(served, entries, meta, media.version))
    resource, view = served.resource, served.view
    head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        (resource.list_kind or f"{resource.kind}List").encode(),
        resource.group_version.encode(),
        encode(meta),
    )
    wires = [e.wire for e in entries] if view is None else [e.shown(view)[1] for e in entries]
    return _joined(head, _untold(served, wires), b"]}")


def _untold(served: Served, wires: list[bytes]) -> list[bytes | memoryview]:
    """Objects behind their opening braces, without their kind and version: Go's types leave these to the list.

    Custom resources say them in lists too. They stand first; what is left is looked at and not copied.
    """
    if served.publish is not None:
        return [memoryview(wire)[1:] for wire in wires]
    kind, version = served.resource.kind.encode(), served.resource.group_version.encode()
    told = b'{"kind":"%b","apiVersion":"%b",' % (kind, version)
    end = len(told)
    return [memoryview(wire)[end if wire.startswith(told) else 1 :] for wire in wires]


def _joined(head: bytes, items: list[bytes | memoryview], tail: bytes) -> bytes:
    """A list, copied together once."""
    if not items:
        return head + tail
    items[0] = b"".join((head, b"{", items[0]))
    items[-1] = b"".join((items[-1], tail))
    return b",{".join(items)


def formatted(data: bytes, media: Media) -> bytes:
    """JSON for a person, or what is made of JSON: YAML, CBOR."""
    if media.type == JSON:
        return msgspec.json.format(data, indent=2)
    if media.type == CBOR:
        from podling.apiserver.wire import cbor

        return cbor.encode(data)
    from podling.apiserver.wire import yaml

    return yaml.encode(data)


def failure(status: meta_v1.Status, media: Media) -> bytes:
    """A Status that says what went wrong, or another object that is nobody's resource."""
    if media.type == PROTOBUF:
        from podling.apiserver.wire import protobuf

        return protobuf.encode(status)
    data = encode(status)
    return data if media.type == JSON and not media.pretty else formatted(data, media)


#: Makes the watch frame of an event: its type, the object, the change that it came of.
Framer = Callable[[str, Entry, Change | None], bytes]


def framer(served: Served, media: Media, query: dict[str, str]) -> Framer:
    """How a watch's events are encoded: as one HTTP chunk each, JSON with a line feed behind it.

    The frame of a change is the same for all watchers of the same form, and made once.
    """
    if media.as_ == "Table":
        return _tables(served, media, _included(query))
    key: Any = (served.view.name if served.view else "", *media)
    make = _maker(served, media)

    def frame(type_: str, entry: Entry, change: Change | None) -> bytes:
        if change is not None:
            made = change.frames.get((key, type_))
            if made is None:
                made = change.frames[key, type_] = chunk(make(type_, entry))
            return made
        if type_ == "ERROR":
            return chunk(_failed(entry, media))
        return chunk(make(type_, entry))

    return frame


def _maker(served: Served, media: Media) -> Callable[[str, Entry], bytes]:
    """What encodes an event."""
    if media.type == PROTOBUF:
        from podling.apiserver.wire import proto_answers

        return lambda type_, entry: proto_answers.event(type_, served, entry, media)
    if media.as_:
        return lambda type_, entry: _event(type_, table.transformed(served, entry, media, now(), ""), media)
    view = served.view

    def make(type_: str, entry: Entry) -> bytes:
        return _event(type_, entry.wire if view is None or type_ == "BOOKMARK" else entry.shown(view)[1], media)

    return make


def _failed(entry: Entry, media: Media) -> bytes:
    """The event that ends a watch: a Status, in whatever form objects are shown."""
    if media.type == PROTOBUF:
        from podling.apiserver.wire import protobuf

        return protobuf.event("ERROR", protobuf.encode(entry.object))
    return _event("ERROR", entry.wire, media)


def _event(type_: str, wire: bytes, media: Media) -> bytes:
    data = b'{"type":"%b","object":%b}\n' % (type_.encode(), wire)
    return data if media.type == JSON else formatted(data, media)


def _tables(served: Served, media: Media, include: str) -> Framer:
    """Tables, the first of which tells their columns."""
    first = True

    def frame(type_: str, entry: Entry, change: Change | None) -> bytes:
        nonlocal first
        if type_ == "ERROR":
            return chunk(_failed(entry, media))
        data = table.transformed(served, entry, media, now(), include, headers=first)
        first = False
        return chunk(_event(type_, data, media))

    return frame


def chunk(data: bytes) -> bytes:
    """`data` as a chunk of HTTP/1.1's chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def bare(data: bytes) -> bytes:
    """What is in a `chunk`."""
    return data[data.index(b"\r\n") + 2 : -2]


def unframed(chunks: Framer) -> Framer:
    """Events as they are, for a client that knows no chunks: HTTP/1.0 reads until the connection ends."""
    return lambda type_, entry, change: bare(chunks(type_, entry, change))
