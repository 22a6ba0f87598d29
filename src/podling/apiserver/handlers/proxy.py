"""pods/proxy, services/proxy and nodes/proxy: any request, passed on to a pod, to one of a service's pods, to a node.

The name in the path is `[scheme:]name[:port]`. Links and redirects in what comes back are made to lead through the
proxy again. Source: k8s.io/apimachinery pkg/util/proxy, k8s.io/kubernetes pkg/registry/core/{pod,service,node}.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from podling import log
from podling.api import core_v1, discovery_v1, errors
from podling.api.numbers import is_decimal
from podling.apiserver.audit import trail as audit
from podling.apiserver.core import Core
from podling.apiserver.handlers.backend import cancelled_with, dial_error, join, refusal
from podling.apiserver.handlers.kubelets import Kubelets, Location
from podling.apiserver.request_info import RequestInfo
from podling.streaming import upstream

LOG = log.get(__name__)

#: Credentials and impersonation are for the API server alone; lengths are written anew.
_NOT_PASSED_ON = frozenset({"authorization", "host", "content-length"})
_IMPERSONATION = "impersonate-"
#: A bearer token as a WebSocket subprotocol.
_BEARER = "base64url.bearer.authorization.k8s.io."

#: What a proxied server may not grant: the page of another site would speak with this server's clients' rights.
_CORS = tuple(f"Access-Control-Allow-{what}" for what in ("Credentials", "Headers", "Methods", "Origin"))

CHUNK = 64 * 1024
#: The largest page whose links are rewritten; larger ones pass unchanged.
LARGEST_PAGE = 8 * 1024 * 1024

_LINK = re.compile(
    rb"""(<[^<>]*?\s(?:href|src|action|formaction|background|cite|codebase|data|icon|longdesc|manifest|poster|profile"""
    rb"""|usemap)\s*=\s*)("[^"<>]*"|'[^'<>]*')""",
    re.IGNORECASE,
)


class Name(NamedTuple):
    """`[scheme:]name[:port]`, taken apart; `port` may be a name."""

    scheme: str
    name: str
    port: str


