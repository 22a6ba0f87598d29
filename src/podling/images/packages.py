"""A root file system out of Debian packages, without root and without running their scripts.

apt chooses and downloads, dpkg-deb opens, and the packages' own tar streams (with their owners and modes) are merged
into one layer with the merged-/usr layout of today's Debian. Busybox gets links for its applets. The result depends on
the packages alone.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import tarfile
from collections.abc import Sequence

import msgspec

from podling.images.base import ImageError
from podling.images.layer_tar import LayerWriter, entry
from podling.images.streams import Window
from podling.images.unpack import Part, clean

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ALWAYS_LINKED = ("bin", "sbin", "lib", "lib64")
_LEFT_OUT = ("usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/")
_FOLDERS = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "var": 0o755,
    "var/log": 0o755,
    "var/tmp": 0o1777,
    **{f"usr/{name}": 0o755 for name in _ALWAYS_LINKED},
}
_PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
mail:x:8:
www-data:x:33:
nogroup:x:65534:
"""


class _Entry(msgspec.Struct):
    """A path of the merged tree: its tar header, and where its content is."""

    header: tarfile.TarInfo
    content: Part | None = None
    data: bytes | None = None


async def download(packages: Sequence[str], folder: str, *, dependencies: bool) -> list[str]:
    """The packages' .deb files in `folder`; with `dependencies` all that they need too, without recommendations."""
    if not packages:
        raise ImageError("an image of packages needs the name of at least one package")
    for name in packages:
        if name.startswith("-") or not all(c.isalnum() or c in "+-.:=~" for c in name):
            raise ImageError(f"{name!r} is no package name")
    wanted = await _closure(packages, folder) if dependencies else list(packages)
    await _run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *wanted, cwd=folder)
    return sorted(f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(".deb"))


async def _closure(packages: Sequence[str], folder: str) -> list[str]:
    """What apt would install on an empty system."""
    nothing = f"{folder}/status"
    with open(nothing, "w"):
        pass
    out = await _run(
        *("apt-get", "-qq", "-s", "--no-install-recommends", "-o", f"Dir::State::status={nothing}"),
        *("-o", "Debug::NoLocking=1", "install", *packages),
        cwd=folder,
    )
    chosen = []
    for line in out.decode().splitlines():
        if line.startswith("Inst "):
            _, name, version = line.split(" ", 3)[:3]
            chosen.append(f"{name}={version.lstrip('(')}")
    return chosen


async def write_layer(debs: Sequence[str], path: str, folder: str, *, over: str = "") -> str:
    """Merge packages into the layer file `path`, using `folder` for what lies between; the layer's digest.

    The entries of the tar file `over` come last, in place of what the packages have there.
    """
    tree: dict[str, _Entry] = {}
    for number, deb in enumerate(debs):
        plain = f"{folder}/{number}.tar"
        with open(plain, "wb") as out:
            await _run("dpkg-deb", "--fsys-tarfile", deb, cwd=folder, stdout=out.fileno())
        await asyncio.to_thread(_merge, tree, plain)
    if over:
        await asyncio.to_thread(_merge, tree, over, ())
    _furnish(tree)
    await _link_applets(tree, folder)
    return await asyncio.to_thread(_write, tree, path)


def merged_path(path: str) -> str:
    """Where a path of a package stands in the merged-/usr layout."""
    first, slash, _ = path.partition("/")
    return f"usr/{path}" if slash and first in _MERGED else path


def merged_link(path: str, target: str) -> str:
    """A symbolic link's target after its package's `path` moved: a relative one may start elsewhere now."""
    if target.startswith("/") or merged_path(path) == path:
        return target
    if "/" not in target:
        return target
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target))


