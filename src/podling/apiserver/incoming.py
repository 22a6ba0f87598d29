"""Bodies of requests as they come in: how large they may be, and how long they may take."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, web

from podling.api import errors
from podling.api.errors import bad_request

MAX_BODY = 3 * 1024 * 1024
#: Seconds for a request's body to arrive.
BODY_TIMEOUT = 60.0


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
