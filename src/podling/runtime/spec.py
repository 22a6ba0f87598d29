"""From what Kubernetes wants of a container to an OCI runtime specification (runtime-spec 1.0, config-linux.md).

Pure: all that it knows of the machine comes in as a `Node`, all that it knows of the image as `ImageConfig` and the
resolved user, so the whole of a container's isolation can be read and tested here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from podling.images.base import ImageConfig
from podling.runtime import capabilities, seccomp
from podling.runtime.base import (
    ContainerConfig,
    Device,
    Mount,
    Resources,
    RuntimeFailure,
    SeccompKind,
)
from podling.runtime.cgroups import V2
from podling.runtime.rootfs import User

Spec = dict[str, Any]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: How many ids a user namespace has, as Kubernetes fixes it.
USER_RANGE = 65536

#: What of /proc and /sys tells about, or reaches, the machine instead of the container.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Node(NamedTuple):
    """What a specification has to know of the machine."""

    cgroup_version: int
    capabilities: frozenset[str]
    oom_score_adj_min: int = -1000
    apparmor: bool = False
    swap_accounting: bool = False
    hugetlb: bool = False
    seccomp_directory: str = ""


class Placement(NamedTuple):
    """Where the container is put: paths made by the runtime. Namespaces are type -> path; "" is a new one, and what
    is not named is the machine's own."""

    rootfs: str
    cgroup: str
    namespaces: Mapping[str, str]
    shm: str
    resolv_conf: str
    hostname_file: str
    hostname: str
    #: Where the range of ids begins that the pinned user namespace maps to; 0 without one.
    user_base: int = 0


def build(config: ContainerConfig, image: ImageConfig, user: User, place: Placement, node: Node) -> Spec:
    """The specification of a container. RuntimeFailure if it cannot be made from this configuration."""
    argv = arguments(config, image)
    if not argv:
        raise RuntimeFailure(f'no command specified: neither the pod nor the image of "{config.name}" has one')
    security = config.security
    caps = capabilities.effective(
        node.capabilities, security.privileged, security.add_capabilities, security.drop_capabilities
    )
    process: Spec = {
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": list(argv),
        "env": environment(config, image, place.hostname),
        "cwd": config.working_dir or image.working_dir or "/",
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "inheritable": [], "ambient": []},
        "noNewPrivileges": security.no_new_privs,
        "oomScoreAdj": max(config.resources.oom_score_adj, node.oom_score_adj_min),
    }
    # In CRI's form: localhost/NAME. There is no profile of our own behind runtime/default.
    if node.apparmor and security.apparmor_profile.startswith("localhost/") and not security.privileged:
        process["apparmorProfile"] = security.apparmor_profile.removeprefix("localhost/")
    devices = devices_of(config)
    linux: Spec = {
        "cgroupsPath": place.cgroup,
        "namespaces": [
            {"type": kind, "path": path} if path else {"type": kind} for kind, path in place.namespaces.items()
        ],
        "resources": resources(config.resources, node, device_rules(config, devices)),
        "devices": [device.as_linux() for device in devices],
        "rootfsPropagation": propagation_of_root(config.mounts),
    }
    if place.user_base:
        linux["uidMappings"] = linux["gidMappings"] = id_mapping(place.user_base)
    if not security.privileged:
        masked = MASKED_PATHS if security.masked_paths is None else security.masked_paths
        readonly = READONLY_PATHS if security.readonly_paths is None else security.readonly_paths
        linux["maskedPaths"], linux["readonlyPaths"] = list(masked), list(readonly)
    profile = seccomp_profile(config, caps, node)
    if profile is not None:
        linux["seccomp"] = profile
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": place.rootfs, "readonly": security.readonly_rootfs},
        "mounts": mounts(config, place),
        "linux": linux,
        "annotations": {},
    }


def id_mapping(base: int) -> list[Spec]:
    """`linux.uidMappings` and `gidMappings` of a user namespace."""
    return [{"containerID": 0, "hostID": base, "size": USER_RANGE}]


