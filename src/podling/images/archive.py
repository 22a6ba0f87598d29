"""Images out of files: `docker save` tarballs, OCI archives, OCI layout directories; one image or many in each.

Layers are unpacked from where they lie in the archive, so a file of several GB is read once and never copied.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from podling.images import manifest, pull
from podling.images import reference as references
from podling.images.base import Image, ImageError, InvalidArchive, InvalidReference
from podling.images.intake import Intake
from podling.images.layout import unlink
from podling.images.manifest import Descriptor, Index, Manifest, Platform
from podling.images.store import ImageStore
from podling.images.streams import decompressed
from podling.images.unpack import Part

_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_SMALL = 8 << 20


class _DockerImage(msgspec.Struct, rename="pascal"):
    """An entry of a docker archive's manifest.json."""

    config: str
    layers: list[str] = []
    repo_tags: list[str] | None = None


class _Files(Protocol):
    """The files of an archive by name."""

    def find(self, name: str) -> Part | None: ...


class _Folder:
    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)

    def find(self, name: str) -> Part | None:
        path = os.path.realpath(os.path.join(self._path, name))
        if not path.startswith(self._path + "/") or not os.path.isfile(path):
            return None
        return Part(path, 0, os.stat(path).st_size)


class _Tar:
    def __init__(self, path: str, members: dict[str, tarfile.TarInfo]) -> None:
        self._path = path
        self._members = members

    def find(self, name: str) -> Part | None:
        for _ in range(8):
            member = self._members.get(os.path.normpath(name))
            if member is None:
                return None
            if member.issym():
                # Old `docker save` stores a layer once and links to it.
                name = os.path.join(os.path.dirname(member.name), member.linkname)
                continue
            if member.islnk():
                name = member.linkname
                continue
            return Part(self._path, member.offset_data, member.size) if member.isreg() else None
        return None


