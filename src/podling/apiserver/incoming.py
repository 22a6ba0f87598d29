"""Bodies of requests as they come in: how large they may be, how long they may take, and what is read beside the loop.

JSON is read in milliseconds. YAML of that size takes seconds, and hundreds of bytes for every node: what is large is
read in a thread, so that others are answered meanwhile, and one after the other, so that it never is much at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import StreamReader, web

from podling.api import errors
from podling.api.errors import bad_request
from podling.api.request import Request
from podling.apiserver import content
from podling.machinery.schema import DecodeError

MAX_BODY = 3 * 1024 * 1024
#: Seconds for a request's body to arrive.
BODY_TIMEOUT = 60.0
#: Bytes of YAML that are read in milliseconds.
LARGE = 64 * 1024


async def read(http: web.BaseRequest) -> bytes:
    """The whole body. StatusError 413 if it is too big."""
    if not http.body_exists:
        return b""
    length = http.content_length
    if length is not None and length > MAX_BODY:
        raise errors.request_entity_too_large(f"limit is {MAX_BODY}")
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await _pieces(http.content)
    except TimeoutError:
        raise errors.timeout("request did not complete within the allotted timeout") from None
    except (web.HTTPException, web.RequestPayloadError, ValueError) as error:
        raise bad_request(str(error)) from None


async def _pieces(content: StreamReader) -> bytes:
    data = bytearray()
    while piece := await content.readany():
        data += piece
        if len(data) > MAX_BODY:
            raise errors.request_entity_too_large(f"limit is {MAX_BODY}")
    return bytes(data)


def is_read(http: web.BaseRequest) -> bool:
    """Whether nothing of the request is left in the connection."""
    return http._read_bytes is not None or http.content.at_eof() or not http.body_exists


class Reader:
    """Reads large bodies beside the event loop, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def read(self, request: Request) -> None:
        """Have ready what the request's body says, if that takes long to find out."""
        if len(request.body) > LARGE and (media := content.media_type(request)) in content.YAMLS:
            async with self._turn:
                request.read = await asyncio.to_thread(_result, media, request.body)


def _result(media: str, body: bytes) -> Callable[[], Any]:
    """Gives what the body says, or raises why it can't be read."""
    try:
        found = content.read_yaml(media, body)
    except DecodeError as error:
        return _raises(error)
    return lambda: found


def _raises(error: DecodeError) -> Callable[[], Any]:
    def give() -> Any:
        raise error

    return give
