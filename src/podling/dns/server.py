"""The cluster's DNS server, in the node agent: names of the cluster from the informers, all others from upstream.

What it knows itself it answers in the datagram's own callback; a question for upstream is a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, cast

import msgspec

from podling import log
from podling.api import core_v1, discovery_v1
from podling.client.informer import Informers
from podling.dns import message
from podling.dns.forward import Forwarder, NoUpstream, Resolvers
from podling.dns.message import NOERROR, NOTIMP, NXDOMAIN, SERVFAIL, Query
from podling.dns.records import Answer, Kind, Records
from podling.network import netns as namespaces

_log = log.get(__name__)

#: Questions that may wait for upstream at once; more are refused by SERVFAIL.
_MOST_WAITING = 1000
#: Seconds after which a TCP connection without a question is closed.
_TCP_IDLE = 10.0
_LONGEST_ALIAS = 8
#: IP_FREEBIND and IPV6_FREEBIND, which the socket module does not name.
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}


class DNSConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen (in the namespace at `netns`, empty for the caller's) and what to answer.

    `addresses` are the cluster DNS addresses, which must be local. `ranges` are the cluster's pod and service ranges:
    reverse names in them are never asked of others. `resolv_conf` names the node's resolvers, reached on
    `upstream_port` from the namespace at `upstream_netns`; with `loopback_upstream` false those on loopback are passed
    over (the node has a namespace of its own and the host's stub resolver is not in it).
    """

    addresses: tuple[str, ...] = ("10.96.0.10",)
    port: int = 53
    domain: str = "cluster.local"
    ttl: int = 5
    ranges: tuple[str, ...] = ("10.96.0.0/16", "10.244.0.0/16")
    resolv_conf: str = "/etc/resolv.conf"
    upstream_port: int = 53
    upstream_timeout: float = 2.0
    upstream_netns: str = ""
    loopback_upstream: bool = True
    netns: str = ""


