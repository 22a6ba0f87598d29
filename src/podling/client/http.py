"""HTTPS to an API server in another process: connections kept alive, objects decoded once, straight into their class.

Retries only what the server asks to be retried (429 and 503 with Retry-After), because it alone knows that nothing was
done. Everything else is the caller's to repeat: reconcilers do.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from podling import clock
from podling.api import errors, meta_v1
from podling.api.request import Event, Request, Response
from podling.api.struct import decode, encode
from podling.client import rest_metrics
from podling.client.kubeconfig import Config

T = TypeVar("T")

#: How often a request is repeated on the server's wish.
RETRIES = 10
#: Seconds after which a token file is read again: the node agent rotates them (kubelet refreshes at 80 % of an hour).
TOKEN_TTL = 60.0


class _ListOf(msgspec.Struct, Generic[T]):
    metadata: meta_v1.ListMeta
    items: list[T] | None = None


class _EventOf(msgspec.Struct, Generic[T]):
    type: str
    object: T


_list_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_event_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _list_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    decoder = _list_decoders.get(kind)
    if decoder is None:
        decoder = _list_decoders[kind] = msgspec.json.Decoder(_ListOf[kind])
    return decoder


def _event_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    decoder = _event_decoders.get(kind)
    if decoder is None:
        decoder = _event_decoders[kind] = msgspec.json.Decoder(_EventOf[kind])
    return decoder


def ssl_context(config: Config) -> ssl.SSLContext | None:
    """TLS as a kubeconfig says; None for plain HTTP."""
    if not config.server.startswith("https:"):
        return None
    context = ssl.create_default_context(cadata=config.ca.decode() if config.ca else None)
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.cert and config.key:
        load_pair(context, config.cert, config.key)
    return context


def load_pair(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    """OpenSSL takes a certificate and its key from files only; ours live as long as the call."""
    with tempfile.NamedTemporaryFile(prefix="podling-", suffix=".pem") as file:
        file.write(cert + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)


class HttpTransport:
    """`api.request.Transport` over HTTPS. Create and use it on one event loop."""

    def __init__(self, config: Config, *, timeout: float = 60.0) -> None:
        """`timeout` is of one request, in seconds; watches have none."""
        self._config = config
        self._base = config.server.rstrip("/")
        self._host = urlsplit(config.server).netloc
        self._ssl = ssl_context(config)
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._token = config.token
        self._token_read = float("-inf")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request) -> Response:
        for attempt in range(RETRIES + 1):
            http = await self._measured(request)
            if attempt < RETRIES and http.status in (429, 503) and _retry_after(http) is not None:
                wait = _retry_after(http) or 0.0
                rest_metrics.RETRIES.add(str(http.status), self._host, request.method)
                http.close()
                await asyncio.sleep(wait)
                continue
            break
        if http.status >= 400:
            raise await _failure(http)
        if request.query.get("watch") == "true":
            return Response(http.status, events=_events(http, request.expect))
        try:
            body = await http.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise errors.unavailable(f"{request.method} {self._base}{request.path}: {error}") from error
        rest_metrics.RESPONSE_SIZES.of(self._host, request.method).observe(len(body))
        return _decoded(request, http, body)

    async def _measured(self, request: Request) -> aiohttp.ClientResponse:
        """As `_exchange`, which is counted."""
        began, code = clock.real_seconds(), 0
        try:
            http = await self._exchange(request)
            code = http.status
            return http
        finally:
            rest_metrics.requested(self._host, request.method, code, clock.real_seconds() - began)

    async def _exchange(self, request: Request) -> aiohttp.ClientResponse:
        watch = request.query.get("watch") == "true"
        headers = {"accept": "application/json", **request.headers}
        body = request.body
        if not body and request.obj is not None:
            body = encode(request.obj)
        if body:
            headers.setdefault("content-type", "application/json")
        rest_metrics.REQUEST_SIZES.of(self._host, request.method).observe(len(body))
        if token := self._bearer():
            headers["authorization"] = f"Bearer {token}"
        query: list[tuple[str, str]] = [(k, v) for k, v in request.query.items() if k not in request.queries]
        query += [(k, v) for k, values in request.queries.items() for v in values]
        try:
            return await self._open().request(
                request.method,
                self._base + quote(request.path, safe="/:~!$&'()*+,;=@"),
                params=query,
                headers=headers,
                data=body or None,
                timeout=aiohttp.ClientTimeout(total=None if watch else self._timeout, sock_connect=30),
                allow_redirects=False,
            )
        except TimeoutError as error:
            raise errors.timeout(f"{request.method} {self._base}{request.path} took over {self._timeout:g}s") from error
        except aiohttp.ClientError as error:
            raise errors.unavailable(f"{request.method} {self._base}{request.path}: {error}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=90, ssl=self._ssl if self._ssl else True)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=True, read_bufsize=1 << 18, skip_auto_headers=("User-Agent",)
            )
        return self._session

    def _bearer(self) -> str:
        """The token; one from a file is read again from time to time, since its writer renews it."""
        path = self._config.token_file
        now = clock.elapsed()
        if path and now - self._token_read >= TOKEN_TTL:
            try:
                with open(path, encoding="utf-8") as file:
                    self._token = file.read().strip()
                self._token_read = now
            except OSError:
                if not self._token:
                    raise
        return self._token


def _retry_after(http: aiohttp.ClientResponse) -> float | None:
    value = http.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


async def _failure(http: aiohttp.ClientResponse) -> errors.StatusError:
    """The Status that came, or one made of what came instead."""
    body = await http.read()
    try:
        status = decode(body, meta_v1.Status)
        if status.status == "Failure":
            return errors.StatusError(status)
    except msgspec.MsgspecError:
        pass
    text = body.decode(errors="replace").strip()
    reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 429: "TooManyRequests"}.get(http.status, "")
    message = f"the server answered {http.status} {http.reason or ''}: {text[:2048]}"
    return errors.StatusError(meta_v1.Status(status="Failure", code=http.status, reason=reason, message=message))


def _decoded(request: Request, http: aiohttp.ClientResponse, body: bytes) -> Response:
    warnings = http.headers.getall("warning", [])
    kind = request.expect
    if kind is None:
        return Response(http.status, body=body, warnings=warnings)
    if request.expect_list:
        listed = _list_decoder(kind).decode(body)
        return Response(http.status, objects=listed.items or [], metadata=listed.metadata, warnings=warnings)
    if _is_status(body) and kind is not meta_v1.Status:
        return Response(http.status, obj=decode(body, meta_v1.Status), warnings=warnings)
    return Response(http.status, obj=decode(body, kind), warnings=warnings)


def _is_status(body: bytes) -> bool:
    return body.startswith(b'{"kind":"Status"')


async def _events(http: aiohttp.ClientResponse, kind: Any) -> AsyncIterator[Event]:
    """The events of a watch: one JSON document a line. Ends when the server ends it or the connection breaks."""
    decoder = _event_decoder(kind)
    pending = bytearray()
    try:
        async for chunk in http.content.iter_any():
            start = 0
            end = chunk.find(b"\n")
            while end >= 0:
                line: bytes = chunk[start:end]
                if pending:
                    line = bytes(pending) + line
                    pending.clear()
                if line:
                    yield _event(line, decoder)
                start = end + 1
                end = chunk.find(b"\n", start)
            pending += chunk[start:]
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        # A broken connection is the end of a watch like any other: the watcher goes on from what it saw last.
        raise errors.unavailable(f"the watch broke off: {error}") from error
    finally:
        http.close()


def _event(line: bytes, decoder: msgspec.json.Decoder[Any]) -> Event:
    if line.startswith(b'{"type":"ERROR"'):
        status = msgspec.json.decode(line, type=_EventOf[meta_v1.Status])
        return Event("ERROR", status.object)
    try:
        event = decoder.decode(line)
    except msgspec.ValidationError:
        event = msgspec.json.decode(line, type=_EventOf[meta_v1.Status])
        if event.type != "ERROR":
            raise
    return Event(event.type, event.object)


def from_environment() -> Config:
    """The configuration of a pod: its mounted ServiceAccount and the service environment variables."""
    root = "/var/run/secrets/kubernetes.io/serviceaccount"
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    with open(f"{root}/ca.crt", "rb") as file:
        ca = file.read()
    host = f"[{host}]" if ":" in host else host
    return Config(server=f"https://{host}:{port}", ca=ca, token_file=f"{root}/token")
