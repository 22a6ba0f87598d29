"""Making and removing the folders that volumes live in."""

from __future__ import annotations

import asyncio
import os
import shutil

from podling import mounts


def make(directory: str, mode: int) -> None:
    """The folder with exactly this mode; one that is there stays as its pod may have changed it. Parents are 0750,
    since they lead to other pods' secrets too."""
    if os.path.isdir(directory):
        return
    os.makedirs(os.path.dirname(directory), mode=0o750, exist_ok=True)
    # Made aside and renamed: never seen with another mode, also after a kill in between.
    temporary = f"{directory}.{os.urandom(4).hex()}.tmp"
    os.mkdir(temporary)
    os.chmod(temporary, mode)
    os.rename(temporary, directory)


async def remove(directory: str) -> None:
    """Unmount what is mounted at and below the folder, then delete it. Never deletes through a mount."""
    if not os.path.lexists(directory):
        return
    for target in reversed(mounts.targets_below(os.path.realpath(directory))):
        mounts.unmount_all(target)
    await asyncio.to_thread(_delete, directory)


def _delete(directory: str) -> None:
    if mounts.targets_below(os.path.realpath(directory)):
        raise OSError(f"{directory} still has mounts")
    try:
        if os.path.isdir(directory) and not os.path.islink(directory):
            shutil.rmtree(directory)
        else:
            os.unlink(directory)
    except FileNotFoundError:
        pass
