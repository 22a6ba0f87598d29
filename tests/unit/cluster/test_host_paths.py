"""What hostPath volumes leave behind is removed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from podling.cluster import host_paths


async def test_a_directory_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "other")
    await host_paths.remove(str(tmp_path / "a"))
    assert [p.name for p in tmp_path.iterdir()] == ["other"]
    await host_paths.remove(str(tmp_path / "a"))


@pytest.mark.parametrize("path", ["/", "//", "relative", "/."])
async def test_some_things_are_never_removed(path: str) -> None:
    with pytest.raises(OSError, match="is nothing to remove"):
        await host_paths.remove(path)
