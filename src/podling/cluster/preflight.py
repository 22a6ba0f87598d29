"""Before a real cluster starts: what this machine lacks, each with its remedy."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from podling.cluster.config import ClusterConfig, ClusterError

#: Programs that real pods need, the Debian package of each, and what it is for.
PROGRAMS = {
    "crun": ("crun", "runs containers (runc does as well)"),
    "conmon": ("conmon", "holds a container's output and exit code"),
    "nft": ("nftables", "services and network address translation"),
}
SIMULATE = "`podling up --simulate` needs none of it: the same control plane with simulated nodes"


def missing_programs() -> list[str]:
    """Which of PROGRAMS are not here."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if "crun" in lacking and shutil.which("runc", path=path):
        lacking.remove("crun")
    return lacking


def check_real(config: ClusterConfig) -> None:
    """Raise ClusterError unless this machine can run real containers."""
    if sys.platform != "linux":
        raise ClusterError(f"real pods need Linux, this is {sys.platform}; {SIMULATE}")
    if os.geteuid() != 0:
        raise ClusterError(f"real pods need root: run it with sudo; {SIMULATE}")
    if lacking := missing_programs():
        packages = " ".join(PROGRAMS[name][0] for name in lacking)
        what = ", ".join(f"{name} ({PROGRAMS[name][1]})" for name in lacking)
        raise ClusterError(f"missing: {what}; install with `apt-get install {packages}`; {SIMULATE}")
    if "overlay" not in Path("/proc/filesystems").read_text() and not Path("/sys/module/overlay").exists():
        raise ClusterError(f"the kernel has no overlay file system: try `modprobe overlay`; {SIMULATE}")
    if not Path("/sys/fs/cgroup").is_dir() or not any(Path("/sys/fs/cgroup").iterdir()):
        raise ClusterError(f"no control groups are mounted at /sys/fs/cgroup; {SIMULATE}")


def check_port(address: str, port: int) -> None:
    """Raise ClusterError if something else listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ClusterError(
                f"port {port} on {address} can't be used ({error.strerror}): stop what listens there, or give --port"
            ) from error
