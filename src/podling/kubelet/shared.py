"""What all pod workers of a node share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from podling.api import core_v1
from podling.client.base import Client
from podling.client.events import Recorder
from podling.images.base import ImageService
from podling.kubelet import pods
from podling.kubelet.admission import Rejection
from podling.kubelet.backoff import Backoff
from podling.kubelet.config import KubeletConfig
from podling.kubelet.dns_config import ResolvConf
from podling.kubelet.hooks import HookRunner
from podling.kubelet.image_puller import ImagePuller
from podling.kubelet.measures import Measures
from podling.kubelet.probes import ProbeManager
from podling.kubelet.resize import Pending
from podling.kubelet.status_manager import StatusManager
from podling.runtime.base import Runtime
from podling.volumes.usage import Usage


class PodVolumes(Protocol):
    """Mounts what pods ask for. Failures are exceptions whose text is fit for an event."""

    async def mount_pod_volumes(self, pod: core_v1.Pod) -> Mapping[str, str]:
        """All volumes of the pod, as host paths by volume name; repeating it is cheap."""

    async def unmount_pod(self, uid: str) -> None:
        """Take everything of the pod away again; no error if there is nothing."""

    async def clean_orphans(self, live: Collection[str]) -> list[str]:
        """Take away what belongs to pods that are not among `live`."""

    def changed(self, kind: str, namespace: str, name: str) -> set[str]:
        """An object that volumes may come from has changed; the uids of pods that waited for it."""

    def pod_changed(self, pod: core_v1.Pod) -> None:
        """A pod's labels or annotations may have changed."""

    async def usage(self, uid: str) -> Mapping[str, Usage]:
        """What the pod's own volumes hold, by name."""

    async def close(self) -> None:
        """Let go; what is mounted stays."""


class Shared(msgspec.Struct):
    """The node's tools. `services` and `allocatable` give the state of the moment; `admit` says whether a new pod may
    run here."""

    config: KubeletConfig
    client: Client
    runtime: Runtime
    images: ImageService
    puller: ImagePuller
    volumes: PodVolumes
    probes: ProbeManager
    hooks: HookRunner
    statuses: StatusManager
    recorder: Recorder
    restarts: Backoff
    services: Callable[[], Sequence[core_v1.Service]]
    allocatable: Callable[[], Mapping[str, str]]
    admit: Callable[[core_v1.Pod], Rejection | None]
    admit_resize: Callable[[core_v1.Pod], Pending | None]
    runtime_handler: Callable[[str], str]
    #: Pods' uids by sandbox id.
    owners: dict[str, str]
    #: Whether files are made for containers (hosts, termination logs): virtual ones read none.
    host_files: bool = True
    resolv_conf: ResolvConf = ResolvConf()
    memory_capacity: int = 0
    measures: Measures = msgspec.field(default_factory=Measures)

    @property
    def host_ips(self) -> tuple[str, ...]:
        return self.config.node_ips

    def tell(self, pod: core_v1.Pod, type_: str, reason: str, message: str) -> None:
        """An event about the pod."""
        self.recorder.event(pod, type_, reason, message)

    def tell_container(self, pod: core_v1.Pod, container: str, type_: str, reason: str, message: str) -> None:
        """An event about one of its containers."""
        self.recorder.event(pod, type_, reason, message, field_path=pods.field_path(pod, container))
