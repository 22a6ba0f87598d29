"""One command at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from podling.cluster import turns
from podling.cluster.config import Layout


@pytest.fixture
def paths(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", tmp_path / "run" / "cluster")


def test_whose_turn_it_is(paths: Layout) -> None:
    assert turns.whose(paths) == ""
    with turns.turn(paths, "down"):
        assert turns.whose(paths) == "down"
    assert turns.whose(paths) == "" and list(paths.run.parent.iterdir()) == []


def test_the_next_one_waits_and_then_has_it_alone(paths: Layout) -> None:
    order: list[str] = []
    ready = threading.Event()

    def next_one(name: str) -> None:
        ready.wait()
        with turns.turn(paths, name):
            order.append(f"{name} {turns.whose(paths)}")

    others = [threading.Thread(target=next_one, args=(name,)) for name in ("a", "b", "c")]
    with turns.turn(paths, "up"):
        for other in others:
            other.start()
        ready.set()
        others[0].join(0.1)
        order.append("up ends")
    for other in others:
        other.join(10)
    assert order[0] == "up ends" and sorted(order[1:]) == ["a a", "b b", "c c"]
    assert list(paths.run.parent.iterdir()) == []


def test_a_place_that_can_not_be_written(paths: Layout) -> None:
    paths.run.parent.write_text("a file")
    with pytest.raises(OSError), turns.turn(paths, "up"):
        raise AssertionError("unreachable")
