"""The mount table."""

from pathlib import Path

import pytest

from podling import mounts


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [("/a", "/a"), ("/a\\040b", "/a b"), ("/t\\011n\\012", "/t\tn\n"), ("/back\\134slash", "/back\\slash")],
)
def test_unescape(escaped: str, plain: str) -> None:
    assert mounts.unescape(escaped) == plain


def test_the_root_and_proc_are_mount_points(tmp_path: Path) -> None:
    assert mounts.is_mount_point("/") and mounts.is_mount_point("/proc")
    assert mounts.is_other_device("/proc")
    assert not mounts.is_mount_point(str(tmp_path)) and not mounts.is_other_device(str(tmp_path))
    assert not mounts.is_mount_point(str(tmp_path / "none")) and not mounts.is_other_device(str(tmp_path / "none"))
    assert mounts.targets_below(str(tmp_path)) == []
    assert "/proc" in mounts.targets_below("/proc")


def test_unmounting_what_is_not_mounted(tmp_path: Path) -> None:
    try:
        assert mounts.unmount(str(tmp_path)) is False
    except PermissionError:
        pytest.skip("only root may ask")
