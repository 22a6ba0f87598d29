"""Directories of this machine that volumes are, and leave behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from podling.cluster.config import Layout
from podling.controllers.base import LocalPaths


async def remove(path: str) -> None:
    """Remove a directory or file with all that is in it; nothing if it is not there. Raises OSError.

    In a process of its own: it may take long, and must hold up nobody.
    """
    if not os.path.isabs(path) or os.path.normpath(path) in ("/", "//"):
        raise OSError(f"{path} is nothing to remove")
    command = ("rm", "--recursive", "--force", "--one-file-system", "--", path)
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=nothing, stderr=pipe)
    _, said = await process.communicate()
    if process.returncode:
        raise OSError(said.decode(errors="replace").strip() or f"rm ended with {process.returncode}")


class NodePaths(LocalPaths):
    """Volumes on the local disk: a directory each, below that of their node."""

    def __init__(self, paths: Layout) -> None:
        self._paths = paths

    def path(self, node: str, name: str) -> str:
        return str(self._paths.node(node) / "local-path" / name)

    async def make(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)

    async def remove(self, path: str) -> None:
        # What a volume says of itself anybody may have written who may write volumes.
        node = Path(path).parent.parent.name
        if path != os.path.normpath(path) or path != self.path(node, Path(path).name):
            raise OSError(f"{path} is no directory of a volume on the local disk")
        await remove(path)
