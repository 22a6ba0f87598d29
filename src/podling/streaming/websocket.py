"""Kubernetes' channel protocols over WebSocket, and WebSocket as a plain duplex.

A message begins with its channel's number: a byte in the binary protocols, a digit in the base64 ones, where the rest
is base64. From v5 on, a message on channel 255 says that the channel in its second byte has ended. Source: KEP-4006,
k8s.io/apimachinery pkg/util/remotecommand.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import Sequence

from aiohttp import WSMsgType, web

from podling.api.errors import bad_request, forbidden

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
V4_BASE64 = "v4.base64.channel.k8s.io"
LEGACY = "channel.k8s.io"
LEGACY_BASE64 = "base64.channel.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
#: Logs as binary messages, for conformance's sake.
BINARY = "binary.k8s.io"
BASE64_BINARY = "base64.binary.k8s.io"

CLOSE = 255

HELD = 1024 * 1024
MESSAGE = 32 * 1024


def is_websocket(request: web.BaseRequest) -> bool:
    """Whether the client asks for WebSocket."""
    return request.headers.get("upgrade", "").lower() == "websocket"


def offered(request: web.BaseRequest) -> list[str]:
    """The protocols that the client knows."""
    found = [p.strip() for p in request.headers.get("sec-websocket-protocol", "").split(",") if p.strip()]
    # A bearer token in disguise is no protocol.
    return [p for p in found if not p.startswith("base64url.bearer.")]


def chosen(request: web.BaseRequest, supported: Sequence[str], default: str = "") -> str:
    """The first of the client's protocols that is supported; `default` if it names none. StatusError 403."""
    known = offered(request)
    if not known:
        return default
    for protocol in known:
        if protocol in supported:
            return protocol
    text = f"unable to upgrade: unable to negotiate protocol: client supports {known}, server accepts {list(supported)}"
    error = forbidden("", "", "", text)
    error.status.message = text
    raise error


async def accept(request: web.BaseRequest, protocol: str, *, most: int = 0) -> web.WebSocketResponse:
    """Answer the handshake with `protocol` ("" for none). A message longer than `most` (0: any) ends the connection."""
    socket = web.WebSocketResponse(
        protocols=(protocol,) if protocol else (), compress=False, max_msg_size=most, timeout=5.0
    )
    try:
        await socket.prepare(request)
    except web.HTTPException as error:
        raise bad_request(error.text or "not a WebSocket handshake") from error
    return socket


class Channel:
    """What the client sends on one channel."""

    def __init__(self, resume: asyncio.Event) -> None:
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._readable = asyncio.Event()
        self._resume = resume

    async def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        while not self._chunks:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = self._chunks.popleft()
        self._held -= len(data)
        self._resume.set()
        return data

    def feed(self, data: bytes) -> None:
        if data and not self._ended:
            self._chunks.append(data)
            self._held += len(data)
            self._readable.set()

    def end(self) -> None:
        self._ended = True
        self._readable.set()

    @property
    def full(self) -> bool:
        return self._held >= HELD and not self._ended


class Channels:
    """Numbered channels over one WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str, count: int) -> None:
        self.socket = socket
        self.protocol = protocol
        self._base64 = "base64" in protocol
        self._resume = asyncio.Event()
        self._channels = [Channel(self._resume) for _ in range(count)]

    def __getitem__(self, number: int) -> Channel:
        return self._channels[number]

    async def run(self) -> None:
        """Read until the client is gone."""
        try:
            async for message in self.socket:
                if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                    continue
                self._take(message.data)
                while any(channel.full for channel in self._channels):
                    self._resume.clear()
                    await self._resume.wait()
        finally:
            for channel in self._channels:
                channel.end()

    def _take(self, data: bytes | str) -> None:
        raw = data.encode() if isinstance(data, str) else data
        if not raw:
            return
        if self._base64:
            number = raw[0] - ord("0")
            try:
                payload = base64.b64decode(raw[1:], validate=True)
            except binascii.Error:
                return
        else:
            number, payload = raw[0], raw[1:]
            if number == CLOSE and self.protocol == V5 and payload:
                if payload[0] < len(self._channels):
                    self._channels[payload[0]].end()
                return
        if 0 <= number < len(self._channels):
            self._channels[number].feed(payload)

    async def write(self, number: int, data: bytes) -> None:
        """Raises ConnectionError when the client is gone. Empty data is sent too."""
        if self.socket.closed:
            raise ConnectionResetError("the WebSocket is closed")
        pieces = [data[i : i + MESSAGE] for i in range(0, len(data), MESSAGE)] or [b""]
        for piece in pieces:
            if self._base64:
                await self.socket.send_str(chr(ord("0") + number) + base64.b64encode(piece).decode())
            else:
                await self.socket.send_bytes(bytes((number,)) + piece)


class WebSocketDuplex:
    """A `connection.Duplex` whose bytes travel in binary messages."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._closing: asyncio.Task[bool] | None = None

    async def read(self) -> bytes:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY and message.data:
                data: bytes = message.data
                return data
        return b""

    async def write(self, data: bytes) -> None:
        if self._socket.closed:
            raise ConnectionResetError("the WebSocket is closed")
        await self._socket.send_bytes(data)

    async def write_eof(self) -> None:
        await self._socket.close()

    def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._socket.close())

    async def closed(self) -> None:
        """After `close`: until the client has agreed, or its time is over."""
        if self._closing is not None:
            await asyncio.gather(self._closing, return_exceptions=True)