class DNSServer:
    """`start` listens at once; until the informers have listed, names of the cluster get SERVFAIL, not a wrong "no"."""

    def __init__(self, informers: Informers, config: DNSConfig) -> None:
        self.config = config
        self.records = Records(config.domain, servers=config.addresses, ranges=config.ranges)
        resolvers = Resolvers(config.resolv_conf, own=config.addresses, loopback=config.loopback_upstream)
        self.forwarder = Forwarder(
            resolvers, port=config.upstream_port, timeout=config.upstream_timeout, netns=config.upstream_netns
        )
        self._informers = (
            informers.of(core_v1.Namespace),
            informers.of(core_v1.Service),
            informers.of(discovery_v1.EndpointSlice),
        )
        self._remove: list[Callable[[], None]] = []
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen by UDP and TCP on every address. Raises OSError."""
        self._follow()
        loop = asyncio.get_running_loop()
        try:
            for address in self.config.addresses:
                datagrams, listener = self._open(address)
                transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
                self._transports.append(transport)
                self._servers.append(await asyncio.start_server(self._connected, sock=listener))
        except BaseException:
            await self.close()
            raise

    def _open(self, address: str) -> tuple[socket.socket, socket.socket]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        where = (address, self.config.port)
        with contextlib.ExitStack() as stack:
            with namespaces.entered(self.config.netns):
                datagrams = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            for made in (datagrams, listener):
                # The address may come to its link later than we do.
                made.setsockopt(*_FREEBIND[family], 1)
            datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            datagrams.setblocking(False)
            datagrams.bind(where)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(where)
            listener.listen(128)
            stack.pop_all()
        return datagrams, listener

    async def close(self) -> None:
        for remove in self._remove:
            remove()
        self._remove = []
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._transports, self._servers = [], []
        await self.forwarder.close()

    def _follow(self) -> None:
        """Keep the records in step with the API."""
        records = self.records
        namespaces_, services, slices = self._informers
        self._remove = [
            namespaces_.add_handler(on_add=records.put_namespace, on_delete=records.remove_namespace),
            services.add_handler(
                on_add=records.put_service,
                on_update=lambda _, new: records.put_service(new),
                on_delete=records.remove_service,
            ),
            slices.add_handler(
                on_add=records.put_slice,
                on_update=lambda _, new: records.put_slice(new),
                on_delete=records.remove_slice,
            ),
        ]

    @property
    def ready(self) -> bool:
        """Whether the cluster's names are known."""
        return all(informer.synced for informer in self._informers)

    # --- answering ---

    def answer_now(self, data: bytes, *, limit: int) -> bytes | Query | None:
        """The answer, if it needs nobody else; the question, if it does; None if it deserves no answer.

        `limit` is the longest answer by this transport; for UDP the asker's own limit counts too.
        """
        query = message.parse(data)
        if query is None:
            return None
        limit = min(limit, query.size) if limit <= message.UDP_SIZE else limit
        if query.error:
            return message.answer(query, query.error, limit=limit)
        if query.type in ("ANY", "AXFR", "IXFR"):
            return message.answer(query, NOTIMP, limit=limit)
        found = self.records.lookup(query.name, query.type)
        if found.kind is Kind.NOT_OURS:
            return self.forwarder.cached(data, limit=limit) or query
        if not self.ready:
            return message.answer(query, SERVFAIL, limit=limit)
        if not found.alias:
            return self._local(query, found, limit)
        found = self._chase(query, found)
        return query if found.alias else self._local(query, found, limit)

    def _chase(self, query: Query, found: Answer) -> Answer:
        """Follow aliases to where they leave the cluster; `alias` is then the name to ask upstream for."""
        records, names = list(found.records), {query.name}
        for _ in range(_LONGEST_ALIAS):
            if found.alias in names:
                break
            names.add(found.alias)
            following = self.records.lookup(found.alias, query.type)
            if following.kind is Kind.NOT_OURS:
                return Answer(Kind.FOUND, tuple(records), alias=found.alias)
            records += following.records
            if not following.alias:
                break
            found = following
        return Answer(Kind.FOUND, tuple(records))

    def _local(self, query: Query, found: Answer, limit: int) -> bytes:
        negative = found.kind is not Kind.FOUND
        return message.answer(
            query,
            NXDOMAIN if found.kind is Kind.NO_NAME else NOERROR,
            answers=found.records,
            authority=(self.records.soa(),) if negative else (),
            additional=found.additional,
            ttl=self.config.ttl,
            serial=self.records.serial,
            authoritative=True,
            limit=limit,
        )

    async def answer_later(self, data: bytes, query: Query, *, tcp: bool) -> bytes:
        """The answer to a question that upstream must help with."""
        limit = 65535 if tcp else query.size
        found = self.records.lookup(query.name, query.type)
        try:
            if found.kind is Kind.NOT_OURS:
                return await self.forwarder.ask(data, tcp=tcp, limit=limit)
            return await self._resolve_alias(query, self._chase(query, found), limit)
        except NoUpstream as error:
            _log.debug("%s %s: %s", query.type, query.name, error)
            return message.answer(query, SERVFAIL, limit=limit)

    async def _resolve_alias(self, query: Query, found: Answer, limit: int) -> bytes:
        question = message.question(query, found.alias, 0)
        raw = await self.forwarder.ask(question, tcp=False, limit=65535)
        response = message.parse_response(raw)
        if response is not None and response.header.tc:
            raw = await self.forwarder.ask(question, tcp=True, limit=65535)
            response = message.parse_response(raw)
        foreign: list[Any] = list(response.rr) if response is not None else []
        code = int(response.header.rcode) if response is not None else SERVFAIL
        if code == NXDOMAIN:
            # The name that was asked for is there, whatever becomes of its target: so CoreDNS answers.
            code = NOERROR
        return message.answer(
            query,
            code,
            answers=found.records,
            foreign=foreign,
            ttl=self.config.ttl,
            serial=self.records.serial,
            authoritative=True,
            limit=limit,
        )

    def spawn(self, data: bytes, query: Query, send: Callable[[bytes], None]) -> None:
        """Answer by and by."""
        if len(self._tasks) >= _MOST_WAITING:
            send(message.answer(query, SERVFAIL, limit=query.size))
            return

        async def work() -> None:
            send(await self.answer_later(data, query, tcp=False))

        self._keep(asyncio.create_task(work()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a DNS query failed", exc_info=task.exception())

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(length)
                response = self.answer_now(data, limit=65535)
                if isinstance(response, Query):
                    response = await self.answer_later(data, response, tcp=True)
                if response is None:
                    return
                writer.write(len(response).to_bytes(2, "big") + response)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # the server closes
        finally:
            self._tasks.discard(task)
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DNSServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        response = self._server.answer_now(data, limit=message.UDP_SIZE)
        if isinstance(response, Query):
            self._server.spawn(data, response, lambda answer: self._send(answer, addr))
        elif response is not None:
            self._send(response, addr)

    def _send(self, answer: bytes, addr: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    def error_received(self, exc: Exception) -> None:
        """Somebody did not wait for an answer."""
