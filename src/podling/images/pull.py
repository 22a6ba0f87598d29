"""One pull: reference to digest, digest to manifest of this platform, layers side by side, image."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from podling.errors import system_text
from podling.images import manifest
from podling.images.base import Image, ImageError, Progress, PullFailed
from podling.images.intake import Fetch, Intake
from podling.images.manifest import Descriptor, Index, Manifest, Platform
from podling.images.reference import Reference
from podling.images.registry_client import Repository

#: Layers that are fetched at the same time, as Docker and containerd do.
CONCURRENT_LAYERS = 3
_INDEX_DEPTH = 4


async def pull(
    intake: Intake, repository: Repository, reference: Reference, platform: Platform, progress: Progress | None = None
) -> Image:
    """Raises PullFailed: `failed to pull and unpack image "...": ...`."""
    try:
        target = await repository.resolve()
        async with intake.open():
            return await _fetch(intake, repository, reference, target, platform, progress)
    except (ImageError, OSError) as error:
        code = error.code if isinstance(error, PullFailed) else "Unknown"
        text = system_text(error) if isinstance(error, OSError) else str(error)
        raise PullFailed(f'failed to pull and unpack image "{reference}": {text}', code) from None


async def _fetch(
    intake: Intake,
    repository: Repository,
    reference: Reference,
    target: Descriptor,
    platform: Platform,
    progress: Progress | None,
) -> Image:
    manifests: list[str] = []
    found = await _manifest(intake, repository, target, platform, manifests)
    data = intake.blob(found.config.digest) or await repository.config(found.config)
    config = manifest.decode_config(data)
    check(config, found)
    intake.keep_blob(data)
    await _layers(intake, repository, found.layers, config.rootfs.diff_ids, progress)
    names = [f"{reference.name}@{digest}" for digest in manifests[:1]]
    if reference.tag and not reference.digest:
        names.append(reference.tagged)
    return await intake.commit(config, found.config.digest, found.layers, names, manifests)


def check(config: manifest.ConfigFile, found: Manifest) -> None:
    """Configuration and manifest must speak of the same layers."""
    if len(config.rootfs.diff_ids) != len(found.layers):
        raise ImageError("mismatched image rootfs and manifest layers")


async def _manifest(
    intake: Intake, repository: Repository, target: Descriptor, platform: Platform, seen: list[str]
) -> Manifest:
    """Through indexes to the platform's manifest; `seen` gets all digests on the way, the first is the image's."""
    for _ in range(_INDEX_DEPTH):
        data, kind = intake.blob(target.digest), target.media_type
        if data is None:
            data, kind = await repository.manifest(target)
        document = manifest.decode(data, kind)
        seen.append(intake.keep_blob(data))
        if isinstance(document, Manifest):
            return document
        target = choose(document, platform)
    raise PullFailed("the index leads to indexes without end")


def choose(index: Index, platform: Platform) -> Descriptor:
    found = manifest.choose(index, platform)
    if found is None:
        raise PullFailed("no match for platform in manifest: not found", "NotFound")
    return found


async def _layers(
    intake: Intake,
    repository: Repository,
    layers: Sequence[Descriptor],
    diff_ids: Sequence[str],
    progress: Progress | None,
) -> None:
    wanted = {d: layer for d, layer in zip(diff_ids, layers, strict=True) if intake.layer_info(d) is None}
    total, done = sum(layer.size for layer in wanted.values()), 0
    downloads = asyncio.Semaphore(CONCURRENT_LAYERS)

    def received(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    def fetch_of(layer: Descriptor) -> Fetch:
        async def fetch(path: str) -> None:
            async with downloads:
                await repository.blob(layer, path, received)

        return fetch

    try:
        async with asyncio.TaskGroup() as group:
            for diff_id, layer in wanted.items():
                group.create_task(intake.layer(diff_id, layer.digest, fetch_of(layer)))
    except* (ImageError, OSError) as failures:
        raise first_of(failures) from None


def first_of(group: BaseExceptionGroup[ImageError | OSError]) -> ImageError | OSError:
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
