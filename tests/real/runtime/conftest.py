from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short path, for sockets and mounts."""
    directory = Path(tempfile.mkdtemp(prefix=f"podling-{os.getpid()}-", dir="/tmp"))
    # In a user namespace root has to find its way to its root file system.
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
