"""What the supervisor says of what it prepares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from podling.cluster import supervisor
from podling.cluster.config import layout
from podling.errors import PodlingError


def fail() -> None:
    raise PodlingError("ca.crt is damaged: restore it")


def test_a_known_failure_of_the_preparation_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    child = supervisor._fork_child(fail)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert capfd.readouterr().err == "ca.crt is damaged: restore it\n"


def test_a_part_that_is_stopped_as_it_starts_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.getppid

    def stopped() -> int:
        # The child asks for its parent while it still has the supervisor's handlers.
        os.kill(os.getpid(), signal.SIGTERM)
        return real()

    monkeypatch.setattr(os, "getppid", stopped)
    part = supervisor.Part("part", lambda: None)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        made = supervisor.Supervisor([part], layout(tmp_path))
        made._fork(part)
        assert os.waitstatus_to_exitcode(os.waitpid(part.pid, 0)[1]) == -signal.SIGTERM
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(-1)


def test_a_full_disk_can_not_be_logged_so_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "part.log"
    log.touch()
    assert supervisor.last_line(log) == "it said nothing"
    usual = os.statvfs(tmp_path)
    full = os.statvfs_result((*usual[:4], 0, *usual[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert supervisor.last_line(log) == f"the disk of {tmp_path} is full: free some space and try again"
    log.write_text("key.pem can't be read\n")
    assert supervisor.last_line(log) == "key.pem can't be read"
