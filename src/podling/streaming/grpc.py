"""gRPC's unary calls over HTTP/2: one call over one connection, messages as bytes."""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import msgspec

#: Names of the status codes, as they are shown.
CODES = {
    "1": "Canceled", "2": "Unknown", "3": "InvalidArgument", "4": "DeadlineExceeded", "5": "NotFound",
    "6": "AlreadyExists", "7": "PermissionDenied", "8": "ResourceExhausted", "9": "FailedPrecondition",
    "10": "Aborted", "11": "OutOfRange", "12": "Unimplemented", "13": "Internal", "14": "Unavailable",
    "15": "DataLoss", "16": "Unauthenticated",
}  # fmt: skip


class Answer(msgspec.Struct):
    """What came back: the framed message's bytes and the call's end."""

    data: bytes = b""
    grpc_status: str = ""
    grpc_message: str = ""
    http_status: str = ""
    done: bool = False

    @property
    def message(self) -> bytes | None:
        """The message without its frame; None if it is not whole."""
        if len(self.data) < 5:
            return None
        body = self.data[5:]
        length = int.from_bytes(self.data[1:5], "big")
        return body[:length] if len(body) >= length else None


def framed(message: bytes) -> bytes:
    """A message with gRPC's length prefix."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


async def call(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    path: str,
    data: bytes,
    *,
    authority: str,
    agent: str,
    secure: bool = False,
) -> Answer:
    """Send the framed message `data` to `/package.Service/Method`. Raises OSError and h2's ProtocolError."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    headers = [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", agent),
        ("te", "trailers"),
    ]
    connection.send_headers(stream, headers)
    connection.send_data(stream, data, end_stream=True)
    writer.write(connection.data_to_send())
    answer = Answer()
    while not answer.done:
        received = await reader.read(65536)
        if not received:
            raise ConnectionResetError("connection closed before the answer came")
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