async def import_archive(store: ImageStore, path: str, name: str = "") -> list[Image]:
    """All images in the archive or OCI layout at `path`, under the names they carry there, or the only one as `name`.

    Raises InvalidArchive, InvalidReference or ImageError.
    """
    try:
        async with store.intake.open():
            plain = await asyncio.to_thread(_plain, path, f"{store.layout.root}/ingest")
            try:
                files = _Folder(path) if os.path.isdir(path) else await asyncio.to_thread(_tar, plain)
                return await _import(store, files, path, name)
            finally:
                if plain != path:
                    unlink(plain)
    except OSError as error:
        raise InvalidArchive(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArchive(f"{path} is no image archive: {error}") from None


async def _import(store: ImageStore, files: _Files, path: str, name: str) -> list[Image]:
    found = _find_images(files, path, store.platform)
    if name:
        if len(found) != 1:
            raise InvalidArchive(f"{path} holds {len(found)} images, which cannot all be named {name}")
        found[0].names = [references.parse(name).tagged]
    images = []
    for content in found:
        images.append(await _take(store.intake, content, path))
    return images


class _Content:
    """An image inside of an archive: where its parts are."""

    def __init__(
        self, config: bytes, layers: list[Part], descriptors: list[Descriptor], names: list[str], manifests: list[bytes]
    ) -> None:
        self.config = config
        self.layers = layers
        self.descriptors = descriptors
        self.names = names
        self.manifests = manifests


async def _take(intake: Intake, content: _Content, path: str) -> Image:
    config = manifest.decode_config(content.config)
    if len(config.rootfs.diff_ids) != len(content.layers):
        raise InvalidArchive(f"{path} is damaged: an image's configuration and manifest differ in their layers")
    try:
        async with asyncio.TaskGroup() as group:
            for diff_id, part, blob in zip(config.rootfs.diff_ids, content.layers, content.descriptors, strict=True):
                group.create_task(intake.layer(diff_id, blob.digest or diff_id, part))
    except* ImageError as failures:
        raise InvalidArchive(f"{path} is damaged: {pull.first_of(failures)}") from None
    digests = [intake.keep_blob(data) for data in content.manifests]
    names = [*content.names, *(f"{references.parse(n).name}@{digests[0]}" for n in content.names if digests)]
    descriptors = [
        d if d.digest else Descriptor(digest=diff_id, size=part.length)
        for d, diff_id, part in zip(content.descriptors, config.rootfs.diff_ids, content.layers, strict=True)
    ]
    return await intake.commit(config, intake.keep_blob(content.config), descriptors, names, digests)


def _find_images(files: _Files, path: str, platform: Platform) -> list[_Content]:
    index, listing = files.find("index.json"), files.find("manifest.json")
    try:
        if index is not None:
            found = list(_oci_images(files, index, path, platform))
        elif listing is not None:
            found = list(_docker_images(files, listing, path))
        else:
            raise InvalidArchive(f"{path} is no image archive: it has neither an index.json nor a manifest.json")
        if index is not None and listing is not None:
            _adopt_names(files, listing, found)
    except msgspec.DecodeError as error:
        raise InvalidArchive(f"{path} is damaged: {error}") from None
    if not found:
        raise InvalidArchive(f"{path} holds no image for {platform}")
    return found


def _docker_images(files: _Files, listing: Part, path: str) -> Iterator[_Content]:
    for entry in msgspec.json.decode(_read(listing, path), type=list[_DockerImage]):
        layers = [_need(files, layer, path) for layer in entry.layers]
        names = [references.parse(tag).tagged for tag in entry.repo_tags or ()]
        yield _Content(
            _read(_need(files, entry.config, path), path), layers, [Descriptor(digest="") for _ in layers], names, []
        )


def _adopt_names(files: _Files, listing: Part, found: list[_Content]) -> None:
    """`docker save` writes both forms; the tags in the older one are complete."""
    tags = {
        manifest.digest_of(_read(part, "")): entry.repo_tags or []
        for entry in msgspec.json.decode(_read(listing, ""), type=list[_DockerImage])
        if (part := files.find(entry.config)) is not None
    }
    for content in found:
        for tag in tags.get(manifest.digest_of(content.config), ()):
            tagged = references.parse(tag).tagged
            if tagged not in content.names:
                content.names.append(tagged)


def _oci_images(files: _Files, index: Part, path: str, platform: Platform) -> Iterator[_Content]:
    document = manifest.decode(_read(index, path), manifest.OCI_INDEX)
    if not isinstance(document, Index):
        raise InvalidArchive(f"{path} is damaged: its index.json is no index")
    merged: dict[str, _Content] = {}
    for entry in document.manifests:
        if entry.platform is not None and manifest.choose(Index(manifests=(entry,)), platform) is None:
            continue
        content = _oci_image(files, entry, path, platform)
        if content is None:
            continue
        known = merged.setdefault(manifest.digest_of(content.config), content)
        if known is not content:
            known.names += [name for name in content.names if name not in known.names]
    yield from merged.values()


def _oci_image(files: _Files, entry: Descriptor, path: str, platform: Platform) -> _Content | None:
    names = _names(entry, path)
    manifests: list[bytes] = []
    while True:
        data = _blob(files, entry.digest, path)
        manifests.append(data)
        document = manifest.decode(data, entry.media_type)
        if isinstance(document, Manifest):
            break
        chosen = manifest.choose(document, platform)
        if chosen is None or len(manifests) > 4:
            return None
        entry = chosen
    if not document.config.media_type.endswith(("image.config.v1+json", "container.image.v1+json")):
        return None
    layers = [_need(files, _blob_name(layer.digest), path) for layer in document.layers]
    return _Content(_blob(files, document.config.digest, path), layers, list(document.layers), names, manifests)


def _names(entry: Descriptor, path: str) -> list[str]:
    """The image's name in an OCI index. A mere tag is joined to the archive's own name."""
    annotations = entry.annotations or {}
    text = annotations.get(_NAME) or annotations.get(_REF_NAME) or ""
    if not text:
        return []
    if "/" not in text and ":" not in text:
        stem = os.path.basename(path.rstrip("/")).lower().removesuffix(".gz").removesuffix(".tar")
        text = f"{stem}:{text}"
    try:
        return [references.parse(text).tagged]
    except InvalidReference:
        return []


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _blob(files: _Files, digest: str, path: str) -> bytes:
    data = _read(_need(files, _blob_name(digest), path), path)
    if manifest.digest_of(data) != digest:
        raise InvalidArchive(f"{path} is damaged: {digest} has another content")
    return data


def _need(files: _Files, name: str, path: str) -> Part:
    part = files.find(name)
    if part is None:
        raise InvalidArchive(f"{path} is damaged: {name} is missing")
    return part


def _read(part: Part, path: str) -> bytes:
    if part.length > _SMALL:
        raise InvalidArchive(f"{path} is damaged: a manifest of {part.length} bytes")
    with open(part.path, "rb") as file:
        file.seek(part.offset)
        data = file.read(part.length)
    if len(data) != part.length:
        raise InvalidArchive(f"{path} is damaged: it ends too early")
    return data


def _plain(path: str, scratch: str) -> str:
    """The archive itself, or what a compressed one or a pipe holds, in a file in the folder `scratch`."""
    if os.path.isdir(path):
        return path
    spooled = path if os.path.isfile(path) else _spool(_chunks(path), scratch)
    try:
        with open(spooled, "rb") as file:
            if file.read(512)[257:262] == b"ustar":
                return spooled
            file.seek(0)
            plain = _spool(decompressed(file), scratch)
    except BaseException:
        if spooled != path:
            unlink(spooled)
        raise
    if spooled != path:
        unlink(spooled)
    return plain


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _spool(content: Iterable[bytes], scratch: str) -> str:
    spooled = f"{scratch}/archive.{os.urandom(6).hex()}"
    try:
        with open(spooled, "wb") as out:
            for block in content:
                out.write(block)
    except BaseException:
        unlink(spooled)
        raise
    return spooled


def _tar(path: str) -> _Tar:
    with tarfile.open(path, "r:") as archive:
        return _Tar(path, {os.path.normpath(member.name): member for member in archive.getmembers()})
