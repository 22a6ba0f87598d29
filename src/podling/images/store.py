"""The image store: images.base.ImageService over a folder on a local disk.

Any number of processes may use one folder at the same time; each can be killed at any moment. What stands where is in
`layout`, what the store knows in `index`, what comes in goes through `intake`. Mounting needs root; importing and
listing do not (layers that come in without root are unpacked at the first mount).
"""

from __future__ import annotations

import asyncio
import builtins
import os
import shutil
from datetime import datetime

import msgspec

from podling import mounts
from podling.images import manifest, overlay
from podling.images import pull as pulling
from podling.images import reference as references
from podling.images.base import (
    Credentials,
    FilesystemUsage,
    Image,
    ImageError,
    ImageInUse,
    ImageNotFound,
    Progress,
)
from podling.images.index import Index, Record, lookup_names
from podling.images.intake import Intake
from podling.images.layout import Layout, locked, read, write_atomically
from podling.images.manifest import Platform
from podling.images.registry_client import Registries
from podling.images.registry_config import RegistryConfig
from podling.images.sweep import sweep


class _Mounted(msgspec.Struct, frozen=True):
    """container.json: who uses which image, and where."""

    key: str
    image: str
    target: str


_mounted = msgspec.json.Decoder(_Mounted)


class ImageStore:
    """Implements images.base.ImageService. `close()` ends its connections; nothing on disk depends on it."""

    def __init__(
        self,
        root_dir: str | os.PathLike[str],
        *,
        registries: RegistryConfig | None = None,
        platform: Platform | None = None,
    ) -> None:
        self.layout = Layout(os.fspath(root_dir))
        self.layout.create()
        self.index = Index(self.layout)
        self.intake = Intake(self.layout, self.index)
        self.platform = platform or manifest.host_platform()
        self._registries = Registries(registries)

    async def close(self) -> None:
        await self._registries.close()

    async def pull(
        self, reference: str, credentials: tuple[Credentials, ...] = (), progress: Progress | None = None
    ) -> Image:
        """See ImageService. Raises InvalidReference or PullFailed."""
        parsed = references.parse(reference)
        repository = self._registries.repository(parsed, credentials)
        return await pulling.pull(self.intake, repository, parsed, self.platform, progress)

    async def status(self, reference: str) -> Image | None:
        record = self.index.find(reference)
        return self.index.image(record) if record is not None else None

    async def list(self) -> builtins.list[Image]:
        return self.index.images()

    def last_used(self, image_id: str) -> datetime:
        """When the image came in or was last mounted or unmounted, whichever was last."""
        return self.index.last_used(image_id)

    async def tag(self, reference: str, name: str) -> Image:
        """Give an image one more name."""
        record = self._find(reference)
        parsed = references.parse(name)
        if parsed.digest:
            raise ImageError(f"{name!r} has a digest: an image can only be given a tag")
        async with self.index.changing() as index:
            await index.point(parsed.tagged, record.id)
        return self.index.image(record)

    async def pin(self, reference: str, pinned: bool = True) -> None:
        """A pinned image is never garbage collected."""
        async with self.index.changing() as index:
            await index.put(msgspec.structs.replace(self._find(reference), pinned=pinned))

    async def remove(self, reference: str) -> None:
        """By id: the image. By name: that name, and the image if no other tag is left.

        Raises ImageNotFound, or ImageInUse while something of the image is mounted.
        """
        async with self.index.changing() as index:
            record = self._find(reference)
            if not index.is_id(reference) and self._others(record, reference):
                for name in _names(reference):
                    index.drop_reference(name)
                return
            users = [m.key for m in self._containers() if m.image == record.id]
            if users:
                raise ImageInUse(f"image {reference} is used by {users[0]}: remove the container first")
            index.drop(record.id)
        await sweep(self.layout, self.index)

    def _others(self, record: Record, reference: str) -> bool:
        named = set(_names(reference))
        return any(name not in named and "@" not in name for name in self.index.references(record.id))

    def _find(self, reference: str) -> Record:
        record = self.index.find(reference)
        if record is None:
            raise ImageNotFound(f"image {reference} is not here: pull or import it")
        return record

    async def in_use(self) -> set[str]:
        """Ids of images of which something is mounted."""
        return {m.image for m in self._containers()}

    def _containers(self) -> builtins.list[_Mounted]:
        found = []
        for entry in os.scandir(f"{self.layout.root}/containers"):
            data = None if entry.name.endswith(".tmp") else read(f"{entry.path}/container.json")
            if data:
                found.append(_mounted.decode(data))
        return found

    async def usage(self) -> FilesystemUsage:
        """Images alone; what containers wrote is `written`."""
        used = inodes = 0
        layers = {pair.diff_id for record in self.index.records() for pair in record.layers}
        for diff_id in layers:
            info = self.intake.layer_info(diff_id)
            if info is not None:
                used, inodes = used + info.size, inodes + info.inodes
        for entry in os.scandir(f"{self.layout.root}/blobs/sha256"):
            used, inodes = used + entry.stat().st_blocks * 512, inodes + 1
        return FilesystemUsage(self.layout.root, used, inodes)

    async def mount(self, image_id: str, key: str, target: str, *, readonly: bool = False) -> None:
        """See ImageService. `target` is made if it is missing. Mounting what is mounted is no error."""
        record = await self.intake.complete(self._find(image_id))
        folder = self.layout.container(key)
        os.makedirs(target, exist_ok=True)
        async with locked(self.layout.lock):
            if self.index.record(record.id) is None:
                raise ImageNotFound(f"image {image_id} was removed just now: pull or import it")
            self._begin(folder, _Mounted(key, record.id, os.path.abspath(target)), readonly)
            if record.layers and not readonly:
                self._copy_root(f"{self.layout.layer(record.layers[0].diff_id)}/diff", f"{folder}/upper")
        try:
            if not mounts.is_other_device(target):
                lower = self._lower(record)
                overlay.mount(f"{self.layout.root}/l", lower, target, "" if readonly else folder)
        except BaseException:
            await self.unmount(key, target)
            raise
        self.index.touch(record.id)

    def _begin(self, folder: str, mounted: _Mounted, readonly: bool) -> None:
        for sub in (folder, *(() if readonly else (f"{folder}/upper", f"{folder}/work"))):
            os.makedirs(sub, exist_ok=True)
        # After a power cut `volatile` would refuse the work folder; what is in it is of no container any more.
        if os.path.isdir(f"{folder}/work/work/incompat") and not mounts.is_other_device(mounted.target):
            shutil.rmtree(f"{folder}/work/work")
        write_atomically(f"{folder}/container.json", msgspec.json.encode(mounted), sync=False)

    @staticmethod
    def _copy_root(lowest: str, upper: str) -> None:
        """The root directory of the mount is the upper one: it gets owner and mode of the image's."""
        found = os.stat(lowest)
        os.chown(upper, found.st_uid, found.st_gid)
        os.chmod(upper, found.st_mode & 0o7777)

    def _lower(self, record: Record) -> builtins.list[str]:
        """Names under l/ from the top down; of a layer that comes twice only the upper one counts."""
        stack = ([record.fixup] if record.fixup else []) + [pair.diff_id for pair in reversed(record.layers)]
        names = [self.layout.short(diff_id) for diff_id in dict.fromkeys(stack)]
        # overlayfs wants two folders where nothing can be written, and one in any case.
        return [*names, *(["../empty"] if len(names) < 2 else [])]

    async def unmount(self, key: str, target: str) -> None:
        await self._release(key, target)

    async def _release(self, key: str, target: str) -> None:
        mounts.unmount_all(target)
        folder = self.layout.container(key)
        data = read(f"{folder}/container.json")
        trash = f"{folder}.{os.urandom(6).hex()}.tmp"
        try:
            os.rename(folder, trash)
        except FileNotFoundError:
            return
        if data:
            image = _mounted.decode(data).image
            if self.index.record(image) is not None:
                self.index.touch(image)
        await asyncio.to_thread(shutil.rmtree, trash, ignore_errors=True)

    async def mounted(self) -> dict[str, str]:
        """Targets by key of all that is mounted (or was, before a reboot): what a restarted agent goes through."""
        return {m.key: m.target for m in self._containers()}

    async def written(self, key: str) -> tuple[int, int]:
        return await asyncio.to_thread(_measure, f"{self.layout.container(key)}/upper")

    def upper(self, key: str) -> str:
        """The folder that takes what the container of `key` writes."""
        return f"{self.layout.container(key)}/upper"


def _names(reference: str) -> tuple[str, ...]:
    return lookup_names(references.parse(reference))


def _measure(folder: str) -> tuple[int, int]:
    used, inodes, seen = 0, 0, set[int]()
    pending = [folder]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if found.st_ino in seen:
                    continue
                if found.st_nlink > 1:
                    seen.add(found.st_ino)
                used, inodes = used + found.st_blocks * 512, inodes + 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return used, inodes
