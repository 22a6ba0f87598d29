"""Container logs: whose, which lines, until when."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling import clock
from podling.api import core_v1, meta_v1
from podling.api.errors import StatusError
from podling.kubelet import logs
from podling.streaming import log_query
from podling.streaming.log_query import LogQuery


def lines(*texts: str) -> bytes:
    """`text` is `<second> <stream letter><tag> <text>`."""
    out = []
    for text in texts:
        second, mark, rest = text.split(" ", 2)
        stream = {"o": "stdout", "e": "stderr"}[mark[0]]
        out.append(f"2026-01-01T00:00:{int(second):02}.5Z {stream} {mark[1]} {rest}\n")
    return "".join(out).encode()


SOME = lines("1 oF one", "2 eF two", "3 oP thr", "4 oF ee", "5 oF five")


def read(path: Path, query: LogQuery, at: float = 0) -> bytes:
    async def main() -> bytes:
        await asyncio.sleep(at)
        return b"".join([piece async for piece in logs.read(path, query, running=lambda: False)])

    return clock.run_virtual(main())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, b"one\ntwo\nthree\nfive\n"),
        ({"tail_lines": 1}, b"five\n"),
        ({"tail_lines": 2}, b"ee\nfive\n"),
        ({"tail_lines": 0}, b""),
        ({"tail_lines": 100}, b"one\ntwo\nthree\nfive\n"),
        ({"limit_bytes": 5}, b"one\nt"),
        ({"limit_bytes": 1000}, b"one\ntwo\nthree\nfive\n"),
        ({"stream": "Stdout"}, b"one\nthree\nfive\n"),
        ({"stream": "Stderr"}, b"two\n"),
        ({"timestamps": True, "tail_lines": 1}, b"2026-01-01T00:00:05.500000000Z five\n"),
        (
            {"timestamps": True, "stream": "Stdout", "limit_bytes": 75},
            b"2026-01-01T00:00:01.500000000Z one\n2026-01-01T00:00:03.500000000Z three\nfive\n"[:75],
        ),
    ],
    ids=str,
)
def test_which_lines_and_how(tmp_path: Path, query: dict[str, Any], expected: bytes) -> None:
    path = tmp_path / "c.log"
    path.write_bytes(SOME)
    result = read(path, LogQuery(**query))
    if "limit_bytes" in query and query.get("timestamps"):
        assert len(result) == 75
        assert result.startswith(b"2026-01-01T00:00:01.500000000Z one\n2026-01-01T00:00:03.500000000Z three\n")
    else:
        assert result == expected


def test_since_counts_from_now(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    path.write_bytes(SOME)
    assert read(path, LogQuery(since_seconds=2), at=6) == b"ee\nfive\n"
    assert read(path, LogQuery(since_seconds=1), at=60) == b""


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none.log", LogQuery()) == b""
    assert read(tmp_path / "none.log", LogQuery(tail_lines=3)) == b""


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        ("2026-01-01T00:00:01Z", "2026-01-01T00:00:01.000000000Z"),
        ("2026-01-01T00:00:01.123456789Z", "2026-01-01T00:00:01.123456789Z"),
        ("2026-01-01T00:00:01.12+00:00", "2026-01-01T00:00:01.120000000Z"),
        ("2026-01-01T02:00:01.12+02:00", "2026-01-01T02:00:01.120000000+02:00"),
    ],
)
def test_timestamps_have_nine_digits(tmp_path: Path, when: str, shown: str) -> None:
    path = tmp_path / "c.log"
    path.write_text(f"{when} stdout F text\n")
    assert read(path, LogQuery(timestamps=True)) == f"{shown} text\n".encode()


def test_lines_that_are_none_are_left_out_and_empty_ones_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    path.write_bytes(b"garbage\n\n2026-01-01T00:00:01Z stdout F \n2026-01-01T00:00:01Z stdout F\n")
    assert read(path, LogQuery()) == b"\n\n"


@given(
    st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=30),
    st.integers(0, 40),
    st.booleans(),
)
def test_tails_agree_with_counting(tmp_path_factory: Any, texts: list[bytes], wanted: int, ended: bool) -> None:
    path = tmp_path_factory.mktemp("tail") / "f"
    data = b"".join(t + b"\n" for t in texts)
    if not ended and data:
        data = data[:-1] or b""
    path.write_bytes(data)
    whole = re.findall(rb"[^\n]*\n|[^\n]+", data)
    with path.open("rb") as file:
        file.seek(logs.tail_offset(file, wanted))
        assert file.read() == b"".join(whole[max(len(whole) - wanted, 0) :])


def test_tails_over_several_chunks(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"".join(b"%d %s\n" % (n, b"x" * 1000) for n in range(1000)))
    with path.open("rb") as file:
        file.seek(logs.tail_offset(file, 300))
        assert file.read().split(b" ")[0] == b"700"


class Following:
    """A reader that follows, on virtual time."""

    def __init__(self, path: Path, **query: Any) -> None:
        self.path = path
        self.running = True
        self.got = b""
        self._query = LogQuery(follow=True, **query)
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for piece in logs.read(self.path, self._query, running=lambda: self.running):
            self.got += piece

    def write(self, *texts: str) -> None:
        with self.path.open("ab") as file:
            file.write(lines(*texts))

    async def expect(self, text: bytes) -> None:
        await asyncio.sleep(1)
        assert self.got == text


def test_following_to_the_end_of_the_container(tmp_path: Path) -> None:
    async def main() -> None:
        following = Following(tmp_path / "c.log")
        await following.expect(b"")
        following.write("1 oF one")
        await following.expect(b"one\n")
        following.write("2 oP tw")
        await following.expect(b"one\ntw")
        following.write("2 oF o", "3 oF last")
        following.running = False
        await asyncio.wait_for(following.task, 5)
        assert following.got == b"one\ntwo\nlast\n"

    clock.run_virtual(main())


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        following = Following(tmp_path / "c.log")
        whole = lines("1 oF hello")
        (tmp_path / "c.log").write_bytes(whole[:-4])
        await following.expect(b"")
        with (tmp_path / "c.log").open("ab") as file:
            file.write(whole[-4:])
        await following.expect(b"hello\n")
        following.task.cancel()
        await asyncio.gather(following.task, return_exceptions=True)

    clock.run_virtual(main())


def test_rotation_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        following = Following(tmp_path / "c.log", tail_lines=1)
        following.write("0 oF zero", "1 oF one")
        await following.expect(b"one\n")
        for round_ in range(3):
            following.write(f"{round_} oF before{round_}")
            following.path.rename(tmp_path / f"c.log.{round_}")
            with (tmp_path / f"c.log.{round_}").open("ab") as old:
                old.write(lines(f"{round_} oF late{round_}"))
            following.write(f"{round_} oF after{round_}")
            await asyncio.sleep(1)
        following.running = False
        await asyncio.wait_for(following.task, 5)
        expected = b"".join(b"before%d\nlate%d\nafter%d\n" % (n, n, n) for n in range(3))
        assert following.got == b"one\n" + expected

    clock.run_virtual(main())


def test_a_truncated_file_is_read_from_its_start(tmp_path: Path) -> None:
    async def main() -> None:
        following = Following(tmp_path / "c.log")
        following.write("1 oF a long first line")
        await following.expect(b"a long first line\n")
        following.path.write_bytes(lines("2 oF new"))
        await following.expect(b"a long first line\nnew\n")
        following.task.cancel()
        await asyncio.gather(following.task, return_exceptions=True)

    clock.run_virtual(main())


def test_following_ends_at_the_limit(tmp_path: Path) -> None:
    async def main() -> None:
        following = Following(tmp_path / "c.log", limit_bytes=3)
        following.write("1 oF hello")
        await asyncio.wait_for(following.task, 5)
        assert following.got == b"hel"

    clock.run_virtual(main())


def container(**state: Any) -> core_v1.ContainerStatus:
    last = state.pop("last", None)
    return core_v1.ContainerStatus(
        name="app",
        image="i",
        image_id="i",
        ready=False,
        restart_count=0,
        container_id=state.pop("id", None),
        state=core_v1.ContainerState(**state),
        last_state=core_v1.ContainerState(terminated=last) if last else None,
    )


def terminated(id_: str | None) -> core_v1.ContainerStateTerminated:
    return core_v1.ContainerStateTerminated(exit_code=1, container_id=id_)


RUNNING = core_v1.ContainerStateRunning()


@pytest.mark.parametrize(
    ("status", "previous", "expected"),
    [
        (container(running=RUNNING, id="x://1"), False, "x://1"),
        (container(running=RUNNING, id="x://2", last=terminated("x://1")), True, "x://1"),
        (container(terminated=terminated("x://1"), id="x://1"), False, "x://1"),
        (container(terminated=terminated(None), last=terminated("x://0")), False, "x://0"),
        (
            container(waiting=core_v1.ContainerStateWaiting(reason="CrashLoopBackOff"), last=terminated("x://1")),
            False,
            "x://1",
        ),
        (container(running=RUNNING, id="x://1"), True, 'previous terminated container "app" in pod "web" not found'),
        (
            container(waiting=core_v1.ContainerStateWaiting(reason="ContainerCreating")),
            False,
            'container "app" in pod "web" is waiting to start: ContainerCreating',
        ),
        (
            container(waiting=core_v1.ContainerStateWaiting(reason="ImagePullBackOff")),
            False,
            'container "app" in pod "web" is waiting to start: trying and failing to pull image',
        ),
        (container(terminated=terminated(None)), False, 'container "app" in pod "web" is terminated'),
        (container(), False, 'container "app" in pod "web" is waiting to start - no logs yet'),
        (None, False, 'container "app" in pod "web" is not available'),
    ],
)
def test_whose_log_is_meant(status: core_v1.ContainerStatus | None, previous: bool, expected: str) -> None:
    pod = core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="web"),
        status=core_v1.PodStatus(container_statuses=[status] if status else None),
    )
    if expected.startswith("x://"):
        assert logs.container_id(pod, "app", previous=previous) == expected
    else:
        with pytest.raises(StatusError) as caught:
            logs.container_id(pod, "app", previous=previous)
        assert (caught.value.code, str(caught.value)) == (400, expected)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"tailLines": "-1"}, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            {"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"},
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ({"stream": "x"}, 'stream: Unsupported value: "x": supported values: "All", "Stderr", "Stdout"'),
        ({"stream": "Stdout", "tailLines": "1"}, "`tailLines` and specific `stream` are mutually exclusive for now"),
        ({"tailLines": "1_0"}, 'strconv.ParseInt: parsing "1_0": invalid syntax'),
        ({"tailLines": "x"}, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"sinceTime": "yesterday"}, 'parsing time "yesterday"'),
    ],
)
def test_queries_that_make_no_sense(query: dict[str, str], message: str) -> None:
    with pytest.raises(StatusError) as caught:
        log_query.parse(query)
    assert message in str(caught.value)


def test_a_query_survives_the_way_to_the_node() -> None:
    query = {"follow": "true", "timestamps": "true", "sinceTime": "2026-01-01T00:00:00Z", "limitBytes": "5"}
    assert log_query.to_query(log_query.parse(query)) == query
    assert log_query.parse({"follow": "false", "previous": "true"}) == LogQuery(previous=True)
