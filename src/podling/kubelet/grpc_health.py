"""A client of the gRPC health checking protocol (grpc.health.v1.Health/Check): one call over one HTTP/2 connection."""

from __future__ import annotations

import asyncio
import ssl

import h2.config
import h2.connection
import h2.events
import msgspec

from podling.kubelet.probe_results import USER_AGENT, Outcome, Result, host_port

_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODES = {
    "1": "Canceled", "2": "Unknown", "3": "InvalidArgument", "4": "DeadlineExceeded", "5": "NotFound",
    "7": "PermissionDenied", "12": "Unimplemented", "13": "Internal", "14": "Unavailable", "16": "Unauthenticated",
}  # fmt: skip


class Answer(msgspec.Struct):
    """What came back: the message's bytes and the call's end."""

    data: bytes = b""
    grpc_status: str = ""
    grpc_message: str = ""
    http_status: str = ""
    done: bool = False


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
            answer = await _call(reader, writer, address, service, secure=context is not None)
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
            code = _CODES.get(answer.grpc_status, f"Code({answer.grpc_status})")
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
    return b"\x00" + len(body).to_bytes(4, "big") + body


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


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, service: str, *, secure: bool
) -> Answer:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    headers = [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("user-agent", USER_AGENT),
        ("te", "trailers"),
    ]
    connection.send_headers(stream, headers)
    connection.send_data(stream, request_message(service), end_stream=True)
    writer.write(connection.data_to_send())
    answer = Answer()
    while not answer.done:
        received = await reader.read(65536)
        if not received:
            raise ConnectionResetError("connection closed before the health status came")
        for event in connection.receive_data(received):
            _take(event, connection, answer)
        writer.write(connection.data_to_send())
    return answer


def _take(event: h2.events.Event, connection: h2.connection.H2Connection, answer: Answer) -> None:
    match event:
        case h2.events.ResponseReceived() | h2.events.TrailersReceived():
            for name, value in event.headers or ():
                if str(name) == "grpc-status":
                    answer.grpc_status = str(value)
                elif str(name) == "grpc-message":
                    answer.grpc_message = str(value)
                elif str(name) == ":status":
                    answer.http_status = str(value)
        case h2.events.DataReceived():
            answer.data += event.data or b""
            connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        case h2.events.StreamEnded():
            answer.done = True
        case h2.events.StreamReset() | h2.events.ConnectionTerminated():
            raise ConnectionResetError("stream was reset")
