"""healthCheckNodePort: load balancers ask each node by HTTP whether it has endpoints of a service whose
externalTrafficPolicy is Local. 200 with one, 503 without."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import cast

import msgspec

from podling import log
from podling.network import netns as namespaces

_log = log.get(__name__)
_REASONS = {200: "OK", 503: "Service Unavailable"}


class HealthChecks:
    """One small server for each service that asks for it, in the namespace at `netns` (empty: the caller's)."""

    def __init__(self, netns: str = "") -> None:
        self._netns = netns
        self._servers: dict[str, tuple[int, asyncio.Server]] = {}
        self._local: dict[str, int] = {}

    async def update(self, services: Mapping[str, tuple[int, int]]) -> None:
        """(port, local endpoints) by service key, of those that have changed; port 0 ends the service's server."""
        for key, (port, local) in services.items():
            self._local[key] = local
            known = self._servers.get(key)
            if known is not None and known[0] != port:
                del self._servers[key]
                known[1].close()
                await known[1].wait_closed()
                known = None
            if not port:
                self._local.pop(key, None)
            elif known is None:
                await self._open(key, port)

    async def _open(self, key: str, port: int) -> None:
        try:
            with namespaces.entered(self._netns):
                listener = socket.create_server(("", port), reuse_port=True)
        except OSError as error:
            _log.error("cannot serve the health check of service %s on port %d: %s", key, port, error.strerror)
            return
        server = await asyncio.get_running_loop().create_server(lambda: _Answer(self, key), sock=listener)
        self._servers[key] = (port, server)

    def response(self, key: str) -> bytes:
        """The whole HTTP response for the service."""
        local = self._local.get(key, 0)
        namespace, _, name = key.partition("/")
        body = msgspec.json.encode(
            {
                "service": {"namespace": namespace, "name": name},
                "localEndpoints": local,
                "serviceProxyHealthy": True,
            }
        )
        status = 200 if local else 503
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {local}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body

    async def close(self) -> None:
        for _, server in self._servers.values():
            server.close()
            await server.wait_closed()
        self._servers.clear()


class _Answer(asyncio.Protocol):
    """Whatever is asked, once the request's head is whole, the answer is the same."""

    def __init__(self, checks: HealthChecks, key: str) -> None:
        self._checks, self._key = checks, key
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._transport.write(self._checks.response(self._key))
            self._transport.close()
        elif len(self._received) > 16384:
            self._transport.abort()
