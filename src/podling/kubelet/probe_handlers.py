"""How a container is asked whether it is well: over HTTP, TCP and gRPC, from the node (pkg/probe)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from functools import cache
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from podling.api import core_v1
from podling.kubelet.probe_results import USER_AGENT, HTTPRequest, Outcome, Result, Target, host_port

#: How much of an answer is read.
MAX_BODY = 10 * 1024
MAX_REDIRECTS = 10
MAX_HEAD = 64 * 1024


class NetworkProber(Protocol):
    """Makes connections to containers; a simulation has its own."""

    async def http(self, target: Target, request: HTTPRequest, timeout: float) -> Result: ...

    async def tcp(self, target: Target, timeout: float) -> Result: ...

    async def grpc(self, target: Target, service: str, *, tls: bool, timeout: float) -> Result: ...


class ProbeError(Exception):
    """The connection failed; the text is what Go would say."""


@cache
def _insecure(protocol: str = "http/1.1") -> ssl.SSLContext:
    """Certificates of containers are not verified: nobody vouches for them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def http_request(action: core_v1.HTTPGetAction) -> HTTPRequest:
    headers = tuple((h.name, h.value) for h in action.http_headers or ())
    return HTTPRequest((action.scheme or "HTTP").lower(), action.path or "/", headers)


def _refusal(error: OSError, target: Target) -> str:
    texts = {
        111: "connect: connection refused",
        113: "connect: no route to host",
        101: "connect: network is unreachable",
        104: "read: connection reset by peer",
    }
    if error.errno is None and isinstance(error, asyncio.IncompleteReadError | ConnectionError):
        return "EOF"
    text = texts.get(error.errno or 0) or f"connect: {(error.strerror or str(error)).lower()}"
    return f"dial tcp {host_port(target.host, target.port)}: {text}"


class Network:
    """The real one: from the node's own network namespace."""

    async def tcp(self, target: Target, timeout: float) -> Result:
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(target.host, target.port)
        except TimeoutError:
            return Result(Outcome.FAILURE, f"dial tcp {host_port(target.host, target.port)}: i/o timeout")
        except OSError as error:
            return Result(Outcome.FAILURE, _refusal(error, target))
        _abort(writer)
        return Result(Outcome.SUCCESS)

    async def http(self, target: Target, request: HTTPRequest, timeout: float) -> Result:
        url = f"{request.scheme}://{host_port(target.host, target.port)}{_path(request.path)}"
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(target, request, url)
        except TimeoutError:
            text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return Result(Outcome.FAILURE, f'Get "{url}": {text}')
        except OSError as error:
            return Result(Outcome.FAILURE, f'Get "{url}": {_refusal(error, target)}')
        except (ProbeError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            text = "EOF" if isinstance(error, asyncio.IncompleteReadError) else str(error)
            return Result(Outcome.FAILURE, f'Get "{url}": {text}')

    async def _follow(self, target: Target, request: HTTPRequest, url: str) -> Result:
        """Redirects are followed on the same host; elsewhere the container's health is not to be found."""
        for _ in range(MAX_REDIRECTS + 1):
            status, location, body = await _get(target, request, url)
            if not (300 <= status < 400 and location):
                if 200 <= status < 400:
                    return Result(Outcome.SUCCESS, body)
                return Result(Outcome.FAILURE, f"HTTP probe failed with statuscode: {status}")
            following = urlsplit(urljoin(url, location))
            if following.hostname != urlsplit(url).hostname:
                return Result(Outcome.WARNING, f"Probe terminated redirects, Response body: {body}")
            url = following.geturl()
        raise ProbeError(f"stopped after {MAX_REDIRECTS} redirects")

    async def grpc(self, target: Target, service: str, *, tls: bool, timeout: float) -> Result:
        # Here, since few pods have such a probe, and h2 takes its time to import.
        from podling.kubelet import grpc_health

        context = _insecure("h2") if tls else None
        return await grpc_health.check(target.host, target.port, service, context, timeout)


def _path(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _abort(writer: asyncio.StreamWriter) -> None:
    # Closing in the ordinary way would leave a socket in TIME_WAIT for every probe.
    writer.transport.abort()


def _head(request: HTTPRequest, url: str) -> bytes:
    parsed = urlsplit(url)
    names = {name.lower() for name, _ in request.headers}
    lines = [f"GET {parsed.path or '/'}{'?' + parsed.query if parsed.query else ''} HTTP/1.1"]
    if "host" not in names:
        lines.append(f"Host: {parsed.netloc}")
    if "user-agent" not in names:
        lines.append(f"User-Agent: {USER_AGENT}")
    if "accept" not in names:
        lines.append("Accept: */*")
    # A header that is given empty is not sent at all.
    lines += [f"{name}: {value}" for name, value in request.headers if value]
    lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


async def _get(target: Target, request: HTTPRequest, url: str) -> tuple[int, str, str]:
    """(status, Location, beginning of the body)."""
    parsed = urlsplit(url)
    secure = _insecure() if parsed.scheme == "https" else None
    port = parsed.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parsed.hostname or target.host, port, ssl=secure, limit=MAX_HEAD)
    try:
        writer.write(_head(request, url))
        head = await reader.readuntil(b"\r\n\r\n")
        status, headers = _parse_head(head.decode("latin-1").split("\r\n"))
        while 100 <= status < 200 and status != 101:
            head = await reader.readuntil(b"\r\n\r\n")
            status, headers = _parse_head(head.decode("latin-1").split("\r\n"))
        body = await _body(reader, headers)
        return status, headers.get("location", ""), body
    finally:
        _abort(writer)


def _parse_head(lines: Sequence[str]) -> tuple[int, dict[str, str]]:
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/") or not rest[:3].isdigit():
        raise ProbeError(f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{lines[0]}"')
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    return int(rest[:3]), headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> str:
    """As much of the body as anybody wants to see; a server that stalls after the head has answered all the same."""
    wanted = MAX_BODY
    if headers.get("content-length", "").isdigit():
        wanted = min(wanted, int(headers["content-length"]))
    data = b""
    while len(data) < wanted:
        piece = await reader.read(wanted - len(data))
        if not piece:
            break
        data += piece
    return data.decode("utf-8", "replace")


class Simulated:
    """Network probes of virtual containers, which have no network: `healthy(container id)` answers for them.

    As with a real one, nobody answers at no address.
    """

    def __init__(self, healthy: object) -> None:
        self._healthy = healthy

    def _well(self, target: Target) -> bool:
        return bool(target.host) and bool(self._healthy(target.container_id))  # type: ignore[operator]

    async def http(self, target: Target, request: HTTPRequest, timeout: float) -> Result:
        if self._well(target):
            return Result(Outcome.SUCCESS)
        return Result(Outcome.FAILURE, "HTTP probe failed with statuscode: 503")

    async def tcp(self, target: Target, timeout: float) -> Result:
        if self._well(target):
            return Result(Outcome.SUCCESS)
        text = f"dial tcp {host_port(target.host, target.port)}: connect: connection refused"
        return Result(Outcome.FAILURE, text)

    async def grpc(self, target: Target, service: str, *, tls: bool, timeout: float) -> Result:
        if self._well(target):
            return Result(Outcome.SUCCESS, "service healthy")
        return Result(Outcome.FAILURE, 'service unhealthy (responded with "NOT_SERVING")')
