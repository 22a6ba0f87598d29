"""What the supervisor says of what it prepares."""

from __future__ import annotations

import os

import pytest

from podling.cluster import supervisor
from podling.errors import PodlingError


def fail() -> None:
    raise PodlingError("ca.crt is damaged: restore it")


def test_a_known_failure_of_the_preparation_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    child = supervisor._fork_child(fail)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert capfd.readouterr().err == "ca.crt is damaged: restore it\n"
