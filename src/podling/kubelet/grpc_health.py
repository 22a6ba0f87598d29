"""A client of the gRPC health checking protocol (grpc.health.v1.Health/Check): one call over one HTTP/2 connection."""

from __future__ import annotations

import asyncio
import ssl

import h2.exceptions

from podling.kubelet.probe_results import USER_AGENT, Outcome, Result, host_port
from podling.streaming import grpc
from podling.streaming.grpc import Answer

_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


async def check(host: str, port: int, service: str, context: ssl.SSLContext | None, timeout: float) -> Result:
    """Ask the server on `host`:`port` for the health of `service` ("" for the server as a whole)."""
    address = host_port(host, port)
    seconds = f"{timeout:g}s"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except (TimeoutError, OSError):
        text = f'timeout: failed to connect service "{address}" within {seconds}: context deadline exceeded'
        return Result(Outcome.FAILURE, text)
    try:
        async with asyncio.timeout(timeout):
            answer = await grpc.call(
                reader,
                writer,
                "/grpc.health.v1.Health/Check",
                request_message(service),
                authority=address,
                agent=USER_AGENT,
                secure=context is not None,
            )
    except TimeoutError:
        text = f"timeout: health rpc did not complete within {seconds}: rpc error: code = DeadlineExceeded"
        return Result(Outcome.FAILURE, f"{text} desc = context deadline exceeded")
    except (OSError, asyncio.IncompleteReadError, h2.exceptions.ProtocolError) as error:
        return Result(Outcome.FAILURE, f"error: health rpc probe failed: rpc error: code = Unavailable desc = {error}")
    finally:
        writer.transport.abort()
    return verdict(answer)


def verdict(answer: Answer) -> Result:
    """What the answer means (pkg/probe/grpc)."""
    if answer.grpc_status not in ("", "0"):
        if answer.grpc_status == "12":
            text = (
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
                f"{answer.grpc_message}"
            )
        else:
            code = grpc.CODES.get(answer.grpc_status, f"Code({answer.grpc_status})")
            text = f"error: health rpc probe failed: rpc error: code = {code} desc = {answer.grpc_message}"
        return Result(Outcome.FAILURE, text)
    status = parse_status(answer.data)
    if status is None:
        text = "error: health rpc probe failed: rpc error: code = Internal desc = no health status came back"
        return Result(Outcome.FAILURE, text)
    if status == 1:
        return Result(Outcome.SUCCESS, "service healthy")
    return Result(Outcome.FAILURE, f'service unhealthy (responded with "{_STATUSES.get(status, str(status))}")')


def request_message(service: str) -> bytes:
    """HealthCheckRequest{service} with gRPC's length prefix."""
    name = service.encode()
    body = b"\x0a" + _varint(len(name)) + name if name else b""
    return grpc.framed(body)


def parse_status(data: bytes) -> int | None:
    """HealthCheckResponse.status out of a length-prefixed message; None if there is no whole message."""
    if len(data) < 5:
        return None
    body = data[5 : 5 + int.from_bytes(data[1:5], "big")]
    # A field that is 0 (UNKNOWN) is not on the wire.
    return body[1] if len(body) >= 2 and body[0] == 0x08 else 0


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
