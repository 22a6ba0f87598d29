"""Compressed files as streams: decompressed and hashed in a thread, so that reading, inflating and writing overlap."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast

_CHUNK = 1 << 20


class Readable(Protocol):
    """As much of a binary file as decompression needs."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, position: int, whence: int = 0, /) -> int: ...


class Window:
    """The bytes of a file from `offset` on, `length` of them, as a file of its own."""

    def __init__(self, file: IO[bytes], offset: int, length: int) -> None:
        self._file = file
        self._offset = offset
        self._length = length
        self.seek(0)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET:
            raise ValueError("only from the beginning")
        self._at = position
        self._file.seek(self._offset + position)
        return position

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = self._length - self._at
        data = self._file.read(left if size < 0 else min(size, left)) if left > 0 else b""
        self._at += len(data)
        return data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class TarStream:
    """A compressed file as a forward-only stream of its content, decompressed and hashed in a thread."""

    def __init__(self, file: Readable) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(8)
        self._hash = hashlib.sha256()
        self._block = memoryview(b"")
        self._at = 0
        #: What `read` gave last.
        self.last = b""
        self._ended = False
        self._stopped = False
        self._thread = threading.Thread(target=self._produce, args=(file,), daemon=True)
        self._thread.start()

    def _produce(self, file: Readable) -> None:
        try:
            for block in decompressed(file):
                if self._stopped:
                    return
                self._hash.update(block)
                self._queue.put(block)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def _next(self) -> bool:
        if self._ended:
            return False
        item = self._queue.get()
        if item is None:
            self._ended = True
            return False
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        self._block = memoryview(item)
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> int:
        if position < self._at:
            raise ValueError("a tar stream cannot go back")
        while self._at < position:
            if not self.some(position - self._at):
                break
        return self._at

    def some(self, limit: int) -> memoryview:
        """At least one byte and at most `limit`, without a copy; empty at the end."""
        while not self._block:
            if not self._next():
                return memoryview(b"")
        part, self._block = self._block[:limit], self._block[limit:]
        self._at += len(part)
        return part

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise ValueError("the size to read must be given")
        parts, missing = [], size
        while missing and (part := self.some(missing)):
            parts.append(part)
            missing -= len(part)
        self.last = b"".join(parts)
        return self.last

    def drain(self) -> None:
        """Read on to the very end, so that the digest is of everything."""
        while self.some(_CHUNK):
            pass

    def close(self) -> None:
        self._stopped = True
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.02)
            except queue.Empty:
                pass
        self._thread.join()

    def digest(self) -> str:
        return self._hash.hexdigest()


def decompressed(file: Readable) -> Iterator[bytes]:
    """The content of a plain, gzip, zstd, bzip2 or xz file, told apart by its first bytes."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return _gunzip(file)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd(file)
    if head.startswith(b"BZh"):
        import bz2

        return _read_all(bz2.BZ2File(cast(IO[bytes], file)), OSError)
    if head.startswith(b"\xfd7zXZ\x00"):
        import lzma

        return _read_all(lzma.LZMAFile(cast(IO[bytes], file)), lzma.LZMAError)
    return _read_all(file)


def _read_all(file: Any, damage: type[Exception] = EOFError) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except damage as error:
        raise EOFError(str(error)) from None


def _gunzip(file: Readable) -> Iterator[bytes]:
    decoder = zlib.decompressobj(31)
    pending = b""
    while True:
        data = pending or file.read(_CHUNK >> 1)
        pending = b""
        if not data:
            break
        if decoder.eof:
            if not data.strip(b"\0"):
                continue
            decoder = zlib.decompressobj(31)
        yield from _pieces(decoder, data)
        pending = decoder.unused_data
    if not decoder.eof:
        raise EOFError("the compressed data ends too early")


def _pieces(decoder: Any, data: bytes) -> Iterator[bytes]:
    while data:
        piece = decoder.decompress(data, _CHUNK)
        data = decoder.unconsumed_tail
        if piece:
            yield piece


def _unzstd(file: Readable) -> Iterator[bytes]:
    import zstandard

    context, decoder = zstandard.ZstdDecompressor(), None
    pending = b""
    try:
        while data := pending or file.read(_CHUNK >> 3):
            if decoder is None or decoder.eof:
                decoder = context.decompressobj()
            if piece := decoder.decompress(data):
                yield piece
            pending = decoder.unused_data
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
    if decoder is None or not decoder.eof:
        raise EOFError("the compressed data ends too early")
