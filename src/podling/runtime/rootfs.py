"""Looking into a container's root file system without being led out of it: users, groups, directories to be made.

The files belong to the image's author. Every path is resolved by the kernel with the root file system as root
(openat2, RESOLVE_IN_ROOT), so a symbolic link to /etc/shadow is the container's own /etc/shadow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from podling.runtime import syscalls
from podling.runtime.base import RuntimeFailure, SecurityContext

_LARGEST = 4 << 20


class User(NamedTuple):
    """Whom a container's process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def read(root: str, path: str) -> str:
    """A text file of the container, "" if it has none (or something else than a file there)."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = syscalls.open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    finally:
        os.close(root_fd)
    with os.fdopen(fd, "rb") as file:
        return file.read(_LARGEST).decode(errors="replace")


def make_directory(root: str, path: str, mode: int = 0o755) -> None:
    """`mkdir -p` in the container; what is there already, whatever it is, stays."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        reached = "/"
        for part in (part for part in path.split("/") if part not in ("", ".")):
            parent = syscalls.open_in_root(root_fd, reached, os.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(part, mode, dir_fd=parent)
            except FileExistsError:
                pass
            finally:
                os.close(parent)
            reached = f"{reached}/{part}"
    except NotADirectoryError:
        raise RuntimeFailure(f'failed to create "{path}" in the container: not a directory') from None
    finally:
        os.close(root_fd)


def _entries(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= fields and not line.startswith("#"):
            yield parts


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def resolve_user(passwd: str, group: str, image_user: str, security: SecurityContext) -> User:
    """Numbers for the user that image and pod ask for, from the image's passwd(5) and group(5) texts.

    The pod's runAsUser goes before the image's USER (`user`, `user:group`, names or numbers). Without runAsGroup the
    group is that of the user's passwd entry, or 0. Supplemental groups are the pod's and, unless the policy is
    Strict, those that the image's group file lists the user in.
    """
    wanted_user, _, wanted_group = image_user.partition(":")
    if security.run_as_user is not None:
        wanted_user, wanted_group = str(security.run_as_user), ""
    elif security.run_as_username:
        wanted_user, wanted_group = security.run_as_username, ""
    wanted_user = wanted_user or "0"
    uid, gid, name = _passwd_entry(passwd, wanted_user)
    if security.run_as_group is not None:
        gid = security.run_as_group
    elif wanted_group:
        gid = _group_entry(group, wanted_group)
    # The group itself too: else a process could drop it to get at what is denied to the group (CVE-2023-25173).
    groups = [gid, *security.supplemental_groups]
    if not security.supplemental_groups_strict and name:
        for parts in _entries(group, 4):
            number = _number(parts[2])
            if number is not None and name in parts[3].split(","):
                groups.append(number)
    return User(uid, gid, tuple(dict.fromkeys(groups)))


def _passwd_entry(passwd: str, wanted: str) -> tuple[int, int, str]:
    number = _number(wanted)
    for parts in _entries(passwd, 4):
        uid, gid = _number(parts[2]), _number(parts[3])
        if uid is not None and gid is not None and (parts[0] == wanted or uid == number):
            return uid, gid, parts[0]
    if number is None:
        raise RuntimeFailure(f"unable to find user {wanted}: no matching entries in passwd file")
    return number, 0, ""


def _group_entry(group: str, wanted: str) -> int:
    number = _number(wanted)
    for parts in _entries(group, 3):
        gid = _number(parts[2])
        if gid is not None and (parts[0] == wanted or gid == number):
            return gid
    if number is None:
        raise RuntimeFailure(f"unable to find group {wanted}: no matching entries in group file")
    return number
