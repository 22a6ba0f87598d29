"""The server without sockets: what it answers at once, what it asks upstream, what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import dnslib
import pytest

from podling import clock
from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.client.base import ListResult
from podling.client.informer import Informers
from podling.dns.forward import Forwarder, NoUpstream, Resolvers
from podling.dns.message import Query
from podling.dns.server import DNSConfig, DNSServer
from tests.unit.dns.test_records import service


class NoChanges:
    """A client of a cluster in which nothing happens."""

    def __init__(self, *objects: Any) -> None:
        self.objects = objects

    async def list(self, kind: type, namespace: str | None = None, **_: Any) -> ListResult[Any]:
        return ListResult([o for o in self.objects if isinstance(o, kind)], "1")

    async def watch(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()
        yield


_FAILURES = {"SERVFAIL": 2, "NXDOMAIN": 3}


class Upstream(Forwarder):
    """Instead of sockets, a function from the question's text to the answer's zone lines; None does not answer."""

    def __init__(self, path: Path, answer: Callable[[str, str], str | None]) -> None:
        super().__init__(Resolvers(str(path), own=DNSConfig().addresses))
        self.answer = answer
        self.asked: list[str] = []

    async def _by_udp(self, server: str, query: bytes) -> bytes:
        question = dnslib.DNSRecord.parse(query)
        self.asked.append(f"{server} {str(question.q.qname).lower()}")
        await asyncio.sleep(0.01)
        text = self.answer(server, str(question.q.qname))
        if text is None:
            await asyncio.sleep(60)
        reply = question.reply()
        if text in _FAILURES:
            reply.header.rcode = _FAILURES[text]
        elif text:
            reply.add_answer(*dnslib.RR.fromZone(text))
        return bytes(reply.pack())


def ask(name: str, type_: str = "A", number: int = 1) -> bytes:
    question = dnslib.DNSRecord.question(name, type_)
    question.header.id = number
    return bytes(question.pack())


async def answered(server: DNSServer, data: bytes) -> Any:
    response = server.answer_now(data, limit=1232)
    if isinstance(response, Query):
        response = await server.answer_later(data, response, tcp=False)
    assert response is not None
    return dnslib.DNSRecord.parse(response)


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text("search example.com\nnameserver 192.0.2.1\nnameserver 10.96.0.10\nnameserver 192.0.2.2\n")
    return path


def run(
    resolv_conf: Path,
    upstream: Callable[[str, str], str | None],
    main: Callable[[DNSServer], Coroutine[Any, Any, None]],
) -> None:
    """Run `main` with a server of a small cluster, on virtual time."""

    async def whole() -> None:
        informers = Informers(
            NoChanges(  # type: ignore[arg-type]
                core_v1.Namespace(metadata=ObjectMeta(name="default")),
                service("web", ip="10.96.1.1"),
                service("outside", type="ExternalName", external_name="www.example.com", ip=""),
                service("inside", type="ExternalName", external_name="web.default.svc.cluster.local", ip=""),
                service("loop", type="ExternalName", external_name="loop.default.svc.cluster.local", ip=""),
            )
        )
        server = DNSServer(informers, DNSConfig())
        server.forwarder = Upstream(resolv_conf, upstream)
        server._follow()
        early = await answered(server, ask("web.default.svc.cluster.local"))
        assert early.header.rcode == 2, "before the cluster is known there is no false NXDOMAIN"
        informers.start()
        await informers.wait_synced()
        try:
            await main(server)
        finally:
            await server.close()
            await informers.close()

    clock.run_virtual(whole())


def texts(answer: Any) -> list[str]:
    return [f"{str(r.rname).rstrip('.')} {dnslib.QTYPE[r.rtype]} {str(r.rdata).rstrip('.')}" for r in answer.rr]


def test_the_cluster_answers_with_authority(resolv_conf: Path) -> None:
    async def main(server: DNSServer) -> None:
        found = await answered(server, ask("web.default.svc.cluster.local"))
        assert (texts(found), found.header.aa, found.rr[0].ttl) == (
            ["web.default.svc.cluster.local A 10.96.1.1"], 1, 5,
        )  # fmt: skip
        for name, type_, code in (
            ("nobody.default.svc.cluster.local", "A", 3),
            ("web.default.svc.cluster.local", "AAAA", 0),
        ):
            missing = await answered(server, ask(name, type_))
            assert (missing.header.rcode, missing.rr, dnslib.QTYPE[missing.auth[0].rtype]) == (code, [], "SOA")

    run(resolv_conf, lambda *_: "", main)


def test_other_names_are_asked_upstream_once_and_remembered(resolv_conf: Path) -> None:
    async def main(server: DNSServer) -> None:
        upstream = server.forwarder
        assert isinstance(upstream, Upstream)
        both = await asyncio.gather(
            answered(server, ask("example.com", number=5)), answered(server, ask("EXAMPLE.com", number=6))
        )
        assert [(a.header.id, str(a.q.qname), a.rr[0].ttl) for a in both] == [
            (5, "example.com.", 20),
            (6, "EXAMPLE.com.", 20),
        ]
        assert upstream.asked == ["192.0.2.1 example.com."]
        await asyncio.sleep(15)
        assert (await answered(server, ask("example.com"))).rr[0].ttl == 5
        assert len(upstream.asked) == 1
        await asyncio.sleep(6)
        await answered(server, ask("example.com"))
        assert len(upstream.asked) == 2

    run(resolv_conf, lambda server, name: f"{name} 20 IN A 192.0.2.9", main)


def test_the_next_resolver_is_asked_when_one_is_silent_or_fails(resolv_conf: Path) -> None:
    async def main(server: DNSServer) -> None:
        for name in ("silent.example", "failing.example"):
            assert texts(await answered(server, ask(name))) == [f"{name} A 192.0.2.9"]
        upstream = server.forwarder
        assert isinstance(upstream, Upstream)
        assert [line.split()[0] for line in upstream.asked] == ["192.0.2.1", "192.0.2.2"] * 2, "never ourselves"

    def answer(server: str, name: str) -> str | None:
        if server == "192.0.2.1":
            return None if name.startswith("silent") else "SERVFAIL"
        return f"{name} 20 IN A 192.0.2.9"

    run(resolv_conf, answer, main)


def test_nobody_to_ask_is_a_failure(resolv_conf: Path) -> None:
    async def main(server: DNSServer) -> None:
        assert (await answered(server, ask("example.com"))).header.rcode == 2
        resolv_conf.write_text("")
        assert (await answered(server, ask("example.org"))).header.rcode == 2

    run(resolv_conf, lambda *_: None, main)


def test_external_names_are_resolved_to_their_addresses(resolv_conf: Path) -> None:
    async def main(server: DNSServer) -> None:
        assert texts(await answered(server, ask("outside.default.svc.cluster.local"))) == [
            "outside.default.svc.cluster.local CNAME www.example.com",
            "www.example.com A 192.0.2.9",
        ]
        assert texts(await answered(server, ask("inside.default.svc.cluster.local"))) == [
            "inside.default.svc.cluster.local CNAME web.default.svc.cluster.local",
            "web.default.svc.cluster.local A 10.96.1.1",
        ]
        assert texts(await answered(server, ask("outside.default.svc.cluster.local", "CNAME"))) == [
            "outside.default.svc.cluster.local CNAME www.example.com"
        ]
        assert texts(await answered(server, ask("loop.default.svc.cluster.local"))) == [
            "loop.default.svc.cluster.local CNAME loop.default.svc.cluster.local"
        ]

    run(resolv_conf, lambda server, name: f"{name} 20 IN A 192.0.2.9", main)


def test_an_external_name_is_there_though_its_target_is_not(resolv_conf: Path) -> None:
    async def main(server: DNSServer) -> None:
        found = await answered(server, ask("outside.default.svc.cluster.local"))
        assert texts(found) == ["outside.default.svc.cluster.local CNAME www.example.com"]
        assert found.header.rcode == 0
        assert (await answered(server, ask("www.example.com"))).header.rcode == 3

    run(resolv_conf, lambda *_: "NXDOMAIN", main)


def test_a_failure_to_resolve_an_external_name_is_one(resolv_conf: Path) -> None:
    async def main(server: DNSServer) -> None:
        assert (await answered(server, ask("outside.default.svc.cluster.local"))).header.rcode == 2

    run(resolv_conf, lambda *_: "SERVFAIL", main)


def test_resolvers_follow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    resolvers = Resolvers(str(path), own=["10.96.0.10"], loopback=False)
    path.write_text("# nothing\nnameserver 192.0.2.1\nnameserver 127.0.0.53\noptions ndots:2\n")
    assert resolvers.servers() == ["192.0.2.1"]
    path.with_suffix(".new").write_text("nameserver 192.0.2.7\n")
    path.with_suffix(".new").rename(path)
    assert resolvers.servers() == ["192.0.2.7"]


def test_a_forwarder_without_resolvers_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        forwarder = Forwarder(Resolvers(str(tmp_path / "none")))
        if not forwarder._resolvers.servers():
            with pytest.raises(NoUpstream, match="the node has no resolver"):
                await forwarder.ask(ask("example.com"), tcp=False, limit=512)

    clock.run_virtual(main())
