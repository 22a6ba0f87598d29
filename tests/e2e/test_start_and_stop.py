"""`up` and `down` at any moment, beside each other or interrupted: a cluster runs whole or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import free_port, podling

#: A whole start takes about this long; what comes beside it comes at a random moment of it.
START = 1.2


class Command:
    """A `podling` that runs in the background."""

    def __init__(self, data: Path, *words: str) -> None:
        command = [sys.executable, "-m", "podling.cli.main", words[0], "--data-dir", str(data), *words[1:]]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said last."""
        said = [output.strip() for output in self.process.communicate(timeout=90)]
        assert "Traceback" not in "".join(said)
        return self.process.returncode, (said[1] if self.process.returncode else said[0]).splitlines()[-1]

    def outcome(self) -> tuple[int, str]:
        code, said = self.end()
        return code, said.partition(": ")[2] if code else "ready"


def running(data: Path) -> list[str]:
    """The processes of the cluster that are not commands."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if "podling.cluster" in words and str(data) in words:
                found.append(entry.name)
    return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A data directory, and the words that start a simulated cluster in it."""
    data = tmp_path / "cluster"
    try:
        yield data, ["up", "--simulate", "--port", free_port()]
    finally:
        podling(data, "down", "--purge")
        assert not running(data) and not data.exists()


def wait(moment: random.Random) -> None:
    time.sleep(moment.uniform(0, START))


@pytest.mark.parametrize("seed", range(4))
def test_down_beside_up(up: tuple[Path, list[str]], seed: int) -> None:
    data, words = up
    starting = Command(data, *words)
    wait(random.Random(seed))
    stopping = Command(data, "down")
    started, stopped = starting.outcome(), stopping.end()
    # Whoever came first is over before the other one is: the cluster may have run, but nothing is left of it.
    refused = (1, "the cluster was stopped while it started: `podling up` starts it again")
    assert started in (refused, (0, "ready")) and stopped[0] == 0
    if stopped[1] == "The cluster is down." or started == refused:
        assert not running(data)
    else:
        # `down` was first, so that there was nothing yet.
        assert stopped[1] == "No cluster was running." and running(data)


@pytest.mark.parametrize("seed", range(2))
def test_two_at_once_make_one_cluster(up: tuple[Path, list[str]], seed: int) -> None:
    data, words = up
    first = Command(data, *words)
    wait(random.Random(seed))
    second = Command(data, *words)
    outcomes = {first.outcome(), second.outcome()}
    starting = (1, "another `podling up` is starting this cluster: `podling status` shows how far it is")
    assert outcomes <= {(0, "ready"), starting} and (0, "ready") in outcomes
    assert "nodes ready" in podling(data, "status")


def test_two_downs_at_once(up: tuple[Path, list[str]]) -> None:
    data, words = up
    assert Command(data, *words).outcome() == (0, "ready")
    both = [Command(data, "down"), Command(data, "down", "--purge")]
    assert [code for code, _ in (c.end() for c in both)] == [0, 0]
    assert not running(data) and not data.exists()


@pytest.mark.parametrize("seed", range(6))
def test_an_interrupted_start_leaves_nothing(up: tuple[Path, list[str]], seed: int) -> None:
    data, words = up
    starting = Command(data, *words)
    # Before this the interpreter itself is interrupted, while it starts.
    time.sleep(0.2)
    wait(random.Random(seed))
    os.kill(starting.process.pid, signal.SIGINT)
    said = starting.process.communicate(timeout=60)
    if starting.process.returncode == 0:
        assert "is ready" in said[0] and running(data)
    else:
        assert starting.process.returncode == 130 and "Traceback" not in said[1]
        assert not running(data)
    assert Command(data, *words).outcome() == (0, "ready")


def test_a_supervisor_that_is_killed_as_it_starts_leaves_nothing(up: tuple[Path, list[str]]) -> None:
    data, words = up
    starting = Command(data, *words)
    while not running(data):
        time.sleep(0.01)
    time.sleep(0.3)
    for process in running(data):
        os.kill(int(process), signal.SIGKILL)
    code, said = starting.end()
    assert code == 1 and "the cluster did not start" in said
    assert not running(data)
