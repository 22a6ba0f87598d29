"""emptyDir volumes: on the node's disk, in memory, or of huge pages."""

from __future__ import annotations

from podling import mounts
from podling.api import quantity
from podling.volumes import folders, ownership, tmpfs
from podling.volumes.base import Context, Ready, StaticPlugin, VolumeError

_MODE = 0o777


class EmptyDirPlugin(StaticPlugin):
    name = "kubernetes.io/empty-dir"

    async def setup(self, context: Context) -> Ready:
        source = context.volume.empty_dir
        assert source is not None
        mode = source.mode if source.mode is not None else _MODE
        folders.make(context.directory, mode)
        medium = source.medium or ""
        if medium == "Memory":
            # Sticky, as the kernel makes a tmpfs and as everybody knows it from upstream.
            size = tmpfs.size_limit(context, source.size_limit)
            tmpfs.mount(context.directory, size, mode if source.mode is not None else 0o1777)
        elif medium.startswith("HugePages"):
            _mount_huge_pages(context, medium)
        elif medium:
            raise VolumeError(f'unknown storage medium "{medium}"')
        ownership.apply(context.directory, context.fs_group, policy="OnRootMismatch")
        return Ready(context.directory)

    async def teardown(self, directory: str) -> None:
        await folders.remove(directory)


def page_size(context: Context, medium: str) -> int:
    """Bytes of a huge page: the medium's, or the only size that the pod's containers ask for. Raises VolumeError."""
    _, dash, text = medium.partition("-")
    if dash:
        return quantity.parse(text).value()
    sizes = {
        name.removeprefix("hugepages-")
        for container in (*context.pod.spec.containers, *(context.pod.spec.init_containers or ()))
        for name in (container.resources.requests if container.resources else None) or {}
        if name.startswith("hugepages-")
    }
    if not sizes:
        raise VolumeError("hugePages requests not specified")
    if len(sizes) > 1:
        raise VolumeError("medium HugePages can be used only if container requests only one page size")
    return quantity.parse(sizes.pop()).value()


def _mount_huge_pages(context: Context, medium: str) -> None:
    if mounts.is_other_device(context.directory):
        return
    size = page_size(context, medium)
    try:
        mounts.mount("nodev", context.directory, "hugetlbfs", 0, f"pagesize={size >> 20}M")
    except OSError as error:
        raise VolumeError(f"mount of hugetlbfs failed: {(error.strerror or str(error)).lower()}") from None
