"""Port forwarding over SPDY, over SPDY tunnelled through WebSocket, and over WebSocket's channels.

SPDY: for every connection the client opens two streams with the same `requestID` and `port`, one for data and one on
which it is told what went wrong. WebSocket channels: two for every port that the request names, each of which begins
with the port's number (two bytes, little endian). Source: KEP-4006 and k8s.io/kubelet pkg/cri/streaming/portforward.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from aiohttp import web

from podling import log
from podling.api import errors
from podling.api.numbers import is_decimal
from podling.runtime.base import Sink, Source
from podling.streaming import connection, remote_command, spdy, websocket

LOG = log.get(__name__)

PROTOCOL = "portforward.k8s.io"
#: Seconds that the second stream of a pair may take to follow the first.
PAIR_TIMEOUT = 30.0

#: Connects to a port of the pod and copies both ways; the reason of a failure is the exception's text.
Forward = Callable[[int, Source, Sink], Awaitable[None]]


async def serve(
    request: web.BaseRequest, ports: Sequence[int], forward: Forward, *, pod: str, uid: str
) -> web.StreamResponse:
    """Upgrade the connection and forward until the client hangs up. `ports` are those of the query, for channels."""
    if websocket.is_websocket(request):
        supported = (websocket.TUNNEL, websocket.V4, websocket.V4_BASE64)
        protocol = websocket.chosen(request, supported, default=websocket.V4)
        if protocol != websocket.TUNNEL:
            return await _serve_channels(request, protocol, ports, forward, pod, uid)
        socket = await websocket.accept(request, protocol)
        tunnel = websocket.WebSocketDuplex(socket)
        await SpdyForwarder(tunnel, forward, pod, uid).run()
        await tunnel.closed()
        return socket
    if request.headers.get("upgrade", "").lower() == "spdy/3.1":
        protocol = remote_command.negotiate(request, (PROTOCOL,))
        duplex = await remote_command.accept_spdy(request, protocol or PROTOCOL)
        await SpdyForwarder(duplex, forward, pod, uid).run()
        return connection.Taken()
    raise errors.bad_request("Upgrade request required")


def ports_of(values: Sequence[str]) -> list[int]:
    """Ports of the query (`ports=80&ports=81` or `port=80,81`). StatusError 400."""
    result = []
    for text in (part for value in values for part in value.split(",")):
        if not is_decimal(text) or not 0 < int(text) < 65536:
            raise errors.bad_request(f'invalid port "{text}"')
        result.append(int(text))
    return result


def failure(port: int, pod: str, uid: str, error: BaseException) -> bytes:
    """What the client is told of a connection that failed."""
    return (
        f"error forwarding port {port} to pod {pod}, uid : {error}".encode()
        if not uid
        else (f"error forwarding port {port} to pod {pod}, uid {uid}: {error}".encode())
    )


class SpdyForwarder:
    """One client's connections."""

    def __init__(self, duplex: connection.Duplex, forward: Forward, pod: str, uid: str) -> None:
        self._forward = forward
        self._pod, self._uid = pod, uid
        self._pairs: dict[str, dict[str, spdy.Stream]] = {}
        #: When a stream without its partner is given up.
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = spdy.Session(duplex, self._on_stream)

    async def run(self) -> None:
        """Until the client hangs up; then every connection is cut."""
        try:
            await self._session.run()
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._session.close()

    def _spawn(self, main: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(main)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_stream(self, stream: spdy.Stream) -> None:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        if kind not in ("error", "data") or not is_decimal(port) or not 0 < int(port) < 65536:
            self._spawn(stream.reset(spdy.PROTOCOL_ERROR))
            return
        request_id = stream.headers.get("requestid") or self._guessed(stream, kind)
        pair = self._pairs.setdefault(request_id, {})
        if kind in pair:
            self._spawn(stream.reset(spdy.PROTOCOL_ERROR))
            return
        pair[kind] = stream
        if len(pair) == 2:
            del self._pairs[request_id]
            self._timers.pop(request_id).cancel()
            self._spawn(self._copy(int(port), pair["data"], pair["error"]))
        else:
            loop = asyncio.get_running_loop()
            self._timers[request_id] = loop.call_later(PAIR_TIMEOUT, self._expire, request_id)

    @staticmethod
    def _guessed(stream: spdy.Stream, kind: str) -> str:
        """Old clients send no request ID: the error stream comes first, the data stream right behind it."""
        return str(stream.id if kind == "error" else stream.id - 2)

    def _expire(self, request_id: str) -> None:
        del self._timers[request_id]
        for stream in self._pairs.pop(request_id).values():
            self._spawn(stream.reset())

    async def _copy(self, port: int, data: spdy.Stream, error: spdy.Stream) -> None:
        try:
            try:
                await self._forward(port, data.read, data.write)
            except Exception as problem:  # whatever it is, the client wants to know and the others go on
                LOG.debug("port forward of %s to %d: %s", self._pod, port, problem)
                await error.write(failure(port, self._pod, self._uid, problem))
            await error.close()
            await data.close()
            if not data.done:
                # The pod's side is closed: what the client still sends has no way to go.
                await data.reset()
        except ConnectionError:
            pass


async def _serve_channels(
    request: web.BaseRequest, protocol: str, ports: Sequence[int], forward: Forward, pod: str, uid: str
) -> web.StreamResponse:
    if not ports:
        raise errors.bad_request('query parameter "port" is required')
    named = "sec-websocket-protocol" in request.headers
    socket = await websocket.accept(request, protocol if named else "")
    channels = websocket.Channels(socket, protocol, 2 * len(ports))
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await channels.write(channel, struct.pack("<H", port))

    async def one(index: int, port: int) -> None:
        async def write(data: bytes) -> None:
            if data:
                await channels.write(2 * index, data)

        try:
            await forward(port, channels[2 * index].read, write)
        except Exception as problem:  # as above
            if not isinstance(problem, ConnectionError) or not socket.closed:
                await channels.write(2 * index + 1, failure(port, pod, uid, problem))

    tasks = [asyncio.ensure_future(one(index, port)) for index, port in enumerate(ports)]
    reading = asyncio.ensure_future(channels.run())
    everything = asyncio.gather(*tasks, return_exceptions=True)
    try:
        await asyncio.wait((reading, everything), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, reading):
            task.cancel()
        await asyncio.gather(*tasks, reading, everything, return_exceptions=True)
    await socket.close()
    return socket
