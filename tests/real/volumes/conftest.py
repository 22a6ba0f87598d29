"""A node's root directory whose mounts are gone afterwards, whatever happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from podling import mounts


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "node"
    root.mkdir()
    yield root
    for target in reversed(mounts.targets_below(str(tmp_path))):
        mounts.unmount_all(target)
