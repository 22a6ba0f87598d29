"""Pod + Container -> the runtime's container configuration. Pure: what it needs of the node is handed in."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping

import msgspec

from podling.api import core_v1
from podling.api.struct import encode
from podling.images.base import Image
from podling.kubelet import cgroups, pods, security
from podling.kubelet.actions import container_hash
from podling.kubelet.env import ConfigError, expand, mapping
from podling.kubelet.pods import AnyContainer
from podling.runtime.base import ContainerConfig, Device, Mount
from podling.volumes.base import is_readonly

_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


class Node(msgspec.Struct, frozen=True):
    """What of the node a container's configuration depends on; memory in bytes."""

    memory_capacity: int
    seccomp_root: str


class Files(msgspec.Struct, frozen=True):
    """Host paths made for this start of the container; "" for none."""

    hosts: str = ""
    termination_log: str = ""


#: (host path of the volume, path below it, mount) -> a host path that is safe to mount. Raises ConfigError.
PrepareSubpath = Callable[[str, str, core_v1.VolumeMount], str]


def container_config(
    pod: core_v1.Pod,
    container: AnyContainer,
    *,
    attempt: int,
    image: Image,
    environment: Mapping[str, str],
    mounts: tuple[Mount, ...],
    devices: tuple[Device, ...] = (),
    node: Node,
    target_pid_container: str = "",
) -> ContainerConfig:
    """The whole of it. Raises ConfigError."""
    lookup = mapping(environment)
    lifecycle = container.lifecycle
    return ContainerConfig(
        name=container.name,
        attempt=attempt,
        image=image.id,
        image_name=container.image or "",
        command=tuple(expand(word, lookup) for word in container.command or ()),
        args=tuple(expand(word, lookup) for word in container.args or ()),
        working_dir=container.working_dir or "",
        env=tuple(environment.items()),
        mounts=mounts,
        devices=devices,
        labels={
            pods.LABEL_CONTAINER_NAME: container.name,
            pods.LABEL_POD_NAME: pods.name(pod),
            pods.LABEL_POD_NAMESPACE: pods.namespace(pod),
            pods.LABEL_POD_UID: pods.uid(pod),
        },
        annotations=_annotations(pod, container, attempt),
        log_path=log_path(container.name, attempt),
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdin_once),
        tty=bool(container.tty),
        resources=cgroups.container_resources(pod, container, node.memory_capacity),
        security=security.security_context(pod, container, image.config, seccomp_root=node.seccomp_root),
        target_pid_container=target_pid_container,
        stop_signal=(lifecycle.stop_signal if lifecycle else None) or image.config.stop_signal,
    )


def log_path(container_name: str, attempt: int) -> str:
    """Relative to the pod's log directory."""
    return f"{container_name}/{attempt}.log"


def log_link(pod: core_v1.Pod, container_name: str, container_id: str) -> str:
    """The name in /var/log/containers that node log agents know the log by."""
    name = f"{pods.name(pod)}_{pods.namespace(pod)}_{container_name}"
    return f"{name}-{container_id}.log"


def _annotations(pod: core_v1.Pod, container: AnyContainer, attempt: int) -> dict[str, str]:
    """What is needed to stop and report the container when its pod is no longer known."""
    annotations = {
        pods.ANNOTATION_HASH: container_hash(container),
        pods.ANNOTATION_RESTARTS: str(attempt),
        pods.ANNOTATION_MESSAGE_PATH: container.termination_message_path or "",
        pods.ANNOTATION_MESSAGE_POLICY: container.termination_message_policy or "File",
    }
    if pod.spec.termination_grace_period_seconds is not None:
        annotations[pods.ANNOTATION_GRACE] = str(pod.spec.termination_grace_period_seconds)
    if pod.metadata.deletion_grace_period_seconds is not None:
        annotations[pods.ANNOTATION_DELETION_GRACE] = str(pod.metadata.deletion_grace_period_seconds)
    if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
        annotations[pods.ANNOTATION_PRE_STOP] = encode(container.lifecycle.pre_stop).decode()
    if container.ports:
        annotations[pods.ANNOTATION_PORTS] = encode(container.ports).decode()
    return annotations


def mounts(
    pod: core_v1.Pod,
    container: AnyContainer,
    volumes: Mapping[str, str],
    environment: Mapping[str, str],
    prepare_subpath: PrepareSubpath,
    files: Files,
) -> tuple[Mount, ...]:
    """The volume mounts in their order, then what the node agent adds. `volumes` are host paths by volume name."""
    made: list[Mount] = []
    read_only = _read_only_volumes(pod)
    for mount in container.volume_mounts or ():
        path = volumes.get(mount.name)
        if path is None:
            raise ConfigError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
        sub_path = expanded_sub_path(mount, environment)
        if sub_path:
            path = prepare_subpath(path, sub_path, mount)
        recursive = _recursive_read_only(mount)
        made.append(
            Mount(
                host_path=path,
                container_path=os.path.join("/", mount.mount_path),
                readonly=bool(mount.read_only) or mount.name in read_only,
                recursive_readonly=recursive,
                propagation=_PROPAGATION.get(mount.mount_propagation or "", "private"),
            )
        )
    own = {m.container_path.rstrip("/") for m in made}
    if files.hosts and "/etc/hosts" not in own:
        made.append(Mount(host_path=files.hosts, container_path="/etc/hosts"))
    if files.termination_log and container.termination_message_path:
        made.append(Mount(host_path=files.termination_log, container_path=container.termination_message_path))
    return tuple(made)


def _read_only_volumes(pod: core_v1.Pod) -> set[str]:
    """Volumes that no container may write to, whatever its mounts say."""
    return {volume.name for volume in pod.spec.volumes or () if is_readonly(volume)}


def expanded_sub_path(mount: core_v1.VolumeMount, environment: Mapping[str, str]) -> str:
    """subPath, or subPathExpr with its variables filled in. Raises ConfigError for what must not leave the volume."""
    path = mount.sub_path or ""
    if mount.sub_path_expr:
        missing: list[str] = []

        def lookup(name: str) -> str:
            if name not in environment:
                missing.append(name)
            return environment.get(name, "")

        path = expand(mount.sub_path_expr, lookup)
        if missing:
            raise ConfigError(f'missing value for "{missing[0]}"')
    if os.path.isabs(path):
        raise ConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def _recursive_read_only(mount: core_v1.VolumeMount) -> bool:
    mode = mount.recursive_read_only
    if mode in (None, "Disabled"):
        return False
    if not mount.read_only:
        raise ConfigError(f'volume "{mount.name}" requested recursive read-only mode, but it is not read-only')
    if mount.mount_propagation not in (None, "None"):
        raise ConfigError(
            f'volume "{mount.name}" requested recursive read-only mode, '
            f'but it is not compatible with propagation "{mount.mount_propagation}"'
        )
    return True


def devices(pod: core_v1.Pod, container: AnyContainer, volumes: Mapping[str, str]) -> tuple[Device, ...]:
    """Raw block volumes."""
    made = []
    read_only = _read_only_volumes(pod)
    for device in container.volume_devices or ():
        path = volumes.get(device.name)
        if path is None:
            raise ConfigError(f'cannot find volume "{device.name}" to pass into container "{container.name}"')
        made.append(Device(path, device.device_path, "r" if device.name in read_only else "rwm"))
    return tuple(made)
