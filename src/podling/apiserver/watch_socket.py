"""A watch over WebSocket: each event is one message, of text where its form is text.

What is written is a watch stream like any other, in other frames. All that is heard from the client is its end.
"""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from podling.apiserver.entry import Change, Entry
from podling.apiserver.negotiate import CBOR, PROTOBUF, Media
from podling.apiserver.present import Framer, bare
from podling.apiserver.watch import Watch
from podling.apiserver.watch_stream import WatchStream

_TEXT, _BINARY = 0x81, 0x82
#: Bytes of the length that a stream of protobuf has before each event, and which messages do without.
_LENGTH = 4
#: Bytes of a message from the client, of which none is expected.
_MOST = 64 * 1024


def is_wanted(http: web.BaseRequest) -> bool:
    """Whether a request asks for a WebSocket."""
    headers = http.headers
    if http.method != "GET" or headers.get("Upgrade", "").lower() != "websocket":
        return False
    return "upgrade" in (word.strip() for word in headers.get("Connection", "").lower().split(","))


def messages(chunks: Framer, media: Media) -> Framer:
    """Frames of WebSocket instead of chunks of HTTP."""
    kind = _BINARY if media.type in (PROTOBUF, CBOR) else _TEXT
    skipped = _LENGTH if media.type == PROTOBUF else 0

    def frame(type_: str, entry: Entry, change: Change | None) -> bytes:
        return _message(kind, bare(chunks(type_, entry, change))[skipped:])

    return frame


def _message(kind: int, data: bytes) -> bytes:
    """One unmasked, final frame (RFC 6455, 5.2)."""
    size = len(data)
    if size < 126:
        return bytes((kind, size)) + data
    if size < 1 << 16:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + data
    return bytes((kind, 127)) + size.to_bytes(8, "big") + data


async def serve(http: web.BaseRequest, watch: Watch, stream: WatchStream) -> web.StreamResponse:
    """Shake hands, then write until the watch ends or the client closes. StatusError 400 if it is no handshake."""
    # Few watches are of this sort.
    from podling.streaming import websocket

    try:
        # A browser takes no answer without a protocol if it has offered some, be it only to carry its token.
        socket = await websocket.accept(http, next(iter(websocket.offered(http)), ""), most=_MOST)
    except BaseException:
        watch.end()
        raise
    reading = asyncio.create_task(_until_closed(socket, watch))
    try:
        await stream.run()
    finally:
        reading.cancel()
        await asyncio.wait([reading])
    await socket.close()
    return socket


async def _until_closed(socket: web.WebSocketResponse, watch: Watch) -> None:
    try:
        while (await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            pass
    finally:
        watch.end()
