"""DNS messages on the wire (RFC 1035, EDNS of RFC 6891): reading questions, writing answers that fit."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import dnslib
import msgspec

from podling.dns.records import Record

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
#: What we take by UDP, and send at most: no fragments on any link (DNS flag day 2020).
UDP_SIZE = 1232
_CLASSIC_SIZE = 512
#: SOA of the cluster's zone: refresh, retry, expire as CoreDNS has them; serial and minimum come with the answer.
_SOA_TIMES = (7200, 1800, 86400)


class Query(msgspec.Struct, frozen=True):
    """A question. `name` is lower case without a dot at the end; `asked` has the case of the asker. `type` is the
    type's name, or its number as text. `size` is the longest answer by UDP that the asker takes; `edns` whether it
    speaks EDNS, `error` the code to answer with at once."""

    id: int
    name: str
    asked: Any
    type: str
    qtype: int
    qclass: int
    recursion: bool
    checking_disabled: bool
    size: int
    edns: bool
    dnssec: bool
    error: int = NOERROR


def parse(data: bytes) -> Query | None:
    """The question in `data`; None for what deserves no answer (too short, or an answer itself)."""
    if len(data) < 12 or data[2] & 0x80:
        return None
    try:
        message = dnslib.DNSRecord.parse(data)
        (question,) = message.questions
    except (dnslib.DNSError, ValueError, IndexError, struct.error):
        return _broken(data, FORMERR)
    header = message.header
    options = next((record for record in message.ar if record.rtype == dnslib.QTYPE.OPT), None)
    error = NOERROR
    if header.opcode != 0:
        error = NOTIMP
    elif question.qclass != 1:
        error = REFUSED
    elif options is not None and options.edns_ver != 0:
        error = BADVERS
    return Query(
        id=header.id,
        name=str(question.qname).lower().rstrip("."),
        asked=question.qname,
        type=dnslib.QTYPE.forward.get(question.qtype, str(question.qtype)),
        qtype=question.qtype,
        qclass=question.qclass,
        recursion=bool(header.rd),
        checking_disabled=bool(header.cd),
        size=max(options.edns_len, _CLASSIC_SIZE) if options is not None else _CLASSIC_SIZE,
        edns=options is not None,
        dnssec=options is not None and bool(options.edns_do),
        error=error,
    )


def _broken(data: bytes, error: int) -> Query:
    opcode = (data[2] >> 3) & 15
    return Query(
        id=int.from_bytes(data[:2], "big"),
        name="",
        asked=None,
        type="",
        qtype=0,
        qclass=0,
        recursion=bool(data[2] & 1),
        checking_disabled=False,
        size=_CLASSIC_SIZE,
        edns=False,
        dnssec=False,
        error=NOTIMP if opcode else error,
    )


def answer(
    query: Query,
    code: int,
    *,
    answers: Sequence[Record] = (),
    authority: Sequence[Record] = (),
    additional: Sequence[Record] = (),
    foreign: Sequence[Any] = (),
    ttl: int = 0,
    serial: int = 0,
    authoritative: bool = False,
    limit: int = 65535,
) -> bytes:
    """The answer to `query` in at most `limit` bytes.

    `foreign` are records that upstream gave (dnslib's RR). The order of addresses is random, so that clients that take
    the first spread. What does not fit is left out: additional records silently, answers with the TC bit set, for
    clients that cannot ask again by TCP make do with those that came.
    """
    header = dnslib.DNSHeader(
        id=query.id, qr=1, aa=int(authoritative), rd=int(query.recursion), ra=1, rcode=code & 15, bitmap=None
    )
    header.cd = int(query.checking_disabled)
    message = dnslib.DNSRecord(header)
    if query.asked is not None:
        message.add_question(dnslib.DNSQuestion(query.asked, query.qtype, query.qclass))
    rest = [record for record in answers if record.type != "CNAME"]
    random.shuffle(rest)
    ordered = [*(record for record in answers if record.type == "CNAME"), *rest]
    found = [_encode(record, query, ttl, serial) for record in ordered] + list(foreign)
    message.rr.extend(found)
    message.auth.extend(_encode(record, query, ttl, serial) for record in authority)
    message.ar.extend(_encode(record, query, ttl, serial) for record in additional)
    options = [dnslib.EDNS0(udp_len=UDP_SIZE, flags="do" if query.dnssec else "", ext_rcode=code >> 4)]
    if query.edns:
        message.ar.extend(options)
    packed = bytes(message.pack())
    if len(packed) <= limit:
        return packed
    message.ar = options if query.edns else []
    packed = bytes(message.pack())
    if len(packed) <= limit:
        return packed
    header.tc = 1
    message.auth = []
    low, high = 0, len(found)
    while low < high:
        middle = (low + high + 1) // 2
        message.rr = found[:middle]
        if len(message.pack()) <= limit:
            low = middle
        else:
            high = middle - 1
    message.rr = found[:low]
    packed = bytes(message.pack())
    return packed


def _encode(record: Record, query: Query, ttl: int, serial: int) -> Any:
    name = query.asked if record.name == query.name and query.asked is not None else record.name
    match record.type:
        case "A":
            data: Any = dnslib.A(record.data)
        case "AAAA":
            data = dnslib.AAAA(record.data)
        case "SRV":
            data = dnslib.SRV(0, record.weight, record.port, record.data)
        case "TXT":
            data = dnslib.TXT(record.data)
        case "SOA":
            times = (serial & 0xFFFFFFFF, *_SOA_TIMES, ttl)
            data = dnslib.SOA(record.data, f"hostmaster.{record.name}", times)
        case other:
            data = getattr(dnslib, other)(record.data)
    return dnslib.RR(name, getattr(dnslib.QTYPE, record.type), ttl=ttl, rdata=data)


def question(query: Query, name: str, number: int) -> bytes:
    """A question of our own, to upstream, for `name` and the type of `query`."""
    header = dnslib.DNSHeader(id=number, rd=1, bitmap=None)
    header.rd, header.cd = 1, int(query.checking_disabled)
    message = dnslib.DNSRecord(header)
    message.add_question(dnslib.DNSQuestion(name, query.qtype, 1))
    message.add_ar(dnslib.EDNS0(udp_len=UDP_SIZE, flags="do" if query.dnssec else ""))
    packed = bytes(message.pack())
    return packed


def parse_response(data: bytes) -> Any | None:
    """A dnslib.DNSRecord, or None if it cannot be read."""
    try:
        return dnslib.DNSRecord.parse(data)
    except (dnslib.DNSError, ValueError, IndexError, struct.error):
        return None
