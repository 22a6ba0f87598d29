"""Exec and attach: standard streams, terminal sizes and the exit status over SPDY or WebSocket.

The runtime sees `runtime.base.Streams`; which of the protocols the client speaks is settled here. Source: KEP-4006 and
k8s.io/kubelet pkg/cri/streaming/remotecommand.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from aiohttp import web

from podling import log
from podling.api import errors, meta_v1
from podling.api.struct import encode
from podling.runtime.base import Sink, Source, Streams
from podling.streaming import connection, spdy, websocket

LOG = log.get(__name__)

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)

SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
WEBSOCKET_PROTOCOLS = (
    websocket.V5,
    websocket.V4,
    websocket.V4_BASE64,
    websocket.LEGACY,
    websocket.LEGACY_BASE64,
)

#: Seconds that a client has to open the streams it has announced, and to hang up after it was told the outcome.
CREATION_TIMEOUT = 30.0
HANG_UP_TIMEOUT = 2.0


class Options(msgspec.Struct, frozen=True):
    """Which streams are wanted. A terminal has no stderr of its own."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


def options(query: Mapping[str, str]) -> Options:
    """From the kubelet's parameters (input, output, error, tty) or the API's (stdin, stdout, stderr, tty).

    StatusError 400 without any stream.
    """

    def wanted(*names: str) -> bool:
        return any(query.get(name, "").lower() in ("1", "true") for name in names)

    tty = wanted("tty")
    result = Options(wanted("input", "stdin"), wanted("output", "stdout"), wanted("error", "stderr") and not tty, tty)
    if not (result.stdin or result.stdout or result.stderr):
        raise errors.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return result


class Remote(Protocol):
    """A client at the other end, with its streams."""

    streams: Streams
    response: web.StreamResponse

    async def gone(self) -> None:
        """Returns when the client has hung up."""

    async def finish(self, status: meta_v1.Status) -> None:
        """Tell the outcome, end all streams and the connection."""


#: Runs the command with the client's streams; the exit code, None for an attach.
Run = Callable[[Streams], Awaitable[int | None]]


async def serve(
    request: web.BaseRequest, wanted: Options, run: Run, *, what: str = "executing command in container"
) -> web.StreamResponse:
    """Upgrade the connection, run, and tell the client how it ended. StatusError if there is nothing to upgrade to."""
    remote = await _open(request, wanted)
    running = asyncio.ensure_future(run(remote.streams))
    leaving = asyncio.ensure_future(remote.gone())
    try:
        await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
        (outcome,) = await asyncio.gather(running, return_exceptions=True)
        await remote.finish(status_of(outcome, what))
    finally:
        for task in (running, leaving):
            task.cancel()
        await asyncio.gather(running, leaving, return_exceptions=True)
    return remote.response


def status_of(outcome: int | BaseException | None, what: str) -> meta_v1.Status:
    """The outcome of a run as the client is told it: an exit code that is not 0 is a cause."""
    if isinstance(outcome, errors.StatusError):
        return outcome.status
    if isinstance(outcome, BaseException):
        if not isinstance(outcome, asyncio.CancelledError | ConnectionError):
            LOG.info("error %s: %s", what, outcome)
        return errors.internal(f"error {what}: {outcome}").status
    if outcome:
        return meta_v1.Status(
            status="Failure",
            reason="NonZeroExitCode",
            message=f"command terminated with non-zero exit code: exit status {outcome}",
            details=meta_v1.StatusDetails(causes=[meta_v1.StatusCause(reason="ExitCode", message=str(outcome))]),
        )
    return meta_v1.Status(status="Success")


async def _open(request: web.BaseRequest, wanted: Options) -> Remote:
    if websocket.is_websocket(request):
        protocol = websocket.chosen(request, WEBSOCKET_PROTOCOLS, default=websocket.LEGACY)
        named = "sec-websocket-protocol" in request.headers
        socket = await websocket.accept(request, protocol if named else "")
        remote = WebSocketRemote(socket, protocol, wanted)
        await remote.begin()
        return remote
    if request.headers.get("upgrade", "").lower() == "spdy/3.1":
        protocol = negotiate(request, SPDY_PROTOCOLS)
        duplex = await accept_spdy(request, protocol)
        over_spdy = SpdyRemote(duplex, protocol, wanted)
        await over_spdy.begin()
        return over_spdy
    raise errors.bad_request("Upgrade request required")


def negotiate(request: web.BaseRequest, supported: tuple[str, ...]) -> str:
    """The first protocol of the X-Stream-Protocol-Version headers that is supported. StatusError 403."""
    offered = [
        part.strip()
        for value in request.headers.getall("x-stream-protocol-version", [])
        for part in value.split(",")
        if part.strip()
    ]
    if not offered:
        return ""
    for protocol in offered:
        if protocol in supported:
            return protocol
    text = (
        "unable to upgrade: unable to negotiate protocol: client supports "
        f"[{' '.join(offered)}], server accepts [{' '.join(supported)}]"
    )
    raise errors.StatusError(meta_v1.Status(status="Failure", code=403, reason="Forbidden", message=text))


