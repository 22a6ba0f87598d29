"""Pairs of streams, and what happens when one of them never comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from podling import clock
from podling.api.errors import StatusError
from podling.runtime.base import Sink, Source
from podling.streaming import port_forward, spdy
from streaming.test_spdy import Peer


class Forwarding(Peer):
    """A client of a forwarder that echoes in capitals; port 81 is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.forwarder = port_forward.SpdyForwarder(self.pipe, self.forward, "web_default", "u1")
        self.ports: list[int] = []

    async def forward(self, port: int, stdin: Source, stdout: Sink) -> None:
        self.ports.append(port)
        if port == 81:
            raise RuntimeError("connection refused")
        while data := await stdin():
            await stdout(data.upper())


def scenario(main: Callable[[Forwarding], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        peer = Forwarding()
        running = asyncio.ensure_future(peer.forwarder.run())
        await main(peer)
        await peer.send(b"")
        await asyncio.wait_for(running, 5)
        assert peer.pipe.closed

    clock.run_virtual(run())


@pytest.mark.parametrize("request_ids", [True, False])
def test_a_pair_is_one_connection(request_ids: bool) -> None:
    async def main(peer: Forwarding) -> None:
        more = {"requestID": "0"} if request_ids else {}
        await peer.send(peer.syn(1, streamType="error", port="80", **more))
        assert peer.ports == []
        await peer.send(peer.syn(3, streamType="data", port="80", **more), spdy.data_frame(3, spdy.FIN, b"hi"))
        assert peer.ports == [80]
        frames = peer.frames()
        assert ("data", 3, 0, b"HI") in frames
        assert frames[-2:] == [("data", 1, spdy.FIN, b""), ("data", 3, spdy.FIN, b"")]

    scenario(main)


def test_a_failure_comes_on_the_error_stream() -> None:
    async def main(peer: Forwarding) -> None:
        await peer.send(
            peer.syn(1, streamType="error", port="81", requestID="0"),
            peer.syn(3, streamType="data", port="81", requestID="0"),
        )
        text = b"error forwarding port 81 to pod web_default, uid u1: connection refused"
        frames = peer.frames()
        assert ("data", 1, 0, text) in frames
        assert (spdy.RST_STREAM, 3, spdy.CANCEL) in frames

    scenario(main)


def test_a_stream_without_its_partner_is_given_up() -> None:
    async def main(peer: Forwarding) -> None:
        await peer.send(peer.syn(1, streamType="error", port="80", requestID="0"))
        peer.frames()
        await asyncio.sleep(port_forward.PAIR_TIMEOUT + 1)
        assert peer.frames() == [(spdy.RST_STREAM, 1, spdy.CANCEL)]
        await peer.send(peer.syn(3, streamType="data", port="80", requestID="0"))
        assert peer.ports == []

    scenario(main)


@pytest.mark.parametrize(
    "headers",
    [
        {"streamType": "other", "port": "80"},
        {"streamType": "data", "port": "0"},
        {"streamType": "data", "port": "x"},
        {},
    ],
)
def test_streams_that_make_no_sense_are_refused(headers: dict[str, str]) -> None:
    async def main(peer: Forwarding) -> None:
        await peer.send(peer.syn(1, **headers))
        assert (spdy.RST_STREAM, 1, spdy.PROTOCOL_ERROR) in peer.frames()

    scenario(main)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["80", "81"], [80, 81]),
        (["80,81"], [80, 81]),
        ([], []),
        (["0"], None),
        (["a"], None),
        (["9" * 5000], None),
    ],
)
def test_ports_of_the_query(values: list[str], expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(StatusError, match="invalid port"):
            port_forward.ports_of(values)
    else:
        assert port_forward.ports_of(values) == expected
