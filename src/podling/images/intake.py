"""How an image comes into the store: layers first, each unpacked once, then its record, then its names.

Whoever brings layers in holds the store's `active` lock shared, so that no sweep takes a layer that is here but not
yet referred to. A layer that two want at the same time is fetched by one; the other waits and finds it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import msgspec

from podling import mounts
from podling.errors import PodlingError
from podling.images import fixup, manifest
from podling.images.base import Image, ImageError
from podling.images.index import Index, LayerInfo, LayerRef, Record
from podling.images.layout import Layout, locked, read, write_atomically
from podling.images.manifest import ConfigFile, Descriptor
from podling.images.sweep import sweep
from podling.images.unpack import InvalidLayer, Part, Unpacked, unpack

#: Brings a blob into the file at a path, going on with what is there; verified when it returns.
Fetch = Callable[[str], Awaitable[None]]

_layer_infos = msgspec.json.Decoder(LayerInfo)


class Intake:
    """Shared by all pulls and imports of one store object."""

    def __init__(self, layout: Layout, index: Index) -> None:
        self._layout = layout
        self._index = index
        self._unpacking = asyncio.Semaphore(max(1, min(4, os.cpu_count() or 1)))
        self._swept = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Around everything that brings in layers. Leftovers of earlier runs go first: they may be incomplete."""
        if not self._swept:
            self._swept = True
            await sweep(self._layout, self._index)
        async with locked(self._layout.active, shared=True):
            yield

    def layer_info(self, diff_id: str) -> LayerInfo | None:
        """What is known of an unpacked layer; None if it is not unpacked."""
        data = read(f"{self._layout.layer(diff_id)}/layer.json")
        return _layer_infos.decode(data) if data is not None else None

    def has_blob(self, digest: str) -> bool:
        return os.path.exists(self._layout.blob(digest))

    def keep_blob(self, data: bytes) -> str:
        """Store a manifest or configuration; its digest."""
        digest = manifest.digest_of(data)
        if not self.has_blob(digest):
            # Synced with the layers, before the image's record appears.
            write_atomically(self._layout.blob(digest), data, sync=False)
        return digest

    def blob(self, digest: str) -> bytes | None:
        """A stored manifest or configuration, if it is here and whole."""
        data = read(self._layout.blob(digest))
        return data if data is not None and manifest.digest_of(data) == digest else None

    async def layer(self, diff_id: str, blob: str, source: Fetch | Part) -> None:
        """Have the layer unpacked (or, without root, its blob stored) from where `source` brings it or has it."""
        if self._present(diff_id, blob):
            return
        path = self._layout.ingest(blob)
        async with locked(f"{path}.lock"):
            if self._present(diff_id, blob):
                return
            if self.has_blob(blob):
                source = _whole(self._layout.blob(blob))
            elif not isinstance(source, Part):
                await source(path)
                source = _whole(path)
            if os.geteuid() != 0:
                await asyncio.to_thread(_copy, source, path)
                os.replace(path, self._layout.blob(blob))
                return
            try:
                await self._unpack(diff_id, source)
            finally:
                if os.path.exists(path):
                    os.unlink(path)

    def _present(self, diff_id: str, blob: str) -> bool:
        if os.path.exists(f"{self._layout.layer(diff_id)}/layer.json"):
            return True
        return os.geteuid() != 0 and self.has_blob(blob)

    async def unknown_layer(self, tarball: str) -> tuple[str, int]:
        """Have a local tarball unpacked as a layer; its diff id and the length of its tar. Needs root."""
        async with self._unpacking:
            folder = f"{self._layout.root}/layers/{os.urandom(6).hex()}.tmp"
            os.mkdir(folder)
            try:
                found = await unpack(tarball, f"{folder}/diff")
                async with locked(f"{self._layout.ingest(found.diff_id)}.lock"):
                    if self.layer_info(found.diff_id) is None:
                        self._settle(folder, _info(found))
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return found.diff_id, found.length

    async def _unpack(self, diff_id: str, blob: Part) -> None:
        async with self._unpacking:
            folder = f"{self._layout.layer(diff_id)}.{os.urandom(6).hex()}.tmp"
            os.mkdir(folder)
            try:
                found = await unpack(blob, f"{folder}/diff")
                if found.diff_id != diff_id:
                    raise InvalidLayer(f'wrong diff id calculated on extraction "{found.diff_id}"')
                self._settle(folder, _info(found))
            except BaseException as error:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                if isinstance(error, PodlingError):
                    raise ImageError(f"failed to extract layer {diff_id}: {error}") from None
                raise

    def _settle(self, folder: str, info: LayerInfo) -> None:
        """The unpacked layer takes its place."""
        write_atomically(f"{folder}/layer.json", msgspec.json.encode(info), sync=False)
        place = self._layout.layer(info.diff_id)
        link = f"{self._layout.root}/l/{self._layout.short(info.diff_id)}"
        wanted = f"../layers/{os.path.basename(place)}/diff"
        try:
            os.symlink(wanted, link)
        except FileExistsError:
            if os.readlink(link) != wanted:
                raise ImageError(f"two layers share the short name {os.path.basename(link)}") from None
        # Last: a layer that is there can be mounted.
        os.rename(folder, place)

    async def commit(
        self,
        config: ConfigFile,
        config_blob: str,
        layers: Sequence[Descriptor],
        names: Iterable[str],
        manifests: Iterable[str] = (),
        pinned: bool = False,
    ) -> Image:
        """All layers are here: the image exists from now on, under `names` (tag and digest references)."""
        known = self._index.record(config_blob)
        record = await self._record(config, config_blob, layers, tuple(manifests), pinned)
        if known is not None:
            merged = tuple(dict.fromkeys((*known.manifests, *record.manifests)))
            record = msgspec.structs.replace(record, manifests=merged, pinned=known.pinned or pinned)
        if record != known:
            await asyncio.to_thread(mounts.sync_filesystem, self._layout.root)
        async with self._index.changing() as index:
            if record != known:
                await index.put(record)
            for name in names:
                await index.point(name, record.id)
        self._index.touch(record.id)
        return self._index.image(record)

    async def _record(
        self,
        config: ConfigFile,
        config_blob: str,
        layers: Sequence[Descriptor],
        manifests: tuple[str, ...],
        pinned: bool,
    ) -> Record:
        pairs = [LayerRef(d, layer.digest) for d, layer in zip(config.rootfs.diff_ids, layers, strict=True)]
        infos = [self.layer_info(pair.diff_id) for pair in pairs]
        unpacked = [info for info in infos if info is not None]
        whole = len(unpacked) == len(infos)
        record = Record(
            id=config_blob,
            layers=tuple(pairs),
            config=config.image_config(),
            created=config.created_at(),
            size=sum({i.diff_id: i.size for i in unpacked}.values()) if whole else sum(d.size for d in layers),
            pinned=pinned,
            unpacked=whole,
            manifests=manifests,
            config_blob=config_blob,
        )
        return msgspec.structs.replace(record, fixup=await self._fixup(unpacked)) if whole else record

    async def _fixup(self, infos: Sequence[LayerInfo]) -> str:
        """The diff id of the layer with directories' right modes, made if it is missing; "" if none is needed."""
        if not any(info.implicit for info in infos):
            return ""
        layers = [fixup.Layer(f"{self._layout.layer(i.diff_id)}/diff", frozenset(i.implicit)) for i in infos]
        directories = await asyncio.to_thread(fixup.plan, layers)
        if not directories:
            return ""
        diff_id = fixup.digest(directories)
        async with locked(f"{self._layout.ingest(diff_id)}.lock"):
            if self.layer_info(diff_id) is None:
                folder = f"{self._layout.layer(diff_id)}.{os.urandom(6).hex()}.tmp"
                os.mkdir(folder)
                fixup.build(directories, f"{folder}/diff")
                self._settle(folder, LayerInfo(diff_id, 4096 * len(directories), len(directories)))
        return diff_id

    async def complete(self, record: Record) -> Record:
        """Unpack what was imported without root and never was; the record as it is then."""
        if record.unpacked:
            return record
        missing = [pair for pair in record.layers if self.layer_info(pair.diff_id) is None]
        async with self.open():
            for pair in missing:
                await self.layer(pair.diff_id, pair.blob, _absent(pair))
            config = manifest.decode_config(self.blob(record.config_blob) or b"{}")
            layers = [Descriptor(digest=pair.blob) for pair in record.layers]
            await self.commit(config, record.config_blob, layers, (), record.manifests, record.pinned)
        completed = self._index.record(record.id)
        assert completed is not None
        return completed


def _info(found: Unpacked) -> LayerInfo:
    return LayerInfo(found.diff_id, found.size, found.inodes, tuple(found.implicit))


def _whole(path: str) -> Part:
    return Part(path, 0, os.stat(path).st_size)


def _copy(source: Part, path: str) -> None:
    if source.path == path:
        return
    with open(source.path, "rb") as reader, open(path, "wb") as writer:
        reader.seek(source.offset)
        left = source.length
        while left and (chunk := reader.read(min(left, 1 << 20))):
            writer.write(chunk)
            left -= len(chunk)


def _absent(pair: LayerRef) -> Fetch:
    async def fetch(path: str) -> None:
        raise ImageError(f"layer {pair.diff_id} is neither unpacked nor stored: pull or import the image again")

    return fetch
