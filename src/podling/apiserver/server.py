"""The HTTP shell of the API server: TLS, connections, requests into `api.request.Request` and answers into bytes.

It stands on aiohttp's low-level server, but writes its answers straight to the transport: a GET is one piece of bytes
from the cache with a head before it, and a watch event is one write per watcher, without a task switch.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

from aiohttp import HttpVersion11, web

from podling import log
from podling.api import errors, meta_v1
from podling.api.errors import StatusError
from podling.api.request import Request, User
from podling.apiserver import incoming, metrics, present, read_metrics, watch_socket
from podling.apiserver.admission.base import CONNECT, Attributes
from podling.apiserver.answer import Answer
from podling.apiserver.app import ApiServer, not_allowed
from podling.apiserver.audit import trail as audit
from podling.apiserver.authn.names import wants_another
from podling.apiserver.connection import Connection, Server, Written
from podling.apiserver.exchange import Exchange, begin
from podling.apiserver.flowcontrol.limiter import Limiter, TooMany
from podling.apiserver.lifecycle import InFlight, end_watches, exempt, long_running, timed_out, timeout_of
from podling.apiserver.negotiate import PLAIN, STREAMS, Media, negotiate, of_failure, wants_gzip, wants_pretty
from podling.apiserver.options import Options
from podling.apiserver.request_info import RequestInfo, resolve
from podling.apiserver.served import Served
from podling.apiserver.watch_stream import WatchStream

LOG = log.get(__name__)

#: Answers above this size are compressed, for who wants that and is not on this machine.
GZIP_ABOVE = 128 * 1024
#: Answers above this size do not disappear in the connection at once.
KEPT_ABOVE = 64 * 1024
#: Seconds that requests are given to end when the server closes.
GRACE = 5.0

#: Subresources whose connection is taken over, and by which methods.
STREAMING: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("exec", "attach", "portforward"), ("GET", "POST")),
    "log": ("GET",),
    "proxy": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
}

#: Answers a request whose connection is more than a request and an answer.
Streaming = Callable[[web.BaseRequest, RequestInfo, User], Awaitable[web.StreamResponse]]

_REASONS = {s.value: s.phrase for s in HTTPStatus}


def tls_context(certificate: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """TLS of a server, from PEM files; client certificates are asked for, and verified, if there is a CA for them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpServer:
    """Serves an ApiServer on one address. `limiter` decides who is served at once; without one, everybody."""

    def __init__(
        self,
        app: ApiServer,
        *,
        streaming: Streaming | None = None,
        limiter: Limiter | None = None,
        options: Options | None = None,
    ) -> None:
        self.app = app
        self.streaming = streaming
        self.port = 0
        self._options = options or Options()
        self._limiter = limiter
        self._flights = InFlight(self._options.request_timeout)
        self._reader = incoming.Reader()
        self._server = Server(self._handle)
        self._listener: asyncio.Server | None = None
        self._closing = False

    async def start(
        self, host: str | Sequence[str] = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            cast(Any, self._server), host, port, ssl=tls, backlog=1024, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        if self._limiter is not None:
            self._limiter.serve()
        return self.port

    async def drain(self) -> None:
        """Begin to shut down: say so at /readyz, and after a while serve no new requests and end what is under way.

        Watches end as if their time were over, so that their clients go on elsewhere from the last event they saw.
        """
        options = self._options
        self.app.ready = False
        await asyncio.sleep(options.shutdown_delay_duration)
        self._closing = True
        if self._listener is not None and not options.shutdown_send_retry_after:
            self._listener.close()
        watches = asyncio.create_task(end_watches(self.app.hub, options.shutdown_watch_termination_grace_period))
        left = await self._flights.drain(options.request_timeout)
        if left:
            LOG.warning("%d requests have not ended in %g s", left, options.request_timeout)
        await watches

    async def close(self) -> None:
        """Drain, stop listening, then cut what is left."""
        if not self._closing:
            await self.drain()
        if self._listener is not None:
            self._listener.close()
        if self.app.aggregation is not None:
            await self.app.aggregation.end()
        if self._limiter is not None:
            self._limiter.close()
        self._server.pre_shutdown()
        await self._server.shutdown(GRACE)
        self._flights.close()
        if self._listener is not None:
            await self._listener.wait_closed()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        target, _, text = http._message.path.partition("?")
        exchange = Exchange(unquote(target) if "%" in target else target, cast(dict[str, str], http.headers))
        connection = cast(Connection, http.protocol)
        connection.exchange = exchange
        begin(exchange)
        try:
            if self._closing and not exempt(exchange.path):
                return self._refuse(http)
            return await self._serve(http, connection, exchange, text)
        except StatusError as error:
            return self._failed(http, exchange, error)
        except TooMany as error:
            return self._turn_away(http, exchange, error)
        except asyncio.CancelledError:
            flight = exchange.flight
            if flight is None or not flight.expired:
                exchange.status = 0
                raise
            flight.task.uncancel()
            if exchange.kind is not None:
                exchange.kind.terminated(504)
            return self._failed(http, exchange, timed_out())
        except ConnectionError:
            if exchange.kind is not None:
                exchange.kind.aborted()
            exchange.status = 0
            if http.transport is not None:
                raise
            # Nobody is left to answer, and nothing to log.
            from podling.streaming.connection import Taken

            return Taken()
        except Exception as error:
            LOG.exception("%s %s", http.method, exchange.path)
            if exchange.trail is not None:
                exchange.trail.panicked(error)
            exchange.status = 500
            return self._fail(http, errors.internal(str(error)).status)
        finally:
            self._leave(exchange)
            if exchange.flight is not None:
                self._flights.end(exchange.flight)
            if exchange.trail is not None:
                await exchange.trail.leave()
            exchange.counted()

    async def _serve(
        self, http: web.BaseRequest, connection: Connection, exchange: Exchange, text: str
    ) -> web.StreamResponse:
        app, path, headers = self.app, exchange.path, exchange.headers
        query, queries = _query(text) if text else ({}, {})
        exchange.query = query
        exchange.info = info = resolve(http.method, path, query)
        apply = http.method == "PATCH" and headers.get("content-type", "").startswith("application/apply-patch")
        exchange.kind = metrics.kind_of(app.served, info, query, apply)
        if app.auditor is not None:
            exchange.trail = app.auditor.begin(info, http._message.path, headers, http.remote or "")
        trail = exchange.trail
        if not long_running(info):
            exchange.flight = self._flights.begin(timeout_of(query) if query else 0.0)
        user = await app.authenticate(headers, connection.certificate, path)
        if trail is not None:
            await trail.identified(user)
        if wants_another(headers):
            user = await app.impersonate(user, headers, info)
        if self._limiter is not None and (exchange.flight is not None or info.verb == "watch"):
            await self._admit(connection, exchange, user, query)
        if (pending := app.authorize(user, info)) is not None:
            await pending
        if app.remotes and app.aggregation is not None and (remote := app.remote(info)) is not None:
            return await self._pass_on(http, exchange, remote, user)
        if info.subresource in STREAMING and self._streams(info):
            exchange.lasts()
            stream = await self._stream(http, info, user, {**query, **queries})
            exchange.status = stream.status
            if trail is not None:
                await trail.started(stream.status)
            return stream
        media = self._media(headers, query, info)
        request = Request(http.method, path, query, queries, headers, await incoming.read(http), None, user)
        if len(request.body) > incoming.LARGE:
            await self._reader.read(request)
        answer = await app.dispatch(request, info, user)
        exchange.status = answer.status
        if answer.watch is not None:
            if trail is not None:
                await trail.started(answer.status)
            return await self._watch(http, connection, answer, media, query)
        if answer.entries is not None:
            await present.prepare(answer, media)
        body = present.render(answer, media, query)
        if trail is not None:
            trail.answered(answer, body, media, query)
        response = self._reply(http, connection, answer, media, body)
        if len(body) > KEPT_ABOVE and exchange.ticket is not None:
            await self._read_out(http, exchange, response)
        return response

    async def _read_out(self, http: web.BaseRequest, exchange: Exchange, response: web.StreamResponse) -> None:
        """Whoever is slow to read a long answer keeps its seats meanwhile: so many answers are in memory, no more."""
        if exchange.flight is not None:
            # There is a limit of its own to the time that this takes.
            self._flights.end(exchange.flight)
            exchange.flight = None
        await response.prepare(http)

    async def _pass_on(self, http: web.BaseRequest, exchange: Exchange, remote: Any, user: User) -> web.StreamResponse:
        """Another server has the answer."""
        assert self.app.aggregation is not None and exchange.info is not None
        if exchange.info.verb == "watch":
            self._leave(exchange)
        response = await self.app.aggregation.serve(http, remote, exchange.info, user)
        exchange.status = response.status
        if exchange.trail is not None:
            exchange.trail.passed_on(response.status)
        return response

    # Who is served

    async def _admit(self, connection: Connection, exchange: Exchange, user: User, query: dict[str, str]) -> None:
        """Find seats, at once or after a while. Raises TooMany."""
        assert self._limiter is not None and exchange.info is not None
        ticket = self._limiter.enter(user, exchange.info, query)
        if ticket.waiting:
            began = asyncio.get_running_loop().time()
            seconds = exchange.flight.seconds if exchange.flight is not None else self._flights.limit
            # A quarter of its time may pass in queues.
            await self._limiter.wait(ticket, seconds / 4, connection.on_lost)
            waited = asyncio.get_running_loop().time() - began
            exchange.waited += waited
            if exchange.trail is not None:
                exchange.trail.latency.spent("apf-queue-wait", waited)
        exchange.ticket = ticket

    def _leave(self, exchange: Exchange) -> None:
        """Give the seats back."""
        if exchange.ticket is not None:
            assert self._limiter is not None
            self._limiter.leave(exchange.ticket)
            exchange.ticket = None

    def _turn_away(self, http: web.BaseRequest, exchange: Exchange, error: TooMany) -> web.StreamResponse:
        exchange.status = 429
        if exchange.kind is not None:
            exchange.kind.terminated(429)
        if exchange.trail is not None:
            exchange.trail.failed(errors.too_many_requests(str(error), error.retry_after).status)
        return self._plain(http, 429, str(error), f"{error.headers}Retry-After: {error.retry_after}\r\n")

    def _refuse(self, http: web.BaseRequest) -> web.StreamResponse:
        """The server is shutting down; there may be another one, or a next one."""
        if self._options.shutdown_send_retry_after:
            text = "The apiserver is shutting down, please try again later."
            return self._plain(http, 429, text, "Retry-After: 5\r\n")
        error = errors.unavailable("apiserver is shutting down")
        body, nosniff = present.failure(error.status, PLAIN), "X-Content-Type-Options: nosniff\r\n"
        return self._written(http, 503, PLAIN.type, body, f"{nosniff}Retry-After: 1\r\n", keep=False)

    # Answers

    def _media(self, headers: Mapping[str, str], query: dict[str, str], info: RequestInfo) -> Media:
        """The form of a successful answer. StatusError 406."""
        item = self.app.served.get((info.group, info.version, info.resource)) if info.resource else None
        if item is None:
            # What is no resource negotiates for itself.
            return PLAIN
        return negotiate(
            headers.get("Accept", ""),
            wants_pretty(query, headers.get("User-Agent", "")),
            custom=item.without_protobuf,
            watch=info.verb == "watch",
            cbor=self.app.cbor,
            tables=_has_tables(item, info),
        )

    def _reply(
        self, http: web.BaseRequest, connection: Connection, answer: Answer, media: Media, body: bytes
    ) -> web.StreamResponse:
        kind = media.type
        extra = ""
        if answer.headers:
            kind = answer.headers.get("content-type", kind)
            extra = "".join(f"{k}: {v}\r\n" for k, v in answer.headers.items() if k != "content-type")
        if answer.warnings:
            extra += _warnings(answer.warnings)
        if len(body) > GZIP_ABOVE and not connection.local and wants_gzip(http.headers.get("accept-encoding", "")):
            body = gzip.compress(body, 1)
            extra += "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        return self._written(http, answer.status, kind, body, extra)

    def _failed(self, http: web.BaseRequest, exchange: Exchange, error: StatusError) -> web.StreamResponse:
        exchange.status = error.code
        if exchange.trail is not None:
            exchange.trail.failed(error.status)
        return self._fail(http, error.status)

    def _fail(self, http: web.BaseRequest, status: meta_v1.Status) -> web.StreamResponse:
        code = status.code or 500
        headers = http.headers
        pretty = wants_pretty(_query(http._message.path.partition("?")[2])[0], headers.get("User-Agent", ""))
        media = of_failure(headers.get("Accept", ""), pretty, cbor=self.app.cbor)
        extra = ""
        if status.details is not None and status.details.retry_after_seconds:
            extra = f"Retry-After: {status.details.retry_after_seconds}\r\n"
        if code == 401:
            extra += 'WWW-Authenticate: Basic realm="kubernetes-master"\r\n'
        return self._written(http, code, media.type, present.failure(status, media), extra, keep=incoming.is_read(http))

    def _plain(self, http: web.BaseRequest, status: int, text: str, extra: str) -> web.StreamResponse:
        extra += "X-Content-Type-Options: nosniff\r\n"
        return self._written(
            http, status, "text/plain; charset=utf-8", f"{text}\n".encode(), extra, keep=incoming.is_read(http)
        )

    def _written(
        self, http: web.BaseRequest, status: int, kind: str, body: bytes, extra: str, *, keep: bool = True
    ) -> Written:
        keep = keep and http.keep_alive and not self._closing
        exchange = cast(Connection, http.protocol).exchange
        if exchange is not None:
            exchange.size = len(body)
            if exchange.warnings:
                extra += _warnings(exchange.warnings)
            if exchange.ticket is not None:
                extra += exchange.ticket.headers
        head = (
            f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\nAudit-Id: {_audit_id(http)}\r\n"
            f"Cache-Control: no-cache, private\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}"
        )
        end = b"\r\n" if keep else b"Connection: close\r\n\r\n"
        data = head.encode() + end
        return Written(data if http.method == "HEAD" else data + body, keep_alive=keep)

    # Watches

    async def _watch(
        self, http: web.BaseRequest, connection: Connection, answer: Answer, media: Media, query: dict[str, str]
    ) -> web.StreamResponse:
        watch, served = answer.watch, answer.served
        assert watch is not None and served is not None
        transport = http.transport
        if transport is None:
            watch.end()
            raise ConnectionResetError("the client is gone")
        exchange = connection.exchange
        assert exchange is not None

        def begun() -> None:
            # What was there has been sent: from now on the watch takes nobody's seat.
            self._leave(exchange)
            exchange.listed()
            exchange.lasts()

        chunked = http.version >= HttpVersion11
        keep = chunked and http.keep_alive and not self._closing
        try:
            frame = metrics.counting(served.resource, present.framer(served, media, query))
        except StatusError:
            watch.end()
            raise
        socket = watch_socket.is_wanted(http)
        if socket:
            frame = watch_socket.messages(frame, media)
        elif not chunked:
            frame = present.unframed(frame)
        stream = WatchStream(watch, connection, transport, frame, begun)
        response: web.StreamResponse = Written(keep_alive=keep)
        if socket:
            exchange.status = 101
            response = await watch_socket.serve(http, watch, stream)
        else:
            transport.write(_watch_head(http, exchange, answer, media, chunked=chunked, keep=keep))
            if http.method == "HEAD":
                watch.end()
                return response
            await stream.run()
            if chunked and not transport.is_closing():
                transport.write(b"0\r\n\r\n")
            response = Written(keep_alive=keep and not self._closing)
        if stream.cut_off:
            read_metrics.TERMINATED.add(served.resource.group, served.resource.name)
            LOG.warning("a watcher of %s does not keep up and is cut off", served.resource.qualified)
        return response

    # Streams

    def _streams(self, info: RequestInfo) -> bool:
        item = self.app.served.get((info.group, info.version, info.resource))
        return item is not None and info.subresource in item.resource.subresources

    async def _stream(
        self, http: web.BaseRequest, info: RequestInfo, user: User, query: Mapping[str, str | list[str]]
    ) -> web.StreamResponse:
        """Give the connection to the hook, after admission has agreed."""
        if self.streaming is None:
            raise errors.path_not_found()
        if http.method not in STREAMING[info.subresource]:
            raise not_allowed()
        item = self.app.served[info.group, info.version, info.resource]
        if info.subresource != "log":
            attributes = Attributes(
                CONNECT, item.resource, info.subresource, info.namespace, info.name, None, None, user, options=query
            )
            await self.app.admission.mutate(attributes)
            await self.app.admission.validate(attributes)
        return await self.streaming(http, info, user)


def _warnings(texts: Iterable[str]) -> str:
    return "".join(f"Warning: 299 - {_quote(text)}\r\n" for text in texts)


def _watch_head(
    http: web.BaseRequest, exchange: Exchange, answer: Answer, media: Media, *, chunked: bool, keep: bool
) -> bytes:
    lines = _warnings((*exchange.warnings, *answer.warnings))
    if exchange.ticket is not None:
        lines += exchange.ticket.headers
    if chunked:
        lines += "Transfer-Encoding: chunked\r\n"
    if not keep:
        lines += "Connection: close\r\n"
    return (
        f"HTTP/1.1 200 OK\r\nAudit-Id: {_audit_id(http)}\r\nCache-Control: no-cache, private\r\n"
        f"Content-Type: {STREAMS[media.type]}\r\n{lines}\r\n"
    ).encode()


def _query(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The first value of each parameter, and all values of those that stand there more than once."""
    first: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key not in first:
            first[key] = value
        else:
            repeated.setdefault(key, [first[key]]).append(value)
    return first, repeated


def _has_tables(item: Served, info: RequestInfo) -> bool:
    """Whether the answer can be a table: what is answered without being stored (a review, an eviction) can't."""
    return info.verb != "create" or not (info.subresource or item.resource.virtual)


def _audit_id(http: web.BaseRequest) -> str:
    """What the request is known by in the audit log: as the client says, or a new one."""
    trail = audit.current()
    return trail.id if trail is not None else audit.id_of(http.headers)


def _quote(text: str) -> str:
    """A header's quoted string."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'
