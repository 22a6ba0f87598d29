"""Directories of this machine that hostPath volumes leave behind."""

from __future__ import annotations

import asyncio
import os


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
