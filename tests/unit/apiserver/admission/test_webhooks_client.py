"""Calls of webhooks over connections that break."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from apiserver.admission.hooks import ca_bundle, certificate
from podling.api.admissionregistration_v1 import WebhookClientConfig
from podling.apiserver.admission.webhooks_client import Caller, CallFailure, broken, explain

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Fickle:
    """A server that answers `lasts` requests of a connection, and resets it upon the next one."""

    def __init__(self, lasts: int) -> None:
        self.lasts = lasts
        self.port = 0
        self.connections = 0
        self.together = asyncio.Barrier(3)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = 0
        while head := await reader.readuntil(b"\r\n\r\n"):
            number += 1
            if number > self.lasts:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
            if b"/together" in head:
                await self.together.wait()
            writer.write(ANSWER)


@asynccontextmanager
async def fickle(tmp_path: Path, lasts: int) -> AsyncIterator[tuple[Fickle, Caller]]:
    pem = tmp_path / "pem"
    pem.write_bytes(b"".join(certificate()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = Fickle(lasts)
    core: Any = None
    caller = Caller(core)
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server, caller
    finally:
        await caller.close()
        listening.close()


def test_calls_outlive_the_connections_that_were_kept(tmp_path: Path) -> None:
    """Several are kept, and all of them break, as they do when the server's process is killed."""

    async def main() -> None:
        async with fickle(tmp_path, lasts=1) as (server, caller):
            url = f"https://127.0.0.1:{server.port}"
            config = WebhookClientConfig(url=f"{url}/together", ca_bundle=ca_bundle())
            assert await asyncio.gather(*(caller.call(config, b"{}", 5) for _ in range(3))) == [b"{}"] * 3
            config = WebhookClientConfig(url=url, ca_bundle=ca_bundle())
            assert await caller.call(config, b"{}", 5) == b"{}"
            assert server.connections == 4

    asyncio.run(main())


def test_a_server_that_always_resets_is_not_called_forever(tmp_path: Path) -> None:
    async def main() -> None:
        async with fickle(tmp_path, lasts=0) as (server, caller):
            config = WebhookClientConfig(url=f"https://127.0.0.1:{server.port}", ca_bundle=ca_bundle())
            with pytest.raises(CallFailure) as caught:
                await caller.call(config, b"{}", 5)
            assert str(caught.value).endswith(("read: connection reset by peer", "EOF"))
            assert server.connections == 4

    asyncio.run(main())


def test_what_could_not_be_reached_was_never_there() -> None:
    key: Any = type("Key", (), {"host": "10.1.2.3", "port": 443, "ssl": True, "is_ssl": True})()
    for number, said in ((111, "connection refused"), (113, "no route to host")):
        error = aiohttp.ClientConnectorError(key, OSError(number, "?"))
        assert explain(error) == f"dial tcp 10.1.2.3:443: connect: {said}"
        assert not broken(error)
    reset = aiohttp.ClientOSError(104, "Connection reset by peer")
    assert broken(reset) and explain(reset) == "read: connection reset by peer"
    assert broken(aiohttp.ServerDisconnectedError()) and explain(aiohttp.ServerDisconnectedError()) == "EOF"
