"""One client's connection: how long a request's head may take and how large it may be, and what is said to nonsense.

Whoever can reach the port can open a connection, before anybody has asked who they are. So that nobody can make the
server hold much for nothing, a head has to be whole within HEAD_TIMEOUT and MAX_HEAD (Go's own limits, and upstream's),
and what is no HTTP is answered with a bare 400 and leaves no trace in the log. The limits of bodies are `server`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import http_exceptions, web

from podling import log
from podling.apiserver.exchange import Exchange

LOG = log.get(__name__)

#: Seconds for a request's head, from its first byte; and how long an unused connection is kept.
HEAD_TIMEOUT = 32.0
KEEP_ALIVE = 90.0
#: Bytes of a request's head; of one header; how many headers.
MAX_HEAD = 1024 * 1024
MAX_HEADER = 64 * 1024
MAX_HEADERS = 256

_TOO_LARGE = "431 Request Header Fields Too Large"


class Connection(web.RequestHandler):
    """A connection that tells when it is lost, and remembers its client's certificate."""

    __slots__ = ("_head", "_head_timer", "certificate", "exchange", "local", "on_lost")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_lost: set[Callable[[], None]] = set()
        self.certificate: bytes | None = None
        self.local = False
        #: The request that is being served: there is never more than one.
        self.exchange: Exchange | None = None
        #: Bytes of a head that is not whole yet.
        self._head = 0
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        """Whether the client reads more slowly than it is written to."""
        return self._paused

    async def drained(self) -> None:
        """Wait until the client has caught up. Raises ConnectionError."""
        if self._paused:
            await self._drain_helper()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.certificate = tls.getpeercert(True)
        peer = transport.get_extra_info("peername")
        self.local = isinstance(peer, tuple) and (peer[0].startswith("127.") or peer[0] == "::1")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_is_whole()
        for callback in list(self.on_lost):
            callback()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before, in_head = self._request_count, self._in_head()
        super().data_received(data)
        if self._request_count != before:
            if self._head:
                self._head_is_whole()
        elif in_head and data:
            self._count(len(data))

    def _in_head(self) -> bool:
        """Whether what comes now belongs to the head of the next request, and not to a body."""
        if self._messages:
            return self._messages[-1][1].is_eof()
        if self._waiter is not None:
            return True
        request = self._current_request
        return request is not None and request.content.is_eof()

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            self._refuse(_TOO_LARGE)
        elif self._head_timer is None and not self._upgraded:
            self._head_timer = self._loop.call_later(HEAD_TIMEOUT, self.force_close)

    def _head_is_whole(self) -> None:
        self._head = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, reason: str) -> None:
        if self.transport is not None:
            self.transport.write(_refusal(reason))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, http_exceptions.HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        LOG.debug("no HTTP from %s: %s", request.remote, " ".join(str(message).split())[:200])
        too_large = isinstance(exc, http_exceptions.LineTooLong) or "Too many headers" in str(message)
        return Written(_refusal(_TOO_LARGE if too_large else "400 Bad Request"), keep_alive=False)


def _refusal(reason: str) -> bytes:
    """What Go's server says to what is no request."""
    return (
        f"HTTP/1.1 {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(reason)}\r\n"
        f"Connection: close\r\n\r\n{reason}"
    ).encode()


class Server(web.Server):
    """Makes a Connection of each client that comes."""

    def __init__(self, handler: Any) -> None:
        super().__init__(
            handler,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEADER,
            # A body is what was sent: who says that it is packed means the program behind a proxy.
            auto_decompress=False,
        )

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Written(web.StreamResponse):
    """An answer that is in the transport already, or goes there in one piece."""

    def __init__(self, data: bytes = b"", *, keep_alive: bool = True) -> None:
        super().__init__()
        self._data = data
        self._keep = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        data, self._data = self._data, b""
        if data:
            transport.write(data)
            connection = request.protocol
            assert isinstance(connection, Connection)
            if connection.paused:
                await _read_in_time(connection, transport)

    async def write_eof(self, data: bytes = b"") -> None:
        pass


#: Seconds that a client may take to read an answer that is no stream.
READ_TIMEOUT = 60.0


async def _read_in_time(connection: Connection, transport: asyncio.Transport) -> None:
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            await connection.drained()
    except TimeoutError:
        transport.abort()
        raise ConnectionAbortedError("the client does not read its answer") from None