def _merge(tree: dict[str, _Entry], tar_path: str, left_out: tuple[str, ...] = _LEFT_OUT) -> None:
    with tarfile.open(tar_path, "r:") as archive:
        for member in archive:
            path = clean(member.name)
            if not path or path in _MERGED or f"{path}/".startswith(left_out):
                continue
            if member.issym():
                member.linkname = merged_link(path, member.linkname)
            elif member.islnk():
                member.linkname = merged_path(clean(member.linkname) or "")
            member.name = merged_path(path)
            content = Part(tar_path, member.offset_data, member.size) if member.isreg() else None
            known = tree.get(member.name)
            if known is None or not (known.header.isdir() and member.isdir()):
                tree[member.name] = _Entry(member, content)


def _furnish(tree: dict[str, _Entry]) -> None:
    """What every root file system has, and installation scripts would have made."""
    for name, mode in _FOLDERS.items():
        tree.setdefault(name, _Entry(entry(name, tarfile.DIRTYPE, mode)))
    for name in _MERGED:
        if name in _ALWAYS_LINKED or f"usr/{name}" in tree:
            tree[name] = _Entry(entry(name, tarfile.SYMTYPE, 0o777, linkname=f"usr/{name}"))
    tree.setdefault("var/run", _Entry(entry("var/run", tarfile.SYMTYPE, 0o777, linkname="/run")))
    masters = (("etc/passwd", "passwd.master", _PASSWD), ("etc/group", "group.master", _GROUP))
    for name, master, text in masters:
        source = tree.get(f"usr/share/base-passwd/{master}")
        data = _content(source) if source is not None else text.encode()
        tree.setdefault(name, _Entry(entry(name, tarfile.REGTYPE, 0o644, size=len(data)), data=data))


def _content(source: _Entry) -> bytes:
    if source.content is None:
        return source.data or b""
    with open(source.content.path, "rb") as file:
        file.seek(source.content.offset)
        return file.read(source.content.length)


async def _link_applets(tree: dict[str, _Entry], folder: str) -> None:
    busybox = tree.get("usr/bin/busybox")
    if busybox is None:
        return
    program = f"{folder}/busybox"
    with open(program, "wb") as file:
        file.write(_content(busybox))
    os.chmod(program, 0o755)
    try:
        applets = (await _run(program, "--list-full", cwd=folder)).decode().split()
    except ImageError:
        # Linked against libraries, or for another machine: the image works without the links.
        return
    for applet in applets:
        place = merged_path(applet)
        if "/" not in place:
            place = f"usr/bin/{place}"
        if place not in tree and posixpath.dirname(place) in ("usr/bin", "usr/sbin"):
            target = "busybox" if place.startswith("usr/bin/") else "../bin/busybox"
            tree[place] = _Entry(entry(place, tarfile.SYMTYPE, 0o777, linkname=target))


def _write(tree: dict[str, _Entry], path: str) -> str:
    import io

    for name in list(tree):
        while (name := posixpath.dirname(name)) and name not in tree:
            tree[name] = _Entry(entry(name, tarfile.DIRTYPE, 0o755))
    writer = LayerWriter(path)
    try:
        # A hard link must come after what it links to.
        for name in sorted(tree, key=lambda n: (tree[n].header.islnk(), n)):
            made = tree[name]
            if made.content is not None:
                with open(made.content.path, "rb", buffering=0) as file:
                    writer.add(made.header, Window(file, *made.content[1:]))  # type: ignore[arg-type]
            else:
                writer.add(made.header, io.BytesIO(made.data) if made.data is not None else None)
    finally:
        digest = writer.close()
    return digest


async def _run(*argv: str, cwd: str, stdout: int | None = None) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout if stdout is not None else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise ImageError(f"{argv[0]} is not here: images of packages are made on Debian or its relatives") from None
    out, err = await process.communicate()
    if process.returncode != 0:
        lines = [line for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("E:")] or lines or [f"exit code {process.returncode}"]
        text = errors[0].removeprefix("E:").strip().removeprefix(f"{argv[0]}: error: ")
        raise ImageError(f"{argv[0]} failed: {text}")
    return out or b""
