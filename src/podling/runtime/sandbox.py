"""What a sandbox consists of on the machine, made and taken away: pinned namespaces, /dev/shm, a cgroup, the files
that all its containers see, and, for a shared process namespace, the process that is PID 1 in it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from podling import mounts
from podling.runtime import namespaces, node, processes, users
from podling.runtime.base import DNSConfig, RuntimeFailure, SandboxConfig
from podling.runtime.cgroups import Cgroups
from podling.runtime.crun import OciCli
from podling.runtime.records import Layout, SandboxRecord
from podling.runtime.spec import id_mapping

_SHM_SIZE = 64 << 20
_CATATONIT = ("/usr/libexec/podman/catatonit", "/usr/libexec/catatonit/catatonit")


def resolv_conf(dns: DNSConfig | None) -> str:
    """The text of /etc/resolv.conf; without a configuration the machine's own."""
    if dns is None:
        try:
            return Path("/etc/resolv.conf").read_text()
        except OSError:
            return ""
    lines = []
    if dns.searches:
        lines.append("search " + " ".join(dns.searches))
    lines += [f"nameserver {server}" for server in dns.servers]
    if dns.options:
        lines.append("options " + " ".join(dns.options))
    return "\n".join(lines) + "\n"


def own_namespaces(config: SandboxConfig) -> list[str]:
    """Which namespaces the sandbox has for itself. A pod on the host's network has the host's name too."""
    kinds = ["user"] if config.user_namespace else []
    kinds += [] if config.host_network else ["net", "uts"]
    return kinds if config.host_ipc else [*kinds, "ipc"]


def netns(layout: Layout, record: SandboxRecord) -> str:
    """The path of its pinned network namespace, "" on the host's network."""
    return "" if record.config.host_network else str(layout.namespaces(record.id) / "net")


def _sysctls(config: SandboxConfig) -> dict[str, str]:
    """What the pod asks for, over containerd's defaults: whoever runs in a network of their own may use all its ports
    and send pings, root or not."""
    found = {}
    if not config.host_network:
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
        if not config.user_namespace:
            found["net.ipv4.ping_group_range"] = "0 2147483647"
    return {**found, **config.sysctls}


async def make(layout: Layout, cgroups: Cgroups, record: SandboxRecord) -> None:
    """All of it but the network and PID 1; on failure `unmake` takes away what was made."""
    config, directory = record.config, layout.sandboxes / record.id
    directory.mkdir(mode=0o711)
    hostname = record.hostname if not config.host_network else os.uname().nodename
    kinds = [kind for kind in own_namespaces(config) if kind != "user"]
    if record.user_base:
        await users.make(directory / "ns", kinds, record.user_base)
    namespaces.make(directory / "ns", kinds, hostname, _sysctls(config))
    if not config.host_ipc:
        (directory / "shm").mkdir()
        flags = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
        mounts.mount("shm", str(directory / "shm"), "tmpfs", flags, f"mode=1777,size={_SHM_SIZE}")
    (directory / "hostname").write_text(hostname + "\n")
    (directory / "resolv.conf").write_text(resolv_conf(config.dns))
    cgroups.create(record.cgroup, config.resources)


def shm(layout: Layout, record: SandboxRecord) -> str:
    """What its containers have at /dev/shm."""
    return "/dev/shm" if record.config.host_ipc else str(layout.sandboxes / record.id / "shm")


async def start_init(layout: Layout, oci: OciCli, record: SandboxRecord) -> None:
    """Start catatonit as PID 1 of the process namespace that the containers share: it reaps what nobody waits for."""
    program = shutil.which("catatonit") or next((path for path in _CATATONIT if Path(path).exists()), None)
    if program is None:
        raise RuntimeFailure("shareProcessNamespace needs catatonit, which was not found: install the package")
    bundle = layout.sandboxes / record.id / "init"
    for directory in ("dev", "proc"):
        (bundle / "rootfs" / directory).mkdir(parents=True)
    (bundle / "rootfs" / "pause").touch()
    (bundle / "config.json").write_bytes(msgspec.json.encode(_init_spec(layout, record, program)))
    await oci.run_detached(record.id, bundle, bundle / "pid")
    record.init_pid = int((bundle / "pid").read_text())
    record.init_started = processes.start_time(record.init_pid)
    namespaces.pin_process(layout.namespaces(record.id), "pid", record.init_pid)


def _init_spec(layout: Layout, record: SandboxRecord, program: str) -> dict[str, Any]:
    directory = layout.namespaces(record.id)
    spaces: list[dict[str, str]] = [{"type": "pid"}, {"type": "mount"}]
    for kind in own_namespaces(record.config):
        spaces.append({"type": namespaces.OCI_NAMES[kind], "path": str(directory / kind)})
    options = ["nosuid", "noexec", "nodev"]
    linux: dict[str, Any] = {"cgroupsPath": f"{record.cgroup}/{record.id}", "namespaces": spaces}
    if record.user_base:
        linux["uidMappings"] = linux["gidMappings"] = id_mapping(record.user_base)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 65535, "gid": 65535},
            "args": ["/pause", "-P"],
            "cwd": "/",
            "env": [],
            "noNewPrivileges": True,
        },
        "root": {"path": str(layout.sandboxes / record.id / "init" / "rootfs"), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": options},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/pause", "type": "bind", "source": program, "options": ["bind", "ro"]},
        ],
        "linux": linux,
    }


async def stop_init(cgroups: Cgroups, oci: OciCli, record: SandboxRecord) -> None:
    """End PID 1 of the shared process namespace, and with it all that is left in there."""
    if record.config.share_process_namespace:
        await cgroups.kill(f"{record.cgroup}/{record.id}")
        await oci.delete(record.id)


def release(layout: Layout, record: SandboxRecord) -> None:
    """Let go of its namespaces and its shared memory. May be repeated."""
    namespaces.unpin(layout.namespaces(record.id))
    mounts.unmount(str(layout.sandboxes / record.id / "shm"))


async def unmake(layout: Layout, cgroups: Cgroups, record: SandboxRecord, *, keep_cgroup: bool) -> None:
    """Take away all that `make` and `start_init` made."""
    await asyncio.to_thread(_remove_files, layout, record)
    if not keep_cgroup:
        await cgroups.kill(record.cgroup)
        await cgroups.remove(record.cgroup)


def _remove_files(layout: Layout, record: SandboxRecord) -> None:
    release(layout, record)
    node.remove_tree(layout.sandboxes / record.id)
