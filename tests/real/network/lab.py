"""A machine inside the machine: a namespace that plays the host, others that play pods, and sockets in any of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from podling.api.struct import clone
from podling.client.base import ListResult, WatchEvent
from podling.network import netns


class Lab:
    """Namespaces by name, all gone at `close`. `host` stands for the machine's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tag = secrets.token_hex(3)
        self.paths: dict[str, str] = {}
        self.host = self.namespace("host")
        self._cleanup = contextlib.AsyncExitStack()
        self.command(self.host, "ip", "link", "set", "lo", "up")

    def namespace(self, name: str) -> str:
        path = str(self.directory / f"netns-{name}")
        netns.create(path)
        self.paths[name] = path
        return path

    async def close(self) -> None:
        await self._cleanup.aclose()
        for path in self.paths.values():
            netns.delete(path)

    def command(self, path: str, *argv: str) -> str:
        done = subprocess.run(["nsenter", f"--net={path}", *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def links(self, path: str) -> list[str]:
        return [line.split(": ")[1] for line in self.command(path, "ip", "-o", "link").splitlines()]

    def uplink(self) -> str:
        """Another machine beyond the host: its namespace. It is 192.0.2.1, the host 192.0.2.2."""
        path = self.namespace("outside")
        self.command(self.host, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", path)
        self.command(self.host, "sh", "-c", "ip addr add 192.0.2.2/24 dev up0; ip link set up0 up")
        self.command(path, "sh", "-c", "ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip link set lo up")
        self.command(self.host, "ip", "route", "add", "default", "via", "192.0.2.1")
        return path

    async def serve(self, path: str, port: int, answer: str, *, address: str = "0.0.0.0") -> None:
        """A TCP and a UDP server that answer `<answer> <peer's address>`."""
        loop = asyncio.get_running_loop()

        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{answer} {writer.get_extra_info('peername')[0]}".encode())
            writer.close()

        with netns.entered(path):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.create_server((address, port), family=family)
            datagram = socket.socket(family, socket.SOCK_DGRAM)
            datagram.bind((address, port))
        datagram.setblocking(False)
        server = await asyncio.start_server(reply, sock=listener)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Echo(answer), sock=datagram)
        self._cleanup.callback(transport.close)
        self._cleanup.callback(server.close)

    async def tcp(self, path: str, address: str, port: int, *, source: str = "", patience: float = 3) -> str:
        """What a server answers; raises OSError (refused, unreachable) or TimeoutError."""
        with netns.entered(path):
            client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        if source:
            client.bind((source, 0))
        client.setblocking(False)
        async with asyncio.timeout(patience):
            with contextlib.closing(client):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, (address, port))
                return (await loop.sock_recv(client, 1000)).decode()

    async def http(self, path: str, address: str, port: int) -> str:
        """The whole response to GET /."""
        with netns.entered(path):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        async with asyncio.timeout(3):
            await asyncio.get_running_loop().sock_connect(client, (address, port))
            reader, writer = await asyncio.open_connection(sock=client)
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer.decode()

    @contextlib.asynccontextmanager
    async def udp(self, path: str) -> AsyncIterator[Datagrams]:
        with netns.entered(path):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.setblocking(False)
        with contextlib.closing(client):
            yield Datagrams(client)


class Datagrams:
    def __init__(self, client: socket.socket) -> None:
        self._client = client

    async def ask(self, address: str, port: int, text: bytes = b"?") -> str:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(3):
            await loop.sock_sendto(self._client, text, (address, port))
            return (await loop.sock_recv(self._client, 2000)).decode()

    async def ask_connected(self, address: str, port: int) -> str:
        """As `ask`, and hears of refusals: only a connected socket does."""
        self._client.connect((address, port))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(3):
            await loop.sock_sendall(self._client, b"?")
            return (await loop.sock_recv(self._client, 2000)).decode()


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, answer: str) -> None:
        self._answer = answer

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(f"{self._answer} {addr[0]}".encode(), addr)


class Feed:
    """The reading half of a Client over objects that the test holds: `put` and `delete` reach every watch."""

    def __init__(self) -> None:
        self._objects: dict[tuple[type, str], Any] = {}
        self._watches: list[tuple[type, asyncio.Queue[WatchEvent[Any]]]] = []
        self._version = 0

    def put(self, obj: Any) -> None:
        obj = clone(obj)
        self._version += 1
        obj.metadata.resource_version = str(self._version)
        key = type(obj), f"{obj.metadata.namespace}/{obj.metadata.name}"
        kind = "MODIFIED" if key in self._objects else "ADDED"
        self._objects[key] = obj
        self._tell(kind, obj)

    def delete(self, obj: Any) -> None:
        del self._objects[type(obj), f"{obj.metadata.namespace}/{obj.metadata.name}"]
        self._tell("DELETED", obj)

    def _tell(self, kind: str, obj: Any) -> None:
        for wanted, queue in self._watches:
            if isinstance(obj, wanted):
                queue.put_nowait(WatchEvent(kind, obj))

    async def list(self, kind: type, namespace: str | None = None, **_: Any) -> ListResult[Any]:
        return ListResult([o for (k, _), o in self._objects.items() if k is kind], str(self._version))

    async def watch(self, kind: type, namespace: str | None = None, **_: Any) -> AsyncIterator[WatchEvent[Any]]:
        queue: asyncio.Queue[WatchEvent[Any]] = asyncio.Queue()
        self._watches.append((kind, queue))
        while True:
            yield await queue.get()


def is_root() -> bool:
    return os.geteuid() == 0
