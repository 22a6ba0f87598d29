"""Virtual images: any well-formed reference can be pulled, in as long as wanted, unless told otherwise."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime

from podling import clock
from podling.images.base import (
    Credentials,
    FilesystemUsage,
    Image,
    ImageConfig,
    InvalidReference,
    Progress,
    PullFailed,
)

_REFERENCE = re.compile(
    r"(?P<name>(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}$")


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def canonical(reference: str) -> str:
    """`busybox` is docker.io/library/busybox:latest; InvalidReference if it is no image reference."""
    match = _REFERENCE.match(reference)
    if match is None:
        raise InvalidReference(f"couldn't parse image name {reference!r}: invalid reference format")
    name = match["name"]
    host, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in host or ":" in host or host == "localhost"):
        name = f"docker.io/{host}/{rest}"
    if match["digest"]:
        return f"{name}@{match['digest']}"
    return f"{name}:{match['tag'] or 'latest'}"


class FakeImages:
    """An image service without a disk.

    `refuses(reference)` gives a message if a pull of the (canonical) reference must fail, else None; `configs` and
    `sizes` (bytes) are by reference as pulled or canonical, `default` is the config of all others; a pull takes
    `pull_seconds`.
    """

    def __init__(
        self,
        *,
        pull_seconds: float = 0.0,
        refuses: Callable[[str], str | None] = lambda reference: None,
        configs: Mapping[str, ImageConfig] | None = None,
        default: ImageConfig | None = None,
        sizes: Mapping[str, int] | None = None,
        present: tuple[str, ...] = (),
    ) -> None:
        self.pull_seconds = pull_seconds
        self.refuses = refuses
        self.pulls: list[str] = []
        self._default = default or ImageConfig()
        self._configs = {canonical(name): config for name, config in (configs or {}).items()}
        self._sizes = {canonical(name): size for name, size in (sizes or {}).items()}
        self._by_reference: dict[str, Image] = {}
        self._by_id: dict[str, Image] = {}
        self._mounted: dict[str, str] = {}
        self._images_of: dict[str, str] = {}
        self._last_used: dict[str, datetime] = {}
        for reference in present:
            self._add(canonical(reference))

    def _add(self, reference: str) -> Image:
        image_id = _digest("config " + reference)
        name = re.split(r"@|:(?=[^/]*$)", reference)[0]
        tagged = "@" not in reference
        digest = f"{name}@{_digest('manifest ' + reference)}" if tagged else reference
        image = Image(
            id=image_id,
            repo_tags=(reference,) if tagged else (),
            repo_digests=(digest,),
            size=self._sizes.get(reference, 5_000_000),
            config=self._configs.get(reference, self._default),
        )
        self._by_reference[reference] = self._by_reference[digest] = image
        self._by_id[image_id] = image
        return image

    async def pull(
        self, reference: str, credentials: tuple[Credentials, ...] = (), progress: Progress | None = None
    ) -> Image:
        name = canonical(reference)
        self.pulls.append(name)
        await asyncio.sleep(self.pull_seconds)
        refusal = self.refuses(name)
        if refusal is not None:
            raise PullFailed(refusal)
        image = self._by_reference.get(name) or self._add(name)
        self._last_used[image.id] = clock.now()
        if progress is not None:
            progress(image.size, image.size)
        return image

    async def status(self, reference: str) -> Image | None:
        if _ID.match(reference):
            return self._by_id.get("sha256:" + reference.removeprefix("sha256:"))
        return self._by_reference.get(canonical(reference))

    async def list(self) -> list[Image]:
        return list(self._by_id.values())

    async def remove(self, reference: str) -> None:
        image = await self.status(reference)
        if image is None:
            return
        del self._by_id[image.id]
        for name in [name for name, other in self._by_reference.items() if other.id == image.id]:
            del self._by_reference[name]

    def last_used(self, image_id: str) -> datetime:
        return self._last_used.get(image_id, clock.EPOCH)

    async def usage(self) -> FilesystemUsage:
        return FilesystemUsage("/", sum(image.size for image in self._by_id.values()), 0)

    async def mount(self, image_id: str, key: str, target: str, *, readonly: bool = False) -> None:
        self._mounted[key] = target
        self._images_of[key] = image_id
        self._last_used[image_id] = clock.now()

    async def unmount(self, key: str, target: str) -> None:
        self._mounted.pop(key, None)
        if (image_id := self._images_of.pop(key, None)) is not None:
            self._last_used[image_id] = clock.now()

    async def written(self, key: str) -> tuple[int, int]:
        return 0, 0
