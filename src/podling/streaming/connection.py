"""A duplex of bytes, and how an HTTP handler takes over the connection that its request came by."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

#: How much is read at once, and held for a reader that is not there.
CHUNK = 64 * 1024
LIMIT = 256 * 1024


class Duplex(Protocol):
    """Bytes both ways."""

    async def read(self) -> bytes:
        """The next bytes, b"" at the end, however it came."""

    async def write(self, data: bytes) -> None:
        """Returns when more may be given. Raises ConnectionError."""

    async def write_eof(self) -> None:
        """Nothing more will be written; reading goes on, if the connection can do that."""

    def close(self) -> None:
        """End it; what was written is still sent."""


class RawConnection:
    """A Duplex over a transport."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK)
        except (ConnectionError, OSError):
            return b""

    async def write(self, data: bytes) -> None:
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        if self._writer.can_write_eof():
            try:
                self._writer.write_eof()
            except (OSError, RuntimeError):
                pass

    def close(self) -> None:
        self._writer.close()


class _Taken(asyncio.StreamReaderProtocol):
    """Hears of the connection instead of the HTTP server's protocol, and tells it at the end."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before: asyncio.BaseProtocol | None = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        before, self._before = self._before, None
        if before is not None:
            before.connection_lost(exc)


def take_over(request: web.BaseRequest) -> RawConnection:
    """The connection of `request`, from now on for raw bytes; the handler has to return a `Taken` response."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    before = request.protocol
    reader = asyncio.StreamReader(LIMIT)
    protocol = _Taken(reader, before)
    # What the client sent behind its request, before it was answered.
    tail: bytes = getattr(before, "_message_tail", b"")
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if tail:
        reader.feed_data(tail)
    # The HTTP server stops reading when its queue of pipelined requests is full.
    transport.resume_reading()
    return RawConnection(reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop()))


class Taken(web.StreamResponse):
    """What a handler returns after `take_over`: the HTTP server must not write anything."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


async def splice(one: Duplex, other: Duplex) -> None:
    """Copy both ways until both directions have ended or one has failed; closes both."""
    tasks = [asyncio.create_task(_copy(one, other)), asyncio.create_task(_copy(other, one))]
    try:
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if all(task.exception() is None and task.result() for task in done) and pending:
            # One side has said all; the other may still be speaking.
            await asyncio.wait(pending)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        one.close()
        other.close()


async def _copy(source: Duplex, sink: Duplex) -> bool:
    """Whether the other direction may go on: not after a failed write, nor where halves can't be closed."""
    while data := await source.read():
        try:
            await sink.write(data)
        except ConnectionError:
            return False
    try:
        await sink.write_eof()
    except ConnectionError:
        return False
    return half_closes(sink) and half_closes(source)


def half_closes(duplex: Duplex) -> bool:
    """Whether one direction can end before the other: TLS connections and WebSockets end as a whole."""
    return isinstance(duplex, RawConnection) and duplex._writer.can_write_eof()
