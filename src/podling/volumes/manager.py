"""The volumes of a node's pods: mounted before containers start, kept up to date, taken away at the end.

Nothing is polled. The node agent tells which ConfigMap, Secret or pod changed (`changed`, `pod_changed`), tokens are
renewed by timers, and what is mounted is known in memory; after a restart `mount_pod_volumes` finds everything as it
was, and `clean_orphans` takes away what belongs to pods that are gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable
from datetime import datetime

from podling import clock, log
from podling.api import core_v1
from podling.errors import PodlingError
from podling.volumes import folders, usage
from podling.volumes.base import (
    POD,
    ClaimNotReady,
    Context,
    Dependency,
    ImageMounter,
    Lookup,
    MountFailed,
    Plugin,
    Ready,
    VolumeError,
)
from podling.volumes.config_map import ConfigMapPlugin
from podling.volumes.downward_api import DownwardAPIPlugin
from podling.volumes.empty_dir import EmptyDirPlugin
from podling.volumes.ephemeral import EphemeralPlugin
from podling.volumes.host_path import HostPathPlugin
from podling.volumes.image import ImagePlugin
from podling.volumes.nfs import NFSPlugin
from podling.volumes.persistent_volume_claim import PersistentVolumeClaimPlugin
from podling.volumes.projected import ProjectedPlugin
from podling.volumes.secret import SecretPlugin
from podling.volumes.tokens import TokenCache

_log = log.get(__name__)

#: When an update failed, it is tried again after this many seconds.
_RETRY_SECONDS = 60.0


class _Mounted:
    """A volume that is there."""

    def __init__(self, plugin: Plugin, context: Context, ready: Ready) -> None:
        self.plugin = plugin
        self.context = context
        self.path = ready.path
        self.dependencies = frozenset(plugin.dependencies(context))
        self.timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _PodVolumes:
    def __init__(self, pod: core_v1.Pod) -> None:
        self.pod = pod
        self.mounted: dict[str, _Mounted] = {}
        #: Of volumes that could not be mounted.
        self.waiting: set[Dependency] = set()
        #: Of volumes that are being set up, and those of them whose sources changed meanwhile.
        self.starting: dict[str, frozenset[Dependency]] = {}
        self.stale: set[str] = set()
        #: All under which the pod is filed.
        self.dependencies: set[Dependency] = set()
        self.lock = asyncio.Lock()
        self.dirty: set[str] = set()
        self.task: asyncio.Task[None] | None = None


class VolumeManager:
    """One for a node. Pod directories are `<root_dir>/pods/<uid>`."""

    def __init__(self, root_dir: str, lookup: Lookup, *, images: ImageMounter | None = None) -> None:
        self._root = os.path.abspath(root_dir)
        self._lookup = lookup
        self._tokens = TokenCache()
        self._pods: dict[str, _PodVolumes] = {}
        self._users: dict[Dependency, set[str]] = {}
        self._plugins: dict[str, Plugin] = {
            "config_map": ConfigMapPlugin(),
            "secret": SecretPlugin(),
            "downward_api": DownwardAPIPlugin(),
            "projected": ProjectedPlugin(self._tokens),
            "empty_dir": EmptyDirPlugin(),
            "host_path": HostPathPlugin(),
            "persistent_volume_claim": PersistentVolumeClaimPlugin(),
            "ephemeral": EphemeralPlugin(),
            "nfs": NFSPlugin(),
            "image": ImagePlugin(images),
        }
        self._by_folder = {_folder(plugin): plugin for plugin in self._plugins.values()}

    async def mount_pod_volumes(self, pod: core_v1.Pod) -> dict[str, str]:
        """Host paths by name of all volumes that the pod's containers mention; what is mounted already costs nothing.

        Raises MountFailed with one message a volume; what could be mounted stays for the next attempt.
        """
        uid = pod.metadata.uid or ""
        while True:
            state = self._pods.setdefault(uid, _PodVolumes(pod))
            async with state.lock:
                # It may have been unmounted while we waited.
                if self._pods.get(uid) is state:
                    return await self._mount(state, pod)

    async def _mount(self, state: _PodVolumes, pod: core_v1.Pod) -> dict[str, str]:
        state.pod = pod
        wanted = mentioned(pod)
        missing = [v for v in pod.spec.volumes or () if v.name in wanted and v.name not in state.mounted]
        state.waiting.clear()
        results = await asyncio.gather(*(self._setup(state, volume) for volume in missing), return_exceptions=True)
        messages = []
        for volume, result in zip(missing, results, strict=True):
            if isinstance(result, PodlingError | OSError):
                messages.append(message(volume.name, result))
            elif isinstance(result, BaseException):
                raise result
        if messages:
            raise MountFailed(messages)
        return {name: mounted.path for name, mounted in state.mounted.items()}

    async def unmount_pod(self, uid: str) -> None:
        """Take all volumes of the pod away, also those of an earlier run of the node agent; none is no error."""
        state = self._pods.get(uid)
        if state is not None:
            if state.task is not None:
                state.task.cancel()
            async with state.lock:
                for mounted in state.mounted.values():
                    mounted.cancel()
                for dependency in state.dependencies:
                    self._forget(uid, dependency)
                await self._unmount(uid)
                self._pods.pop(uid, None)
        else:
            await self._unmount(uid)
        self._tokens.forget(uid)

    async def clean_orphans(self, live: Collection[str]) -> list[str]:
        """After a start: take away the volumes and directories of pods that are not among `live`; their uids."""
        try:
            found = sorted(os.listdir(f"{self._root}/pods"))
        except FileNotFoundError:
            return []
        orphans = [uid for uid in found if uid not in live and uid not in self._pods]
        for uid in orphans:
            try:
                await self._unmount(uid)
                await folders.remove(f"{self._root}/pods/{uid}")
            except OSError as error:
                _log.error("orphaned pod %s found, but its volumes cannot be removed: %s", uid, error)
        return orphans

    def changed(self, kind: str, namespace: str, name: str) -> set[str]:
        """An object came, changed or went: volumes that show it follow. `kind` is ConfigMap, Secret,
        PersistentVolumeClaim or ClusterTrustBundle (with empty namespace). Costs two dictionary look-ups where nobody
        uses it. Gives the uids of pods whose volumes could not be mounted for want of it: try them again now."""
        waiting = set()
        for key in (Dependency(kind, namespace, name), Dependency(kind)):
            for uid in self._users.get(key, ()):
                self._mark(uid, key)
                if key in self._pods[uid].waiting:
                    waiting.add(uid)
        return waiting

    def pod_changed(self, pod: core_v1.Pod) -> None:
        """A new version of a pod: its labels and annotations may stand in files."""
        uid = pod.metadata.uid or ""
        state = self._pods.get(uid)
        if state is None:
            return
        old, state.pod = state.pod.metadata, pod
        if (old.labels, old.annotations) != (pod.metadata.labels, pod.metadata.annotations):
            self._mark(uid, POD)

    def mounted(self, uid: str) -> dict[str, str]:
        """Host paths by volume name of what is mounted for the pod."""
        state = self._pods.get(uid)
        return {name: mounted.path for name, mounted in state.mounted.items()} if state else {}

    async def usage(self, uid: str) -> dict[str, usage.Usage]:
        """What the pod's own volumes on this node hold, by volume name: host paths and claims are not counted."""
        state = self._pods.get(uid)
        own = [(name, m.path) for name, m in (state.mounted if state else {}).items() if m.path == m.context.directory]
        return {name: await asyncio.to_thread(usage.measure, path) for name, path in own}

    async def settle(self) -> None:
        """Wait until all updates under way are done."""
        while tasks := [s.task for s in self._pods.values() if s.task is not None]:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop following; what is mounted stays."""
        tasks = []
        for state in self._pods.values():
            for mounted in state.mounted.values():
                mounted.cancel()
            if state.task is not None:
                state.task.cancel()
                tasks.append(state.task)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pods.clear()
        self._users.clear()

    async def _setup(self, state: _PodVolumes, volume: core_v1.Volume) -> None:
        plugin = self._plugin(volume)
        context = self._context(state.pod, volume, plugin)
        # Known before the content is read: a change in between makes it be read again.
        dependencies = state.starting[volume.name] = frozenset(plugin.dependencies(context))
        state.dependencies |= dependencies
        for dependency in dependencies:
            self._users.setdefault(dependency, set()).add(context.uid)
        try:
            context, ready = await self._attempt(state, volume, plugin)
        except BaseException:
            state.waiting |= dependencies
            raise
        finally:
            del state.starting[volume.name]
        mounted = state.mounted[volume.name] = _Mounted(plugin, context, ready)
        self._schedule(state, volume.name, mounted, ready.refresh_at)

    async def _attempt(self, state: _PodVolumes, volume: core_v1.Volume, plugin: Plugin) -> tuple[Context, Ready]:
        while True:
            state.stale.discard(volume.name)
            context = self._context(state.pod, volume, plugin)
            try:
                ready = await plugin.setup(context)
            except (PodlingError, OSError):
                if volume.name not in state.stale:
                    raise
            else:
                if volume.name not in state.stale:
                    return context, ready

    def _context(self, pod: core_v1.Pod, volume: core_v1.Volume, plugin: Plugin) -> Context:
        home = f"{self._root}/pods/{pod.metadata.uid}"
        return Context(pod, volume, f"{home}/volumes/{_folder(plugin)}/{volume.name}", home, self._lookup)

    def _plugin(self, volume: core_v1.Volume) -> Plugin:
        for attribute, plugin in self._plugins.items():
            if getattr(volume, attribute) is not None:
                return plugin
        if volume.csi is not None:
            driver = volume.csi.driver
            raise VolumeError(f"driver name {driver} not found in the list of registered CSI drivers")
        raise VolumeError("no volume plugin matched")

    def _mark(self, uid: str, key: Dependency) -> None:
        """Have the volumes of a pod that depend on `key` updated."""
        state = self._pods.get(uid)
        if state is not None:
            state.stale |= {name for name, dependencies in state.starting.items() if key in dependencies}
            self._mark_volumes(state, {name for name, m in state.mounted.items() if key in m.dependencies})

    def _mark_volumes(self, state: _PodVolumes, names: set[str]) -> None:
        """Changes that come while an update is under way are taken together."""
        state.dirty |= names
        if state.dirty and state.task is None:
            state.task = asyncio.get_running_loop().create_task(self._update(state))

    async def _update(self, state: _PodVolumes) -> None:
        try:
            async with state.lock:
                while state.dirty:
                    name = state.dirty.pop()
                    mounted = state.mounted.get(name)
                    if mounted is not None:
                        await self._update_one(state, name, mounted)
        finally:
            state.task = None

    async def _update_one(self, state: _PodVolumes, name: str, mounted: _Mounted) -> None:
        mounted.context = self._context(state.pod, mounted.context.volume, mounted.plugin)
        try:
            refresh_at = await mounted.plugin.update(mounted.context)
        except (PodlingError, OSError) as error:
            # The old content stays: better than none.
            _log.warning("pod %s: %s", state.pod.metadata.name, message(name, error))
            if mounted.timer is not None:
                self._start_timer(state, name, mounted, _RETRY_SECONDS)
        else:
            self._schedule(state, name, mounted, refresh_at)

    def _schedule(self, state: _PodVolumes, name: str, mounted: _Mounted, at: datetime | None) -> None:
        mounted.cancel()
        if at is not None:
            self._start_timer(state, name, mounted, max(1.0, (at - clock.now()).total_seconds()))

    def _start_timer(self, state: _PodVolumes, name: str, mounted: _Mounted, seconds: float) -> None:
        mounted.cancel()
        loop = asyncio.get_running_loop()
        mounted.timer = loop.call_later(seconds, self._mark_volumes, state, {name})

    def _forget(self, uid: str, dependency: Dependency) -> None:
        users = self._users.get(dependency)
        if users is not None:
            users.discard(uid)
            if not users:
                del self._users[dependency]

    async def _unmount(self, uid: str) -> None:
        home = f"{self._root}/pods/{uid}"
        await folders.remove(f"{home}/volume-subpaths")
        for folder, name in list(_below(f"{home}/volumes")):
            directory = f"{home}/volumes/{folder}/{name}"
            plugin = self._by_folder.get(folder)
            if plugin is not None:
                await plugin.teardown(directory)
            else:
                await folders.remove(directory)
        await folders.remove(f"{home}/volumes")


def mentioned(pod: core_v1.Pod) -> set[str]:
    """Names of the volumes that containers mount, get as devices or read variables from; others are not set up."""
    found: set[str] = set()
    containers = (*pod.spec.containers, *(pod.spec.init_containers or ()), *(pod.spec.ephemeral_containers or ()))
    for container in containers:
        found.update(m.name for m in container.volume_mounts or ())
        found.update(d.name for d in container.volume_devices or ())
        for variable in container.env or ():
            if variable.value_from is not None and variable.value_from.file_key_ref is not None:
                found.add(variable.value_from.file_key_ref.volume_name)
    return found


def message(name: str, error: BaseException) -> str:
    """The text of a FailedMount event."""
    if isinstance(error, ClaimNotReady):
        return (
            f"Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[], "
            f"failed to process volumes=[{name}]: {error}"
        )
    if isinstance(error, OSError):
        text = f"{error.filename}: {(error.strerror or str(error)).lower()}" if error.filename else str(error)
        return f'MountVolume.SetUp failed for volume "{name}" : {text}'
    shown = error.volume if isinstance(error, VolumeError) and error.volume else name
    return f'MountVolume.SetUp failed for volume "{shown}" : {error}'


def _folder(plugin: Plugin) -> str:
    return plugin.name.replace("/", "~")


def _below(folder: str) -> Iterable[tuple[str, str]]:
    try:
        for kind in sorted(os.listdir(folder)):
            for name in sorted(os.listdir(f"{folder}/{kind}")):
                yield kind, name
    except (FileNotFoundError, NotADirectoryError):
        return
