"""A KMS v2 plugin: a gRPC server on a Unix socket whose keys are exclusive ors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from podling.apiserver.encryption.messages import _field, _fields, _map


class Plugin:
    """`key_id` is the key that encrypts; `refuses` is a gRPC status that every call is answered with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.endpoint = f"unix://{path}"
        self.key_id = "key-1"
        self.healthz = "ok"
        self.version = "v2"
        self.refuses = ""
        self.calls: list[str] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def __aenter__(self) -> Plugin:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        path, body = "", b""
        while received := await reader.read(65536):
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.RequestReceived):
                    path = dict(event.headers)[":path"]
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    self._answer(connection, event.stream_id, path, body[5:])
            writer.write(connection.data_to_send())
        writer.close()

    def _answer(self, connection: h2.connection.H2Connection, stream: int, path: str, body: bytes) -> None:
        method = path.rpartition("/")[2]
        self.calls.append(method)
        connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        if self.refuses:
            trailers = [("grpc-status", self.refuses), ("grpc-message", "locked")]
        else:
            methods: dict[str, Callable[[dict[int, bytes]], bytes]] = {
                "Status": self._status, "Encrypt": self._encrypt, "Decrypt": self._decrypt,
            }  # fmt: skip
            answer = methods[method]({n: v for n, v in _fields(body) if isinstance(v, bytes)})
            connection.send_data(stream, b"\0" + len(answer).to_bytes(4, "big") + answer)
            trailers = [("grpc-status", "0")]
        connection.send_headers(stream, trailers, end_stream=True)

    def _status(self, request: dict[int, bytes]) -> bytes:
        return _field(1, self.version.encode()) + _field(2, self.healthz.encode()) + _field(3, self.key_id.encode())

    def _encrypt(self, request: dict[int, bytes]) -> bytes:
        assert request[2], "a call has an id"
        annotations = _map(3, {"version.example.com": b"1"})
        return _field(1, crossed(request[1], self.key_id)) + _field(2, self.key_id.encode()) + annotations

    def _decrypt(self, request: dict[int, bytes]) -> bytes:
        assert request[4], "the annotations come back"
        return _field(1, crossed(request[1], request[3].decode()))


def crossed(data: bytes, key_id: str) -> bytes:
    mask = sum(key_id.encode()) & 0xFF or 1
    return bytes(b ^ mask for b in data)
