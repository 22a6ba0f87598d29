"""SPDY/3.1 as a server: many streams on one connection, as kubectl's exec and port-forward speak it.

Source: the SPDY protocol draft 3.1. Kubernetes' clients leave flow control out: they send no WINDOW_UPDATE, nor do they
wait for one. So windows bind us only once the peer has shown that it keeps them; what the peer sends is acknowledged.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import deque
from collections.abc import Callable, Mapping

from podling import log
from podling.streaming.connection import Duplex

LOG = log.get(__name__)

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 0x01
INITIAL_WINDOW_SETTING = 7
INITIAL_WINDOW = 64 * 1024

#: Statuses of RST_STREAM.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, FLOW_CONTROL_ERROR, STREAM_IN_USE = 1, 2, 3, 5, 7, 8

#: What a stream holds for its reader before the connection is read no further, and the largest data frame we send.
HELD = 1024 * 1024
FRAME = 32 * 1024
#: The largest frame that we take, and the most that headers may unpack to.
LARGEST = 16 * 1024 * 1024
LARGEST_HEADERS = 1024 * 1024

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_MORE_WORDS = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-"
    "8859-1,utf-,*,enq=0."
)
#: The dictionary with which both sides compress headers (draft 3, section 2.6.10.1).
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in (*_WORDS.split(), *_MORE_WORDS)) + _REST.encode()
)


class SpdyError(ConnectionError):
    """The peer broke the protocol; the connection is closed."""


class HeaderCompressor:
    """Name/value blocks, compressed; one for each direction of a connection."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def pack(self, headers: Mapping[str, str]) -> bytes:
        block = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                block.append(struct.pack(">I", len(text)) + text)
        return self._zlib.compress(b"".join(block)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecompressor:
    """The other direction."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def unpack(self, data: bytes) -> dict[str, str]:
        """Names in lower case; several values of one name are joined by NUL. Raises SpdyError."""
        try:
            block = self._zlib.decompress(data, LARGEST_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"headers can't be decompressed: {error}") from error
        try:
            (count,), at = struct.unpack_from(">I", block), 4
            headers = {}
            for _ in range(count):
                name, at = _text(block, at)
                value, at = _text(block, at)
                headers[name.lower()] = value
            return headers
        except (struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"headers can't be read: {error}") from error


def _text(block: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", block, at)
    end = at + 4 + length
    if end > len(block):
        raise SpdyError("a header is longer than its block")
    return block[at + 4 : end].decode(), end


def control(kind: int, flags: int, payload: bytes) -> bytes:
    """A control frame."""
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


def data_frame(stream_id: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">II", stream_id, flags << 24 | len(data)) + data


class Stream:
    """One stream that the client has opened. `headers` are those of its SYN_STREAM."""

    def __init__(self, session: Session, stream_id: int, headers: dict[str, str]) -> None:
        self.id = stream_id
        self.headers = headers
        self._session = session
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._unacknowledged = 0
        self._ended = False
        self._finished = False
        self._sent = 0
        #: How much may be sent; None as long as the peer has not shown that it keeps windows.
        self._window: int | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def read(self) -> bytes:
        """The next bytes, b"" when the client has ended its half or is gone."""
        while not self._chunks:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = self._chunks.popleft()
        self._held -= len(data)
        self._unacknowledged += len(data)
        if self._unacknowledged >= INITIAL_WINDOW // 2 and not self._ended:
            await self._session.send(control(WINDOW_UPDATE, 0, struct.pack(">II", self.id, self._unacknowledged)))
            self._unacknowledged = 0
        if self._held < HELD:
            self._session.drained.set()
        return data

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError if the stream or the connection has ended."""
        view = memoryview(data)
        while view:
            if self._finished or self._session.closed:
                raise ConnectionResetError("the stream is closed")
            size = min(len(view), FRAME)
            if self._window is not None:
                if self._window <= 0:
                    self._writable.clear()
                    await self._writable.wait()
                    continue
                size = min(size, self._window)
                self._window -= size
            self._sent += size
            await self._session.send(data_frame(self.id, 0, bytes(view[:size])))
            view = view[size:]

    async def close(self) -> None:
        """End our half; what the client still sends can be read."""
        if not self._finished and not self._session.closed:
            self._finished = True
            await self._session.send(data_frame(self.id, FIN, b""))
        self._session.forget(self)

    async def reset(self, status: int = CANCEL) -> None:
        """End both halves at once."""
        if not (self._finished and self._ended) and not self._session.closed:
            await self._session.send(control(RST_STREAM, 0, struct.pack(">II", self.id, status)))
        self._finished = True
        self.end()

    def feed(self, data: bytes) -> None:
        if self._ended:
            return
        self._chunks.append(data)
        self._held += len(data)
        self._readable.set()

    @property
    def full(self) -> bool:
        return self._held >= HELD

    @property
    def done(self) -> bool:
        return self._finished and self._ended

    def end(self) -> None:
        """The client sends nothing more."""
        self._ended = True
        self._readable.set()
        self._writable.set()
        self._session.forget(self)

    def abort(self) -> None:
        """The stream was reset, or the connection is gone."""
        self._finished = True
        self.end()

    def window_update(self, delta: int, initial: int) -> None:
        self._window = (initial - self._sent if self._window is None else self._window) + delta
        if self._window > 0:
            self._writable.set()


class Session:
    """A SPDY connection. `on_stream` hears of every new stream at once and in order; it must not wait.

    A stream is answered (SYN_REPLY) before `on_stream` is called.
    """

    def __init__(self, connection: Duplex, on_stream: Callable[[Stream], None]) -> None:
        self._connection = connection
        self._on_stream = on_stream
        self._streams: dict[int, Stream] = {}
        self._last_id = 0
        self._compressor = HeaderCompressor()
        self._decompressor = HeaderDecompressor()
        self._initial_window = INITIAL_WINDOW
        self._buffer = bytearray()
        self.drained = asyncio.Event()
        self.closed = False

    async def run(self) -> None:
        """Read until the client is gone. A broken protocol ends the connection; nothing is raised for either."""
        try:
            while data := await self._connection.read():
                self._buffer += data
                await self._frames()
                while any(stream.full for stream in self._streams.values()):
                    self.drained.clear()
                    await self.drained.wait()
        except ConnectionError as error:
            LOG.debug("SPDY connection ended: %s", error)
        finally:
            self.closed = True
            for stream in list(self._streams.values()):
                stream.abort()

    async def close(self) -> None:
        """Say that no more streams will be taken, and end the connection."""
        if not self.closed:
            try:
                await self.send(control(GOAWAY, 0, struct.pack(">II", self._last_id, 0)))
            except ConnectionError:
                pass
        self._connection.close()

    async def send(self, frame: bytes) -> None:
        await self._connection.write(frame)

    def forget(self, stream: Stream) -> None:
        if stream.done:
            self._streams.pop(stream.id, None)
            self.drained.set()

    async def _frames(self) -> None:
        """Take every whole frame out of the buffer."""
        buffer = self._buffer
        while len(buffer) >= 8:
            first, second = struct.unpack_from(">II", buffer)
            flags, length = second >> 24, second & 0xFFFFFF
            if length > LARGEST:
                raise SpdyError(f"a frame of {length} bytes")
            if len(buffer) < 8 + length:
                return
            payload = bytes(memoryview(buffer)[8 : 8 + length])
            del buffer[: 8 + length]
            if first & 0x80000000:
                if first >> 16 & 0x7FFF != 3:
                    raise SpdyError(f"SPDY version {first >> 16 & 0x7FFF}")
                try:
                    await self._control(first & 0xFFFF, flags, payload)
                except struct.error as error:
                    raise SpdyError(f"a frame is too short: {error}") from error
            else:
                await self._data(first, flags, payload)

    async def _data(self, stream_id: int, flags: int, payload: bytes) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id > self._last_id:
                await self.send(control(RST_STREAM, 0, struct.pack(">II", stream_id, INVALID_STREAM)))
            return
        if payload:
            stream.feed(payload)
        if flags & FIN:
            stream.end()

    async def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == SYN_STREAM:
            await self._syn_stream(flags, payload)
        elif kind == HEADERS:
            stream_id, headers = struct.unpack_from(">I", payload)[0], self._decompressor.unpack(payload[4:])
            stream = self._streams.get(stream_id)
            if stream is not None:
                stream.headers.update(headers)
                if flags & FIN:
                    stream.end()
        elif kind == RST_STREAM:
            stream = self._streams.get(struct.unpack_from(">I", payload)[0])
            if stream is not None:
                stream.abort()
        elif kind == PING:
            # The client's pings have odd numbers; even ones would be answers to ours.
            if struct.unpack_from(">I", payload)[0] % 2:
                await self.send(control(PING, 0, payload[:4]))
        elif kind == WINDOW_UPDATE:
            stream_id, delta = struct.unpack_from(">II", payload)
            stream = self._streams.get(stream_id)
            if stream is not None:
                stream.window_update(delta, self._initial_window)
        elif kind == SETTINGS:
            self._settings(payload)
        elif kind == SYN_REPLY:
            # We open no streams; but a block that is skipped would put the decompressor out of step.
            self._decompressor.unpack(payload[4:])
        # GOAWAY: the client takes no streams of ours, and there are none. Unknown frames are ignored, as demanded.

    async def _syn_stream(self, flags: int, payload: bytes) -> None:
        stream_id = struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF
        headers = self._decompressor.unpack(payload[10:])
        if stream_id in self._streams:
            await self.send(control(RST_STREAM, 0, struct.pack(">II", stream_id, STREAM_IN_USE)))
            return
        if stream_id % 2 == 0 or stream_id <= self._last_id:
            await self.send(control(RST_STREAM, 0, struct.pack(">II", stream_id, PROTOCOL_ERROR)))
            return
        self._last_id = stream_id
        stream = self._streams[stream_id] = Stream(self, stream_id, headers)
        await self.send(control(SYN_REPLY, 0, struct.pack(">I", stream_id) + self._compressor.pack({})))
        if flags & FIN:
            stream.end()
        self._on_stream(stream)

    def _settings(self, payload: bytes) -> None:
        count = struct.unpack_from(">I", payload)[0]
        for index in range(count):
            key, value = struct.unpack_from(">II", payload, 4 + 8 * index)
            if key & 0xFFFFFF == INITIAL_WINDOW_SETTING:
                self._initial_window = value
