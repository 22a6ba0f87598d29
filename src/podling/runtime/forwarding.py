"""Port forwarding into a sandbox: a connection made inside its network namespace, copied both ways."""

from __future__ import annotations

import os
import socket

from podling.runtime import copying, namespaces
from podling.runtime.base import RuntimeFailure, Sink, Source


async def forward(netns: str, port: int, stdin: Source, stdout: Sink) -> None:
    complaint = ""
    for address in ("127.0.0.1", "::1"):
        connection = namespaces.connect(netns, (address, port))
        with connection:
            await copying.writable(connection.fileno())
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                complaint = complaint or f"dial tcp4 {address}:{port}: connect: {os.strerror(error).lower()}"
                continue
            async with copying.task_group() as group:
                sending = group.create_task(_send(stdin, connection))
                await copying.pump_out(connection.fileno(), stdout)
                sending.cancel()
            return
    raise RuntimeFailure(f'failed to connect to localhost:{port} inside namespace "{netns}": {complaint}')


async def _send(stdin: Source, connection: socket.socket) -> None:
    await copying.pump_in(stdin, connection.fileno())
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
