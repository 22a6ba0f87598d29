"""Image garbage collection, as the kubelet does it (pkg/kubelet/images/image_gc_manager.go).

When the disk is fuller than the high threshold, images are deleted until it is at the low one: those that nobody uses,
the longest unused first, never a pinned one, never one younger than the minimum age.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from podling import clock
from podling.images.base import FilesystemUsage, Image, ImageError


class GarbageCollectionFailed(ImageError):
    """Not enough could be freed. `reason` is the node event's: FreeDiskSpaceFailed, InvalidDiskCapacity or
    ImageGCFailed."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds in percent of the file system; `max_age` zero keeps unused images for ever."""

    high_threshold_percent: int = 85
    low_threshold_percent: int = 80
    min_age: timedelta = timedelta(minutes=2)
    max_age: timedelta = timedelta()


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An image with what the decision needs."""

    image: Image
    first_detected: datetime
    last_used: datetime
    in_use: bool = False


class Disk(msgspec.Struct, frozen=True):
    """Bytes of the file system that holds the images."""

    capacity: int
    available: int


def amount_to_free(disk: Disk, policy: Policy) -> int:
    """Bytes over the low threshold if the high one is reached, else 0."""
    available = min(disk.available, disk.capacity)
    used_percent = 100 - available * 100 // disk.capacity
    if used_percent < policy.high_threshold_percent:
        return 0
    return max(0, disk.capacity * (100 - policy.low_threshold_percent) // 100 - available)


def eligible(candidates: Iterable[Candidate], now: datetime, policy: Policy) -> list[Image]:
    """What may go, the first to go first."""
    free = [c for c in candidates if not c.in_use and not c.image.pinned and now - c.first_detected >= policy.min_age]
    return [c.image for c in sorted(free, key=lambda c: (c.last_used, c.first_detected, c.image.id))]


def outdated(candidates: Iterable[Candidate], now: datetime, policy: Policy) -> list[Image]:
    """What goes because nobody has used it for longer than `max_age`, however empty the disk is."""
    if not policy.max_age:
        return []
    return eligible((c for c in candidates if now - c.last_used > policy.max_age), now, policy)


class CollectableImages(Protocol):
    """What garbage collection asks of the store."""

    async def list(self) -> list[Image]: ...

    async def remove(self, reference: str) -> None: ...

    async def usage(self) -> FilesystemUsage: ...

    def last_used(self, image_id: str) -> datetime: ...


class ImageGarbageCollector:
    """`in_use` gives the ids of images that containers have, running or not; `collect` is called every few minutes
    and when there is disk pressure."""

    def __init__(
        self,
        images: CollectableImages,
        in_use: Callable[[], Awaitable[set[str]]],
        policy: Policy | None = None,
        disk: Callable[[str], Disk] | None = None,
    ) -> None:
        self._images = images
        self._in_use = in_use
        self._policy = policy or Policy()
        self._disk = disk or disk_of
        self._first_detected: dict[str, datetime] = {}
        self._last_used: dict[str, datetime] = {}
        self._initialized = False

    async def candidates(self, now: datetime) -> list[Candidate]:
        """All images; those in use are remembered as used now. What is here at the first look is old enough."""
        images, used = await self._images.list(), await self._in_use()
        present = {image.id for image in images}
        for known in (self._first_detected, self._last_used):
            for image_id in known.keys() - present:
                del known[image_id]
        detected = now if self._initialized else datetime.min.replace(tzinfo=now.tzinfo)
        self._initialized = True
        found = []
        for image in images:
            first = self._first_detected.setdefault(image.id, detected)
            if image.id in used:
                self._last_used[image.id] = now
            last = max(self._images.last_used(image.id), self._last_used.get(image.id, first))
            found.append(Candidate(image=image, first_detected=first, last_used=last, in_use=image.id in used))
        return found

    async def collect(self) -> int:
        """Bytes freed. Raises GarbageCollectionFailed with the node event's reason and message."""
        now = clock.now()
        candidates = await self.candidates(now)
        freed = await self._delete(outdated(candidates, now, self._policy), None)
        disk = self._disk((await self._images.usage()).path)
        if disk.capacity == 0:
            raise GarbageCollectionFailed(
                f"invalid capacity {disk.capacity} on image filesystem", "InvalidDiskCapacity"
            )
        wanted = amount_to_free(disk, self._policy)
        if not wanted:
            return freed
        got = await self._delete(eligible(await self.candidates(now), now, self._policy), wanted)
        if got < wanted:
            raise GarbageCollectionFailed(
                "Failed to garbage collect required amount of images. "
                f"Attempted to free {wanted} bytes, but only found {got} bytes eligible to free.",
                "FreeDiskSpaceFailed",
            )
        return freed + got

    async def delete_unused(self) -> int:
        """Everything that may go, whatever the disk says (eviction asks for it). Bytes freed."""
        now = clock.now()
        return await self._delete(eligible(await self.candidates(now), now, self._policy), None)

    async def _delete(self, images: Iterable[Image], wanted: int | None) -> int:
        freed, failures = 0, []
        for image in images:
            if wanted is not None and freed >= wanted:
                break
            try:
                await self._images.remove(image.id)
            except ImageError as error:
                failures.append(str(error))
                continue
            freed += image.size
        if failures:
            text = failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]"
            raise GarbageCollectionFailed(
                f"wanted to free {wanted if wanted is not None else (1 << 63) - 1} bytes, "
                f"but freed {freed} bytes space with errors in image deletion: {text}",
                "ImageGCFailed",
            )
        return freed


def disk_of(path: str) -> Disk:
    found = os.statvfs(path)
    return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)
