"""The client side of a proxied request: an HTTP/1.1 request whose answer may be an upgrade to a duplex of bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

import msgspec
from multidict import CIMultiDict

from podling.streaming.connection import CHUNK, LIMIT, RawConnection

#: Headers that belong to one connection (RFC 9110, section 7.6.1).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

#: The most that an answer's head, and the body of a refused upgrade, may be.
LARGEST_HEAD = 64 * 1024
LARGEST_REFUSAL = 256 * 1024
CONNECT_TIMEOUT = 30.0


class Upgraded(msgspec.Struct):
    """The answer to a request for an upgrade. `connection` is there if it was granted (101), else `body` is."""

    status: int
    reason: str
    headers: CIMultiDict[str]
    connection: RawConnection | None = None
    body: bytes = b""


async def upgrade(
    host: str,
    port: int,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Upgraded:
    """Send a request that has no body and asks for an upgrade. ConnectionError or OSError if that fails.

    `target` is the path with its query, encoded. `headers` include Host, Connection and Upgrade.
    """
    async with asyncio.timeout(CONNECT_TIMEOUT):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=tls, server_hostname=(server_name or host) if tls else None, limit=LIMIT
        )
    try:
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        if any("\r" in line or "\n" in line for line in lines):
            raise ConnectionError("a header with a line break")
        writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape"))
        await writer.drain()
        status, reason, answered = await _head(reader)
        if status == 101:
            return Upgraded(status, reason, answered, RawConnection(reader, writer))
        body = await _refusal(reader, answered)
    except BaseException:
        writer.close()
        raise
    writer.close()
    return Upgraded(status, reason, answered, body=body)


async def _head(reader: asyncio.StreamReader) -> tuple[int, str, CIMultiDict[str]]:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionError("the answer is no HTTP") from error
    first, *lines = raw.decode("utf-8", "surrogateescape").split("\r\n")
    version, _, rest = first.partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not code.isdecimal() or len(raw) > LARGEST_HEAD:
        raise ConnectionError("the answer is no HTTP/1.1")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            headers.add(name.strip(), value.strip())
    return int(code), reason, headers


async def _refusal(reader: asyncio.StreamReader, headers: CIMultiDict[str]) -> bytes:
    """The body of an answer that is no upgrade: an explanation, so it is short."""
    length = headers.get("Content-Length", "")
    body = bytearray()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            if length.isdecimal():
                return await reader.readexactly(min(int(length), LARGEST_REFUSAL))
            if "chunked" in headers.get("Transfer-Encoding", "").lower():
                while len(body) < LARGEST_REFUSAL:
                    size = int((await reader.readline()).split(b";")[0].strip() or b"0", 16)
                    if size == 0:
                        break
                    body += await reader.readexactly(size)
                    await reader.readline()
                return bytes(body)
            while len(body) < LARGEST_REFUSAL and (data := await reader.read(CHUNK)):
                body += data
    except (asyncio.IncompleteReadError, TimeoutError, ValueError):
        pass
    return bytes(body)


def end_to_end(headers: Iterable[tuple[str, str]], *, drop: Iterable[str] = ()) -> list[tuple[str, str]]:
    """`headers` without those of the connection, those that `Connection` names, and those of `drop` (lower case)."""
    headers = list(headers)
    named = {
        token.strip().lower() for name, value in headers if name.lower() == "connection" for token in value.split(",")
    }
    gone = HOP_BY_HOP | named | frozenset(drop)
    return [(name, value) for name, value in headers if name.lower() not in gone]
