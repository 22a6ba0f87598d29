"""A sandbox's namespaces, kept alive as files: no process has to sit in them.

They are made by a short-lived thread that unshares them, sets hostname and sysctls, and binds its own entries under
/proc to files. That takes a millisecond or two and starts no process.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from podling import mounts
from podling.runtime import syscalls
from podling.runtime.base import RuntimeFailure

_FLAGS = {"net": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS}

#: The names that the OCI runtime specification has for them.
OCI_NAMES = {"net": "network", "ipc": "ipc", "uts": "uts", "pid": "pid", "user": "user"}


def make(directory: Path, kinds: Sequence[str], hostname: str, sysctls: Mapping[str, str]) -> None:
    """Pin new namespaces of `kinds` (net, ipc, uts) as files in `directory`, and set them up.

    Those that are pinned there already are only set up.
    """
    directory.mkdir(parents=True, exist_ok=True)

    def work() -> None:
        for kind in kinds:
            file = directory / kind
            if file.exists():
                with file.open() as pinned:
                    syscalls.setns(pinned.fileno(), _FLAGS[kind])
            else:
                file.touch()
                syscalls.unshare(_FLAGS[kind])
                mounts.mount(f"/proc/thread-self/ns/{kind}", str(file), flags=mounts.BIND)
        if "uts" in kinds and hostname:
            syscalls.sethostname(hostname)
        for name, value in sysctls.items():
            _set_sysctl(name, value)

    if kinds:
        syscalls.in_fresh_thread(work)
    elif sysctls:
        raise RuntimeFailure("sysctls cannot be set for a sandbox that has only the host's namespaces")


def _set_sysctl(name: str, value: str) -> None:
    """Names are in Kubernetes' forms: net.ipv4.ip_forward, or with slashes if a part has a dot in it."""
    if "/" in name:
        path = name
    else:
        path = name.replace(".", "/")
    try:
        Path("/proc/sys", path).write_text(value)
    except OSError as error:
        raise RuntimeFailure(f'failed to set sysctl "{name}" to "{value}": {error.strerror}') from None


def pin_process(directory: Path, kind: str, pid: int) -> None:
    """Pin the namespace that process `pid` is in."""
    file = directory / kind
    file.touch()
    mounts.mount(f"/proc/{pid}/ns/{kind}", str(file), flags=mounts.BIND)


def is_pinned(file: Path) -> bool:
    """Whether `file` is a pinned namespace still (after a reboot it is an ordinary file, or gone)."""
    try:
        return file.stat().st_dev != file.parent.stat().st_dev
    except FileNotFoundError:
        return False


def unpin(directory: Path) -> None:
    """Let the namespaces that are pinned in `directory` go."""
    for file in directory.iterdir() if directory.is_dir() else ():
        mounts.unmount(str(file))
        file.unlink(missing_ok=True)


def connect(netns: str, address: tuple[str, int]) -> socket.socket:
    """A non-blocking TCP socket of the network namespace pinned at `netns`, on its way to `address`.

    A socket stays in the namespace that it was made in, so only making it needs a thread that enters.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    def work() -> socket.socket:
        with open(netns) as file:
            syscalls.setns(file.fileno(), syscalls.CLONE_NEWNET)
        return socket.socket(family, socket.SOCK_STREAM)

    made = syscalls.in_fresh_thread(work) if netns else socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    made.connect_ex(address)
    return made
