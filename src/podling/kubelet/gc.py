"""What is left behind is removed: dead containers, folders of pods that are gone, images when the disk fills up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from podling import clock, log, mounts
from podling.images.base import Image, ImageError, ImageService

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


def images_to_remove(
    images: Iterable[Image], in_use: set[str], last_used: dict[str, datetime], now: datetime, minimum_age: float
) -> list[Image]:
    """Unused images, the longest unused first."""
    oldest = timedelta(seconds=minimum_age)
    free = [i for i in images if i.id not in in_use and not i.pinned and now - last_used.get(i.id, now) >= oldest]
    return sorted(free, key=lambda i: last_used[i.id])


class ImageCollector:
    """Removes unused images when the image file system is fuller than `high` percent, until it is at `low`."""

    def __init__(self, images: ImageService, *, high: int, low: int, minimum_age: float) -> None:
        self._images, self._high, self._low, self._minimum_age = images, high, low, minimum_age
        self._last_used: dict[str, datetime] = {}

    async def note_used(self, in_use: set[str]) -> list[Image]:
        """Remember which images are in use now; all images."""
        now = clock.now()
        images = await self._images.list()
        for image in images:
            if image.id in in_use or image.id not in self._last_used:
                self._last_used[image.id] = now
        present = {i.id for i in images}
        for gone in self._last_used.keys() - present:
            del self._last_used[gone]
        return images

    async def collect(self, in_use: set[str], *, wanted: int | None = None) -> int:
        """Remove what must go (or `wanted` bytes' worth); how many bytes that was."""
        images = await self.note_used(in_use)
        if wanted is None:
            wanted = await self._excess()
        freed = 0
        minimum_age = self._minimum_age
        for image in images_to_remove(images, in_use, self._last_used, clock.now(), minimum_age):
            if freed >= wanted:
                break
            try:
                await self._images.remove(image.id)
            except ImageError as error:
                _log.info("image %s stays: %s", image.id, error)
                continue
            freed += image.size
            self._last_used.pop(image.id, None)
        return freed

    async def _excess(self) -> int:
        usage = await self._images.usage()
        try:
            filesystem = os.statvfs(usage.path)
        except OSError:
            return 0
        total = filesystem.f_blocks * filesystem.f_frsize
        used = total - filesystem.f_bavail * filesystem.f_frsize
        if total == 0 or used * 100 < total * self._high:
            return 0
        return used - total * self._low // 100


def unlink(path: str) -> None:
    """Remove a file or link; gone already is as good."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
