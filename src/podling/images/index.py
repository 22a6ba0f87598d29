"""What an image store holds: image records and references, small JSON files that several processes share.

Reading goes to memory as long as the generation number on disk stands still, so a status costs one small read. The
number is odd while a change is made: who is killed in the middle leaves it odd, and then nobody trusts his memory.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from podling import clock
from podling.images import reference as references
from podling.images.base import Image, ImageConfig, ImageError
from podling.images.layout import Layout, locked, read, unlink, write_atomically
from podling.images.reference import Reference

T = TypeVar("T")

_SHORT_ID = re.compile(r"[0-9a-f]{7,63}")


class LayerRef(msgspec.Struct, frozen=True):
    """A layer of an image: the digest of its tar, and of the blob it came in ("" if it came without one)."""

    diff_id: str
    blob: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An image as stored. Until it is `unpacked` its `size` is that of its blobs; `fixup` is the diff id of one more
    layer on top."""

    id: str
    layers: tuple[LayerRef, ...] = ()
    config: ImageConfig = ImageConfig()
    created: datetime | None = None
    size: int = 0
    pinned: bool = False
    unpacked: bool = True
    fixup: str = ""
    manifests: tuple[str, ...] = ()
    config_blob: str = ""


class LayerInfo(msgspec.Struct, frozen=True):
    """layer.json: what unpacking found."""

    diff_id: str
    size: int
    inodes: int
    implicit: tuple[str, ...] = ()


class _Ref(msgspec.Struct, frozen=True):
    reference: str
    image: str


_records = msgspec.json.Decoder(Record)
_refs = msgspec.json.Decoder(_Ref)


class _Snapshot:
    def __init__(self, generation: int, records: dict[str, Record], refs: dict[str, str]) -> None:
        self.generation = generation
        self.records = records
        self.refs = refs
        self.of_image: dict[str, list[str]] = {}
        for ref, image in sorted(refs.items()):
            self.of_image.setdefault(image, []).append(ref)
        self.images: dict[str, Image] = {}


class Index:
    """Records by id and references to them. Reads are synchronous; changes happen in `async with changing()`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._snapshot: _Snapshot | None = None

    def _current(self) -> _Snapshot:
        generation = self._generation()
        known = self._snapshot
        if known is None or known.generation != generation or generation % 2:
            known = self._snapshot = self._load(generation)
        return known

    def _generation(self) -> int:
        return int(read(self._layout.generation) or 0)

    def _load(self, generation: int) -> _Snapshot:
        records = {r.id: r for r in _decode_all(f"{self._layout.root}/images", _records)}
        refs = {r.reference: r.image for r in _decode_all(f"{self._layout.root}/refs", _refs) if r.image in records}
        return _Snapshot(generation, records, refs)

    def record(self, image_id: str) -> Record | None:
        return self._current().records.get(image_id)

    def records(self) -> Iterable[Record]:
        return self._current().records.values()

    def find(self, text: str) -> Record | None:
        """By id, tag or digest reference, or by the beginning of an id (at least 7 digits) that only one image has.

        Raises InvalidReference if it can be none of them.
        """
        current = self._current()
        image_id = references.image_id(text)
        if image_id is not None:
            return current.records.get(image_id)
        for name in lookup_names(references.parse(text)):
            if name in current.refs:
                return current.records.get(current.refs[name])
        if _SHORT_ID.fullmatch(text):
            found = [r for r in current.records.values() if r.id.partition(":")[2].startswith(text)]
            return found[0] if len(found) == 1 else None
        return None

    def is_id(self, text: str) -> bool:
        """Whether `text` names an image by its id, not by one of its names."""
        if references.image_id(text) is not None:
            return True
        return bool(_SHORT_ID.fullmatch(text)) and not any(
            name in self._current().refs for name in lookup_names(references.parse(text))
        )

    def images(self) -> list[Image]:
        current = self._current()
        return [self._image(current, record) for record in current.records.values()]

    def image(self, record: Record) -> Image:
        return self._image(self._current(), record)

    @staticmethod
    def _image(current: _Snapshot, record: Record) -> Image:
        known = current.images.get(record.id)
        if known is None:
            names = current.of_image.get(record.id, [])
            known = current.images[record.id] = Image(
                id=record.id,
                repo_tags=tuple(n for n in names if "@" not in n),
                repo_digests=tuple(n for n in names if "@" in n),
                size=record.size,
                config=record.config,
                created=record.created,
                pinned=record.pinned,
            )
        return known

    def references(self, image_id: str) -> list[str]:
        return list(self._current().of_image.get(image_id, ()))

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Index]:
        """Alone among tasks and processes; `put`, `point`, `drop` only in here."""
        async with locked(self._layout.lock):
            odd = self._generation() // 2 * 2 + 3
            self._set_generation(odd)
            try:
                yield self
            finally:
                self._set_generation(odd + 1)

    def _set_generation(self, number: int) -> None:
        # No sync: after a power cut no process remembers anything.
        write_atomically(self._layout.generation, str(number).encode(), sync=False)

    async def put(self, record: Record) -> None:
        data = msgspec.json.encode(record)
        await asyncio.to_thread(write_atomically, self._layout.image(record.id), data)
        self.touch(record.id)

    async def point(self, reference: str, image_id: str) -> None:
        """Let a reference point to an image, wherever it pointed before."""
        data = msgspec.json.encode(_Ref(reference, image_id))
        await asyncio.to_thread(write_atomically, self._layout.ref(reference), data)

    def drop_reference(self, reference: str) -> None:
        unlink(self._layout.ref(reference))

    def drop(self, image_id: str) -> None:
        """Forget an image and all references to it."""
        for reference in self.references(image_id):
            unlink(self._layout.ref(reference))
        unlink(self._layout.image(image_id))
        unlink(self._layout.used(image_id))

    def touch(self, image_id: str) -> None:
        """The image is used now. Not worth a sync: losing it makes the image a little older."""
        path, moment = self._layout.used(image_id), clock.now().timestamp()
        try:
            os.utime(path, (moment, moment))
        except FileNotFoundError:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            os.utime(path, (moment, moment))

    def last_used(self, image_id: str) -> datetime:
        try:
            return datetime.fromtimestamp(os.stat(self._layout.used(image_id)).st_mtime, UTC)
        except FileNotFoundError:
            return datetime.fromtimestamp(0, UTC)


def lookup_names(reference: Reference) -> tuple[str, ...]:
    """The names under which a reference may be filed. With a digest the tag counts for nothing."""
    if reference.digest:
        return (f"{reference.name}@{reference.digest}",)
    return (reference.tagged,)


def _decode_all(folder: str, decoder: msgspec.json.Decoder[T]) -> list[T]:
    found: list[T] = []
    for entry in os.scandir(folder):
        if entry.name.endswith(".json"):
            data = read(entry.path)
            if data is None:
                continue
            try:
                found.append(decoder.decode(data))
            except msgspec.DecodeError as error:
                raise ImageError(f"{entry.path} is damaged ({error}): delete it and pull the image again") from None
    return found
