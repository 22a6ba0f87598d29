"""Types of host paths."""

import os
import socket
from pathlib import Path

import pytest

from podling.volumes.base import VolumeError
from podling.volumes.host_path import prepare


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(tmp_path)
        bound.bind("socket")
        os.chdir(here)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("dir", ""),
        ("dir", "Directory"),
        ("dir", "DirectoryOrCreate"),
        ("file", "File"),
        ("file", "FileOrCreate"),
        ("socket", "Socket"),
        ("new/dir", "DirectoryOrCreate"),
        ("newfile", "FileOrCreate"),
        ("any", ""),
    ],
)
def test_what_is_there_or_made(place: Path, name: str, type_: str) -> None:
    assert prepare(str(place / name), type_) == str(place / name)
    assert (place / name).exists()


def test_character_devices() -> None:
    assert prepare("/dev/null", "CharDevice") == "/dev/null"


@pytest.mark.parametrize(
    ("name", "type_", "what"),
    [
        ("file", "Directory", "a directory"),
        ("file", "DirectoryOrCreate", "a directory"),
        ("none", "Directory", "a directory"),
        ("dir", "File", "a file"),
        ("dir", "FileOrCreate", "a file"),
        ("none", "File", "a file"),
        ("file", "Socket", "a socket file"),
        ("file", "CharDevice", "a character device"),
        ("file", "BlockDevice", "a block device"),
    ],
)
def test_what_is_something_else(place: Path, name: str, type_: str, what: str) -> None:
    with pytest.raises(VolumeError) as caught:
        prepare(str(place / name), type_)
    assert str(caught.value) == f"hostPath type check failed: {place / name} is not {what}"


def test_unknown_types(place: Path) -> None:
    with pytest.raises(VolumeError, match=r"^Folder is an invalid volume type$"):
        prepare(str(place), "Folder")
