"""What configMap, secret, downwardAPI and projected volumes share: files that come from the API and follow it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from podling.volumes import atomic_writer, folders, ownership, tmpfs
from podling.volumes.atomic_writer import File
from podling.volumes.base import Context, Dependency, Ready

_FOLDER_MODE = 0o777


class ContentPlugin:
    """A plugin gives `payload` and `dependencies`. Content that is `in_memory` never touches a disk."""

    name = ""
    in_memory = True

    async def payload(self, context: Context) -> tuple[dict[str, File], datetime | None]:
        """The files, and when they are to be made anew by the clock. Raises VolumeError."""
        raise NotImplementedError

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        return ()

    async def setup(self, context: Context) -> Ready:
        files, refresh_at = await self.payload(context)
        folders.make(context.directory, _FOLDER_MODE)
        if self.in_memory:
            tmpfs.mount(context.directory, tmpfs.size_limit(context), _FOLDER_MODE)
        self._write(context, files)
        return Ready(context.directory, refresh_at)

    async def update(self, context: Context) -> datetime | None:
        files, refresh_at = await self.payload(context)
        self._write(context, files)
        return refresh_at

    def _write(self, context: Context, files: dict[str, File]) -> None:
        def prepare(folder: str) -> None:
            ownership.apply(folder, context.fs_group, readonly=True)

        atomic_writer.write(context.directory, files, prepare)
        ownership.apply(context.directory, context.fs_group, readonly=True, policy="OnRootMismatch")

    async def teardown(self, directory: str) -> None:
        await folders.remove(directory)
