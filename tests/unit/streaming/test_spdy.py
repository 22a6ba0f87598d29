"""SPDY/3.1: framing both ways, flow control, and peers that break the rules."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling import clock
from podling.streaming import spdy


class Pipe:
    """The server's end of a connection whose other end is the test."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent = bytearray()
        self.closed = False

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError
        self.sent += data

    async def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Peer:
    """A client that writes frames and reads them, knowing no more than the format."""

    def __init__(self) -> None:
        self.pipe = Pipe()
        self.streams: list[spdy.Stream] = []
        self.session = spdy.Session(self.pipe, self.streams.append)
        self.compressor = spdy.HeaderCompressor()
        self.decompressor = spdy.HeaderDecompressor()

    async def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.pipe.incoming.put_nowait(frame)
        await asyncio.sleep(0.01)

    def syn(self, stream_id: int, flags: int = 0, **headers: str) -> bytes:
        payload = struct.pack(">IIH", stream_id, 0, 0) + self.compressor.pack(headers)
        return spdy.control(spdy.SYN_STREAM, flags, payload)

    def frames(self) -> list[tuple[Any, ...]]:
        """All that the server has sent since the last time."""
        data, self.pipe.sent = bytes(self.pipe.sent), bytearray()
        found: list[tuple[Any, ...]] = []
        while data:
            first, second = struct.unpack_from(">II", data)
            flags, length = second >> 24, second & 0xFFFFFF
            payload, data = data[8 : 8 + length], data[8 + length :]
            if not first & 0x80000000:
                found.append(("data", first, flags, payload))
                continue
            kind = first & 0xFFFF
            if kind == spdy.SYN_REPLY:
                found.append(("reply", struct.unpack_from(">I", payload)[0], self.decompressor.unpack(payload[4:])))
            else:
                found.append((kind, *struct.unpack(f">{len(payload) // 4}I", payload)))
        return found


def scenario(main: Callable[[Peer], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        peer = Peer()
        running = asyncio.ensure_future(peer.session.run())
        try:
            await main(peer)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    clock.run_virtual(run())


def test_the_dictionary_is_the_drafts() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(st.dictionaries(st.text("abc-xyz", min_size=1), st.text(max_size=50), max_size=5), max_size=5))
def test_headers_survive_packing(blocks: list[dict[str, str]]) -> None:
    packer, unpacker = spdy.HeaderCompressor(), spdy.HeaderDecompressor()
    for block in blocks:
        assert unpacker.unpack(packer.pack(block)) == block


def test_a_stream_carries_data_both_ways_and_ends() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(
            peer.syn(1, streamType="stdin"), spdy.data_frame(1, 0, b"in"), spdy.data_frame(1, spdy.FIN, b"!")
        )
        (stream,) = peer.streams
        assert stream.headers == {"streamtype": "stdin"}
        assert [await stream.read(), await stream.read(), await stream.read()] == [b"in", b"!", b""]
        await stream.write(b"out")
        await stream.close()
        assert peer.frames() == [("reply", 1, {}), ("data", 1, 0, b"out"), ("data", 1, spdy.FIN, b"")]
        with pytest.raises(ConnectionError):
            await stream.write(b"more")

    scenario(main)


def test_frames_may_come_in_pieces() -> None:
    async def main(peer: Peer) -> None:
        whole = peer.syn(1, port="80") + spdy.data_frame(1, 0, b"abc") + peer.syn(3, port="81")
        for byte in whole:
            peer.pipe.incoming.put_nowait(bytes((byte,)))
        await asyncio.sleep(0.01)
        assert [s.headers["port"] for s in peer.streams] == ["80", "81"]
        assert await peer.streams[0].read() == b"abc"

    scenario(main)


def test_large_writes_become_several_frames() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1))
        data = bytes(range(256)) * 1000
        await peer.streams[0].write(data)
        frames = [f for f in peer.frames() if f[0] == "data"]
        assert b"".join(f[3] for f in frames) == data
        assert max(len(f[3]) for f in frames) <= spdy.FRAME

    scenario(main)


def test_a_client_without_flow_control_is_not_waited_for() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1))
        await asyncio.wait_for(peer.streams[0].write(bytes(10 * spdy.INITIAL_WINDOW)), 1)

    scenario(main)


