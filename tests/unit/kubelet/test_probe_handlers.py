"""Probes over the network, against servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import pytest

from podling.api import core_v1
from podling.kubelet import grpc_health
from podling.kubelet.hooks import PortError, resolve_port
from podling.kubelet.probe_handlers import Network, http_request
from podling.kubelet.probe_results import HTTPRequest, Outcome, Target

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Target]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Target("c", "127.0.0.1", port)
    finally:
        server.close()
        await server.wait_closed()


def answering(*answers: bytes, seen: list[str] | None = None) -> Handler:
    """Answers each connection with the next of `answers`; the last one again and again."""
    left = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if seen is not None:
            seen.append(head)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        writer.close()

    return handle


def _answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


REQUEST = HTTPRequest("http", "/healthz?full=1", (("X-Token", "secret"), ("Accept", "")))


@pytest.mark.parametrize(
    ("status", "outcome", "output"),
    [
        ("200 OK", Outcome.SUCCESS, "fine"),
        ("399 Odd", Outcome.SUCCESS, "fine"),
        ("400 Bad", Outcome.FAILURE, "HTTP probe failed with statuscode: 400"),
        ("503 Busy", Outcome.FAILURE, "HTTP probe failed with statuscode: 503"),
    ],
)
async def test_http_statuses(status: str, outcome: Outcome, output: str) -> None:
    seen: list[str] = []
    async with serving(answering(_answer(status, b"fine"), seen=seen)) as target:
        result = await Network().http(target, REQUEST, 5)
    assert (result.outcome, result.output) == (outcome, output)
    assert seen[0].startswith("GET /healthz?full=1 HTTP/1.1\r\n")
    assert "X-Token: secret\r\n" in seen[0]
    assert "User-Agent: kube-probe/1.37\r\n" in seen[0]
    assert "Accept" not in seen[0]


async def test_redirects_on_the_same_host_are_followed() -> None:
    first = _answer("302 Found", b"", "Location: /other")
    seen: list[str] = []
    async with serving(answering(first, _answer("204 None"), seen=seen)) as target:
        result = await Network().http(target, REQUEST, 5)
    assert result.outcome is Outcome.SUCCESS
    assert seen[1].startswith("GET /other HTTP/1.1")


async def test_redirects_elsewhere_are_a_warning() -> None:
    async with serving(answering(_answer("302 Found", b"go", "Location: http://example.com/"))) as target:
        result = await Network().http(target, REQUEST, 5)
    assert (result.outcome, result.output) == (
        Outcome.WARNING,
        "Probe terminated redirects, Response body: go",
    )


async def test_endless_redirects_fail() -> None:
    async with serving(answering(_answer("302 Found", b"", "Location: /again"))) as target:
        result = await Network().http(target, REQUEST, 5)
    assert result.outcome is Outcome.FAILURE
    assert result.output.endswith("stopped after 10 redirects")


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await asyncio.sleep(30)
    finally:
        writer.close()


async def test_no_answer_in_time() -> None:
    async with serving(answering(b"")) as target:
        result = await Network().http(target, HTTPRequest("http", "/"), 5)
        assert result.output == f'Get "http://127.0.0.1:{target.port}/": EOF'


async def test_nobody_listens() -> None:
    async with serving(answering(b"")) as target:
        gone = target
    refused = f"dial tcp 127.0.0.1:{gone.port}: connect: connection refused"
    assert (await Network().tcp(gone, 5)).output == refused
    assert (await Network().http(gone, HTTPRequest("http", "/"), 5)).output == (
        f'Get "http://127.0.0.1:{gone.port}/": {refused}'
    )
    grpc = await Network().grpc(gone, "", tls=False, timeout=2)
    assert grpc.outcome is Outcome.FAILURE
    assert grpc.output.startswith(f'timeout: failed to connect service "127.0.0.1:{gone.port}" within 2s')


async def test_tcp() -> None:
    async with serving(answering(b"x")) as target:
        assert (await Network().tcp(target, 5)).outcome is Outcome.SUCCESS


def grpc_server(message: bytes, status: str, seen: list[bytes]) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    seen.append(bytes(event.data or b""))
                if isinstance(event, h2.events.StreamEnded) and event.stream_id is not None:
                    stream = event.stream_id
                    headers = [(":status", "200"), ("content-type", "application/grpc")]
                    connection.send_headers(stream, headers)
                    if message:
                        connection.send_data(stream, message)
                    trailers = [("grpc-status", status), ("grpc-message", "because")]
                    connection.send_headers(stream, trailers, end_stream=True)
            writer.write(connection.data_to_send())
        writer.close()

    return handle


def _health(status: int) -> bytes:
    body = bytes([0x08, status]) if status else b""
    return b"\x00" + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("message", "status", "outcome", "output"),
    [
        (_health(1), "0", Outcome.SUCCESS, "service healthy"),
        (_health(2), "0", Outcome.FAILURE, 'service unhealthy (responded with "NOT_SERVING")'),
        (_health(0), "0", Outcome.FAILURE, 'service unhealthy (responded with "UNKNOWN")'),
        (
            b"",
            "12",
            Outcome.FAILURE,
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): because",
        ),
        (
            b"",
            "5",
            Outcome.FAILURE,
            "error: health rpc probe failed: rpc error: code = NotFound desc = because",
        ),
    ],
)
async def test_grpc(message: bytes, status: str, outcome: Outcome, output: str) -> None:
    seen: list[bytes] = []
    async with serving(grpc_server(message, status, seen)) as target:
        result = await Network().grpc(target, "shop", tls=False, timeout=5)
    assert (result.outcome, result.output) == (outcome, output)
    assert seen == [b"\x00\x00\x00\x00\x06\x0a\x04shop"]


def test_grpc_messages() -> None:
    assert grpc_health.request_message("") == b"\x00\x00\x00\x00\x00"
    assert grpc_health.request_message("x" * 200)[5:8] == b"\x0a\xc8\x01"
    assert grpc_health.parse_status(b"") is None


@pytest.mark.parametrize(
    ("port", "expected"),
    [(80, 80), ("web", 8080), ("81", 81), ("none", "couldn't find port: none for container: app"), (0, "invalid")],
)
def test_ports(port: int | str, expected: int | str) -> None:
    container = core_v1.Container(name="app", ports=[core_v1.ContainerPort(name="web", container_port=8080)])
    try:
        assert resolve_port(port, container) == expected
    except PortError as error:
        assert str(error).startswith(str(expected))


def test_the_request_of_an_action() -> None:
    action = core_v1.HTTPGetAction(port=80, scheme="HTTPS", http_headers=[core_v1.HTTPHeader(name="A", value="b")])
    assert http_request(action) == HTTPRequest("https", "/", (("A", "b"),))