async def accept_spdy(request: web.BaseRequest, protocol: str) -> connection.RawConnection:
    """Take the connection over and answer 101."""
    duplex = connection.take_over(request)
    head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    if protocol:
        head += f"X-Stream-Protocol-Version: {protocol}\r\n"
    await duplex.write(f"{head}\r\n".encode())
    return duplex


def encoded_status(status: meta_v1.Status, protocol: str) -> bytes:
    """What goes on the error stream: from v4 on the Status as JSON, before that the message of a failure."""
    if protocol.startswith(("v4.", "v5.")):
        return encode(status)
    return b"" if status.status == "Success" else (status.message or "").encode()


class WebSocketRemote:
    """Streams as channels of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str, wanted: Options) -> None:
        self.response: web.StreamResponse = socket
        self._socket = socket
        self._wanted = wanted
        self._channels = channels = websocket.Channels(socket, protocol, 5)
        self._reading = asyncio.ensure_future(channels.run())
        self.streams = Streams(
            stdin=channels[STDIN].read if wanted.stdin else None,
            stdout=self._sink(STDOUT) if wanted.stdout else None,
            stderr=self._sink(STDERR) if wanted.stderr else None,
            resize=sizes(channels[RESIZE].read) if wanted.tty else None,
        )

    def _sink(self, channel: int) -> Sink:
        async def write(data: bytes) -> None:
            if data:
                await self._channels.write(channel, data)

        return write

    async def begin(self) -> None:
        """An empty message tells the client that the connection stands."""
        first = STDOUT if self._wanted.stdout else STDERR if self._wanted.stderr else ERROR
        await self._channels.write(first, b"")

    async def gone(self) -> None:
        await asyncio.gather(self._reading, return_exceptions=True)

    async def finish(self, status: meta_v1.Status) -> None:
        data = encoded_status(status, self._channels.protocol)
        try:
            if data:
                await self._channels.write(ERROR, data)
        except ConnectionError:
            pass
        # The reader goes first: the socket itself reads the client's farewell.
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._socket.close()


class SpdyRemote:
    """Streams as streams of a SPDY connection, told apart by their header `streamType`."""

    def __init__(self, duplex: connection.Duplex, protocol: str, wanted: Options) -> None:
        self.response: web.StreamResponse = connection.Taken()
        self.streams = Streams()
        self._protocol = protocol
        self._wanted = wanted
        self._by_type: dict[str, spdy.Stream] = {}
        self._complete = asyncio.Event()
        self._session = spdy.Session(duplex, self._on_stream)
        self._reading = asyncio.ensure_future(self._session.run())
        self._expected = {"error"}
        for name, there in (("stdin", wanted.stdin), ("stdout", wanted.stdout), ("stderr", wanted.stderr)):
            if there:
                self._expected.add(name)
        if wanted.tty and protocol.startswith(("v3.", "v4.")):
            self._expected.add("resize")

    def _on_stream(self, stream: spdy.Stream) -> None:
        self._by_type[stream.headers.get("streamtype", "")] = stream
        if self._expected <= self._by_type.keys():
            self._complete.set()

    async def begin(self) -> None:
        """Wait for the streams that the client has announced. ConnectionError if they don't come."""
        waiting = asyncio.ensure_future(self._complete.wait())
        try:
            await asyncio.wait((waiting, self._reading), timeout=CREATION_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._complete.is_set():
            await self._end()
            raise ConnectionResetError("the client did not open its streams in time")
        by_type = self._by_type
        self.streams = Streams(
            stdin=by_type["stdin"].read if self._wanted.stdin else None,
            stdout=by_type["stdout"].write if self._wanted.stdout else None,
            stderr=by_type["stderr"].write if self._wanted.stderr else None,
            resize=sizes(by_type["resize"].read) if "resize" in self._expected else None,
        )

    async def gone(self) -> None:
        await asyncio.gather(self._reading, return_exceptions=True)

    async def finish(self, status: meta_v1.Status) -> None:
        try:
            for name in ("stdout", "stderr"):
                if name in self._by_type:
                    await self._by_type[name].close()
            data = encoded_status(status, self._protocol)
            if data:
                await self._by_type["error"].write(data)
            for stream in self._by_type.values():
                await stream.close()
        except ConnectionError:
            pass
        # The client hangs up when it has read all; if we did it first, what is on its way could be lost.
        await asyncio.wait((self._reading,), timeout=HANG_UP_TIMEOUT)
        await self._end()

    async def _end(self) -> None:
        await self._session.close()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


async def sizes(read: Source) -> AsyncIterator[tuple[int, int]]:
    """Terminal sizes as (width, height), out of JSON objects one after the other."""
    decoder = json.JSONDecoder()
    text = ""
    while data := await read():
        text += data.decode("utf-8", "replace")
        while text := text.lstrip():
            try:
                value, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            text = text[end:]
            if isinstance(value, dict):
                yield int(value.get("Width", 0)), int(value.get("Height", 0))
