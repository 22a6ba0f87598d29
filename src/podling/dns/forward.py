"""Names outside the cluster: asked of the node's own resolvers, and remembered for a short while."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Iterable

import msgspec

from podling import clock, log
from podling.dns import wire
from podling.network import netns as namespaces

_log = log.get(__name__)

#: Seconds for which an answer is kept at most, and a failure always.
_KEEP, _KEEP_FAILURE = 30, 5
_MOST_ENTRIES = 10_000
_STUB = "/run/systemd/resolve/resolv.conf"


class NoUpstream(Exception):
    """Nobody to ask, or nobody answered."""


class _Entry(msgspec.Struct, frozen=True):
    response: bytes
    layout: wire.Layout
    since: float
    until: float


CacheKey = tuple[bytes, bytes, int]


class Resolvers:
    """The nameservers of a resolv.conf; read again when it changes (networks come and go under a laptop).

    A stub on loopback cannot be reached from a node's own namespace: there what stands behind systemd's is used.
    """

    def __init__(self, path: str, *, own: Iterable[str] = (), loopback: bool = True) -> None:
        self._path = path
        self._own = frozenset(own)
        self._loopback = loopback
        self._stamp: object = None
        self._servers: list[str] = []

    def servers(self) -> list[str]:
        stamp = _stamp(self._path), _stamp(_STUB)
        if stamp != self._stamp:
            self._stamp = stamp
            self._servers = self._read(self._path)
            if not self._servers:
                self._servers = self._read(_STUB)
        return self._servers

    def _read(self, path: str) -> list[str]:
        try:
            with open(path) as file:
                words = [line.split() for line in file]
        except OSError:
            return []
        found = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"]
        return [s for s in found if s not in self._own and (self._loopback or not _is_loopback(s))]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


class Forwarder:
    """Asks `resolvers`, the first that answers, each for `timeout` seconds. Sockets are opened in the namespace at
    `netns` (empty: the caller's), one for each question, so that its port cannot be guessed."""

    def __init__(self, resolvers: Resolvers, *, port: int = 53, timeout: float = 2.0, netns: str = "") -> None:
        self._resolvers = resolvers
        self._port = port
        self._timeout = timeout
        self._netns = netns
        self._cache: dict[CacheKey, _Entry] = {}
        self._running: dict[CacheKey, asyncio.Task[_Entry]] = {}

    async def close(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cached(self, query: bytes, *, limit: int) -> bytes | None:
        """The answer to `query`, if it is known."""
        entry = self._cache.get(_key(query))
        now = clock.elapsed()
        if entry is None or now >= entry.until:
            return None
        return wire.readdress(entry.response, entry.layout, query, age=int(now - entry.since), limit=limit)

    async def ask(self, query: bytes, *, tcp: bool, limit: int) -> bytes:
        """The answer to `query`. Those who ask the same at the same time share one question. Raises NoUpstream."""
        known = self.cached(query, limit=limit)
        if known is not None:
            return known
        key = (*_key(query)[:2], _key(query)[2] | (1 << 16 if tcp else 0))
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._ask_upstream(query, tcp))
            self._running[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        entry = await asyncio.shield(task)
        return wire.readdress(entry.response, entry.layout, query, age=0, limit=limit)

    def _done(self, key: CacheKey, task: asyncio.Task[_Entry]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at, also when all who asked have gone

    async def _ask_upstream(self, query: bytes, tcp: bool) -> _Entry:
        servers = self._resolvers.servers()
        if len(servers) == 1 and not tcp:
            servers = servers * 2  # a datagram may get lost
        failure: _Entry | None = None
        for server in servers:
            number = random.randbytes(2)
            try:
                async with asyncio.timeout(self._timeout):
                    exchange = self._by_tcp if tcp else self._by_udp
                    response = await exchange(server, number + query[2:])
                parts = wire.layout(response)
            except (OSError, TimeoutError, wire.Malformed, asyncio.IncompleteReadError) as error:
                _log.debug("resolver %s: %s", server, error or type(error).__name__)
                continue
            now = clock.elapsed()
            keep = _lifetime(parts)
            entry = _Entry(response, parts, now, now + keep)
            if parts.code not in (0, 3):
                failure = failure or entry
                continue
            self._remember(_key(query), entry, keep)
            return entry
        if failure is not None:
            self._remember(_key(query), failure, _KEEP_FAILURE)
            return failure
        raise NoUpstream("no resolver answered" if servers else "the node has no resolver")

    def _remember(self, key: CacheKey, entry: _Entry, keep: int) -> None:
        if not keep or entry.layout.truncated:
            return
        if len(self._cache) >= _MOST_ENTRIES:
            now = clock.elapsed()
            self._cache = {k: e for k, e in self._cache.items() if e.until > now}
            while len(self._cache) >= _MOST_ENTRIES:
                del self._cache[next(iter(self._cache))]
        self._cache[key] = entry

    def _socket(self, server: str, kind: socket.SocketKind) -> socket.socket:
        with namespaces.entered(self._netns):
            made = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind | socket.SOCK_CLOEXEC)
        made.setblocking(False)
        return made

    async def _by_udp(self, server: str, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with contextlib.closing(self._socket(server, socket.SOCK_DGRAM)) as client:
            # Connected: the kernel drops what others send, and a refusal is heard of at once.
            client.connect((server, self._port))
            await loop.sock_sendall(client, query)
            while True:
                response = await loop.sock_recv(client, 65535)
                if len(response) >= 12 and response[:2] == query[:2] and response[2] & 0x80:
                    return response

    async def _by_tcp(self, server: str, query: bytes) -> bytes:
        client = self._socket(server, socket.SOCK_STREAM)
        try:
            await asyncio.get_running_loop().sock_connect(client, (server, self._port))
            reader, writer = await asyncio.open_connection(sock=client)
        except BaseException:
            client.close()
            raise
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            length = int.from_bytes(await reader.readexactly(2), "big")
            response = await reader.readexactly(length)
        finally:
            writer.close()
        if response[:2] != query[:2]:
            raise wire.Malformed("an answer to another question")
        return response


def _key(query: bytes) -> CacheKey:
    """What makes two queries the same: all but the id, the spelling and the AD bit. EDNS options are part of it."""
    end = 12
    while query[end]:
        end += query[end] + 1
    flags = (query[2] & 0x01) << 8 | (query[3] & 0x10)
    return query[12:end].lower(), query[end:], flags


def _lifetime(parts: wire.Layout) -> int:
    """How long an answer may be kept: as long as the shortest-lived record, a "no" as its SOA says."""
    if parts.code not in (0, 3):
        return _KEEP_FAILURE
    if not parts.answers or parts.code == 3:
        return min(parts.minimum or 0, _KEEP)
    return min(min((lifetime for _, lifetime in parts.lifetimes), default=0), _KEEP)
