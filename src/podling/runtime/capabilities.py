"""Which capabilities a container gets: the engines' default set, changed as its security context says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

#: By number, as in linux/capability.h.
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES = tuple(_NAMES.split())

#: What containerd gives a container that asks for nothing.
_DEFAULT = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE
"""
DEFAULT = tuple(_DEFAULT.split())


def own(status: str | None = None) -> frozenset[str]:
    """The capabilities that this process can give, as names without CAP_ (from /proc/self/status)."""
    text = Path("/proc/self/status").read_text() if status is None else status
    mask = next((int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapBnd:")), 0)
    return frozenset(name for number, name in enumerate(NAMES) if mask >> number & 1)


def effective(available: frozenset[str], privileged: bool, add: Iterable[str], drop: Iterable[str]) -> list[str]:
    """The container's set, sorted, with CAP_. `add` and `drop` are in Kubernetes' form: NET_ADMIN, ALL.

    Privileged is everything available. An ALL is applied before the single names, as containerd does.
    """
    if privileged:
        return sorted("CAP_" + name for name in available)
    added = {name.upper().removeprefix("CAP_") for name in add}
    dropped = {name.upper().removeprefix("CAP_") for name in drop}
    chosen = set(DEFAULT)
    if "ALL" in added:
        chosen = set(available)
    if "ALL" in dropped:
        chosen = set()
    chosen = (chosen | (added - {"ALL"})) - dropped
    return sorted("CAP_" + name for name in chosen & available)
