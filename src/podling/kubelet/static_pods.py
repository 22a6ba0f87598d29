"""Static pods: from manifests on the node's disk, run without the API server and mirrored in it when it is there
(pkg/kubelet/config/file, pkg/kubelet/pod/mirror_client.go)."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable

from podling import log
from podling.api import core_v1, errors, meta_v1, times
from podling.api.errors import StatusError
from podling.api.struct import clone, encode, from_dict
from podling.client.base import Client
from podling.file_watch import FolderWatch
from podling.kubelet import pods
from podling.kubelet.image_puller import default_policy

_log = log.get(__name__)

#: Folders are looked through this often even if nothing was heard of them.
RESCAN = 20.0
RETRY = 5.0


class InvalidManifest(ValueError):
    """The file holds no pod."""


def parse_manifest(text: str, path: str, node_name: str) -> core_v1.Pod:
    """The pod of a manifest (YAML or JSON), named and annotated for this node, with defaults.

    Raises InvalidManifest.
    """
    import yaml

    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(data, dict) or data.get("kind") != "Pod":
            raise InvalidManifest(f"{path}: not a Pod")
        pod = from_dict(data, core_v1.Pod)
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidManifest(f"{path}: {error}") from None
    if not pod.metadata.name or not pod.spec.containers:
        raise InvalidManifest(f"{path}: a pod needs a name and containers")
    meta = pod.metadata
    digest = hashlib.md5(encode(pod), usedforsecurity=False)
    digest.update(f"host:{node_name}file:{path}".encode())
    meta.uid = meta.uid or digest.hexdigest()
    meta.name = f"{meta.name}-{node_name.lower()}"
    meta.namespace = meta.namespace or "default"
    meta.annotations = {
        **(meta.annotations or {}),
        pods.CONFIG_HASH: digest.hexdigest(),
        pods.CONFIG_SOURCE: "file",
        pods.CONFIG_SEEN: times.now_micro(),
    }
    meta.creation_timestamp = times.now()
    pod.spec.node_name = node_name
    # Nothing but the manifest takes a static pod off its node.
    pod.spec.tolerations = [
        *(pod.spec.tolerations or ()), core_v1.Toleration(operator="Exists", effect="NoExecute")
    ]  # fmt: skip
    set_defaults(pod)
    pod.status = core_v1.PodStatus(phase="Pending")
    return pod


def set_defaults(pod: core_v1.Pod) -> None:
    """What the API server would have filled in."""
    spec = pod.spec
    spec.restart_policy = spec.restart_policy or "Always"
    spec.dns_policy = spec.dns_policy or "ClusterFirst"
    if spec.termination_grace_period_seconds is None:
        spec.termination_grace_period_seconds = pods.DEFAULT_GRACE
    if spec.enable_service_links is None:
        spec.enable_service_links = True
    spec.security_context = spec.security_context or core_v1.PodSecurityContext()
    spec.scheduler_name = spec.scheduler_name or "default-scheduler"
    for _, container in pods.containers(pod):
        container.termination_message_path = container.termination_message_path or "/dev/termination-log"
        container.termination_message_policy = container.termination_message_policy or "File"
        container.image_pull_policy = container.image_pull_policy or default_policy(container.image or "")
        container.resources = container.resources or core_v1.ResourceRequirements()
        _default_requests(container.resources)
        for port in container.ports or ():
            port.protocol = port.protocol or "TCP"
            if spec.host_network and not port.host_port:
                port.host_port = port.container_port
        for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
            if probe is not None:
                _default_probe(probe)


def _default_requests(resources: core_v1.ResourceRequirements) -> None:
    """Who limits without asking, asks for the limit."""
    for name, value in (resources.limits or {}).items():
        resources.requests = resources.requests or {}
        resources.requests.setdefault(name, value)


def _default_probe(probe: core_v1.Probe) -> None:
    probe.timeout_seconds = probe.timeout_seconds or 1
    probe.period_seconds = probe.period_seconds or 10
    probe.success_threshold = probe.success_threshold or 1
    probe.failure_threshold = probe.failure_threshold or 3
    if probe.http_get is not None:
        probe.http_get.path = probe.http_get.path or "/"
        probe.http_get.scheme = probe.http_get.scheme or "HTTP"


class ManifestSource:
    """Follows a folder of manifests. `on_change` gets all pods in it, by full name, whenever that changes."""

    def __init__(self, directory: str, node_name: str, on_change: Callable[[dict[str, core_v1.Pod]], None]) -> None:
        self._directory, self._node_name, self._on_change = directory, node_name, on_change
        self._files: dict[str, tuple[tuple[int, int], core_v1.Pod | None]] = {}
        self._seen: dict[str, str] = {}

    def scan(self) -> None:
        """Look now."""
        files: dict[str, tuple[tuple[int, int], core_v1.Pod | None]] = {}
        for name in sorted(self._names()):
            path = os.path.join(self._directory, name)
            try:
                state = os.stat(path)
                stamp = (state.st_mtime_ns, state.st_size)
                known = self._files.get(path)
                files[path] = known if known is not None and known[0] == stamp else (stamp, self._read(path))
            except OSError:
                continue
        self._files = files
        found = {pods.full_name(pod): pod for _, pod in files.values() if pod is not None}
        seen = {name: pods.uid(pod) for name, pod in found.items()}
        if seen != self._seen:
            self._seen = seen
            self._on_change(found)

    def _names(self) -> list[str]:
        try:
            # Editors leave files that begin with a dot, or end with a tilde, behind.
            return [n for n in os.listdir(self._directory) if not n.startswith(".") and not n.endswith("~")]
        except OSError:
            return []

    def _read(self, path: str) -> core_v1.Pod | None:
        if not os.path.isfile(path):
            return None
        with open(path, encoding="utf-8") as file:
            text = file.read()
        try:
            return parse_manifest(text, path, self._node_name)
        except InvalidManifest as error:
            _log.warning("%s", error)
            return None

    async def run(self) -> None:
        """Until cancelled."""
        with FolderWatch(self._directory) as watch:
            while True:
                self.scan()
                await watch.changed(RESCAN)


class Mirrors:
    """Keeps, for every static pod, its mirror in the API server."""

    def __init__(self, client: Client, node_name: str, on_mirror: Callable[[str, core_v1.Pod | None], None]) -> None:
        self._client, self._node_name, self._on_mirror = client, node_name, on_mirror
        self._static: dict[str, core_v1.Pod] = {}
        self._mirrors: dict[str, core_v1.Pod] = {}
        self._dirty: set[str] = set()
        self._kick = asyncio.Event()

    def set_static(self, static: dict[str, core_v1.Pod]) -> None:
        """These are the static pods now."""
        self._mark(self._static.keys() | static.keys())
        self._static = dict(static)

    def observe(self, full_name: str, mirror: core_v1.Pod | None) -> None:
        """A mirror as the API server has it; None: it is gone."""
        if mirror is None:
            self._mirrors.pop(full_name, None)
        else:
            self._mirrors[full_name] = mirror
        static = self._static.get(full_name)
        if static is not None:
            self._on_mirror(pods.uid(static), mirror if mirror is not None and _matches(static, mirror) else None)
        self._mark({full_name})

    def synced(self) -> None:
        """All mirrors have been observed: those of pods that are no more can be told."""
        self._mark(self._mirrors.keys() | self._static.keys())

    def mirror_of(self, full_name: str) -> core_v1.Pod | None:
        return self._mirrors.get(full_name)

    def _mark(self, names: set[str]) -> None:
        self._dirty |= names
        if names:
            self._kick.set()

    async def run(self, synced: asyncio.Event) -> None:
        """Until cancelled."""
        await synced.wait()
        while True:
            await self._kick.wait()
            self._kick.clear()
            names, self._dirty = self._dirty, set()
            for name in sorted(names):
                try:
                    await self._reconcile(name)
                except StatusError as error:
                    _log.debug("mirror of %s: %s", name, error)
                    self._dirty.add(name)
            if self._dirty:
                await asyncio.sleep(RETRY)
                self._kick.set()

    async def _reconcile(self, full_name: str) -> None:
        static, mirror = self._static.get(full_name), self._mirrors.get(full_name)
        if mirror is not None and (
            static is None or not _matches(static, mirror) or mirror.metadata.deletion_timestamp is not None
        ):
            await self._delete(mirror)
            return
        if static is not None and mirror is None:
            try:
                made = await self._client.create(await self._make(static))
            except StatusError as error:
                if not errors.is_already_exists(error):
                    raise
                return
            self.observe(full_name, made)

    async def _delete(self, mirror: core_v1.Pod) -> None:
        try:
            await self._client.delete(
                core_v1.Pod,
                pods.name(mirror),
                pods.namespace(mirror),
                grace_period_seconds=0,
                uid=pods.uid(mirror),
            )
        except StatusError as error:
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                raise

    async def _make(self, static: core_v1.Pod) -> core_v1.Pod:
        node = await self._client.get(core_v1.Node, self._node_name)
        mirror = clone(static)
        mirror.metadata.uid = None
        annotations = mirror.metadata.annotations or {}
        mirror.metadata.annotations = {**annotations, pods.CONFIG_MIRROR: annotations[pods.CONFIG_HASH]}
        mirror.metadata.creation_timestamp = None
        mirror.metadata.owner_references = [
            meta_v1.OwnerReference(
                api_version="v1", kind="Node", name=self._node_name, uid=node.metadata.uid or "", controller=True
            )
        ]
        return mirror


def _matches(static: core_v1.Pod, mirror: core_v1.Pod) -> bool:
    wanted = (static.metadata.annotations or {}).get(pods.CONFIG_HASH)
    return (mirror.metadata.annotations or {}).get(pods.CONFIG_MIRROR) == wanted
