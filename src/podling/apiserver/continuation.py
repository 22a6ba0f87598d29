"""Where a list goes on: the token between two pages, and what is said when its version is no longer kept."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from typing import Annotated

import msgspec

from podling.api import errors
from podling.api.errors import StatusError, bad_request
from podling.api.numbers import INT_MAX, INT_MIN

_VERSION = "meta.k8s.io/v1"
_FORM = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_LIST_EXPIRED = "The resourceVersion for the provided list is too old."
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class _Token(msgspec.Struct):
    v: str = ""
    rv: Annotated[int, msgspec.Meta(ge=INT_MIN, le=INT_MAX)] = 0
    start: str = ""


def encode(start: str, revision: int) -> str:
    """The token of the page that begins at the cache key `start`; revision -1 is an inconsistent one."""
    token = msgspec.json.encode(_Token(_VERSION, revision, start))
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def decode(text: str) -> tuple[str, int]:
    """Start key and revision of a token. StatusError 400."""
    try:
        token = msgspec.json.decode(_bytes(text), type=_Token)
    except ValueError as error:
        raise _invalid(f": {error}") from None
    if token.v != _VERSION:
        raise _invalid(f": server does not recognize this encoded version {token.v}")
    if token.rv == 0:
        raise _invalid(f": incorrect encoded start resourceVersion (version {_VERSION})")
    if not token.start:
        raise _invalid(f": encoded start key empty (version {_VERSION})")
    key = token.start if token.start.startswith("/") else f"/{token.start}"
    if posixpath.normpath(key) != key:
        raise _invalid(f": {token.start}")
    return key[1:], token.rv


def _bytes(text: str) -> bytes:
    """ValueError in Go's words."""
    end = _FORM.match(text)
    good = len(end.group()) if end is not None else 0
    try:
        if good == len(text):
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        pass
    raise ValueError(f"illegal base64 data at input byte {good}")


def _invalid(why: str) -> StatusError:
    return bad_request(f"invalid continue token: continue key is not valid{why}")


def list_expired() -> StatusError:
    """410: the version of a list is no longer kept."""
    return errors.expired(_LIST_EXPIRED)


def expired(start: str) -> StatusError:
    """410 with a token that goes on in the newest state."""
    error = errors.expired(_EXPIRED)
    error.status.metadata.continue_ = encode(start, -1)
    return error
