"""Unused images go when the disk fills up or they are too old: `images.gc` decides and deletes, the node is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

from podling import log
from podling.api import core_v1
from podling.client.events import WARNING, Recorder
from podling.images.base import ImageError, ImageService
from podling.images.gc import Disk, GarbageCollectionFailed, ImageGarbageCollector, Policy
from podling.kubelet.config import KubeletConfig
from podling.kubelet.node_status import node_reference

_log = log.get(__name__)

#: What the collector itself reports, each time; all else only when it has failed twice in a row.
_OWN_REASONS = ("FreeDiskSpaceFailed", "InvalidDiskCapacity")


def policy(config: KubeletConfig) -> Policy:
    return Policy(
        high_threshold_percent=config.image_gc_high_percent,
        low_threshold_percent=config.image_gc_low_percent,
        min_age=timedelta(seconds=config.image_minimum_age),
        max_age=timedelta(seconds=config.image_maximum_age),
    )


def volume_images(pods: Iterable[core_v1.Pod]) -> set[str]:
    """References of the images that pods have as volumes."""
    return {
        volume.image.reference
        for pod in pods
        for volume in pod.spec.volumes or ()
        if volume.image is not None and volume.image.reference
    }


class ImageCollector:
    """`in_use` gives the ids of the images that containers have, `pods` the node's pods."""

    def __init__(
        self,
        images: ImageService,
        config: KubeletConfig,
        recorder: Recorder,
        in_use: Callable[[], set[str]],
        pods: Callable[[], Iterable[core_v1.Pod]],
        disk: Callable[[str], Disk] | None = None,
    ) -> None:
        self._images, self._in_use, self._pods = images, in_use, pods
        self._recorder = recorder
        self._node = node_reference(config.node_name)
        self._collector = ImageGarbageCollector(images, self._used, policy(config), disk)
        self._failed = False

    async def _used(self) -> set[str]:
        used = self._in_use()
        for reference in volume_images(self._pods()):
            try:
                found = await self._images.status(reference)
            except ImageError:
                continue
            if found is not None:
                used.add(found.id)
        return used

    async def collect(self) -> None:
        """Every few minutes."""
        try:
            freed = await self._collector.collect()
        except ImageError as error:
            _log.warning("image garbage collection failed: %s", error)
            if isinstance(error, GarbageCollectionFailed) and error.reason in _OWN_REASONS:
                self._recorder.event(self._node, WARNING, error.reason, str(error))
            if self._failed:
                self._recorder.event(self._node, WARNING, "ImageGCFailed", str(error))
            self._failed = True
        else:
            self._failed = False
            if freed:
                _log.info("removed unused images of %d bytes", freed)

    async def delete_unused(self) -> None:
        """The disk is under pressure: whatever nobody uses goes."""
        try:
            freed = await self._collector.delete_unused()
        except ImageError as error:
            _log.warning("not all unused images could be removed: %s", error)
        else:
            if freed:
                _log.info("removed unused images of %d bytes", freed)
