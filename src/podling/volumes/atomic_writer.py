"""Files that change all at once: a reader sees all of the old or all of the new, never a mixture.

The scheme is upstream's (pkg/volume/util/atomic_writer.go), which programs rely on that watch their configuration:

    ..2026_01_02_15_04_05.123456789/   the content
    ..data -> ..2026_01_02_...         swapped by rename
    key -> ..data/key                  what users see
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Mapping

import msgspec

from podling import clock
from podling.volumes.base import VolumeError

_DATA = "..data"
_NEW_DATA = "..data_tmp"
_PATH_MAX = 4096
_NAME_MAX = 255


class File(msgspec.Struct, frozen=True):
    """Content, permission bits and (if not root) owner of a file."""

    data: bytes
    mode: int
    user: int | None = None


Payload = Mapping[str, File]


def check_path(path: str) -> None:
    """Raises VolumeError in upstream's words."""
    if not path:
        raise VolumeError('invalid path: must not be empty: ""')
    if os.path.isabs(path):
        raise VolumeError(f"invalid path: must be relative path: {path}")
    if len(path.encode()) > _PATH_MAX:
        raise VolumeError(f"invalid path: must be less than or equal to {_PATH_MAX} characters")
    parts = path.split("/")
    for part in parts:
        if part == "..":
            raise VolumeError(f"invalid path: must not contain '..': {path}")
        if len(part.encode()) > _NAME_MAX:
            raise VolumeError(f"invalid path: filenames must be less than or equal to {_NAME_MAX} characters")
    if parts[0].startswith(".."):
        raise VolumeError(f"invalid path: must not start with '..': {path}")


def write(directory: str, payload: Payload, prepare: Callable[[str], None] | None = None) -> bool:
    """Let `directory` show the payload's files and no others; whether anything had to change.

    `prepare` is called with the folder of the new content before anybody can see it.
    """
    files = {}
    for path, file in payload.items():
        check_path(path)
        files[os.path.normpath(path)] = file
    link = f"{directory}/{_DATA}"
    old = _read_link(link)
    if old and _same(f"{directory}/{old}", files):
        _show(directory, files)
        _hide(directory, files)
        return False
    new = _new_folder(directory)
    try:
        _fill(f"{directory}/{new}", files)
        if prepare is not None:
            prepare(f"{directory}/{new}")
        _show(directory, files)
        temporary = f"{directory}/{_NEW_DATA}"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(new, temporary)
        os.rename(temporary, link)
    except BaseException:
        shutil.rmtree(f"{directory}/{new}", ignore_errors=True)
        raise
    _hide(directory, files)
    for entry in os.listdir(directory):
        if entry.startswith("..") and entry not in (_DATA, new):
            shutil.rmtree(f"{directory}/{entry}", ignore_errors=True)
    return True


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _new_folder(directory: str) -> str:
    stamp = clock.now().strftime("..%Y_%m_%d_%H_%M_%S.")
    while True:
        name = f"{stamp}{random.randrange(1 << 32)}"
        try:
            os.mkdir(f"{directory}/{name}")
        except FileExistsError:
            continue
        # 0755 whatever the umask is.
        os.chmod(f"{directory}/{name}", 0o755)
        return name


def _fill(folder: str, files: Payload) -> None:
    for path, file in files.items():
        target = f"{folder}/{path}"
        _make_parents(folder, path)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(file.data)
            os.fchmod(out.fileno(), file.mode & 0o7777)
            if file.user is not None:
                os.fchown(out.fileno(), file.user, -1)


def _make_parents(folder: str, path: str) -> None:
    here = folder
    for part in path.split("/")[:-1]:
        here = f"{here}/{part}"
        try:
            os.mkdir(here)
        except FileExistsError:
            continue
        os.chmod(here, 0o755)


def _same(folder: str, files: Payload) -> bool:
    """Whether the folder holds exactly these files. Modes and owners are the pod's and do not change in its life."""
    found = set()
    for root, _, names in os.walk(folder):
        for name in names:
            found.add(os.path.relpath(f"{root}/{name}", folder))
    if found != set(files):
        return False
    for path, file in files.items():
        target = f"{folder}/{path}"
        if not stat.S_ISREG(os.lstat(target).st_mode):
            return False
        with open(target, "rb") as existing:
            if existing.read() != file.data:
                return False
    return True


def _tops(files: Payload) -> set[str]:
    return {path.partition("/")[0] for path in files}


def _show(directory: str, files: Payload) -> None:
    for name in _tops(files):
        link, target = f"{directory}/{name}", f"{_DATA}/{name}"
        if _read_link(link) != target:
            if os.path.lexists(link):
                _delete(link)
            os.symlink(target, link)


def _hide(directory: str, files: Payload) -> None:
    wanted = _tops(files)
    for name in os.listdir(directory):
        if not name.startswith("..") and name not in wanted:
            _delete(f"{directory}/{name}")


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
