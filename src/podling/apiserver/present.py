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
from podling.apiserver.negotiate import JSON, Media
from podling.apiserver.served import Served
from podling.clock import now


def render(answer: Answer, media: Media, query: dict[str, str]) -> bytes:
    """The body of an answer that is not a watch."""
    if answer.entry is not None:
        served = answer.served
        assert served is not None
        if not media.as_:
            view = served.view
            data = answer.entry.wire if view is None else answer.entry.shown(view)[1]
        else:
            _check_form(media, is_list=False)
            data = table.transformed(served, answer.entry, media, now(), query.get("includeObject", ""))
    elif answer.entries is not None:
        data = _list(answer, media, query)
    elif answer.body is not None:
        return answer.body
    elif media.as_ == "Table" and isinstance(answer.obj, autoscaling_v1.Scale):
        data = encode(table.scale(answer.obj, media, now(), query.get("includeObject", "")))
    else:
        data = encode(answer.obj)
    return data if media.type == JSON and not media.pretty else formatted(data, media)


def _check_form(media: Media, *, is_list: bool) -> None:
    wanted = "PartialObjectMetadataList" if is_list else "PartialObjectMetadata"
    if media.as_ not in ("Table", wanted):
        raise errors.not_acceptable(
            f"only the following media types are accepted when converting to {media.as_}: application/json, "
            "application/yaml, application/vnd.kubernetes.protobuf"
        )


def _list(answer: Answer, media: Media, query: dict[str, str]) -> bytes:
    served, entries, meta = answer.served, answer.entries, answer.list_meta
    assert served is not None and entries is not None and meta is not None
    if media.as_ == "Table":
        include = query.get("includeObject", "")
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
    return b"%b%b]}" % (head, b",".join(wires))


def formatted(data: bytes, media: Media) -> bytes:
    """JSON for a person, or YAML."""
    if media.type == JSON:
        return msgspec.json.format(data, indent=2) + b"\n"
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(msgspec.json.decode(data), Dumper=dumper, default_flow_style=False, allow_unicode=True)
    return text.encode()


def failure(status: meta_v1.Status, media: Media) -> bytes:
    """A Status that says what went wrong."""
    data = encode(status)
    return data if media.type == JSON and not media.pretty else formatted(data, media)


#: Makes the watch frame of an event: its type, the object, the change that it came of.
Framer = Callable[[str, Entry, Change | None], bytes]


def framer(served: Served, media: Media, query: dict[str, str]) -> Framer:
    """How a watch's events are encoded: one JSON document and a line feed each, as one HTTP chunk.

    The frame of a change is the same for all watchers of the same form, and made once.
    """
    view = served.view
    key: Any = (view.name if view else "",)
    if media.as_:
        return _transforming(served, media, query.get("includeObject", ""))

    def frame(type_: str, entry: Entry, change: Change | None) -> bytes:
        if change is not None:
            made = change.frames.get((key, type_))
            if made is None:
                made = change.frames[key, type_] = chunk(_event(type_, entry, view))
            return made
        return chunk(_event(type_, entry, view))

    return frame


def _event(type_: str, entry: Entry, view: Any) -> bytes:
    wire = entry.wire if view is None or type_ == "BOOKMARK" else entry.shown(view)[1]
    return b'{"type":"%b","object":%b}\n' % (type_.encode(), wire)


def _transforming(served: Served, media: Media, include: str) -> Framer:
    first = True

    def frame(type_: str, entry: Entry, change: Change | None) -> bytes:
        nonlocal first
        data = table.transformed(served, entry, media, now(), include, headers=first)
        first = False
        return chunk(b'{"type":"%b","object":%b}\n' % (type_.encode(), data))

    return frame


def chunk(data: bytes) -> bytes:
    """`data` as a chunk of HTTP/1.1's chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)
