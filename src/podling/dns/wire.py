"""Foreign answers, as they came: what must be changed in them to hand them on is found without taking them apart."""

from __future__ import annotations

import struct

import msgspec

_HEADER = 12
_OPT = 41
_SOA = 6


class Malformed(ValueError):
    """The message ends too early or points nowhere."""


class Layout(msgspec.Struct, frozen=True):
    """Where things are in a message: the end of its question, and each record's lifetime as (offset, seconds).

    `minimum` is how long a "no" holds: the SOA's own lifetime or its last field, the lesser (RFC 2308); None without.
    """

    question_end: int
    lifetimes: tuple[tuple[int, int], ...]
    code: int
    truncated: bool
    answers: int
    minimum: int | None


def layout(data: bytes) -> Layout:
    """Find one's way through a message. Raises Malformed."""
    try:
        _, flags, questions, *counts = struct.unpack_from("!HHHHHH", data)
        offset = _HEADER
        for _ in range(questions):
            offset = _skip_name(data, offset) + 4
        question_end = offset
        lifetimes: list[tuple[int, int]] = []
        minimum: int | None = None
        for _ in range(sum(counts)):
            offset = _skip_name(data, offset)
            kind, _, lifetime, length = struct.unpack_from("!HHIH", data, offset)
            end = offset + 10 + length
            if end > len(data):
                raise Malformed("a record ends beyond the message")
            if kind != _OPT:
                lifetimes.append((offset + 4, lifetime))
            if kind == _SOA:
                minimum = min(lifetime, struct.unpack_from("!I", data, end - 4)[0])
            offset = end
    except (struct.error, IndexError) as error:
        raise Malformed(str(error)) from error
    return Layout(
        question_end=question_end,
        lifetimes=tuple(lifetimes),
        code=flags & 15,
        truncated=bool(flags & 0x200),
        answers=counts[0],
        minimum=minimum,
    )


def _skip_name(data: bytes, offset: int) -> int:
    while True:
        length = data[offset]
        if length == 0:
            return offset + 1
        if length & 0xC0 == 0xC0:
            return offset + 2
        offset += length + 1


def readdress(response: bytes, parts: Layout, query: bytes, *, age: int, limit: int) -> bytes:
    """`response` as the answer to another asker's `query` for the same: its id, its spelling, `age` seconds later.

    An answer longer than `limit` becomes an empty one with the TC bit.
    """
    question = query[_HEADER : parts.question_end]
    flags = bytes([(response[2] & 0xFE) | (query[2] & 0x01), response[3]])
    if len(response) > limit:
        head = query[:2] + bytes([flags[0] | 0x02, flags[1]]) + b"\x00\x01" + bytes(6)
        return head + question
    out = bytearray(query[:2] + flags + response[4:_HEADER] + question + response[parts.question_end :])
    if age:
        for offset, lifetime in parts.lifetimes:
            struct.pack_into("!I", out, offset, max(lifetime - age, 0))
    return bytes(out)
