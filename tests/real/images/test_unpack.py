"""Layers become overlayfs directories; what a layer must not do, it cannot."""

import os
import stat
import tarfile
from pathlib import Path

import pytest

from podling.images.unpack import InvalidLayer, Part, Unpacked, extract, unpack
from tests.real.images.making import COMPRESSIONS, digest, member, tar

pytestmark = pytest.mark.real


def _extract(tmp_path: Path, *members: tuple[tarfile.TarInfo, bytes | None]) -> tuple[Path, Unpacked]:
    blob = tmp_path / "blob"
    blob.write_bytes(tar(*members))
    return tmp_path / "diff", extract(Part(str(blob), 0, blob.stat().st_size), str(tmp_path / "diff"))


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_in_a_process_of_its_own(tmp_path: Path, compression: str) -> None:
    data = tar(member("a"), member("a/b", b"x" * 100_000, mode=0o4755, uid=7, gid=8, mtime=12345))
    blob = tmp_path / "blob"
    blob.write_bytes(b"prefix" + COMPRESSIONS[compression](data) + b"suffix")
    part = Part(str(blob), 6, blob.stat().st_size - 12)
    found = await unpack(part, str(tmp_path / "diff"))
    written = (tmp_path / "diff/a/b").stat()
    assert (written.st_uid, written.st_gid, stat.S_IMODE(written.st_mode), written.st_mtime) == (7, 8, 0o4755, 12345)
    assert found == Unpacked(digest(data), len(data), 4096 + 102_400, 2, [])


def test_kinds_of_entries(tmp_path: Path) -> None:
    diff, found = _extract(
        tmp_path,
        member("d", mode=0o1777, mtime=99),
        member("d/file", b"1"),
        member("d/hard", type=tarfile.LNKTYPE, linkname="./d/file"),
        member("d/soft", type=tarfile.SYMTYPE, linkname="/nowhere"),
        member("d/fifo", type=tarfile.FIFOTYPE),
        member("d/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("implied/dir/x", b"1"),
        member("d/capable", b"1", pax_headers={"SCHILY.xattr.user.note": "here"}),
    )
    assert stat.S_IMODE((diff / "d").stat().st_mode) == 0o1777 and (diff / "d").stat().st_mtime == 99
    assert (diff / "d/hard").stat().st_ino == (diff / "d/file").stat().st_ino
    assert os.readlink(diff / "d/soft") == "/nowhere"
    assert stat.S_ISFIFO((diff / "d/fifo").stat().st_mode)
    assert (diff / "d/null").stat().st_rdev == os.makedev(1, 3)
    assert os.getxattr(diff / "d/capable", "user.note") == b"here"
    assert found.implicit == ["implied", "implied/dir"]


def test_whiteouts(tmp_path: Path) -> None:
    diff, _ = _extract(
        tmp_path,
        member("a"),
        member("a/.wh.gone", b""),
        member("b"),
        member("b/.wh..wh..opq", b""),
        member("c/.wh..wh.plnk", b""),
        # Of the same layer: a file that is there stays; a directory that replaces one hides what was below.
        member("kept", b"1"),
        member(".wh.kept", b""),
        member(".wh.replaced", b""),
        member("replaced"),
        member("replaced/new", b"1"),
    )
    gone = (diff / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(diff / "b", "trusted.overlay.opaque") == b"y"
    assert not (diff / "c").exists()
    assert (diff / "kept").read_bytes() == b"1"
    assert os.getxattr(diff / "replaced", "trusted.overlay.opaque") == b"y"


def test_links_are_followed_inside_the_layer_only(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    diff, _ = _extract(
        tmp_path,
        member("usr"),
        member("usr/lib"),
        member("lib", type=tarfile.SYMTYPE, linkname="usr/lib"),
        member("lib/inside", b"1"),
        member("up", type=tarfile.SYMTYPE, linkname="../../../../.." + str(outside)),
        member("up/caught", b"1"),
        member("absolute", type=tarfile.SYMTYPE, linkname=str(outside)),
        member("absolute/caught", b"1"),
    )
    assert (diff / "usr/lib/inside").read_bytes() == b"1"
    assert list(outside.iterdir()) == []
    assert (diff / str(outside)[1:] / "caught").is_file()


def test_later_entries_replace_earlier_ones(tmp_path: Path) -> None:
    diff, found = _extract(
        tmp_path,
        member("x", b"1"),
        member("x"),
        member("x/y", b"1"),
        member("z"),
        member("z/deep", b"1"),
        member("z", b"file"),
        member("x/y", b"22"),
    )
    assert (diff / "z").read_bytes() == b"file" and (diff / "x/y").read_bytes() == b"22"
    assert found.implicit == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (member("../evil", b"1"), "points outside"),
        (member("a/../../evil", b"1"), "points outside"),
        (member("x", type=tarfile.LNKTYPE, linkname="../../etc/passwd"), "points outside"),
        (member("x", type=tarfile.LNKTYPE, linkname="etc/passwd"), "which is not in it"),
        (member(".wh..", b""), "hides no file"),
    ],
)
def test_refuses(tmp_path: Path, entry: tuple[tarfile.TarInfo, bytes | None], words: str) -> None:
    with pytest.raises(InvalidLayer, match=words):
        _extract(tmp_path, entry)


def test_link_loops_end(tmp_path: Path) -> None:
    with pytest.raises(InvalidLayer, match="too many symbolic links"):
        _extract(
            tmp_path,
            member("a", type=tarfile.SYMTYPE, linkname="b"),
            member("b", type=tarfile.SYMTYPE, linkname="a"),
            member("a/x", b"1"),
        )


@pytest.mark.parametrize("cut", [100, 700, 1500])
def test_a_cut_tar_is_damaged(tmp_path: Path, cut: int) -> None:
    data = tar(member("a", b"x" * 1000), member("b", b"y" * 1000))
    (tmp_path / "blob").write_bytes(data[:cut])
    with pytest.raises(InvalidLayer, match="the layer is damaged"):
        extract(Part(str(tmp_path / "blob"), 0, cut), str(tmp_path / "diff"))


def test_a_broken_header_is_no_end(tmp_path: Path) -> None:
    data = tar(member("first", b"1"), member("second", b"1")).replace(b"second", b"secand")
    (tmp_path / "blob").write_bytes(data)
    with pytest.raises(InvalidLayer, match="the layer is damaged: a header is broken"):
        extract(Part(str(tmp_path / "blob"), 0, len(data)), str(tmp_path / "diff"))


async def test_noise_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"\x1f\x8b" + os.urandom(1000))
    with pytest.raises(InvalidLayer) as caught:
        await unpack(str(tmp_path / "blob"), str(tmp_path / "diff"))
    assert str(caught.value).startswith("the layer is damaged: ") and "\n" not in str(caught.value)
