"""nfs volumes, by the node's own mount helper (nfs-common)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from podling import mounts
from podling.api import core_v1
from podling.volumes import folders
from podling.volumes.base import Context, Ready, StaticPlugin, VolumeError

_MODE = 0o750


class NFSPlugin(StaticPlugin):
    name = "kubernetes.io/nfs"

    async def setup(self, context: Context) -> Ready:
        assert context.volume.nfs is not None
        return Ready(await mount(context.volume.nfs, context.directory))

    async def teardown(self, directory: str) -> None:
        await folders.remove(directory)


async def mount(source: core_v1.NFSVolumeSource, directory: str, options: Sequence[str] = ()) -> str:
    """Mount the share at `directory` unless it is. Raises VolumeError with what mount said."""
    folders.make(directory, _MODE)
    if mounts.is_mount_point(directory):
        return directory
    server = f"[{source.server}]" if ":" in source.server and not source.server.startswith("[") else source.server
    chosen = [*options, *(["ro"] if source.read_only and "ro" not in options else [])]
    arguments = ["-t", "nfs", *(["-o", ",".join(chosen)] if chosen else []), f"{server}:{source.path}", directory]
    process = await asyncio.create_subprocess_exec(
        "mount",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        await folders.remove(directory)
        raise VolumeError(
            f"mount failed: exit status {process.returncode}\nMounting command: mount\n"
            f"Mounting arguments: {' '.join(arguments)}\nOutput: {out.decode('utf-8', 'replace')}"
        )
    return directory
