"""Clients that mean ill, or are badly broken: the server lives on, holds little for them, and serves the others."""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apiserver.harness import Server, config_map, running
from podling import clock
from podling.apiserver import connection, incoming, watch_stream
from podling.apiserver.server import HttpServer, tls_context
from podling.cluster import pki
from podling.streaming.connection import take_over

PATH = "/api/v1/namespaces/default/configmaps"
GET = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
POST = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode()


class Target:
    """A server with a ConfigMap, on loopback."""

    def __init__(self, inner: Server, port: int, directory: Path | None = None) -> None:
        self.inner = inner
        self.client = inner.client
        self.store = inner.store
        self.port = port
        self.directory = directory

    async def connect(self, tls: ssl.SSLContext | None = None, **more: Any) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, **more)
        return Client(reader, writer)

    async def answer(self, data: bytes) -> bytes:
        """All that is answered to these bytes until the connection ends or is quiet."""
        client = await self.connect()
        await client.send(data)
        try:
            return await client.rest(1.0)
        finally:
            client.close()

    async def serves(self) -> float:
        """The seconds that an honest request takes."""
        started = asyncio.get_running_loop().time()
        client = await self.connect()
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await client.rest(10.0)).startswith(b"HTTP/1.1 200 OK")
        client.close()
        return asyncio.get_running_loop().time() - started


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        try:
            await self.writer.drain()
        except ConnectionError:
            pass

    async def rest(self, seconds: float) -> bytes:
        """What comes until the end, or until nothing came for so long."""
        found = b""
        try:
            while piece := await asyncio.wait_for(self.reader.read(65536), seconds):
                found += piece
        except (TimeoutError, ConnectionError):
            pass
        return found

    async def is_cut_off(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def serving(directory: Path | None = None, *, streaming: Any = None) -> AsyncIterator[Target]:
    async with running() as inner:
        await inner.client.create(config_map("a"))
        http = HttpServer(inner.app)
        http.streaming = streaming
        tls = None
        if directory is not None:
            pair = pki.Pki(directory).serving("apiserver", "kube-apiserver", ips=["127.0.0.1"])
            tls = tls_context(str(pair.certificate_path), str(pair.key_path), str(directory / "ca.crt"))
        port = await http.start(tls=tls)
        try:
            yield Target(inner, port, directory)
        finally:
            await http.close()


# Nonsense


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x00\xee\x01\x00\r\n\r\n", b"400 Bad Request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request"),
        (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request"),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", b"400 Bad Request"),
        (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request"),
        (POST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}", b"400 Bad Request"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET, b"400 Bad Request"),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", b"400 Bad Request"),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", b"400 Bad Request"),
        (POST + b"Content-Length: -5\r\n\r\n", b"400 Bad Request"),
        (POST + b"Content-Length: +5\r\n\r\nxxxxx", b"400 Bad Request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nabc", b"400 Bad Request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", b"400 Bad Request"),
        (GET[:-2] + b"X: " + b"a" * 100_000 + b"\r\n\r\n", b"431 Request Header Fields Too Large"),
        (GET[:-2] + b"X: y\r\n" * 300 + b"\r\n", b"431 Request Header Fields Too Large"),
    ],
)  # fmt: skip
async def test_what_is_no_request(data: bytes, status: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as target:
        answer = await target.answer(data)
        assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n") and answer.count(b"HTTP/1.1") == 1
        assert b"aiohttp" not in answer
        await target.serves()
        # Nobody fills the log from outside.
        assert not [r for r in caplog.records if r.levelno >= logging.INFO and "serving" not in r.message]


async def test_heads_may_be_long_but_not_endless() -> None:
    async with serving() as target:
        names = ",".join(f"name-{i}" for i in range(20_000))
        long = f"GET {PATH}?labelSelector=a+in+({names}) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await target.answer(long.encode())).startswith(b"HTTP/1.1 200 OK")
        client = await target.connect()
        for _ in range(40):
            await client.send(b"X: " + b"a" * 60_000 + b"\r\n" if _ else GET[:-2])
        assert await client.is_cut_off(5)
        client.close()
        await target.serves()


async def test_slow_heads_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 0.3)
    async with serving() as target:
        fresh, used = await target.connect(), await target.connect()
        await used.send(GET)
        assert await used.reader.readuntil(b"\r\n\r\n")
        for byte in GET[:20]:
            await fresh.send(bytes([byte]))
            await used.send(bytes([byte]))
            await asyncio.sleep(0.02)
        assert await fresh.is_cut_off(2) and await used.is_cut_off(2)
        await target.serves()


async def test_a_body_that_comes_later_is_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 0.3)
    async with serving() as target:
        client = await target.connect()
        for pause in (0.0, 0.1):
            await client.send(POST + b"Content-Length: 4\r\n\r\n")
            await asyncio.sleep(pause)
            await client.send(b"{   ")
            assert await asyncio.wait_for(client.reader.readuntil(b'reason":"BadRequest"}'), 10)
        await client.send(f"GET {PATH}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert not await client.is_cut_off(1.0)
        client.close()


async def test_slow_bodies_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "BODY_TIMEOUT", 0.3)
    async with serving() as target:
        client = await target.connect()
        await client.send(POST + b"Content-Length: 1000\r\n\r\n{")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 504") and b"Connection: close" in head
        client.close()


