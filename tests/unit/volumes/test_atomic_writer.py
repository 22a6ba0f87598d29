"""The ..data scheme: all at once, only when something changed, nothing left behind."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podling.volumes import atomic_writer
from podling.volumes.atomic_writer import File
from podling.volumes.base import VolumeError


def _files(**texts: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode(), 0o640) for name, text in texts.items()}


def _shown(folder: Path) -> dict[str, str]:
    data = folder / "..data"
    found = {}
    for top in folder.iterdir():
        if not top.name.startswith(".."):
            assert os.readlink(top) == f"..data/{top.name}"
            paths = [p for p in top.rglob("*") if p.is_file()] if top.is_dir() else [top]
            found |= {str(p.relative_to(folder)): p.read_text() for p in paths}
    assert not os.path.isabs(os.readlink(data))
    return found


def test_first_write(tmp_path: Path) -> None:
    assert atomic_writer.write(str(tmp_path), _files(a="1", d__b="2", d__c="3"))
    assert _shown(tmp_path) == {"a": "1", "d/b": "2", "d/c": "3"}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    atomic_writer.write(str(tmp_path), _files(a="1"))
    before = os.readlink(tmp_path / "..data")
    assert not atomic_writer.write(str(tmp_path), _files(a="1"))
    assert os.readlink(tmp_path / "..data") == before


@pytest.mark.parametrize(
    "after",
    [_files(a="2", b="1"), _files(b="1"), _files(a="1", b="1", c="1")],
    ids=["content", "removal", "addition"],
)
def test_changes_swap_everything(tmp_path: Path, after: dict[str, File]) -> None:
    atomic_writer.write(str(tmp_path), _files(a="1", b="1"))
    before = os.readlink(tmp_path / "..data")
    assert atomic_writer.write(str(tmp_path), after)
    assert os.readlink(tmp_path / "..data") != before
    assert not (tmp_path / before).exists()
    assert _shown(tmp_path) == {name: file.data.decode() for name, file in after.items()}


def test_preparation_is_done_before_anybody_sees_it(tmp_path: Path) -> None:
    def prepare(folder: str) -> None:
        assert not (tmp_path / "a").exists()
        os.chmod(f"{folder}/a", 0o444)

    atomic_writer.write(str(tmp_path), _files(a="1"), prepare)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o444


def test_a_failure_leaves_the_old_content(tmp_path: Path) -> None:
    atomic_writer.write(str(tmp_path), _files(a="1"))

    def fail(folder: str) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        atomic_writer.write(str(tmp_path), _files(a="2"), fail)
    assert _shown(tmp_path) == {"a": "1"}
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..2")]) == 1


def test_leftovers_of_a_killed_writer_go(tmp_path: Path) -> None:
    atomic_writer.write(str(tmp_path), _files(a="1"))
    (tmp_path / "..2020_01_01_00_00_00.1").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..2020_01_01_00_00_00.1")
    atomic_writer.write(str(tmp_path), _files(a="2"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["..data", os.readlink(tmp_path / "..data"), "a"])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "must not be empty"),
        ("/a", "must be relative path: /a"),
        ("a/../b", "must not contain '..': a/../b"),
        ("..a", "must not start with '..': ..a"),
        ("a" * 256, "filenames must be less than or equal to 255 characters"),
        ("a/" * 2050, "must be less than or equal to 4096 characters"),
    ],
)
def test_paths_that_are_refused(tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(VolumeError) as caught:
        atomic_writer.write(str(tmp_path), {path: File(b"", 0o644)})
    assert words in str(caught.value) and str(caught.value).startswith("invalid path: ")
    assert list(tmp_path.iterdir()) == []


_names = st.sampled_from(["a", "b", "d/a", "d/e/f", "d2"])
_payloads = st.dictionaries(_names, st.binary(max_size=5), max_size=5)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_payloads, min_size=1, max_size=5))
def test_any_sequence_ends_with_the_last(tmp_path: Path, payloads: list[dict[str, bytes]]) -> None:
    folder = tmp_path / os.urandom(6).hex()
    folder.mkdir()
    for payload in payloads:
        atomic_writer.write(str(folder), {name: File(data, 0o644) for name, data in payload.items()})
    last = {name: data.decode("latin-1") for name, data in payloads[-1].items()}
    data = {n: (folder / n).read_bytes().decode("latin-1") for n in last}
    assert data == last
    tops = {name.partition("/")[0] for name in last}
    assert {p.name for p in folder.iterdir() if not p.name.startswith("..")} == tops
