"""What a request's bytes say, as dicts and lists, whatever form they are in; no object is made of them yet."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from podling.api.errors import bad_request
from podling.api.request import Request
from podling.api.struct import to_dict
from podling.apiserver.negotiate import CBOR, JSON, PROTOBUF, YAML
from podling.machinery import schema

APPLY = "application/apply-patch+yaml"
YAMLS = (YAML, APPLY)

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CONTENT_TYPE = re.compile(
    rf'\s*({_TOKEN}/{_TOKEN})\s*(?:;\s*{_TOKEN}\s*=\s*(?:{_TOKEN}|"(?:[^"\\]|\\.)*")\s*)*;?\s*', re.ASCII
)


def media_type(request: Request) -> str:
    """The body's type without parameters; JSON if the request does not say, "" if it is none."""
    header = request.headers.get("content-type", "")
    return _media_type(header) if header else JSON


@lru_cache(maxsize=256)
def _media_type(header: str) -> str:
    found = _CONTENT_TYPE.fullmatch(header)
    return found[1].lower() if found else ""


def load(request: Request, kind: str = "", version: str = "") -> Any:
    """The body as dicts and lists; duplicate keys are marked. StatusError 400."""
    if request.obj is not None:
        return request.obj if isinstance(request.obj, dict | list) else to_dict(request.obj)
    try:
        return decoded(request, kind, version)
    except schema.DecodeError as error:
        raise bad_request(str(error)) from None


def decoded(request: Request, kind: str, version: str) -> Any:
    """What the bytes say; kind and version are these where protobuf leaves them out. Raises schema.DecodeError."""
    media = media_type(request)
    if media in YAMLS:
        return read_yaml(media, request.body) if request.read is None else request.read()
    if media in (CBOR, "application/apply-patch+cbor"):
        from podling.apiserver.wire import cbor

        return cbor.decode(request.body)
    if media == PROTOBUF:
        from podling.apiserver.wire import protobuf

        return protobuf.decode(request.body, kind, version)
    return schema.parse(request.body)


def has_duplicates(value: Any) -> bool:
    """Whether a map in what was read had a key twice."""
    if isinstance(value, dict):
        return isinstance(value, schema.WithDuplicates) or any(map(has_duplicates, value.values()))
    return isinstance(value, list) and any(map(has_duplicates, value))


def read_yaml(media: str, body: bytes) -> Any:
    """What YAML says. Raises schema.DecodeError."""
    from podling.apiserver.wire import yaml

    if media == APPLY and body.lstrip()[:1] == b"{":
        try:
            # JSON is YAML too, but is read much faster. It does not tell where a key comes again.
            found = schema.parse(body.lstrip())
            if not has_duplicates(found):
                return found
        except schema.DecodeError:
            pass
    return yaml.decode(body)
