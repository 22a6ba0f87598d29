"""image volumes: the content of an image, read-only (KEP-4639)."""

from __future__ import annotations

import os

from podling.volumes import folders
from podling.volumes.base import Context, ImageMounter, Ready, StaticPlugin, VolumeError


class ImagePlugin(StaticPlugin):
    name = "kubernetes.io/image"

    def __init__(self, images: ImageMounter | None) -> None:
        self._images = images

    async def setup(self, context: Context) -> Ready:
        source = context.volume.image
        assert source is not None
        if self._images is None:
            raise VolumeError("image volumes need an image store")
        reference = source.reference or ""
        image_id = await self._images.image_id(context.pod, reference, source.pull_policy or _policy(reference))
        folders.make(context.directory, 0o755)
        await self._images.mount(image_id, _key(context.directory), context.directory, readonly=True)
        return Ready(context.directory)

    async def teardown(self, directory: str) -> None:
        if self._images is not None:
            await self._images.unmount(_key(directory), directory)
        await folders.remove(directory)


def _key(directory: str) -> str:
    """The image store's name for the mount: known from the folder alone, for clean-up after a restart."""
    return f"volume:{os.path.abspath(directory)}"


def _policy(reference: str) -> str:
    """What defaulting fills in."""
    name = reference.rpartition("/")[2]
    return "Always" if "@" not in name and (":" not in name or name.endswith(":latest")) else "IfNotPresent"
