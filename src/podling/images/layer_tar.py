"""Writes layers: tar files that depend on their content alone: the same content has the same digest anywhere."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, Any

_XATTR = "SCHILY.xattr."


class LayerWriter:
    """Entries in the order they are added; no names of users, no sub-second times, one form (pax)."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")  # noqa: SIM115  (closed in close())
        self._hash = hashlib.sha256()
        self.size = 0
        self._tar = tarfile.TarFile(fileobj=self, mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]

    def add(self, entry: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        entry.uname = entry.gname = ""
        entry.mtime = int(entry.mtime)
        entry.pax_headers = {k: v for k, v in entry.pax_headers.items() if k.startswith(_XATTR)}
        self._tar.addfile(entry, content)
        self._tar.members.clear()  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def close(self) -> str:
        """The digest of what was written."""
        self._tar.close()
        self._file.close()
        return f"sha256:{self._hash.hexdigest()}"


def entry(name: str, type_: bytes, mode: int, **attributes: Any) -> tarfile.TarInfo:
    """A TarInfo of root's, from 1970."""
    made = tarfile.TarInfo(name)
    made.type, made.mode = type_, mode
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


def write_directory(source: str, path: str) -> str:
    """The tree below `source` as a layer in the new file `path`; its digest. Sockets are left out."""
    writer = LayerWriter(path)
    linked: dict[tuple[int, int], str] = {}
    try:
        for name, full in _walk(source):
            found = os.lstat(full)
            made = _describe(name, full, found)
            if made is None:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                first = linked.setdefault((found.st_dev, found.st_ino), name)
                if first != name:
                    made.type, made.linkname, made.size = tarfile.LNKTYPE, first, 0
            if made.type == tarfile.REGTYPE:
                with open(full, "rb") as content:
                    writer.add(made, content)
            else:
                writer.add(made)
    finally:
        digest = writer.close()
    return digest


def _walk(source: str) -> Iterator[tuple[str, str]]:
    """(name in the layer, path), directories before what is in them, siblings by name."""
    pending = [""]
    while pending:
        here = pending.pop()
        full = f"{source}/{here}" if here else source
        if here:
            yield here, full
        if os.path.isdir(full) and not os.path.islink(full):
            names = sorted(os.listdir(full), reverse=True)
            pending += [f"{here}/{name}" if here else name for name in names]


def _describe(name: str, path: str, found: os.stat_result) -> tarfile.TarInfo | None:
    mode = found.st_mode
    made = entry(name, tarfile.REGTYPE, stat.S_IMODE(mode), uid=found.st_uid, gid=found.st_gid, mtime=found.st_mtime)
    if stat.S_ISREG(mode):
        made.size = found.st_size
    elif stat.S_ISDIR(mode):
        made.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode):
        made.type, made.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        made.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
        made.devmajor, made.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    elif stat.S_ISFIFO(mode):
        made.type = tarfile.FIFOTYPE
    else:
        return None
    if not stat.S_ISLNK(mode):
        made.pax_headers = {
            f"{_XATTR}{key}": os.getxattr(path, key).decode("utf-8", "surrogateescape") for key in os.listxattr(path)
        }
    return made
