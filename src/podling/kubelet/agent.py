"""`Kubelet`: the node agent put together.

Pods come from the API server (those bound to this node) and from manifests on disk; each gets a worker. Events of the
runtime and of probes go to the worker of their pod. Beside that the agent reports its node, renews its lease, and keeps
the node tidy. When it stops, containers run on; the next agent finds and adopts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from podling import clock, log
from podling.api import core_v1, node_v1
from podling.client.base import Client
from podling.client.events import Recorder
from podling.client.informer import Informers
from podling.images.base import ImageService
from podling.kubelet import admission, eviction, gc, node_status, pods, resize, resources, sandbox_config
from podling.kubelet.admission import Rejection
from podling.kubelet.backoff import Backoff
from podling.kubelet.config import KubeletConfig
from podling.kubelet.dns_config import ResolvConf, parse_resolv_conf
from podling.kubelet.eviction import EvictionManager
from podling.kubelet.hooks import HookRunner
from podling.kubelet.image_gc import ImageCollector
from podling.kubelet.image_puller import ImagePuller, ImageVolumes
from podling.kubelet.log_rotation import LogRotator
from podling.kubelet.measured import IMAGES, RUNTIME, measured
from podling.kubelet.measures import Measures
from podling.kubelet.node_lease import NodeLease
from podling.kubelet.node_objects import NodeObjects, mentioned
from podling.kubelet.node_status import NodeReporter, Pressure
from podling.kubelet.pod_kill import restored_pod
from podling.kubelet.pod_observer import State
from podling.kubelet.pod_worker import PodWorker
from podling.kubelet.probe_handlers import Network, NetworkProber, Simulated
from podling.kubelet.probes import ProbeManager
from podling.kubelet.shared import PodVolumes, Shared
from podling.kubelet.static_pods import ManifestSource, Mirrors
from podling.kubelet.stats import Collector, by_pod
from podling.kubelet.status import Verdict
from podling.kubelet.status_manager import StatusManager
from podling.runtime.base import ContainerState, Runtime, RuntimeFailure, SandboxStatus

_log = log.get(__name__)


class Kubelet:
    """The agent of one node.

    `client` reaches the API server (it may be away at any time), `runtime`, `images` and `volumes` do the work.
    `network` makes probes' connections: by default real ones, or what the runtime itself says of virtual containers.
    `machine` overrides what the node is measured to be; `volumes` does without real mounts.
    """

    def __init__(
        self,
        client: Client,
        runtime: Runtime,
        images: ImageService,
        config: KubeletConfig,
        *,
        volumes: PodVolumes | None = None,
        network: NetworkProber | None = None,
        machine: resources.Machine | None = None,
        not_ready: Callable[[], str] = lambda: "",
    ) -> None:
        self.measures = Measures()
        self.runtime = runtime = measured(runtime, RUNTIME, self.measures)
        self.images = images = measured(images, IMAGES, self.measures)
        self.config, self.client = config, client
        self.machine = machine
        self._not_ready = not_ready
        self.pressure = Pressure()
        self.workers: dict[str, PodWorker] = {}
        self.recorder = Recorder(client, "kubelet", config.node_name)
        self._informers = Informers(client)
        self._pods = self._informers.of(core_v1.Pod, field_selector=f"spec.nodeName={config.node_name}")
        self._services = self._informers.of(core_v1.Service)
        self._nodes = self._informers.of(core_v1.Node, field_selector=f"metadata.name={config.node_name}")
        self._runtime_classes = self._informers.of(node_v1.RuntimeClass)
        self._static: dict[str, core_v1.Pod] = {}
        self._statics_read = not config.manifests_dir
        self._pods_synced = asyncio.Event()
        self._found: dict[str, list[SandboxStatus]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._image_path = ""
        self._capacity: dict[str, str] = {}
        self._allocatable: dict[str, str] = {}
        self._mirrors = Mirrors(client, config.node_name, self._mirror_changed)
        self._puller = ImagePuller(
            client, images, parallel=config.registry_pull_parallel, first=config.backoff_first,
            most=config.backoff_most, measures=self.measures,
        )  # fmt: skip
        self._network = network or self._default_network()
        self._evictions = EvictionManager(
            config.eviction,
            config.eviction_pressure_transition,
            look=self._observe_node,
            candidates=self._evictable,
            usage=self._usage_of,
            reclaim=self._reclaim_disk,
            evict=self._evict,
            counted=self.measures.evicted,
            changed=self._pressure_changed,
        )
        self._collector_of_stats = Collector(runtime)
        self.reporter = NodeReporter(client, config, self.recorder, self._look)
        self._image_collector = ImageCollector(images, config, self.recorder, self._images_in_use, lambda: self.pods)
        self._objects = NodeObjects(client, self._informers, lambda: self._allocatable)
        self.volumes: PodVolumes = volumes if volumes is not None else self._make_volumes()
        self.shared = self._make_shared()

    def _make_volumes(self) -> PodVolumes:
        from podling.volumes.manager import VolumeManager

        def tell(pod: core_v1.Pod, type_: str, reason: str, message: str) -> None:
            self.recorder.event(pod, type_, reason, message)

        made = VolumeManager(self.config.root_dir, self._objects, images=ImageVolumes(self._puller, self.images, tell))
        self._objects.changed = self._object_changed
        return made

    def _object_changed(self, kind: str, namespace: str, name: str) -> None:
        for uid in self.volumes.changed(kind, namespace, name):
            self._wake(uid)

    def _default_network(self) -> NetworkProber:
        return Simulated(self.runtime.healthy) if self._virtual else Network()  # type: ignore[attr-defined]

    @property
    def _virtual(self) -> bool:
        """Whether containers are virtual: they have no network and read no files."""
        return hasattr(self.runtime, "healthy")

    def _make_shared(self) -> Shared:
        config, client, runtime = self.config, self.client, self.runtime
        owners: dict[str, str] = {}

        def tell(pod: core_v1.Pod, container: str, type_: str, reason: str, message: str) -> None:
            self.recorder.event(pod, type_, reason, message, field_path=pods.field_path(pod, container))

        return Shared(
            config=config,
            client=client,
            runtime=runtime,
            images=self.images,
            puller=self._puller,
            volumes=self.volumes,
            probes=ProbeManager(runtime, self._network, tell, self._wake),
            hooks=HookRunner(runtime, self._network),
            statuses=StatusManager(client, measures=self.measures),
            recorder=self.recorder,
            restarts=Backoff(config.backoff_first, config.backoff_most),
            services=self._services.list,
            allocatable=lambda: self._allocatable,
            admit=self._admit,
            admit_resize=self._admit_resize,
            runtime_handler=self._runtime_handler,
            owners=owners,
            host_files=not self._virtual,
            measures=self.measures,
        )

    # Life

    async def start(self) -> None:
        """Adopt what runs, and begin. Needs no API server: static pods start, all else follows when it is there."""
        config, runtime = self.config, self.runtime
        await runtime.start()
        if self.machine is None:
            version = f"{runtime.name}://{await runtime.version()}"
            self.machine = resources.measure(config.root_dir, version)
        self._capacity = resources.capacity(self.machine, config)
        self._allocatable = resources.allocatable(self._capacity, config.reserved, config.eviction)
        self.shared.memory_capacity = resources.as_amounts(self._capacity).get("memory", 0)
        self.shared.resolv_conf = _read_resolv_conf(config.resolv_conf)
        await self.shared.puller.learn()
        for sandbox in await runtime.list_sandboxes():
            self._found.setdefault(sandbox.uid, []).append(sandbox)
            self.shared.owners[sandbox.id] = sandbox.uid
        self._pods.add_handler(on_add=self._pod_added, on_update=self._pod_updated, on_delete=self._pod_deleted)
        self._nodes.add_handler(on_add=self.reporter.observe, on_update=lambda _, new: self.reporter.observe(new))
        self._spawn("runtime events", self._follow_runtime)
        self._spawn("node status", self.reporter.run)
        lease = NodeLease(self.client, config.node_name, duration=config.lease_duration, period=config.lease_period)
        self._spawn("node lease", lambda: lease.run(self.reporter.registered))
        self._informers.start()
        self._spawn("first sync", self._first_sync)
        self._spawn("mirrors", lambda: self._mirrors.run(self._pods_synced))
        if config.manifests_dir:
            source = ManifestSource(config.manifests_dir, config.node_name, self._statics_changed)
            source.scan()
            self._statics_read = True
            self._spawn("manifests", source.run)
        self._spawn("container gc", lambda: self._every(config.container_gc_period, self._collect_containers))
        self._spawn("image gc", lambda: self._every(config.image_gc_period, self._image_collector.collect))
        if config.eviction:
            self._spawn("eviction", lambda: self._every(config.eviction_period, self._check_pressure))
        self._spawn("local storage", lambda: self._every(config.eviction_period, self._check_storage))
        self._spawn("log rotation", lambda: self._every(config.container_log_period, self._rotate_logs))

    async def close(self) -> None:
        """Stop; containers run on."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(w.close() for w in list(self.workers.values())), return_exceptions=True)
        await self.shared.probes.close()
        await self.shared.statuses.close()
        await self.recorder.close()
        await self.volumes.close()
        await self._objects.close()
        await self._informers.close()
        await self.runtime.close()

    def _spawn(self, name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def guarded() -> None:
            try:
                await main()
            except Exception:
                _log.exception("%s stopped", name)

        self._tasks.append(asyncio.create_task(guarded(), name=f"kubelet {name}"))

    async def _every(self, period: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(period)
            try:
                await work()
            except (RuntimeFailure, OSError) as error:
                _log.warning("%s: %s", work.__name__, error)

    # Pods

    @property
    def pods(self) -> list[core_v1.Pod]:
        """All pods of the node, static ones included."""
        return [w.pod for w in self.workers.values()]

    def pod_named(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by its name; of several (one is being replaced) the one that is not on its way out."""
        found = [w for w in self.workers.values() if (pods.namespace(w.pod), pods.name(w.pod)) == (namespace, name)]
        return min(found, key=lambda w: w.state is not State.SYNCING, default=None)

    def _pod_added(self, pod: core_v1.Pod) -> None:
        if pods.is_mirror(pod):
            self._mirrors.observe(pods.full_name(pod), pod)
            return
        worker = self.workers.get(pods.uid(pod))
        if worker is None:
            self._begin(pod)
        else:
            worker.update(pod)
            self.volumes.pod_changed(pod)

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        if pods.uid(old) != pods.uid(new):
            self._pod_deleted(old)
        self._pod_added(new)

    def _pod_deleted(self, pod: core_v1.Pod) -> None:
        if pods.is_mirror(pod):
            self._mirrors.observe(pods.full_name(pod), None)
            return
        worker = self.workers.get(pods.uid(pod))
        if worker is not None:
            worker.remove(pod)

    def _begin(self, pod: core_v1.Pod) -> PodWorker:
        uid = pods.uid(pod)
        known = [s.id for s in self._found.pop(uid, [])]
        worker = self.workers[uid] = PodWorker(self.shared, pod, known, self._finished)
        worker.start()
        return worker

    def _finished(self, worker: PodWorker) -> None:
        self.workers.pop(worker.uid, None)
        name = pods.full_name(worker.pod)
        waiting = self._static.get(name)
        if waiting is not None and pods.uid(waiting) not in self.workers:
            # A changed manifest: the new pod had to wait until the old one was gone.
            self._begin(waiting)

    def _statics_changed(self, found: dict[str, core_v1.Pod]) -> None:
        before, self._static = self._static, dict(found)
        for name, pod in before.items():
            if name not in found or pods.uid(found[name]) != pods.uid(pod):
                worker = self.workers.get(pods.uid(pod))
                if worker is not None:
                    worker.remove()
        for name, pod in found.items():
            replaced = before.get(name)
            if replaced is not None and pods.uid(replaced) != pods.uid(pod) and pods.uid(replaced) in self.workers:
                continue
            if pods.uid(pod) not in self.workers:
                self._begin(pod)
        self._mirrors.set_static(found)

    def _mirror_changed(self, static_uid: str, mirror: core_v1.Pod | None) -> None:
        self.shared.statuses.observe_mirror(static_uid, mirror)

    async def _first_sync(self) -> None:
        """Once all pods are known, whatever else runs belongs to nobody."""
        await self._pods.wait_synced()
        self._pods_synced.set()
        self._mirrors.synced()
        for uid in list(self._found):
            await self._end_orphan(uid)
        await self.volumes.clean_orphans(self.workers.keys())
        self._remove_strays()

    async def _end_orphan(self, uid: str) -> None:
        sandboxes = self._found[uid]
        containers = [c for s in sandboxes for c in await self.runtime.list_containers(s.id)]
        pod = restored_pod(containers, sandboxes[0].name, sandboxes[0].namespace, uid)
        _log.info("pod %s is gone: ending what is left of it", pods.described(pod))
        self._begin(pod).remove()

    def _remove_strays(self) -> None:
        """Folders of pods that ended while nobody looked."""
        config = self.config
        known = {sandbox_config.log_directory(w.pod, "") for w in self.workers.values()}
        for path in gc.stray_entries(config.log_dir, known.__contains__):
            gc.remove_tree(path)
        for path in gc.dead_links(config.container_log_dir) if config.container_log_dir else ():
            gc.unlink(path)

    # Events

    async def _follow_runtime(self) -> None:
        async for event in self.runtime.events():
            worker = self.workers.get(self.shared.owners.get(event.sandbox_id, ""))
            if worker is not None:
                worker.wake()

    def _wake(self, uid: str) -> None:
        worker = self.workers.get(uid)
        if worker is not None:
            worker.wake()

    # What workers ask

    def node(self) -> core_v1.Node | None:
        return self._nodes.get(self.config.node_name)

    @property
    def allocatable(self) -> Mapping[str, str]:
        return self._allocatable

    @property
    def capacity(self) -> Mapping[str, str]:
        return self._capacity

    def _admit(self, pod: core_v1.Pod) -> Rejection | None:
        node = self.node()
        known = node_status.labels(self.config)
        usable = self._allocatable
        if node is not None:
            known = {**known, **(node.metadata.labels or {})}
            # Extended resources are known by the node object only.
            others = (node.status.allocatable if node.status else None) or {}
            usable = {**usable, **{n: str(v) for n, v in others.items() if "/" in n}}
        refused = eviction.rejection(pod, self.pressure)
        if refused is not None:
            return refused
        running = self._granted()
        return admission.admit(
            pod,
            running,
            labels=known,
            node_name=self.config.node_name,
            allocatable=resources.as_amounts(usable),
            taints=(node.spec.taints or ()) if node is not None and node.spec else (),
            allowed_sysctls=self.config.allowed_unsafe_sysctls,
        )

    def _granted(self) -> list[core_v1.Pod]:
        """All pods that take up room, as they are granted."""
        return [w.granted for w in self.workers.values() if w.uses_resources and w.admitted]

    def _admit_resize(self, pod: core_v1.Pod) -> resize.Pending | None:
        others = [other for other in self._granted() if pods.uid(other) != pods.uid(pod)]
        return resize.decide(pod, others, resources.as_amounts(self._allocatable))

    def _runtime_handler(self, name: str) -> str:
        if not name:
            return ""
        found = self._runtime_classes.get(name)
        if found is None:
            raise RuntimeFailure(f'failed to get sandbox runtime: runtimeclass.node.k8s.io "{name}" not found')
        return found.handler

    async def _look(self) -> node_status.State:
        assert self.machine is not None
        return node_status.State(
            machine=self.machine,
            capacity=self._capacity,
            allocatable=self._allocatable,
            images=await self.images.list(),
            pressure=self.pressure,
            not_ready=node_status.not_ready(self.runtime.problem(), self._not_ready()),
        )

    def problem(self) -> str:
        """What is wrong with the agent, or ""."""
        stopped = [task.get_name() for task in self._tasks if task.done()]
        stopped = [name for name in stopped if name != "kubelet first sync"]
        return f"stopped: {', '.join(stopped)}" if stopped or not self._tasks else ""

    # Eviction

    async def _observe_node(self) -> Mapping[str, eviction.Observation]:
        if not self._image_path:
            self._image_path = (await self.images.usage()).path
        return eviction.observe(self.config.root_dir, self._image_path)

    def _evictable(self) -> list[core_v1.Pod]:
        return [w.pod for w in self.workers.values() if w.state is State.SYNCING and w.admitted]

    async def _usage_of(self, candidates: list[core_v1.Pod]) -> Mapping[str, eviction.Usage]:
        workers = [self.workers[pods.uid(p)] for p in candidates if pods.uid(p) in self.workers]
        samples = await self._collector_of_stats.containers((w.pod, c) for w in workers for c in w.runtime.running)
        usage = {}
        for group in by_pod(samples):
            usage[pods.uid(group[0].pod)] = eviction.Usage(
                {s.container.name: s.stats.memory_working_set for s in group},
                {s.container.name: s.stats.rootfs_used + s.log_bytes for s in group},
                sum(s.stats.pids for s in group),
            )
        return usage

    async def _reclaim_disk(self) -> None:
        for worker in list(self.workers.values()):
            worker.prune()
        await self._image_collector.delete_unused()

    def _evict(self, pod: core_v1.Pod, verdict: Verdict, grace: int | None) -> None:
        worker = self.workers.get(pods.uid(pod))
        if worker is not None:
            self.recorder.event(pod, "Warning", verdict.reason, verdict.message)
            worker.evict(verdict, grace)

    def _pressure_changed(self, now: Pressure) -> None:
        self.pressure = now
        self.reporter.kick()

    async def _check_pressure(self) -> None:
        await self._evictions.check()

    async def _check_storage(self) -> None:
        """Pods that exceed their own limits on local storage. Costs nothing where there are none."""
        limited = [p for p in self._evictable() if eviction.limits_storage(p)]
        if not limited:
            return
        usage = await self._usage_of(limited)
        for pod in limited:
            own = await self.volumes.usage(pods.uid(pod))
            local = {v.name for v in pod.spec.volumes or () if v.empty_dir is not None and not v.empty_dir.medium}
            sizes = {name: found.used_bytes for name, found in own.items() if name in local}
            text = eviction.storage_excess(pod, usage.get(pods.uid(pod), eviction.Usage()).disk, sizes)
            if text:
                self._evict(pod, eviction.verdict(text, clock.now()), eviction.IMMEDIATE_GRACE)

    # Keeping tidy

    async def _collect_containers(self) -> None:
        for worker in list(self.workers.values()):
            worker.prune()
        self.shared.restarts.collect()
        await self._objects.forget_all_but(mentioned(w.pod for w in self.workers.values()))

    def _images_in_use(self) -> set[str]:
        return {c.image for w in self.workers.values() for c in w.runtime.containers}

    async def _rotate_logs(self) -> None:
        config = self.config
        rotator = LogRotator(
            self.runtime, max_size=config.container_log_max_size, max_files=config.container_log_max_files
        )
        for container in self._running_containers():
            if container.log_path:
                await rotator.check(container.id, container.log_path)

    def _running_containers(self) -> Sequence[Any]:
        return [
            c for w in list(self.workers.values()) for c in w.runtime.containers if c.state is ContainerState.RUNNING
        ]


def _read_resolv_conf(path: str) -> ResolvConf:
    try:
        with open(path, encoding="utf-8") as file:
            return parse_resolv_conf(file.read())
    except OSError:
        return ResolvConf()
