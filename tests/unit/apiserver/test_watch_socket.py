"""Watches over WebSocket, and over HTTP/1.0: the same events in other frames."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import websocket

from apiserver.harness import config_map
from apiserver.test_server import PATH, Web, serving

PROTOBUF = "application/vnd.kubernetes.protobuf;stream=watch"


async def _ended(web: Web) -> None:
    """Nobody watches any more."""
    cache = web.server.app.served["", "v1", "configmaps"].cache
    async with asyncio.timeout(5):
        while cache.watches():
            await asyncio.sleep(0.01)


def _url(web: Web, **query: str) -> str:
    return f"http://127.0.0.1:{web.http.port}{PATH}?watch=1" + "".join(f"&{k}={v}" for k, v in query.items())


async def _next(socket: aiohttp.ClientWebSocketResponse) -> Any:
    message = await socket.receive(5)
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return json.loads(message.data)


@pytest.mark.parametrize("size", [1, 200, 70_000])
async def test_one_message_an_event(size: int) -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a", data={"k": "x" * size}))
        async with web.session.ws_connect(_url(web), max_msg_size=0) as socket:
            first = await _next(socket)
            assert (first["type"], first["object"]["data"]["k"]) == ("ADDED", "x" * size)
            await web.server.client.create(config_map("b"))
            second = await _next(socket)
            assert (second["type"], second["object"]["metadata"]["name"]) == ("ADDED", "b")
        await _ended(web)


async def test_what_is_no_text_is_binary() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        async with web.session.ws_connect(_url(web), headers={"accept": PROTOBUF}) as socket:
            message = await socket.receive(5)
            assert message.type is aiohttp.WSMsgType.BINARY
            # A WatchEvent begins with its type: field 1, of five bytes. A message needs no length before it.
            assert message.data.startswith(b"\x0a\x05ADDED")


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (["base64.binary.k8s.io"], "base64.binary.k8s.io"),
        (["base64url.bearer.authorization.k8s.io.eA", "base64.binary.k8s.io"], "base64.binary.k8s.io"),
        ([], None),
    ],
)
async def test_a_browsers_protocol_is_taken(offered: list[str], taken: str | None) -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        async with web.session.ws_connect(_url(web), protocols=offered) as socket:
            assert socket.protocol == taken
            assert (await _next(socket))["type"] == "ADDED"


async def test_a_long_message_ends_the_watch() -> None:
    async with serving() as web, web.session.ws_connect(_url(web)) as socket:
        await socket.send_bytes(b"x" * 200_000)
        assert (await socket.receive(5)).type is aiohttp.WSMsgType.CLOSE and socket.close_code == 1009
        await _ended(web)


async def test_the_client_closes() -> None:
    async with serving() as web:
        async with web.session.ws_connect(_url(web)) as socket:
            await web.server.client.create(config_map("a"))
            await _next(socket)
        await _ended(web)


async def test_the_end_of_a_watch_closes_its_socket() -> None:
    async with serving() as web:
        async with web.session.ws_connect(_url(web, timeoutSeconds="1", allowWatchBookmarks="1")) as socket:
            assert (await _next(socket))["type"] == "BOOKMARK"
            assert (await socket.receive(5)).type is aiohttp.WSMsgType.CLOSE
        await _ended(web)


async def test_another_client() -> None:
    """The one that comes with Kubernetes' Python client."""

    def first_two(url: str) -> list[Any]:
        socket = websocket.create_connection(url, timeout=5, subprotocols=["base64.binary.k8s.io"])
        found = [json.loads(socket.recv()) for _ in range(2)]
        socket.close()
        return found

    async with serving() as web:
        for name in ("a", "b"):
            await web.server.client.create(config_map(name))
        found = await asyncio.to_thread(first_two, _url(web).replace("http:", "ws:"))
        assert [(e["type"], e["object"]["metadata"]["name"]) for e in found] == [("ADDED", "a"), ("ADDED", "b")]
        await _ended(web)


async def test_what_the_client_says_is_not_heard() -> None:
    async with serving() as web, web.session.ws_connect(_url(web)) as socket:
        for _ in range(40):
            await socket.send_bytes(b"x" * 50_000)
        await socket.ping()
        await web.server.client.create(config_map("a"))
        assert (await _next(socket))["type"] == "ADDED"


async def test_what_is_no_handshake() -> None:
    async with serving() as web:
        headers = {"connection": "upgrade", "upgrade": "websocket"}
        response, said = await web.ask("GET", f"{PATH}?watch=1", headers=headers)
        assert response.status == 400 and said["reason"] == "BadRequest"
        await _ended(web)


async def _raw(web: Web, line: str) -> tuple[bytes, bytes]:
    """Head and rest of what is answered to a request until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.http.port)
    writer.write(f"{line}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(5):
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, rest


async def test_http_1_0_has_no_chunks() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        head, rest = await _raw(web, f"GET {PATH}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1 HTTP/1.0")
        assert b"Transfer-Encoding" not in head and b"Connection: close" in head
        assert [json.loads(line)["type"] for line in rest.splitlines()] == ["ADDED", "BOOKMARK"]


async def test_a_head_of_a_watch_has_no_body() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        head, rest = await _raw(web, f"HEAD {PATH}?watch=1 HTTP/1.1")
        assert head.startswith(b"HTTP/1.1 200 OK") and rest == b""
        await _ended(web)