class Destination(NamedTuple):
    """Where a proxied request goes. `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_name(text: str) -> Name | None:
    """None for what is no such name."""
    parts = text.split(":")
    match parts:
        case [name]:
            found = Name("", name, "")
        case [name, port]:
            found = Name("", name, port)
        case [scheme, name, port]:
            found = Name(scheme, name, port)
        case _:
            return None
    return found if found.name and found.scheme in ("", "http", "https") else None


def unverified_tls() -> ssl.SSLContext:
    """Pods' certificates are nobody's that we know: upstream does not verify them either."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Proxy:
    """Passes requests on."""

    def __init__(self, app: Core, kubelets: Kubelets, *, judge: Callable[[str], None] | None = None) -> None:
        """`judge` raises StatusError for addresses that may not be reached; by default those of this machine."""
        self._app = app
        self._kubelets = kubelets
        self._judge = judge or proxyable
        self._unverified: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=30.0),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
                trust_env=False,
            )
        return self._session

    def _insecure(self) -> ssl.SSLContext:
        if self._unverified is None:
            self._unverified = unverified_tls()
        return self._unverified

    # Where to

    def _destination(self, info: RequestInfo) -> Destination:
        name = split_name(info.name)
        if name is None:
            raise errors.bad_request(f"invalid {info.resource.removesuffix('s')} request {_go(info.name)}")
        if info.resource == "pods":
            return self._pod(info, name)
        if info.resource == "services":
            return self._service(info, name)
        return self._node(name)

    def _pod(self, info: RequestInfo, name: Name) -> Destination:
        pod = self._app.cached("", "pods", f"{info.namespace}/{name.name}")
        if pod is None:
            raise errors.not_found("pods", "", name.name)
        port = name.port
        if not port:
            ports = (c.ports for c in (pod.spec.containers if pod.spec is not None else ()) if c.ports)
            port = str(next((p[0].container_port for p in ports), ""))
        ip = (pod.status.pod_ip if pod.status is not None else None) or ""
        self._judge(ip)
        return Destination(ip, _port_number(port, name.scheme), self._insecure() if name.scheme == "https" else None)

    def _service(self, info: RequestInfo, name: Name) -> Destination:
        service = self._app.cached("", "services", f"{info.namespace}/{name.name}")
        if service is None:
            raise errors.not_found("services", "", name.name)
        wanted = service_port(service, name)
        places = self._places(info.namespace, name.name, wanted)
        if not places:
            raise errors.unavailable(f"no endpoints available for service {_go(info.name)}")
        ip, port = random.choice(places)
        self._judge(ip)
        return Destination(ip, port, self._insecure() if name.scheme == "https" else None)

    def _places(self, namespace: str, service: str, port_name: str) -> list[tuple[str, int]]:
        """The ready endpoints of a service's port."""
        served = self._app.lookup("discovery.k8s.io", "endpointslices")
        slices = [entry.object for entry in served.cache.in_namespace(namespace)] if served is not None else []
        mine = (s for s in slices if (s.metadata.labels or {}).get("kubernetes.io/service-name") == service)
        return [place for s in mine for place in ready_places(s, port_name)]

    def _node(self, name: Name) -> Destination:
        location = self._kubelets.locate(name.name)
        port = int(name.port) if is_decimal(name.port) else location.port
        if name.port and not is_decimal(name.port):
            raise errors.bad_request(f"invalid node request {_go(':'.join(name))}")
        secure = location.tls if name.scheme == "https" or (not name.scheme and port == location.port) else None
        return Destination(location.host, port, secure)

    # The passing on

    async def serve(self, request: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        """Answer a request for a proxy subresource. StatusError if there is no way to its destination."""
        destination = self._destination(info)
        raw_path, question, query = request._message.path.partition("?")
        prefix, tail = split_path(raw_path, info)
        if not tail:
            if request.method in ("GET", "HEAD"):
                # Relative links of a page need the slash behind which they begin.
                location = f"{raw_path}/{question}{query}"
                return web.Response(status=301, headers={"Location": location})
            tail = "/"
        target = f"{tail}{question}{query}"
        if request.headers.get("upgrade") and "upgrade" in request.headers.get("connection", "").lower():
            return await self._upgrade(request, destination, target)
        return await self._pass(request, destination, target, prefix)

    async def _upgrade(self, request: web.BaseRequest, destination: Destination, target: str) -> web.StreamResponse:
        headers = [
            ("Host", destination.authority),
            *passed_on(request),
            ("Connection", "Upgrade"),
            ("Upgrade", request.headers["upgrade"]),
        ]
        try:
            answer = await upstream.upgrade(
                destination.host, destination.port, request.method, target, headers, tls=destination.tls
            )
        except (OSError, TimeoutError) as error:
            raise unreachable(destination, error) from error
        if answer.connection is None:
            passed = CIMultiDict(upstream.end_to_end(answer.headers.items(), drop=("content-length",)))
            return web.Response(status=answer.status, reason=answer.reason, headers=passed, body=answer.body)
        return await join(request, answer)

    async def _pass(
        self, request: web.BaseRequest, destination: Destination, target: str, prefix: str
    ) -> web.StreamResponse:
        scheme = "https" if destination.tls else "http"
        url = URL(f"{scheme}://{destination.authority}{target}", encoded=True)
        body = body_of(request) if request.body_exists else None
        headers = CIMultiDict([*passed_on(request), *forwarded(request, prefix)])
        if body is not None and request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        try:
            async with self._client().request(
                request.method,
                url,
                headers=headers,
                data=body,
                ssl=destination.tls if destination.tls is not None else True,
                allow_redirects=False,
            ) as answer:
                return await copy_answer(request, answer, destination, prefix)
        except aiohttp.ClientError as error:
            raise unreachable(destination, error) from error

    # Logs

    async def stream_log(
        self, request: web.BaseRequest, location: Location, target: str, name: str
    ) -> web.StreamResponse:
        """A node agent's log as a plain body, or as messages of a WebSocket."""
        scheme = "https" if location.tls else "http"
        url = URL(f"{scheme}://{location.authority}{target}", encoded=True)
        tls = location.tls if location.tls is not None else True
        gone = cancelled_with(request)
        try:
            async with self._client().get(url, ssl=tls, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise refusal(answer.status, await answer.read(), "pods/log", name)
                copying = asyncio.ensure_future(_copy_log(request, answer))
                await asyncio.wait((copying, gone), return_when=asyncio.FIRST_COMPLETED)
                if not copying.done():
                    copying.cancel()
                    await asyncio.gather(copying, return_exceptions=True)
                    raise ConnectionResetError("the client is gone")
                return copying.result()
        except aiohttp.ClientConnectorError as error:
            raise dial_error(location, error.os_error) from error
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error)) from error
        finally:
            gone.cancel()


