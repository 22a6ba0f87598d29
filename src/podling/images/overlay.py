"""Layers as one file system: the options of an overlay mount, and the mount.

The kernel takes one page of options. Layers are therefore named by short links, and where the store's own path is too
long (or has a character that overlayfs reads as a separator) by /proc/self/fd of the folder that holds the links.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from podling import mounts
from podling.images.base import ImageError

_PAGE = 4096
_SEPARATORS = frozenset(":,\\ ")


@functools.cache
def _tuning() -> tuple[str, ...]:
    """Options this kernel knows: no index (layers are shared between mounts), no redirects, no syncs of upper layers.

    A container's writable layer dies with the container, so `volatile` loses nothing and saves a sync per unmount.
    """
    found = []
    for option in ("index", "metacopy", "redirect_dir"):
        if os.path.exists(f"/sys/module/overlay/parameters/{option}"):
            found.append(f"{option}=off")
    release = os.uname().release.split(".")
    if tuple(int(part) for part in release[:2]) >= (5, 10):
        found.append("volatile")
    return tuple(found)


def options(lower: Sequence[str], upper: str = "", work: str = "", tuning: Sequence[str] = ()) -> str:
    """The option string: `lower` from the top down; without `upper` the mount is read-only."""
    parts = [f"lowerdir={':'.join(lower)}"]
    if upper:
        parts += [f"upperdir={upper}", f"workdir={work}"]
    return ",".join([*parts, *(t for t in tuning if upper or t != "volatile")])


def mount(links: str, lower: Sequence[str], target: str, container: str = "") -> None:
    """Mount the layers that `lower` names in the folder `links`, from the top down, at `target`.

    With `container` its folders `upper` and `work` take what is written; without, the mount is read-only. Raises
    ImageError.
    """
    flags = 0 if container else mounts.RDONLY
    upper, work = (f"{container}/upper", f"{container}/work") if container else ("", "")
    plain = options([f"{links}/{name}" for name in lower], upper, work, _tuning())
    try:
        if len(plain) < _PAGE and not _SEPARATORS.intersection(f"{links}{container}"):
            mounts.mount("overlay", target, "overlay", flags, plain)
        else:
            _mount_by_descriptor(links, lower, target, container, flags)
    except OSError as error:
        raise ImageError(f"the image cannot be mounted at {target}: {_explain(error, container or links)}") from None


def _mount_by_descriptor(links: str, lower: Sequence[str], target: str, container: str, flags: int) -> None:
    folder = os.open(links, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    own = os.open(container, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if container else -1
    try:
        upper, work = (f"/proc/self/fd/{own}/upper", f"/proc/self/fd/{own}/work") if container else ("", "")
        text = options([f"/proc/self/fd/{folder}/{name}" for name in lower], upper, work, _tuning())
        if len(text) >= _PAGE:
            raise ImageError(f"the image cannot be mounted at {target}: {len(lower)} layers are more than fit a mount")
        mounts.mount("overlay", target, "overlay", flags, text)
    finally:
        os.close(folder)
        if own >= 0:
            os.close(own)


def _explain(error: OSError, place: str) -> str:
    text = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return f"{text} (mounting needs root)"
    return f"{text} (is {place} itself on overlayfs or a network file system? keep the image store on a local disk)"
