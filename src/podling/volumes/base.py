"""What volume plugins are, and what they may ask of the node agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from podling.api import authentication_v1, certificates_v1, core_v1
from podling.errors import PodlingError


class VolumeError(PodlingError):
    """A volume could not be set up; the text is upstream's, without the words around it.

    `volume` is the name to put into those words where it is not the pod's own (a PersistentVolume's).
    """

    def __init__(self, message: str, volume: str = "") -> None:
        super().__init__(message)
        self.volume = volume


class ClaimNotReady(VolumeError):
    """A claim cannot be used (yet): nothing was tried with its volume."""


class MountFailed(PodlingError):
    """Volumes of a pod could not be mounted. `messages` are fit for FailedMount events, one a volume."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(messages[0])
        self.messages = tuple(messages)


class Lookup(Protocol):
    """The API as plugins see it; the node agent answers from its informers. None is "not found"; other failures are
    raised as PodlingError and end up in the event."""

    async def config_map(self, namespace: str, name: str) -> core_v1.ConfigMap | None: ...

    async def secret(self, namespace: str, name: str) -> core_v1.Secret | None: ...

    async def claim(self, namespace: str, name: str) -> core_v1.PersistentVolumeClaim | None: ...

    async def persistent_volume(self, name: str) -> core_v1.PersistentVolume | None: ...

    async def cluster_trust_bundles(self) -> Iterable[certificates_v1.ClusterTrustBundle]: ...

    async def service_account_token(
        self, namespace: str, name: str, request: authentication_v1.TokenRequest
    ) -> authentication_v1.TokenRequest: ...

    def node_allocatable(self) -> Mapping[str, str]:
        """Quantities by resource name."""


class ImageMounter(Protocol):
    """Image volumes: `image_id` gets the image as its pull policy says and gives its id, `mount` and `unmount` are the
    image store's."""

    async def image_id(self, pod: core_v1.Pod, reference: str, pull_policy: str) -> str: ...

    async def mount(self, image_id: str, key: str, target: str, *, readonly: bool = False) -> None: ...

    async def unmount(self, key: str, target: str) -> None: ...


class Context(msgspec.Struct, frozen=True):
    """One volume of one pod. `directory` is this volume's own folder below the pod's, not yet made; `pod_directory`
    the pod's."""

    pod: core_v1.Pod
    volume: core_v1.Volume
    directory: str
    pod_directory: str
    lookup: Lookup

    @property
    def namespace(self) -> str:
        return self.pod.metadata.namespace or "default"

    @property
    def uid(self) -> str:
        return self.pod.metadata.uid or ""

    @property
    def fs_group(self) -> int | None:
        security = self.pod.spec.security_context
        return security.fs_group if security else None

    @property
    def fs_group_change_policy(self) -> str:
        security = self.pod.spec.security_context
        return (security.fs_group_change_policy if security else None) or "Always"


class Ready(msgspec.Struct, frozen=True):
    """A volume that is set up. `path` is what the runtime binds; `refresh_at` is when `update` is due by itself."""

    path: str
    refresh_at: datetime | None = None


class Dependency(msgspec.Struct, frozen=True):
    """An object a volume's content comes from, or could come from. `namespace` is "" for kinds of the cluster, and
    `name` for all objects of the kind."""

    kind: str
    namespace: str = ""
    name: str = ""


#: The pod itself, as a source of content (labels and annotations).
POD = Dependency("Pod")


class Plugin(Protocol):
    """A kind of volume. Failures are VolumeError or OSError."""

    #: Such as kubernetes.io/config-map; with ~ for / the folder's name.
    name: str

    async def setup(self, context: Context) -> Ready:
        """Make the volume usable; also again, after a failure or a restart of the node agent."""

    async def update(self, context: Context) -> datetime | None:
        """Bring its content up to date, after one of `dependencies` changed or `refresh_at` came; the next
        `refresh_at`."""

    async def teardown(self, directory: str) -> None:
        """Undo what `setup` left at `directory`; also after a restart, when the pod is long forgotten."""

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        """What `update` follows, and what a `setup` that failed may have waited for."""


class StaticPlugin:
    """The base of plugins whose content is not ours."""

    name = ""

    async def setup(self, context: Context) -> Ready:
        raise NotImplementedError

    async def update(self, context: Context) -> datetime | None:
        """Nothing follows."""
        return None

    async def teardown(self, directory: str) -> None:
        """Nothing was left."""

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        return ()


def is_readonly(volume: core_v1.Volume) -> bool:
    """Whether containers get the volume read-only whatever their mounts say."""
    if volume.config_map or volume.secret or volume.downward_api or volume.projected or volume.image:
        return True
    if volume.persistent_volume_claim is not None:
        return bool(volume.persistent_volume_claim.read_only)
    return bool((volume.nfs and volume.nfs.read_only) or (volume.csi and volume.csi.read_only))


def aggregate(errors: Sequence[str]) -> str:
    """Several messages as one, as upstream's utilerrors.NewAggregate prints them."""
    unique = list(dict.fromkeys(errors))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