async def _copy_log(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    from podling.streaming import websocket

    if websocket.is_websocket(request):
        protocol = websocket.chosen(request, (websocket.BINARY, websocket.BASE64_BINARY), default="")
        socket = await websocket.accept(request, protocol)
        async for piece in answer.content.iter_any():
            if protocol == websocket.BASE64_BINARY:
                import base64

                await socket.send_str(base64.b64encode(piece).decode())
            else:
                await socket.send_bytes(piece)
        await socket.close()
        return socket
    response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    await audit.started(200)
    await response.prepare(request)
    async for piece in answer.content.iter_any():
        await response.write(piece)
    await response.write_eof()
    return response


def service_port(service: core_v1.Service, name: Name) -> str:
    """The name of the service's port that is meant. StatusError 503 if it has no such port."""
    ports = (service.spec.ports if service.spec is not None else None) or []
    if not name.port:
        return ports[0].name or "" if len(ports) == 1 else ""
    if not is_decimal(name.port):
        return name.port
    for port in ports:
        if port.port == int(name.port):
            return port.name or ""
    raise errors.unavailable(f"no service port {name.port} found for service {_go(name.name)}")


def ready_places(piece: discovery_v1.EndpointSlice, port_name: str) -> list[tuple[str, int]]:
    """(address, port) of the ready endpoints of a slice for the port of this name."""
    ports = [p.port for p in piece.ports or () if (p.name or "") == port_name and p.port]
    ready = [
        e.addresses[0]
        for e in piece.endpoints or ()
        if e.addresses and (e.conditions is None or e.conditions.ready is not False)
    ]
    return [(address, port) for port in ports for address in ready]


def split_path(raw_path: str, info: RequestInfo) -> tuple[str, str]:
    """The path up to and with `/proxy`, and what follows, both as the client encoded them."""
    pieces = raw_path.split("/")
    # /api/v1/nodes/<name>/proxy or /api/v1/namespaces/<namespace>/pods/<name>/proxy; encoded slashes are in names.
    end = 6 if info.resource == "nodes" else 8
    tail = "/".join(["", *pieces[end:]]) if len(pieces) > end else ""
    return "/".join(pieces[:end]), tail


def unreachable(destination: Destination, error: BaseException) -> errors.StatusError:
    """503, as upstream's proxy answers."""
    inner = getattr(error, "os_error", error)
    if isinstance(inner, ConnectionRefusedError):
        why = f"dial tcp {destination.authority}: connect: connection refused"
    elif isinstance(inner, TimeoutError):
        why = f"dial tcp {destination.authority}: i/o timeout"
    else:
        why = str(inner) or type(inner).__name__
    return errors.unavailable(f"error trying to reach service: {why}")


def proxyable(ip: str) -> None:
    """StatusError 400 for addresses through which the API server's own machine could be reached."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise errors.bad_request("address not allowed") from None
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise errors.bad_request("address not allowed")


def _port_number(port: str, scheme: str) -> int:
    if not port:
        return 443 if scheme == "https" else 80
    if not is_decimal(port) or not 0 < int(port) < 65536:
        raise errors.unavailable(f"error trying to reach service: dial tcp: lookup tcp/{port}: unknown port")
    return int(port)


def _go(text: str) -> str:
    return f'"{text}"'


def passed_on(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The headers that are for the destination: those of the connection and all credentials stay here."""
    headers = []
    for name, value in upstream.end_to_end(request.headers.items(), drop=_NOT_PASSED_ON):
        key = name.lower()
        if key.startswith(_IMPERSONATION):
            continue
        if key == "sec-websocket-protocol":
            protocols = (p.strip() for p in value.split(","))
            value = ", ".join(p for p in protocols if not p.startswith(_BEARER))
            if not value:
                continue
        headers.append((name, value))
    return headers


def forwarded(request: web.BaseRequest, prefix: str) -> list[tuple[str, str]]:
    before = request.headers.get("X-Forwarded-For")
    remote = request.remote or ""
    chain = f"{before}, {remote}" if before else remote
    headers = [("X-Forwarded-Uri", request._message.path.partition("?")[0])]
    headers.append(("X-Forwarded-Host", request.headers.get("Host", "")))
    headers.append(("X-Forwarded-Proto", "https" if request.secure else "http"))
    return [*headers, ("X-Forwarded-For", chain)] if chain else headers


async def body_of(request: web.BaseRequest) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(CHUNK):
        yield piece


async def copy_answer(
    request: web.BaseRequest, answer: aiohttp.ClientResponse, destination: Destination, prefix: str
) -> web.StreamResponse:
    headers = CIMultiDict(upstream.end_to_end(answer.headers.items()))
    for name in _CORS:
        headers.popall(name, None)
    rewrite = rewriter(destination, prefix, request.headers.get("Host", ""))
    if "Location" in headers:
        headers["Location"] = rewrite(headers["Location"])
    if answer.content_type == "text/html" and request.method != "HEAD":
        page = await _page(answer)
        if page is not None:
            for name in ("Content-Length", "Content-Encoding"):
                headers.popall(name, None)
            body = rewrite_links(page, rewrite)
            return web.Response(status=answer.status, reason=answer.reason, headers=headers, body=body)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    if "Content-Length" not in headers and answer.status not in (204, 304) and request.method != "HEAD":
        response.enable_chunked_encoding()
    await audit.started(answer.status)
    await response.prepare(request)
    if request.method != "HEAD":
        async for piece in answer.content.iter_any():
            await response.write(piece)
    await response.write_eof()
    return response


async def _page(answer: aiohttp.ClientResponse) -> bytes | None:
    """The page to be rewritten, unpacked; None if it is too large or packed in a way that we don't know."""
    encoding = answer.headers.get("Content-Encoding", "").lower()
    length = answer.content_length
    if encoding not in ("", "identity", "gzip", "deflate") or (length is not None and length > LARGEST_PAGE):
        return None
    data = await answer.read()
    if encoding in ("gzip", "deflate"):
        try:
            return zlib.decompress(data, 47 if encoding == "gzip" else zlib.MAX_WBITS)
        except zlib.error as error:
            raise aiohttp.ClientPayloadError(f"the page can't be unpacked: {error}") from error
    return data


def rewriter(destination: Destination, prefix: str, asked_host: str) -> Callable[[str], str]:
    """Makes the links of a page lead through the proxy: absolute paths, and URLs of the destination itself.

    They become paths without a host: whoever asked may know this server by another name. Only links that name the host
    of the request itself (`asked_host`) keep it.
    """

    def rewrite(link: str) -> str:
        try:
            url = urlsplit(link)
        except ValueError:
            return link
        known = ("", asked_host, destination.authority, destination.host)
        if url.netloc not in known or not url.path.startswith("/"):
            return link
        path = url.path if url.path.startswith(f"{prefix}/") else f"{prefix}{url.path}"
        scheme, host = (url.scheme, url.netloc) if url.netloc == asked_host else ("", "")
        return urlunsplit((scheme, host, path, url.query, url.fragment))

    return rewrite


def rewrite_links(page: bytes, rewrite: Callable[[str], str]) -> bytes:
    """`page` with the values of all attributes that hold links rewritten."""

    def one(match: re.Match[bytes]) -> bytes:
        mark, link = match[2][:1], match[2][1:-1].decode("utf-8", "surrogateescape")
        return match[1] + mark + rewrite(link).encode("utf-8", "surrogateescape") + mark

    return _LINK.sub(one, page)