def arguments(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """Kubernetes' rule: a command replaces entrypoint and cmd of the image, args alone replace only the cmd."""
    if config.command:
        return config.command + config.args
    return image.entrypoint + (config.args or image.cmd)


def environment(config: ContainerConfig, image: ImageConfig, hostname: str) -> list[str]:
    """NAME=value entries: defaults, then the image's, then the pod's; a later one replaces an earlier."""
    env = {"PATH": DEFAULT_PATH}
    if config.tty:
        env["TERM"] = "xterm"
    env["HOSTNAME"] = hostname
    for entry in image.env:
        name, _, value = entry.partition("=")
        env[name] = value
    env.update(config.env)
    return [f"{name}={value}" for name, value in env.items()]


def mounts(config: ContainerConfig, place: Placement) -> list[Spec]:
    """The engines' usual mounts, those of the sandbox, and the pod's volumes, parents before children."""
    privileged = config.security.privileged
    writable = ["rw"] if privileged else ["ro"]
    plain = ["nosuid", "noexec", "nodev"]
    listed: list[Spec] = [
        _fs("/proc", "proc", plain),
        _fs("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _fs("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _fs("/dev/mqueue", "mqueue", plain),
        _fs("/sys", "sysfs", plain + writable),
        _fs("/sys/fs/cgroup", "cgroup", [*plain, "relatime", *writable]),
    ]
    own = {mount.container_path.rstrip("/") or "/" for mount in config.mounts}
    rw = "ro" if config.security.readonly_rootfs else "rw"
    for target, source, options in (
        ("/dev/shm", place.shm, ["rw", *plain]),
        ("/etc/resolv.conf", place.resolv_conf, [rw]),
        ("/etc/hostname", place.hostname_file, [rw]),
    ):
        if target not in own and source:
            listed.append(_bind(target, source, options))
    listed.extend(_volume(mount) for mount in sorted(config.mounts, key=lambda mount: mount.container_path.count("/")))
    listed = [each for each in listed if each["type"] == "bind" or each["destination"] not in own]
    return listed


def _fs(target: str, kind: str, options: list[str]) -> Spec:
    return {"destination": target, "type": kind, "source": kind, "options": options}


def _bind(target: str, source: str, options: list[str]) -> Spec:
    return {"destination": target, "type": "bind", "source": source, "options": ["bind", *options]}


def _volume(mount: Mount) -> Spec:
    options = ["rbind", "rprivate" if mount.propagation == "private" else mount.propagation]
    if mount.readonly:
        options.append("rro" if mount.recursive_readonly else "ro")
    else:
        options.append("rw")
    return {"destination": mount.container_path, "type": "bind", "source": mount.host_path, "options": options}


def propagation_of_root(volumes: tuple[Mount, ...]) -> str:
    """Mounts propagate no further than the root file system lets them: the widest that any volume needs."""
    wanted = {mount.propagation for mount in volumes}
    if "rshared" in wanted:
        return "rshared"
    return "rslave" if "rslave" in wanted else "private"


class HostDevice(NamedTuple):
    """A device node of the machine as it will be in the container."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    permissions: str

    def as_linux(self) -> Spec:
        return {
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }


def devices_of(config: ContainerConfig) -> list[HostDevice]:
    """The devices that are asked for; all of the machine's, if privileged."""
    asked = [device for each in config.devices for device in _expand(each)]
    if config.security.privileged:
        present = {device.path for device in asked}
        asked += [device for device in _expand(Device("/dev", "/dev")) if device.path not in present]
    return asked


#: What a container has of its own under /dev, or must not have of the machine's.
_OWN_DEVICES = frozenset({"pts", "shm", "fd", "mqueue", "console", "ptmx", "null", "zero", "full", "random", "urandom"})
_OWN_DEVICES |= {"tty", ".udev", "hugepages"}


def _expand(device: Device) -> Iterator[HostDevice]:
    try:
        status = os.stat(device.host_path)
    except OSError as error:
        raise RuntimeFailure(f'error gathering device information for "{device.host_path}": {error.strerror}') from None
    if stat.S_ISDIR(status.st_mode):
        for entry in sorted(os.scandir(device.host_path), key=lambda entry: entry.name):
            if entry.is_symlink() or (device.host_path == "/dev" and _own(entry.name)):
                continue
            if entry.is_dir() or stat.S_ISCHR(entry.stat().st_mode) or stat.S_ISBLK(entry.stat().st_mode):
                inside = f"{device.container_path.rstrip('/')}/{entry.name}"
                yield from _expand(Device(entry.path, inside, device.permissions))
        return
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise RuntimeFailure(f'error gathering device information for "{device.host_path}": not a device node')
    yield HostDevice(
        device.container_path or device.host_path,
        "c" if stat.S_ISCHR(status.st_mode) else "b",
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        device.permissions,
    )


def _own(name: str) -> bool:
    return name in _OWN_DEVICES or (name.startswith("tty") and name[3:4].isdigit())


def device_rules(config: ContainerConfig, devices: list[HostDevice]) -> list[Spec]:
    """What the device controller lets through: nothing but the harmless (which the OCI runtime adds) and the asked."""
    if config.security.privileged:
        return [{"allow": True, "access": "rwm"}]
    return [{"allow": False, "access": "rwm"}] + [
        {"allow": True, "type": each.kind, "major": each.major, "minor": each.minor, "access": each.permissions}
        for each in devices
    ]


def resources(wanted: Resources, node: Node, rules: list[Spec]) -> Spec:
    """`linux.resources`. On version 2 the control files are named outright, so that every OCI runtime and version
    sets the same weight."""
    result: Spec = {"devices": rules}
    if node.cgroup_version == 2:
        unified = V2.settings(Resources(cpu_shares=wanted.cpu_shares))
        # One process killed for memory takes its container with it (kubelet's singleProcessOOMKill: false).
        unified["memory.oom.group"] = "1"
        result["unified"] = unified
    cpu: Spec = {}
    if wanted.cpu_shares and node.cgroup_version == 1:
        cpu["shares"] = wanted.cpu_shares
    if wanted.cpu_quota:
        cpu["quota"] = wanted.cpu_quota
    if wanted.cpu_period:
        cpu["period"] = wanted.cpu_period
    if wanted.cpuset_cpus:
        cpu["cpus"] = wanted.cpuset_cpus
    if cpu:
        result["cpu"] = cpu
    if wanted.memory_limit:
        result["memory"] = {"limit": wanted.memory_limit}
        if node.swap_accounting:
            result["memory"]["swap"] = wanted.memory_limit
    if wanted.pids_limit:
        result["pids"] = {"limit": wanted.pids_limit}
    if wanted.hugepages and node.hugetlb:
        result["hugepageLimits"] = [{"pageSize": size, "limit": limit} for size, limit in wanted.hugepages.items()]
    return result


def seccomp_profile(config: ContainerConfig, caps: list[str], node: Node) -> Spec | None:
    """None is unconfined, as everything privileged is."""
    security = config.security
    if security.privileged or security.seccomp is SeccompKind.UNCONFINED:
        return None
    if security.seccomp is SeccompKind.RUNTIME_DEFAULT:
        return seccomp.runtime_default(frozenset(caps))
    import msgspec

    path = Path(node.seccomp_directory, security.seccomp_localhost)
    try:
        profile: Spec = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise RuntimeFailure(f"failed to load seccomp profile {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise RuntimeFailure(f"failed to decode seccomp profile {path}: {error}") from None
    return profile
