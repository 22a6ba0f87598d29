"""Bind mounts as podling makes them."""

from pathlib import Path

import pytest

from podling import mounts

pytestmark = pytest.mark.real


def test_bind_and_readonly(node: Path) -> None:
    source, target = node / "with space", node / "target"
    source.mkdir()
    target.mkdir()
    mounts.bind(str(source), str(target))
    (target / "x").touch()
    mounts.bind(str(source), str(target), readonly=True)
    assert mounts.is_mount_point(str(target)) and not mounts.is_other_device(str(target))
    with pytest.raises(OSError, match="Read-only"):
        (target / "y").touch()
    assert len(mounts.targets_below(str(node))) == 2
    mounts.unmount_all(str(target))
    assert not mounts.is_mount_point(str(target)) and not (target / "x").exists()


def test_busy_mounts_are_detached(node: Path) -> None:
    target = node / "t"
    target.mkdir()
    mounts.mount("tmpfs", str(target), "tmpfs")
    with open(target / "open", "w"):
        assert mounts.unmount(str(target))
    assert not mounts.is_mount_point(str(target))


def test_failures_name_the_path(node: Path) -> None:
    with pytest.raises(OSError, match="none") as caught:
        mounts.mount("tmpfs", str(node / "none"), "tmpfs")
    assert caught.value.filename == str(node / "none")