def test_a_client_with_flow_control_is_waited_for() -> None:
    async def main(peer: Peer) -> None:
        def update(delta: int) -> bytes:
            return spdy.control(spdy.WINDOW_UPDATE, 0, struct.pack(">II", 1, delta))

        await peer.send(peer.syn(1), update(1))
        writing = asyncio.ensure_future(peer.streams[0].write(bytes(100_000)))
        await asyncio.sleep(0.01)
        sent = sum(len(f[3]) for f in peer.frames() if f[0] == "data")
        assert sent == spdy.INITIAL_WINDOW + 1 and not writing.done()
        await peer.send(update(1_000_000))
        await asyncio.wait_for(writing, 1)
        assert sum(len(f[3]) for f in peer.frames() if f[0] == "data") == 100_000 - sent

    scenario(main)


def test_what_was_read_is_acknowledged() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1), spdy.data_frame(1, 0, bytes(40_000)))
        peer.frames()
        await peer.streams[0].read()
        assert peer.frames() == [(spdy.WINDOW_UPDATE, 1, 40_000)]

    scenario(main)


def test_a_slow_reader_holds_the_client_up_and_not_the_memory() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1))
        for _ in range(100):
            peer.pipe.incoming.put_nowait(spdy.data_frame(1, 0, bytes(100_000)))
        await asyncio.sleep(0.01)
        assert peer.pipe.incoming.qsize() > 80
        stream = peer.streams[0]
        total = 0
        while total < 10_000_000:
            total += len(await stream.read())
        assert peer.pipe.incoming.empty()

    scenario(main)


def test_pings_are_answered_and_answers_are_not() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(*(spdy.control(spdy.PING, 0, struct.pack(">I", n)) for n in (1, 2, 3)))
        assert peer.frames() == [(spdy.PING, 1), (spdy.PING, 3)]

    scenario(main)


def test_a_reset_ends_both_halves() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1), spdy.control(spdy.RST_STREAM, 0, struct.pack(">II", 1, spdy.CANCEL)))
        stream = peer.streams[0]
        assert await stream.read() == b""
        with pytest.raises(ConnectionError):
            await stream.write(b"x")

    scenario(main)


def test_the_end_of_the_connection_ends_all_streams() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1), peer.syn(3))
        reading = [asyncio.ensure_future(s.read()) for s in peer.streams]
        await peer.send(b"")
        assert await asyncio.gather(*reading) == [b"", b""]
        assert peer.session.closed

    scenario(main)


@pytest.mark.parametrize(
    ("second", "status"),
    [(1, spdy.STREAM_IN_USE), (2, spdy.PROTOCOL_ERROR)],
)
def test_stream_ids_that_break_the_rules_are_refused(second: int, status: int) -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1))
        peer.frames()
        await peer.send(peer.syn(second))
        assert peer.frames() == [(spdy.RST_STREAM, second, status)]
        assert len(peer.streams) == 1

    scenario(main)


def test_data_for_an_unknown_stream_is_refused_and_late_data_is_ignored() -> None:
    async def main(peer: Peer) -> None:
        await peer.send(peer.syn(1, spdy.FIN))
        await peer.streams[0].close()
        peer.frames()
        await peer.send(spdy.data_frame(9, 0, b"x"), spdy.data_frame(1, 0, b"late"))
        assert peer.frames() == [(spdy.RST_STREAM, 9, spdy.INVALID_STREAM)]

    scenario(main)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x80\x02\x00\x01\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(64),
        spdy.control(spdy.SYN_STREAM, 0, struct.pack(">IIH", 1, 0, 0) + b"not zlib"),
        spdy.control(spdy.PING, 0, b""),
        spdy.control(spdy.SYN_STREAM, 0, b"\0"),
        b"\0\0\0\1\0\xff\xff\xff" * 10,
    ],
    ids=["version", "http", "zlib", "short ping", "short syn", "unfinished"],
)
def test_garbage_ends_the_connection_quietly(garbage: bytes) -> None:
    async def run() -> None:
        peer = Peer()
        peer.pipe.incoming.put_nowait(garbage)
        peer.pipe.incoming.put_nowait(b"")
        await asyncio.wait_for(peer.session.run(), 5)
        assert peer.session.closed

    clock.run_virtual(run())


@given(st.binary(max_size=200))
def test_no_bytes_make_it_stumble(data: bytes) -> None:
    async def run() -> None:
        peer = Peer()
        peer.pipe.incoming.put_nowait(data)
        peer.pipe.incoming.put_nowait(b"")
        await asyncio.wait_for(peer.session.run(), 5)

    if data:
        clock.run_virtual(run())
