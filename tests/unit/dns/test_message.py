"""Messages on the wire: what is refused, what fits, what is left out."""

from __future__ import annotations

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.dns import message, wire
from podling.dns.records import Record


def query(name: str = "web.cluster.local", type_: str = "A", size: int = 0, do: bool = False) -> bytes:
    asked = dnslib.DNSRecord.question(name, type_)
    asked.header.id = 7
    if size:
        asked.add_ar(dnslib.EDNS0(udp_len=size, flags="do" if do else ""))
    return bytes(asked.pack())


def parsed(data: bytes) -> message.Query:
    found = message.parse(data)
    assert found is not None
    return found


def test_a_question_is_read() -> None:
    found = parsed(query("WEB.Cluster.local", "SRV", size=4096, do=True))
    assert (found.id, found.name, found.type, found.size, found.edns, found.dnssec, found.error) == (
        7, "web.cluster.local", "SRV", 4096, True, True, 0,
    )  # fmt: skip
    assert parsed(query()).size == 512
    assert parsed(query(size=100)).size == 512


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (query()[:14], message.FORMERR),
        (b"\x00\x07\x10\x00" + query()[4:], message.NOTIMP),
        (query()[:-1] + b"\x03", message.REFUSED),
        (query()[:4] + b"\x00\x00" + query()[6:], message.FORMERR),
    ],
)
def test_what_cannot_be_answered_gets_its_code(data: bytes, error: int) -> None:
    found = parsed(data)
    assert found.error == error
    answer = dnslib.DNSRecord.parse(message.answer(found, error))
    assert (answer.header.id, answer.header.rcode, answer.header.qr) == (7, error, 1)


def test_edns_versions_to_come_are_answered_with_badvers() -> None:
    asked = dnslib.DNSRecord.question("a.b")
    asked.add_ar(dnslib.EDNS0(udp_len=1232, version=1))
    found = parsed(asked.pack())
    answer = dnslib.DNSRecord.parse(message.answer(found, found.error))
    assert (answer.header.rcode, answer.ar[0].edns_rcode) == (0, 1)


@pytest.mark.parametrize("data", [b"", b"\x00" * 11, b"\x00\x07\x80\x00" + query()[4:]])
def test_noise_and_answers_get_no_answer(data: bytes) -> None:
    assert message.parse(data) is None


def test_an_answer_keeps_the_askers_spelling() -> None:
    found = parsed(query("WEB.Cluster.local"))
    answer = dnslib.DNSRecord.parse(
        message.answer(found, 0, answers=[Record("web.cluster.local", "A", "10.96.0.1")], ttl=5, authoritative=True)
    )
    assert str(answer.rr[0].rname) == "WEB.Cluster.local."
    assert (str(answer.rr[0].rdata), answer.rr[0].ttl, answer.header.aa, answer.header.ra) == ("10.96.0.1", 5, 1, 1)


def test_aliases_come_first_and_in_order() -> None:
    found = parsed(query("a.x"))
    chain = [Record("a.x", "CNAME", "b.x"), Record("b.x", "CNAME", "c.x")]
    addresses = [Record("c.x", "A", f"10.0.0.{i}") for i in range(10)]
    answer = dnslib.DNSRecord.parse(message.answer(found, 0, answers=[*chain, *addresses]))
    assert [str(r.rdata) for r in answer.rr[:2]] == ["b.x.", "c.x."]
    assert {str(r.rdata) for r in answer.rr[2:]} == {f"10.0.0.{i}" for i in range(10)}


def test_what_does_not_fit_is_left_out() -> None:
    records = [Record("web.cluster.local", "A", f"10.0.{i // 250}.{i % 250}") for i in range(1000)]
    extra = [Record(f"host-{i}.web.cluster.local", "A", "10.0.0.1") for i in range(5)]
    found = parsed(query(size=1232))
    packed = message.answer(found, 0, answers=records, limit=1232)
    answer = dnslib.DNSRecord.parse(packed)
    assert len(packed) <= 1232
    assert answer.header.tc == 1
    assert len(answer.rr) > 60, "those who cannot ask again by TCP have some addresses"
    few = message.answer(found, 0, answers=records[:25], additional=extra, limit=512)
    answer = dnslib.DNSRecord.parse(few)
    assert (answer.header.tc, len(answer.rr), len(answer.ar)) == (0, 25, 1), "additional records are a courtesy"
    whole = dnslib.DNSRecord.parse(message.answer(found, 0, answers=records))
    assert (whole.header.tc, len(whole.rr)) == (0, 1000)


def foreign(lifetimes: list[int], minimum: int | None = None) -> bytes:
    asked = dnslib.DNSRecord.parse(query("example.com"))
    answer = asked.reply()
    for lifetime in lifetimes:
        answer.add_answer(dnslib.RR("example.com", dnslib.QTYPE.A, rdata=dnslib.A("192.0.2.1"), ttl=lifetime))
    if minimum is not None:
        soa = dnslib.SOA("ns.example.com", "root.example.com", (1, 2, 3, 4, minimum))
        answer.add_auth(dnslib.RR("example.com", dnslib.QTYPE.SOA, rdata=soa, ttl=3600))
    return bytes(answer.pack())


def test_a_foreign_answer_serves_another_asker() -> None:
    response = foreign([300, 20])
    other = query("EXAMPLE.com")
    other = b"\x12\x34" + other[2:]
    parts = wire.layout(response)
    answer = dnslib.DNSRecord.parse(wire.readdress(response, parts, other, age=30, limit=512))
    assert answer.header.id == 0x1234
    assert str(answer.q.qname) == "EXAMPLE.com."
    assert [r.ttl for r in answer.rr] == [270, 0]
    short = dnslib.DNSRecord.parse(wire.readdress(response, parts, other, age=0, limit=40))
    assert (short.header.tc, len(short.rr), str(short.q.qname)) == (1, 0, "EXAMPLE.com.")


def test_the_lifetime_of_a_no_is_in_its_soa() -> None:
    assert wire.layout(foreign([], minimum=60)).minimum == 60
    assert wire.layout(foreign([300])).minimum is None


@given(st.binary(max_size=100), st.integers(0, 200))
def test_broken_messages_are_noticed(noise: bytes, cut: int) -> None:
    message.parse(noise)
    for data in (noise, foreign([1, 2, 3])[:cut] + noise):
        try:
            wire.layout(data)
        except wire.Malformed:
            continue
