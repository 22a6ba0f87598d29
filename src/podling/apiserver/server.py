"""The HTTP shell of the API server: TLS, connections, requests into `api.request.Request` and answers into bytes.

It stands on aiohttp's low-level server, but writes its answers straight to the transport: a GET is one piece of bytes
from the cache with a head before it, and a watch event is one write per watcher, without a task switch.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

from aiohttp import StreamReader, web

from podling import clock, log
from podling.api import errors, meta_v1
from podling.api.errors import StatusError, bad_request
from podling.api.request import Request, User
from podling.apiserver import metrics, present
from podling.apiserver.admission.base import CONNECT, Attributes
from podling.apiserver.answer import Answer
from podling.apiserver.app import ApiServer, not_allowed
from podling.apiserver.audit import trail as audit
from podling.apiserver.authn.names import wants_another
from podling.apiserver.connection import Connection, Server, Written
from podling.apiserver.negotiate import PLAIN, STREAMS, Media, negotiate, of_failure, wants_gzip, wants_pretty
from podling.apiserver.request_info import RequestInfo, resolve
from podling.apiserver.watch_stream import WatchStream

LOG = log.get(__name__)

MAX_BODY = 3 * 1024 * 1024
#: Answers above this size are compressed, for who wants that and is not on this machine.
GZIP_ABOVE = 128 * 1024
#: Seconds for a request's body to arrive.
BODY_TIMEOUT = 60.0
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
    """Serves an ApiServer on one address."""

    def __init__(self, app: ApiServer, *, streaming: Streaming | None = None) -> None:
        self.app = app
        self.streaming = streaming
        self.port = 0
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
        return self.port

    async def close(self) -> None:
        """Stop listening, end the watches, let requests end, then cut what is left."""
        self._closing = True
        if self._listener is not None:
            self._listener.close()
        for cache in self.app.hub.caches.values():
            for watch in cache.watches():
                watch.end()
        if self.app.aggregation is not None:
            await self.app.aggregation.end()
        self._server.pre_shutdown()
        await self._server.shutdown(GRACE)
        if self._listener is not None:
            await self._listener.wait_closed()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        started = clock.real_seconds()
        headers = cast(dict[str, str], http.headers)
        connection = cast(Connection, http.protocol)
        target, _, text = http._message.path.partition("?")
        path = unquote(target) if "%" in target else target
        media = PLAIN
        info: RequestInfo | None = None
        trail: audit.Trail | None = None
        status = 200
        try:
            query, queries = _query(text) if text else ({}, {})
            info = resolve(http.method, path, query)
            if self.app.auditor is not None:
                trail = self.app.auditor.begin(info, http._message.path, headers, http.remote or "")
            user = await self.app.authenticate(headers, connection.certificate, path)
            if trail is not None:
                await trail.identified(user)
            if wants_another(headers):
                user = await self.app.impersonate(user, headers, info)
            if (pending := self.app.authorize(user, info)) is not None:
                await pending
            if self.app.remotes and self.app.aggregation is not None and (remote := self.app.remote(info)) is not None:
                response = await self.app.aggregation.serve(http, remote, info, user)
                status = response.status
                if trail is not None:
                    trail.passed_on(status)
                return response
            if info.subresource in STREAMING and self._streams(info):
                stream = await self._stream(http, info, user, {**query, **queries})
                if trail is not None:
                    await trail.started(stream.status)
                return stream
            media = self._media(headers, query, info)
            request = Request(http.method, path, query, queries, headers, await _body(http), None, user)
            answer = await self.app.dispatch(request, info, user)
            status = answer.status
            if answer.watch is not None:
                if trail is not None:
                    await trail.started(status)
                return await self._watch(http, connection, answer, media, query)
            if answer.entries is not None:
                await present.prepare(answer, media)
            body = present.render(answer, media, query)
            if trail is not None:
                trail.answered(answer, body, media, query)
            return self._reply(http, connection, answer, media, body)
        except StatusError as error:
            status = error.code
            if trail is not None:
                trail.failed(error.status)
            return self._fail(http, error.status)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            LOG.exception("%s %s", http.method, path)
            status = 500
            if trail is not None:
                trail.panicked(error)
            return self._fail(http, errors.internal(str(error)).status)
        finally:
            if trail is not None:
                await trail.leave()
            metrics.request(http.method, info, status, clock.real_seconds() - started)

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
            extra += "".join(f"Warning: 299 - {_quote(w)}\r\n" for w in answer.warnings)
        if len(body) > GZIP_ABOVE and not connection.local and wants_gzip(http.headers.get("accept-encoding", "")):
            body = gzip.compress(body, 1)
            extra += "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        return self._written(http, answer.status, kind, body, extra)

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
        keep = http._read_bytes is not None or http.content.at_eof() or not http.body_exists
        return self._written(http, code, media.type, present.failure(status, media), extra, keep=keep)

    def _written(
        self, http: web.BaseRequest, status: int, kind: str, body: bytes, extra: str, *, keep: bool = True
    ) -> Written:
        keep = keep and http.keep_alive and not self._closing
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
        warnings = "".join(f"Warning: 299 - {_quote(w)}\r\n" for w in answer.warnings)
        keep = http.keep_alive and not self._closing
        end = "" if keep else "Connection: close\r\n"
        transport.write(
            (
                f"HTTP/1.1 200 OK\r\nAudit-Id: {_audit_id(http)}\r\nCache-Control: no-cache, private\r\n"
                f"Content-Type: {STREAMS[media.type]}\r\n{warnings}Transfer-Encoding: chunked\r\n"
                f"{end}\r\n"
            ).encode()
        )
        stream = WatchStream(watch, connection, transport, present.framer(served, media, query))
        await stream.run()
        if stream.cut_off:
            LOG.warning("a watcher of %s does not keep up and is cut off", served.resource.qualified)
        if not transport.is_closing():
            transport.write(b"0\r\n\r\n")
        return Written(keep_alive=keep and not self._closing)

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


async def _body(http: web.BaseRequest) -> bytes:
    """The whole body. StatusError 413 if it is too big."""
    if not http.body_exists:
        return b""
    length = http.content_length
    if length is not None and length > MAX_BODY:
        raise errors.request_entity_too_large(f"limit is {MAX_BODY}")
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await _pieces(http.content)
    except TimeoutError:
        raise errors.timeout("request did not complete within the allotted timeout") from None
    except (web.HTTPException, web.RequestPayloadError, ValueError) as error:
        raise bad_request(str(error)) from None


async def _pieces(content: StreamReader) -> bytes:
    data = bytearray()
    while piece := await content.readany():
        data += piece
        if len(data) > MAX_BODY:
            raise errors.request_entity_too_large(f"limit is {MAX_BODY}")
    return bytes(data)


def _audit_id(http: web.BaseRequest) -> str:
    """What the request is known by in the audit log: as the client says, or a new one."""
    trail = audit.current()
    return trail.id if trail is not None else audit.id_of(http.headers)


def _quote(text: str) -> str:
    """A header's quoted string."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'
