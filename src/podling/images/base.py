"""What the node agent and the runtime ask of the image store: CRI's image service, as Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from podling.errors import PodlingError


class ImageError(PodlingError):
    """A pull, import or removal failed; the text is fit for an event."""


class InvalidReference(ImageError):
    """Not an image reference (InvalidImageName)."""


class ImageNotFound(ImageError):
    """No such image in the store."""


class PullFailed(ImageError):
    """The registry refused, was not reached, or sent what does not match its digest (ErrImagePull).

    `code` is what a CRI runtime would give as gRPC status code: NotFound, Unavailable or Unknown.
    """

    def __init__(self, message: str, code: str = "Unknown") -> None:
        super().__init__(message)
        self.code = code


class ImageInUse(ImageError):
    """A container uses the image: it is not removed."""


class InvalidArchive(ImageError):
    """A file is not an image archive, or a broken one."""


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What of an image's configuration a container inherits (OCI image-spec config.md)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: Mapping[str, str] = {}


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is the configuration's digest, `size` what its layers take on this disk in bytes."""

    id: str
    repo_tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    size: int = 0
    config: ImageConfig = ImageConfig()
    created: datetime | None = None
    pinned: bool = False


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


class FilesystemUsage(msgspec.Struct, frozen=True):
    """Bytes and inodes that the store uses, at `path`."""

    path: str
    used_bytes: int
    used_inodes: int


#: Called with (bytes done, bytes in all or 0 if unknown) while an image comes in.
Progress = Callable[[int, int], None]


class ImageService(Protocol):
    async def pull(
        self, reference: str, credentials: tuple[Credentials, ...] = (), progress: Progress | None = None
    ) -> Image:
        """Fetch from the registry, each of `credentials` tried in turn (anonymously if there is none)."""

    async def status(self, reference: str) -> Image | None:
        """By tag, digest or id; `busybox` means docker.io/library/busybox:latest. None if it is not here."""

    async def list(self) -> list[Image]: ...

    async def remove(self, reference: str) -> None:
        """Forget the image and what only it needs; raises ImageError while a container uses it."""

    async def usage(self) -> FilesystemUsage: ...

    def last_used(self, image_id: str) -> datetime:
        """When the image came in or was last mounted or unmounted, whichever was last; also before a restart."""

    async def mount(self, image_id: str, key: str, target: str, *, readonly: bool = False) -> None:
        """Mount the image's root file system at `target`: a writable overlay of its own per `key` (a container id)."""

    async def unmount(self, key: str, target: str) -> None:
        """Take the mount away and forget what was written; not mounted is no error."""

    async def written(self, key: str) -> tuple[int, int]:
        """Bytes and inodes that were written to the overlay of `key`."""
