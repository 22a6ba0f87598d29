from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from podling import clock
from podling.runtime import fake_shell


def play(script: str, env: dict[str, str] | None = None) -> tuple[int, str, str, float]:
    """(exit code, stdout, stderr, seconds it took)"""
    said: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def write(stream: str, data: bytes) -> None:
        said[stream] += data

    async def unknown(argv: Sequence[str]) -> int:
        return 127

    async def main() -> tuple[int, str, str, float]:
        process = fake_shell.Process({"HOSTNAME": "web-0", **(env or {})}, {}, write, unknown)
        code = await process.run(["sh", "-c", script])
        return code, said["stdout"].decode(), said["stderr"].decode(), clock.elapsed()

    return clock.run_virtual(main())


@pytest.mark.parametrize(
    ("script", "code", "out", "took"),
    [
        ("exit 3", 3, "", 0),
        ("sleep 5; exit 1", 1, "", 5),
        ("sleep 1m && sleep 0.5", 0, "", 60.5),
        ("true && echo yes || echo no", 0, "yes\n", 0),
        ("false && echo yes || echo no", 0, "no\n", 0),
        ("! true", 1, "", 0),
        ("false; echo $?", 0, "1\n", 0),
        ("echo 'a $HOSTNAME' \"b $HOSTNAME\" c${HOSTNAME}", 0, "a $HOSTNAME b web-0 cweb-0\n", 0),
        ("echo ${MISSING:-default} $MISSING end", 0, "default end\n", 0),
        ("X=1; export Y=2; echo $X$Y", 0, "12\n", 0),
        ("if [ -f /x ]; then echo a; elif [ 2 -gt 1 ]; then echo b; else echo c; fi", 0, "b\n", 0),
        ("touch /x; while [ -e /x ]; do sleep 2; rm /x; done; echo done", 0, "done\n", 2),
        ("for i in 1 2 3; do echo $i; done", 0, "1\n2\n3\n", 0),
        ("echo one > /f; echo two >> /f; cat /f", 0, "one\ntwo\n", 0),
        ("(echo sub; exit 4)", 4, "sub\n", 0),
        ("{ echo group; }", 0, "group\n", 0),
        ("sleep 3 & sleep 1; wait", 0, "", 3),
        ("# a comment\necho after # another", 0, "after\n", 0),
        ("printf '%s-%d\\n' a 1", 0, "a-1\n", 0),
        ("echo quiet > /dev/null", 0, "", 0),
        ("exec sh -c 'exit 9'; echo never", 9, "", 0),
        ("test -n '' || exit 2", 2, "", 0),
        ("nonsense", 127, "", 0),
    ],
)
def test_scripts(script: str, code: int, out: str, took: float) -> None:
    assert play(script) == (code, out, "", took)


@pytest.mark.parametrize(
    ("script", "err"),
    [
        ("echo no >&2", "no\n"),
        ("cat /missing", "cat: can't open '/missing': No such file or directory\n"),
        ("rm /missing", "rm: can't remove '/missing': No such file or directory\n"),
        ("sleep soon", "sleep: invalid time interval 'soon'\n"),
    ],
)
def test_complaints(script: str, err: str) -> None:
    assert play(script)[2] == err


def test_error_can_be_sent_to_output() -> None:
    assert play("cat /missing 2>&1; rm -f /missing")[1:3] == (
        "cat: can't open '/missing': No such file or directory\n",
        "",
    )


@pytest.mark.parametrize(
    ("argv", "known"),
    [
        (("sleep", "5"), True),
        (("/bin/sh", "-c", "exit 1"), True),
        (("sh", "-c", "while true; do nginx; done"), True),
        (("nginx", "-g", "daemon off;"), False),
        (("sh", "-c", "echo a | grep a"), False),
        (("sh",), False),
        ((), False),
    ],
)
def test_what_it_takes_on(argv: tuple[str, ...], known: bool) -> None:
    assert fake_shell.knows(argv) is known


def test_busy_loop_does_not_stop_time() -> None:
    async def main() -> str:
        process = fake_shell.Process({}, {}, lambda stream, data: None, _never)
        spinning = asyncio.ensure_future(process.run(["sh", "-c", "while true; do true; done"]))
        await asyncio.sleep(60)
        state = "spinning" if not spinning.done() else "ended"
        spinning.cancel()
        return state

    assert clock.run_virtual(main()) == "spinning"


async def _never(argv: Sequence[str]) -> int:
    raise AssertionError(argv)


def test_trap_is_run_on_termination() -> None:
    async def main() -> tuple[bool, int]:
        process = fake_shell.Process({}, {}, lambda stream, data: None, _never)
        running = asyncio.ensure_future(process.run(["sh", "-c", "trap 'exit 5' TERM; sleep 100"]))
        await asyncio.sleep(1)
        code = await process.terminate()
        running.cancel()
        return process.handles_term, code

    assert clock.run_virtual(main()) == (True, 5)
