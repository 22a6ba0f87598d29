"""Streams of exec and attach: what is asked for, what sizes say, what an outcome is called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from podling import clock
from podling.api.errors import StatusError, bad_request
from podling.streaming import remote_command
from podling.streaming.remote_command import Options


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"stdin": "true", "stdout": "true", "stderr": "true"}, Options(True, True, True, False)),
        ({"input": "1", "output": "1", "error": "1", "tty": "1"}, Options(True, True, False, True)),
        ({"stdout": "1", "stderr": "0"}, Options(False, True, False, False)),
        ({"stdout": "false"}, None),
        ({}, None),
    ],
)
def test_which_streams_are_wanted(query: dict[str, str], expected: Options | None) -> None:
    if expected is None:
        with pytest.raises(StatusError, match="you must specify at least 1 of stdin, stdout, stderr"):
            remote_command.options(query)
    else:
        assert remote_command.options(query) == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b'{"Width":80,"Height":24}'], [(80, 24)]),
        ([b'{"Width":80,', b'"Height":24}\n{"Width":1,"Height":2}'], [(80, 24), (1, 2)]),
        ([b'{"Width":3,"Height":4}', b"\n", b'{"Width":5,"Height":6}'], [(3, 4), (5, 6)]),
        ([b"garbage"], []),
        ([b"[]", b'{"Width":3,"Height":4}'], [(3, 4)]),
    ],
)
def test_terminal_sizes(pieces: Sequence[bytes], expected: list[tuple[int, int]]) -> None:
    async def main() -> list[tuple[int, int]]:
        left = [*pieces, b""]

        async def read() -> bytes:
            await asyncio.sleep(0)
            return left.pop(0)

        return [size async for size in remote_command.sizes(read)]

    assert clock.run_virtual(main()) == expected


def test_outcomes() -> None:
    status_of = remote_command.status_of
    assert status_of(0, "x").status == status_of(None, "x").status == "Success"
    failed = status_of(3, "x")
    assert (failed.reason, failed.status) == ("NonZeroExitCode", "Failure")
    assert failed.details is not None and failed.details.causes is not None
    assert [(c.reason, c.message) for c in failed.details.causes] == [("ExitCode", "3")]
    broken = status_of(RuntimeError("no"), "executing command in container")
    assert (broken.code, broken.message) == (
        500,
        "Internal error occurred: error executing command in container: no",
    )
    assert status_of(bad_request("mine"), "x").message == "mine"


@pytest.mark.parametrize(
    ("protocol", "success", "failure"),
    [
        ("v5.channel.k8s.io", b'"status":"Success"', b'"code":400'),
        ("v4.channel.k8s.io", b'"status":"Success"', b'"code":400'),
        ("v2.channel.k8s.io", b"", b"why"),
        ("channel.k8s.io", b"", b"why"),
    ],
)
def test_how_an_outcome_is_written(protocol: str, success: bytes, failure: bytes) -> None:
    good = remote_command.encoded_status(remote_command.status_of(0, ""), protocol)
    bad = remote_command.encoded_status(bad_request("why").status, protocol)
    assert success in good and bool(good) == bool(success)
    assert failure in bad
