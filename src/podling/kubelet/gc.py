"""What is left behind is removed: folders and links of pods that are gone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from podling import log, mounts

_log = log.get(__name__)


def remove_tree(path: str) -> bool:
    """Remove a folder unless something is mounted in it: behind a mount may be data that is not ours to delete."""
    if not os.path.isdir(path):
        return True
    if mounts.targets_below(path):
        _log.warning("%s is left in place: something is mounted below it", path)
        return False
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.exists(path)


def stray_entries(directory: str, known: Callable[[str], bool]) -> list[str]:
    """Paths in `directory` whose names nobody knows."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return [os.path.join(directory, name) for name in sorted(names) if not known(name)]


def dead_links(directory: str) -> list[str]:
    """Links in `directory` to logs that are gone."""
    return [
        path
        for path in stray_entries(directory, lambda name: False)
        if os.path.islink(path) and not os.path.exists(path)
    ]


def unlink(path: str) -> None:
    """Remove a file or link; gone already is as good."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
