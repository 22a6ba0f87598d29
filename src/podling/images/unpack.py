"""A layer's tar stream to a directory in the form overlayfs wants, in a process of its own.

Unpacking is the one part of an image that costs real CPU, so it runs as `python -m podling.images.unpack`
(`unpack()` starts it): the event loop stays free, two layers use two cores, and a malformed archive hurts nobody.
Inside, a thread reads, decompresses and hashes while the main thread writes files.

The tree is ours alone while it grows, so what each path is stands in a dictionary: symbolic links in the middle of a
path are resolved there, inside the layer's root, and nothing an archive contains can lead a write outside.
Whiteouts (image-spec layer.md) become overlayfs's: a 0:0 character device, `trusted.overlay.opaque` on a directory.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import posixpath
import shutil
import stat
import sys
import tarfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from podling.errors import PodlingError
from podling.images.streams import TarStream, Window

_BLOCK = 4096
_WHITEOUT = ".wh."
_WHITEOUT_META = ".wh..wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_LINKS_MAX = 255


class InvalidLayer(PodlingError):
    """The blob is not a layer: broken compression, a broken tar, or an entry that cannot be."""


class Unpacked(NamedTuple):
    """What came of a layer: the digest and length of its tar stream, bytes (in blocks) and inodes on disk, and the
    directories that entries stand in but that have no entry of their own (their owner and mode are unknown)."""

    diff_id: str
    length: int
    size: int
    inodes: int
    implicit: list[str]


class Part(NamedTuple):
    """A stretch of a file: a layer inside of an archive is unpacked from where it is."""

    path: str
    offset: int
    length: int


async def unpack(blob: str | Part, target: str) -> Unpacked:
    """Unpack `blob` into the new directory `target` in a process of its own. Raises InvalidLayer."""
    part = blob if isinstance(blob, Part) else Part(blob, 0, os.stat(blob).st_size)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "podling.images.unpack"),
        *(part.path, str(part.offset), str(part.length), target, str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        raise InvalidLayer(lines[-1] if lines else f"the unpacker ended with {process.returncode}")
    return Unpacked(**json.loads(out))


def extract(part: Part, target: str) -> Unpacked:
    """What the process does: see `unpack`. Needs root for owners, devices and whiteouts."""
    os.mkdir(target, 0o755)
    with open(part.path, "rb", buffering=0) as file:
        stream = TarStream(Window(file, part.offset, part.length))
        try:
            layer = _Layer(target, stream)
            layer.run()
            stream.drain()
        except (tarfile.TarError, EOFError, zlib.error, UnicodeError, ValueError) as error:
            raise InvalidLayer(f"the layer is damaged: {error}") from None
        finally:
            stream.close()
    return Unpacked(f"sha256:{stream.digest()}", stream.tell(), layer.size, layer.inodes, sorted(layer.implicit))


class _Layer:
    """One layer on its way to disk.

    `_kinds` says of each path in it what it is: d, l(ink), w(hiteout), or f for all the rest.
    """

    def __init__(self, root: str, stream: TarStream) -> None:
        self._root = root
        self._stream = stream
        self._tar = tarfile.TarFile(fileobj=stream, errorlevel=2)  # type: ignore[arg-type]
        self._kinds: dict[str, str] = {"": "d"}
        self._links: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._directories: dict[str, float] = {}
        self.implicit: set[str] = set()
        self.size = 0
        self.inodes = 0

    def run(self) -> None:
        while (entry := self._tar.next()) is not None:
            # tarfile keeps every member for random access, which a stream has none of.
            self._tar.members.clear()  # type: ignore[attr-defined]
            self._one(entry)
        if self._stream.last.strip(b"\0"):
            # tarfile takes a broken header for the end.
            raise tarfile.ReadError("a header is broken")
        for path, mtime in sorted(self._directories.items(), reverse=True):
            os.utime(self._at(path), (mtime, mtime))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _one(self, entry: tarfile.TarInfo) -> None:
        path = clean(entry.name)
        if path is None:
            raise InvalidLayer(f"the layer is refused: {entry.name!r} points outside of it")
        directory, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT_META) and name != _OPAQUE:
            return
        if name.startswith(_WHITEOUT):
            self._whiteout(directory, name)
            return
        path = self._join(self._parent(directory), name) if path else ""
        writer = self._writers.get(entry.type)
        if writer is None:
            if entry.isreg() or entry.issparse():
                writer = _Layer._file
            else:
                raise InvalidLayer(f"the layer is refused: {entry.name!r} has the unknown type {entry.type!r}")
        self._make_room(path, entry)
        writer(self, path, entry)

    @staticmethod
    def _join(directory: str, name: str) -> str:
        return f"{directory}/{name}" if directory else name

    def _parent(self, directory: str) -> str:
        """The real path of a directory in the layer, links resolved; made where it is missing."""
        known = self._parents.get(directory)
        if known is None:
            known = self._parents[directory] = self._walk(directory)
        return known

    def _walk(self, directory: str) -> str:
        todo = [part for part in reversed(directory.split("/")) if part]
        here, links = "", 0
        while todo:
            part = todo.pop()
            if part in (".", ".."):
                here = here.rpartition("/")[0] if part == ".." else here
                continue
            path = self._join(here, part)
            kind = self._kinds.get(path)
            if kind == "l":
                links += 1
                if links > _LINKS_MAX:
                    raise InvalidLayer(f"the layer is refused: {directory!r} goes through too many symbolic links")
                target = self._links[path]
                here = "" if target.startswith("/") else here
                todo += [piece for piece in reversed(target.split("/")) if piece]
                continue
            if kind != "d":
                if kind is not None:
                    self._remove(path)
                self._mkdir(path, opaque=kind == "w")
                self.implicit.add(path)
            here = path
        return here

    def _mkdir(self, path: str, *, opaque: bool = False) -> None:
        os.mkdir(self._at(path), 0o755)
        self._note(path, "d", _BLOCK)
        if opaque:
            self._set_opaque(path)

    def _note(self, path: str, kind: str, size: int) -> None:
        self._kinds[path] = kind
        self.size += size
        self.inodes += 1

    def _remove(self, path: str) -> None:
        """Take away what an earlier entry of this layer made."""
        if self._kinds.pop(path) == "d":
            shutil.rmtree(self._at(path))
            for below in [p for p in self._kinds if p.startswith(path + "/")]:
                del self._kinds[below]
                self._directories.pop(below, None)
                self.implicit.discard(below)
            self._directories.pop(path, None)
        else:
            os.unlink(self._at(path))
        self._links.pop(path, None)
        self.implicit.discard(path)
        self._parents.clear()

    def _make_room(self, path: str, entry: tarfile.TarInfo) -> None:
        kind = self._kinds.get(path)
        if kind is None or (kind == "d" and entry.isdir()):
            return
        if not path:
            raise InvalidLayer("the layer is refused: its root is not a directory")
        self._remove(path)
        if kind == "w" and entry.isdir():
            self._mkdir(path, opaque=True)

    def _whiteout(self, directory: str, name: str) -> None:
        parent = self._parent(directory)
        if name == _OPAQUE:
            self._set_opaque(parent)
            return
        hidden = name[len(_WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise InvalidLayer(f"the layer is refused: {name!r} hides no file")
        path = self._join(parent, hidden)
        kind = self._kinds.get(path)
        if kind is None:
            os.mknod(self._at(path), stat.S_IFCHR, 0)
            self._note(path, "w", 0)
        elif kind == "d":
            # Hides what is below, and is there anew.
            self._set_opaque(path)

    def _set_opaque(self, path: str) -> None:
        os.setxattr(self._at(path), "trusted.overlay.opaque", b"y")

    def _directory(self, path: str, entry: tarfile.TarInfo) -> None:
        if path not in self._kinds:
            self._mkdir(path)
        self.implicit.discard(path)
        target = self._at(path)
        os.chown(target, entry.uid, entry.gid)
        os.chmod(target, entry.mode & 0o7777)
        self._xattrs(target, entry)
        self._directories[path] = entry.mtime

    def _file(self, path: str, entry: tarfile.TarInfo) -> None:
        target = self._at(path)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if entry.issparse():
                self._sparse(descriptor, entry)
            else:
                self._content(descriptor, entry)
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode & 0o7777)
            self._xattrs(descriptor, entry)
            os.utime(descriptor, (entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)
        self._note(path, "f", -(-entry.size // _BLOCK) * _BLOCK)

    def _content(self, descriptor: int, entry: tarfile.TarInfo) -> None:
        self._stream.seek(entry.offset_data)
        missing = entry.size
        while missing:
            part = self._stream.some(missing)
            if not part:
                raise EOFError("unexpected end of data")
            missing -= len(part)
            while part:
                part = part[os.write(descriptor, part) :]

    def _sparse(self, descriptor: int, entry: tarfile.TarInfo) -> None:
        self._stream.seek(entry.offset_data)
        holes: Any = entry.sparse
        for offset, length in holes or ():
            os.lseek(descriptor, offset, os.SEEK_SET)
            while length:
                part = self._stream.some(length)
                if not part:
                    raise EOFError("unexpected end of data")
                length -= len(part)
                while part:
                    part = part[os.write(descriptor, part) :]
        os.ftruncate(descriptor, entry.size)

    def _symlink(self, path: str, entry: tarfile.TarInfo) -> None:
        target = self._at(path)
        os.symlink(entry.linkname, target)
        os.lchown(target, entry.uid, entry.gid)
        os.utime(target, (entry.mtime, entry.mtime), follow_symlinks=False)
        self._links[path] = entry.linkname
        self._note(path, "l", 0)
        self._parents.clear()

    def _hard_link(self, path: str, entry: tarfile.TarInfo) -> None:
        source = clean(entry.linkname)
        if not source:
            raise InvalidLayer(f"the layer is refused: {entry.linkname!r} points outside of it")
        directory, _, name = source.rpartition("/")
        source = self._join(self._parent(directory), name)
        kind = self._kinds.get(source)
        if kind is None or kind in "dw":
            raise InvalidLayer(f"the layer is refused: {entry.name!r} links to {entry.linkname!r}, which is not in it")
        os.link(self._at(source), self._at(path), follow_symlinks=False)
        self._kinds[path] = kind
        if kind == "l":
            self._links[path] = self._links[source]
            self._parents.clear()

    def _device(self, path: str, entry: tarfile.TarInfo) -> None:
        kind = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}[
            entry.type
        ]
        number = os.makedev(entry.devmajor, entry.devminor) if kind != stat.S_IFIFO else 0
        target = self._at(path)
        os.mknod(target, kind | 0o600, number)
        os.chown(target, entry.uid, entry.gid)
        os.chmod(target, entry.mode & 0o7777)
        os.utime(target, (entry.mtime, entry.mtime))
        self._note(path, "f", 0)

    @staticmethod
    def _xattrs(target: str | int, entry: tarfile.TarInfo) -> None:
        for key, value in entry.pax_headers.items():
            if not key.startswith(_XATTR):
                continue
            name = key[len(_XATTR) :]
            if name.startswith("trusted.overlay."):
                continue
            try:
                os.setxattr(target, name, value.encode("utf-8", "surrogateescape"))
            except OSError as error:
                # A label of a security module that this kernel lacks is no reason not to run the image.
                if error.errno not in (errno.ENOTSUP, errno.EPERM) or name == "security.capability":
                    raise

    _writers: dict[bytes, Callable[[_Layer, str, tarfile.TarInfo], None]] = {
        tarfile.DIRTYPE: _directory,
        tarfile.SYMTYPE: _symlink,
        tarfile.LNKTYPE: _hard_link,
        tarfile.CHRTYPE: _device,
        tarfile.BLKTYPE: _device,
        tarfile.FIFOTYPE: _device,
    }


def clean(name: str) -> str | None:
    """An entry's name as a path below the root ("" is the root); None if it leads out of it or cannot be a path."""
    if "\0" in name:
        return None
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == "..":
        return None
    return None if path.startswith("../") else ("" if path == "." else path)


def _die_with(parent: int) -> None:
    """Nobody wants the work of a process whose starter was killed."""
    import ctypes
    import signal

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> int:
    """`python -m podling.images.unpack BLOB OFFSET LENGTH DIR PARENT`: JSON on stdout, or one sentence on stderr."""
    blob, offset, length, target, parent = sys.argv[1:]
    _die_with(int(parent))
    os.umask(0o022)
    try:
        result = extract(Part(blob, int(offset), int(length)), target)
    except PodlingError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or target}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    json.dump(result._asdict(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
