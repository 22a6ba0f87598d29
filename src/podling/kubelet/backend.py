"""What the node agent does for its server: logs, commands in containers, statistics (see `server.KubeletBackend`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from podling import clock
from podling.api import core_v1, errors, meta_v1, times
from podling.api.errors import StatusError
from podling.kubelet import logs, metrics, pods, resources, stats
from podling.kubelet.agent import Kubelet
from podling.kubelet.pod_worker import PodWorker
from podling.metrics import PROCESS
from podling.metrics import text as process_text
from podling.runtime.base import ContainerState, ContainerStatus, Sink, Source, Streams
from podling.streaming.log_query import LogQuery


class Backend:
    """`server.KubeletBackend` over a `Kubelet`."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._collector = stats.Collector(kubelet.runtime)
        self._started = times.now()

    def pods(self) -> Sequence[core_v1.Pod]:
        """All pods of the node, with the statuses that the agent knows of."""
        return [self._with_status(worker) for worker in self._kubelet.workers.values()]

    def _with_status(self, worker: PodWorker) -> core_v1.Pod:
        known = self._kubelet.shared.statuses.get(worker.uid)
        return msgspec.structs.replace(worker.pod, status=known) if known is not None else worker.pod

    def _worker(self, namespace: str, name: str) -> PodWorker:
        worker = self._kubelet.pod_named(namespace, name)
        if worker is None:
            raise errors.not_found("pods", "", name)
        return worker

    def _running(self, namespace: str, name: str, container: str) -> ContainerStatus:
        found = self._worker(namespace, name).runtime.find(container)
        if found is None or found.state is not ContainerState.RUNNING:
            raise _failure(f'container not found ("{container}")')
        return found

    async def container_log(self, namespace: str, pod: str, container: str, query: LogQuery) -> AsyncIterator[bytes]:
        worker = self._worker(namespace, pod)
        wanted = logs.container_id(self._with_status(worker), container, previous=query.previous)
        container_id = wanted.rpartition("/")[2]
        found = worker.runtime.find_id(container_id)
        if found is None or not found.log_path:
            raise _failure(f"unable to retrieve container logs for {wanted}")

        def running() -> bool:
            now = worker.runtime.find_id(container_id)
            return now is not None and now.state is ContainerState.RUNNING

        async for piece in logs.read(Path(found.log_path), query, running=running):
            yield piece

    async def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, tty: bool, streams: Streams
    ) -> int:
        found = self._running(namespace, pod, container)
        return await self._kubelet.runtime.exec(found.id, tuple(argv), tty=tty, streams=streams)

    async def attach(self, namespace: str, pod: str, container: str, *, tty: bool, streams: Streams) -> None:
        found = self._running(namespace, pod, container)
        await self._kubelet.runtime.attach(found.id, streams)

    async def port_forward(self, namespace: str, pod: str, port: int, stdin: Source, stdout: Sink) -> None:
        sandboxes = self._worker(namespace, pod).runtime.sandboxes
        if not sandboxes or sandboxes[0].state != "ready":
            raise _failure(f'pod not found ("{pod}_{namespace}")')
        await self._kubelet.runtime.port_forward(sandboxes[0].id, port, stdin, stdout)

    def healthy(self) -> str:
        return self._kubelet.problem()

    async def _samples(self) -> list[stats.Sample]:
        running = [
            (self._with_status(worker), found)
            for worker in list(self._kubelet.workers.values())
            for found in worker.runtime.running
        ]
        return await self._collector.containers(running)

    async def stats_summary(self, *, only_cpu_and_memory: bool) -> Mapping[str, Any]:
        config = self._kubelet.config
        samples = await self._samples()
        brief = only_cpu_and_memory
        node = stats.node_summary(config.node_name, self._started, self._collector.node(), config.root_dir, brief=brief)
        found = []
        for group in stats.by_pod(samples):
            volumes = {} if brief else await self._kubelet.volumes.usage(pods.uid(group[0].pod))
            found.append(stats.pod_summary(group, volumes, brief=brief))
        if not brief:
            usage = await self._kubelet.images.usage()
            images = {**stats.filesystem(usage.path, clock.now()), "usedBytes": usage.used_bytes}
            node["runtime"] = {"imageFs": images}
        return {"node": node, "pods": found}

    async def metrics(self, path: str) -> str | None:
        kubelet = self._kubelet
        match path:
            case "/metrics":
                workers = list(kubelet.workers.values())
                states = Counter(str(c.state) for w in workers for c in w.runtime.containers)
                running = sum(1 for w in workers if w.runtime.sandboxes and w.runtime.sandboxes[0].state == "ready")
                agent = metrics.agent(kubelet.config.node_name, resources.KUBELET_VERSION, running, states)
                static = sum(1 for w in workers if pods.is_static(w.pod))
                working = [pods.is_static(w.pod) for w in workers if w.uses_resources]
                counted = process_text(PROCESS, kubelet.measures.registry)
                number = metrics.pods_of(len(workers) - static, static, working.count(False), working.count(True))
                return agent + number + counted
            case "/metrics/resource":
                return metrics.resource(await self._samples(), self._collector.node())
            case "/metrics/cadvisor":
                machine = kubelet.machine or resources.Machine()
                return metrics.cadvisor(await self._samples(), machine.cpus, machine.memory)
            case "/metrics/probes":
                return metrics.probes(kubelet.shared.probes.counts)
        return None

    def configuration(self) -> Mapping[str, Any]:
        config = self._kubelet.config
        return {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "staticPodPath": config.manifests_dir,
            "port": config.port,
            "clusterDomain": config.cluster_domain,
            "clusterDNS": list(config.cluster_dns),
            "maxPods": config.max_pods,
            "podPidsLimit": config.pod_pids_limit or -1,
            "nodeLeaseDurationSeconds": config.lease_duration,
            "nodeStatusReportFrequency": f"{int(config.status_report_period)}s",
            "imageMinimumGCAge": f"{int(config.image_minimum_age)}s",
            "imageMaximumGCAge": f"{int(config.image_maximum_age)}s",
            "imageGCHighThresholdPercent": config.image_gc_high_percent,
            "imageGCLowThresholdPercent": config.image_gc_low_percent,
            "containerLogMaxFiles": config.container_log_max_files,
            "evictionHard": {t.signal: t.value for t in config.eviction if t.grace == 0},
        }


def _failure(message: str) -> StatusError:
    return StatusError(meta_v1.Status(status="Failure", code=500, reason="InternalError", message=message))
