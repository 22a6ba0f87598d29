"""Owners and modes of directories that a layer walks through without naming them.

Layers are unpacked each by itself, so a layer with `tmp/x` but no entry for `tmp` has no way to know that `tmp` is
1777, and overlayfs shows the topmost directory's mode. Where that matters, an image gets one more layer on top that
holds only those directories, with the owner and mode of the last layer that did name them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence

import msgspec


class Directory(msgspec.Struct, frozen=True, order=True):
    """A directory as it should be: path below the root, permission bits, owner."""

    path: str
    mode: int
    uid: int
    gid: int


class Layer(msgspec.Struct, frozen=True):
    """An unpacked layer: where it is, and what it walks through without naming."""

    diff: str
    implicit: frozenset[str]


def plan(layers: Sequence[Layer]) -> tuple[Directory, ...]:
    """The directories of the layer on top, parents first; `layers` go from the bottom up. Empty: none is needed."""
    wanted: dict[str, Directory] = {}
    for path in sorted(set().union(*(layer.implicit for layer in layers)) if layers else ()):
        shown, meant = _shown(layers, path), _meant(layers, path)
        if meant is not None and shown != meant:
            wanted[path] = meant
    for path in list(wanted):
        while path := path.rpartition("/")[0]:
            parent = _meant(layers, path)
            if parent is not None:
                wanted[path] = parent
    return tuple(sorted(wanted.values()))


def digest(directories: Sequence[Directory]) -> str:
    """A diff id for the layer that `build` makes."""
    return f"sha256:{hashlib.sha256(b'podling fixup' + msgspec.json.encode(tuple(directories))).hexdigest()}"


def build(directories: Sequence[Directory], diff: str) -> None:
    os.mkdir(diff, 0o755)
    for directory in directories:
        path = f"{diff}/{directory.path}"
        os.makedirs(path, exist_ok=True)
        os.chown(path, directory.uid, directory.gid)
        os.chmod(path, directory.mode)


def _look(layer: Layer, path: str) -> Directory | None:
    try:
        found = os.lstat(f"{layer.diff}/{path}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    return Directory(path, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def _shown(layers: Sequence[Layer], path: str) -> Directory | None:
    for layer in reversed(layers):
        found = _look(layer, path)
        if found is not None or _hides(layer, path):
            return found
    return None


def _meant(layers: Sequence[Layer], path: str) -> Directory | None:
    """What the topmost layer says that names the directory; else what is shown."""
    fallback = None
    for layer in reversed(layers):
        found = _look(layer, path)
        if found is not None:
            if path not in layer.implicit:
                return found
            fallback = fallback or found
        if _hides(layer, path):
            break
    return fallback


def _hides(layer: Layer, path: str) -> bool:
    """Whether nothing of the layers below is seen at `path`: something else stands on the way, or is opaque."""
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        place = f"{layer.diff}/{'/'.join(parts[:end])}"
        try:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                return True
            if os.getxattr(place, "trusted.overlay.opaque") == b"y":
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            continue
    return False
