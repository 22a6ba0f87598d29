"""Decompression and the streams over it."""

import bz2
import gzip
import hashlib
import io
import lzma

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from podling.images.streams import TarStream, Window, decompressed

_COMPRESSIONS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in members": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "zstd in frames": lambda data: (
        zstandard.ZstdCompressor().compress(data[:100]) + zstandard.ZstdCompressor().compress(data[100:])
    ),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("kind", _COMPRESSIONS)
def test_decompresses(kind: str) -> None:
    data = b"the quick brown fox " * 10_000
    assert b"".join(decompressed(io.BytesIO(_COMPRESSIONS[kind](data)))) == data


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_a_cut_file_is_not_taken_for_whole(kind: str) -> None:
    cut = _COMPRESSIONS[kind](bytes(range(256)) * 1000)[:-10]
    with pytest.raises(EOFError):
        b"".join(decompressed(io.BytesIO(cut)))


@given(st.binary(max_size=5000), st.lists(st.integers(0, 700), max_size=12))
def test_a_stream_gives_what_the_file_holds(data: bytes, steps: list[int]) -> None:
    data = b"plain" + data
    stream, file = TarStream(io.BytesIO(data)), io.BytesIO(data)
    try:
        for step in steps:
            assert stream.read(step) == file.read(step)
            assert stream.seek(stream.tell() + step // 2) == min(file.seek(step // 2, 1), len(data))
            file.seek(stream.tell())
        stream.drain()
    finally:
        stream.close()
    assert stream.digest() == hashlib.sha256(data).hexdigest()


@given(st.binary(max_size=300), st.integers(0, 100), st.integers(0, 100), st.integers(-1, 120))
def test_a_window_is_a_file_of_its_own(data: bytes, offset: int, length: int, size: int) -> None:
    part = data[offset : offset + length]
    window = Window(io.BytesIO(data), offset, length)
    assert window.read(size) == (part if size < 0 else part[:size])
    window.seek(0)
    assert window.read() == part