async def test_a_body_is_not_unpacked() -> None:
    async with serving() as target:
        answer = await target.answer(POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{]")
        assert answer.startswith(b"HTTP/1.1 400")


async def test_a_watch_closes_its_connection_if_asked() -> None:
    async with serving() as target:
        head = f"GET {PATH}?watch=1&timeoutSeconds=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        client = await target.connect()
        await client.send(head.encode())
        assert (await asyncio.wait_for(client.reader.read(), 5)).endswith(b"0\r\n\r\n")
        client.close()


async def test_an_exec_whose_client_is_killed_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    called, gone = asyncio.Event(), asyncio.Event()

    async def streaming(request: Any, *_: Any) -> Any:
        called.set()
        await gone.wait()
        return take_over(request)

    async with serving(streaming=streaming) as target:
        client = await target.connect()
        await client.send(b"POST /api/v1/namespaces/default/pods/p/exec?command=ls HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(called.wait(), 5)
        client.close()
        await asyncio.sleep(0.1)
        gone.set()
        await asyncio.sleep(0.1)
        await target.serves()
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


# Clients that do not read


async def _fill(target: Target, count: int, size: int) -> None:
    for index in range(count):
        await target.client.create(config_map(f"big-{index}", data={"k": "x" * size}))


async def test_an_answer_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READ_TIMEOUT", 0.3)
    async with serving() as target:
        await _fill(target, 20, 500_000)
        client = await target.connect(limit=1024)
        await client.send(GET)
        await asyncio.sleep(1)
        # The rest was never sent: what comes is less than what was promised.
        promised = int((await client.reader.readuntil(b"\r\n\r\n")).split(b"Content-Length: ")[1].split(b"\r\n")[0])
        assert len(await client.rest(1.0)) < promised
        client.close()


async def _watching(target: Target, query: str = "") -> Client:
    client = await target.connect(limit=1024)
    await client.send(f"GET {PATH}?watch=1{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.reader.readuntil(b"\r\n\r\n")
    return client


async def test_slow_watchers_hold_little_and_the_fast_one_gets_everything() -> None:
    async with serving() as target:
        await _fill(target, 20, 200_000)
        slow = [await _watching(target) for _ in range(100)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fast = await _watching(target, f"&resourceVersion={target.store.revision}")
        reading = asyncio.ensure_future(fast.rest(3.0))
        for round_ in range(10):
            await target.client.update(config_map("big-0", data={"k": f"{round_}" * 200_000}))
            assert await target.serves() < 5
        assert (await reading).count(b'"MODIFIED"') == 10
        # A copy for each would be 100 watchers x 6 MB.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
        # Who reads again misses nothing.
        events = await slow[0].rest(2.0)
        assert events.count(b'"ADDED"') == 21 and events.count(b'"MODIFIED"') == 10
        for client in (*slow, fast):
            client.close()


async def test_who_does_not_read_at_all_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_stream, "MAX_BEHIND", 1_000_000)
    async with serving() as target:
        stuck = await _watching(target)
        for round_ in range(40):
            await target.client.update(config_map("a", data={"k": f"{round_ % 10}" * 200_000}))
        assert await stuck.is_cut_off(5)
        stuck.close()
        await target.serves()


async def test_a_thousand_watches() -> None:
    async with serving() as target:
        watchers = [await _watching(target, f"&resourceVersion={target.store.revision}") for _ in range(1000)]
        await target.client.update(config_map("a", data={"k": "new"}))
        for client in watchers:
            line = await asyncio.wait_for(client.reader.readuntil(b"}\n"), 30)
            assert b'"MODIFIED"' in line
        took = sorted([await target.serves() for _ in range(50)])
        assert took[-1] < 5
        for client in watchers:
            client.close()


# TLS


def _contexts(directory: Path, patch: pytest.MonkeyPatch) -> dict[str, ssl.SSLContext]:
    """What clients of doubtful identity come with."""
    own = pki.Pki(directory)
    pairs = {"foreign": pki.Pki(directory / "foreign").client("bob", "bob"), "good": own.client("ann", "ann")}
    years_ago = clock.now() - timedelta(days=1000)
    with patch.context() as then:
        then.setattr(clock, "now", lambda: years_ago)
        pairs["expired"] = own.client("late", "late")
    found = {}
    for name, pair in pairs.items():
        context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        context.load_cert_chain(pair.certificate_path, pair.key_path)
        found[name] = context
    return found


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated")
async def test_bad_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    contexts = _contexts(tmp_path, monkeypatch)
    async with serving(tmp_path) as target:
        for data in (GET, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 600, b"\0" * 4000, b""):
            client = await target.connect()
            await client.send(data)
            if data:
                assert b"200 OK" not in await client.rest(0.5)
            client.close()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await target.connect(old)
        assert not await _served(target, contexts["foreign"])
        assert not await _served(target, contexts["expired"])
        assert await _served(target, contexts["good"])
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


async def _served(target: Target, context: ssl.SSLContext) -> bool:
    try:
        client = await target.connect(context, server_hostname="127.0.0.1")
        await client.send(GET)
        return b"200 OK" in await client.rest(0.5)
    except (ssl.SSLError, ConnectionError):
        return False
