"""Images out of what is on this machine: a directory, a tarball, Debian packages. One layer, reproducible."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import msgspec

from podling.images import layer_tar, manifest, packages
from podling.images import reference as references
from podling.images.base import Image, ImageConfig, ImageError
from podling.images.manifest import Descriptor
from podling.images.store import ImageStore
from podling.images.streams import decompressed
from podling.images.unpack import InvalidLayer, Part

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EPOCH = datetime.fromtimestamp(0, UTC)


async def create_from_rootfs(
    store: ImageStore, name: str, source: str, config: ImageConfig | None = None, *, created: datetime = _EPOCH
) -> Image:
    """An image named `name` whose only layer is the directory or tarball (also compressed) `source`."""
    tagged = references.parse(name).tagged
    with _explained(source):
        if not os.path.isdir(source) and os.geteuid() == 0:
            async with store.intake.open():
                diff_id, size = await store.intake.unknown_layer(source)
                return await _commit(store, tagged, diff_id, size, config or ImageConfig(), created)
        async with _workplace(store) as folder:
            path = f"{folder}/layer.tar"
            diff_id = await _write_tar(source, path)
            return await _take(store, tagged, path, diff_id, config or ImageConfig(), created)


async def create_from_packages(
    store: ImageStore,
    name: str,
    package_names: Sequence[str],
    config: ImageConfig | None = None,
    *,
    dependencies: bool = False,
    rootfs: str = "",
    created: datetime = _EPOCH,
) -> Image:
    """An image named `name` of Debian packages, with `dependencies` of all that they need too.

    What is in the directory or tarball `rootfs` is laid over them.
    """
    tagged = references.parse(name).tagged
    with _explained(rootfs):
        async with _workplace(store) as folder:
            over = f"{folder}/over.tar" if rootfs else ""
            if rootfs:
                await _write_tar(rootfs, over)
            debs = await packages.download(package_names, folder, dependencies=dependencies)
            path = f"{folder}/layer.tar"
            diff_id = await packages.write_layer(debs, path, folder, over=over)
            return await _take(store, tagged, path, diff_id, config or ImageConfig(), created)


async def _write_tar(source: str, path: str) -> str:
    """The directory or (compressed) tarball `source` as the plain tarball `path`; its digest."""
    return await asyncio.to_thread(layer_tar.write_directory if os.path.isdir(source) else _decompress, source, path)


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """What is wrong with `source`, in one sentence."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"{error.filename or source}: {(error.strerror or str(error)).lower()}") from None
    except (InvalidLayer, tarfile.TarError) as error:
        raise ImageError(f"{source} cannot be an image: {error}") from None


@asynccontextmanager
async def _workplace(store: ImageStore) -> AsyncIterator[str]:
    """A folder in the store that is gone afterwards, also (with the next sweep) after a kill."""
    async with store.intake.open():
        folder = tempfile.mkdtemp(prefix="build.", dir=f"{store.layout.root}/ingest")
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def config_bytes(config: ImageConfig, diff_ids: Sequence[str], platform: manifest.Platform, created: datetime) -> bytes:
    """An image configuration in the OCI form."""
    run = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Env": list(config.env) if any(e.startswith("PATH=") for e in config.env) else [DEFAULT_PATH, *config.env],
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Volumes": {volume: {} for volume in config.volumes},
        "WorkingDir": config.working_dir,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
    }
    document = {
        "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "os": platform.os,
        "config": {key: value for key, value in run.items() if value},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    return msgspec.json.encode(document)


async def _take(
    store: ImageStore, tagged: str, path: str, diff_id: str, config: ImageConfig, created: datetime
) -> Image:
    size = os.stat(path).st_size
    await store.intake.layer(diff_id, diff_id, Part(path, 0, size))
    return await _commit(store, tagged, diff_id, size, config, created)


async def _commit(
    store: ImageStore, tagged: str, diff_id: str, size: int, config: ImageConfig, created: datetime
) -> Image:
    data = config_bytes(config, (diff_id,), store.platform, created)
    layer = Descriptor(media_type=manifest.OCI_LAYER, digest=diff_id, size=size)
    described = manifest.Manifest(
        config=Descriptor(media_type=manifest.OCI_CONFIG, digest=manifest.digest_of(data), size=len(data)),
        layers=(layer,),
    )
    store.intake.keep_blob(data)
    digest = store.intake.keep_blob(msgspec.json.encode(described))
    names = [tagged, f"{references.parse(tagged).name}@{digest}"]
    return await store.intake.commit(
        manifest.decode_config(data), described.config.digest, described.layers, names, (digest,)
    )


def _decompress(source: str, path: str) -> str:
    import hashlib

    hasher = hashlib.sha256()
    try:
        with open(source, "rb") as file, open(path, "wb") as out:
            for block in decompressed(file):
                hasher.update(block)
                out.write(block)
    except EOFError as error:
        raise ImageError(f"{source} is damaged: {error}") from None
    return f"sha256:{hasher.hexdigest()}"
