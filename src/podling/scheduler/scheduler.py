"""The scheduling loop: takes the most important pod, decides, and binds in the background.

Deciding is pure and never waits (see `algorithm`, `preemption`); this shell feeds the cache from informers, writes
bindings, conditions and events, and makes room by deleting victims.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from podling import clock, log
from podling.api import core_v1, errors, policy_v1, times
from podling.client.base import Client, PatchType
from podling.client.events import NORMAL, WARNING, Recorder
from podling.client.informer import Informer, Informers
from podling.scheduler import metrics
from podling.scheduler import plugins as default_plugins
from podling.scheduler.algorithm import Algorithm, Failure
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import Plugin
from podling.scheduler.owners import Owners
from podling.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from podling.scheduler.plugins.pod_topology_spread import PodTopologySpread
from podling.scheduler.plugins.volume_binding import Plan, VolumeBinding
from podling.scheduler.plugins.volume_restrictions import VolumeRestrictions
from podling.scheduler.plugins.volume_zone import VolumeZone
from podling.scheduler.preemption import Candidate, preempt
from podling.scheduler.queue import Happened, Queue, Waiting
from podling.scheduler.volumes import BindingFailed, Volumes

_log = log.get(__name__)

#: Bindings that may be under way at once.
_BINDINGS = 64


class Scheduler:
    """Schedules the pods whose spec.schedulerName is `name`."""

    def __init__(
        self, client: Client, informers: Informers, recorder: Recorder, *, name: str = "default-scheduler"
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._name = name
        self._cache = Cache()
        self._queue = Queue()
        metrics.show_pending(self._pending)
        metrics.show_refused(name, self._queue.refused)
        self._points = metrics.Points(name)
        self._affinity = InterPodAffinity()
        self._owners = Owners(informers)
        self._volumes = Volumes(client, informers, partial(self._queue.happened, Happened.STORAGE_CHANGED))
        chosen: tuple[Plugin, ...] = (
            self._affinity,
            PodTopologySpread(self._owners.selector),
            VolumeRestrictions(self._volumes),
            VolumeBinding(self._volumes),
            VolumeZone(self._volumes),
        )
        given: dict[type[Plugin], Plugin] = {type(p): p for p in chosen}
        self._algorithm = Algorithm([given.get(type(p), p) for p in default_plugins.default()], self._points)
        self._nodes = informers.of(core_v1.Node)
        self._pods = informers.of(core_v1.Pod)
        self._namespaces = informers.of(core_v1.Namespace)
        self._budgets = informers.of(policy_v1.PodDisruptionBudget)
        self._tasks: set[asyncio.Task[None]] = set()
        self._binding = asyncio.Semaphore(_BINDINGS)
        self._nodes.add_handler(on_add=self._node_added, on_update=self._node_changed, on_delete=self._node_gone)
        self._pods.add_handler(on_add=self._pod_added, on_update=self._pod_changed, on_delete=self._pod_gone)
        self._namespaces.add_handler(
            on_add=self._namespace_seen,
            on_update=lambda _, new: self._namespace_seen(new),
            on_delete=self._namespace_gone,
        )

    async def run(self) -> None:
        """Until cancelled."""
        try:
            followed: list[Informer[Any]] = [self._nodes, self._pods, self._namespaces, self._budgets]
            for informer in followed + self._owners.informers + self._volumes.informers:
                await informer.wait_synced()
            while (waiting := await self._queue.get()) is not None:
                self._schedule(waiting)
                # Bindings and events get their turn between two pods.
                await asyncio.sleep(0)
        finally:
            self._queue.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what happens in the cluster ---------------------------------------------------------------------------------

    def _node_added(self, node: core_v1.Node) -> None:
        self._cache.set_node(node)
        self._queue.happened(Happened.NODE_ADDED)

    def _node_changed(self, old: core_v1.Node, new: core_v1.Node) -> None:
        self._cache.set_node(new)
        # A heartbeat changes conditions only, and helps nobody.
        if (
            old.spec != new.spec
            or old.metadata.labels != new.metadata.labels
            or old.status.allocatable != new.status.allocatable
        ):
            self._queue.happened(Happened.NODE_CHANGED)

    def _node_gone(self, node: core_v1.Node) -> None:
        self._cache.drop_node(node.metadata.name or "")

    def _namespace_seen(self, namespace: core_v1.Namespace) -> None:
        self._affinity.namespaces[namespace.metadata.name or ""] = namespace.metadata.labels or {}

    def _namespace_gone(self, namespace: core_v1.Namespace) -> None:
        self._affinity.namespaces.pop(namespace.metadata.name or "", None)

    def _pod_added(self, pod: core_v1.Pod) -> None:
        if _ended(pod):
            return
        if pod.spec.node_name:
            self._cache.set_pod(pod)
            self._queue.happened(Happened.POD_PLACED)
        elif self._mine(pod):
            info = PodInfo(pod)
            self._cache.nominate(info, pod.status.nominated_node_name)
            if self._algorithm.gate(info) is None:
                self._queue.put(info)

    def _pod_changed(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        uid = new.metadata.uid or ""
        if old.metadata.uid != uid:
            self._pod_gone(old)
            self._pod_added(new)
        elif _ended(new):
            if not _ended(old):
                self._pod_gone(new)
        elif new.spec.node_name:
            self._queue.remove(uid)
            self._cache.withdraw(uid)
            self._cache.set_pod(new)
            if not old.spec.node_name:
                self._queue.happened(Happened.POD_PLACED)
            elif old.metadata.labels != new.metadata.labels or old.spec != new.spec:
                self._queue.happened(Happened.POD_CHANGED)
        elif self._mine(new):
            self._pending_changed(old, new)

    def _pending_changed(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        uid = new.metadata.uid or ""
        info = PodInfo(new)
        self._cache.nominate(info, new.status.nominated_node_name)
        if new.metadata.deletion_timestamp:
            self._queue.remove(uid)
        elif old.spec != new.spec or old.metadata.labels != new.metadata.labels:
            if self._algorithm.gate(info) is None and not self._cache.holds(uid):
                self._queue.put(info)
        else:
            self._queue.update(info)

    def _pod_gone(self, pod: core_v1.Pod) -> None:
        uid = pod.metadata.uid or ""
        self._queue.remove(uid)
        self._cache.withdraw(uid)
        if self._cache.holds(uid):
            self._cache.drop_pod(pod)
            self._volumes.wake()
            self._queue.happened(Happened.POD_GONE)

    def _pending(self) -> dict[str, int]:
        """The queue's numbers, and how many pods are kept from it."""
        gated = sum(1 for p in self._pods.list() if p.spec.scheduling_gates and not p.spec.node_name and self._mine(p))
        return {**self._queue.pending(), "gated": gated}

    def _mine(self, pod: core_v1.Pod) -> bool:
        return (pod.spec.scheduler_name or "default-scheduler") == self._name and not pod.metadata.deletion_timestamp

    # -- one pod -----------------------------------------------------------------------------------------------------

    def _schedule(self, waiting: Waiting) -> None:
        info = waiting.info
        if self._cache.holds(info.uid):
            return
        began = clock.real_seconds()
        decision = self._algorithm.decide(info, self._cache)
        if isinstance(decision, NodeInfo):
            metrics.ALGORITHM.observe(clock.real_seconds() - began)
            self._cache.assume(info, decision.name)
            self._cache.withdraw(info.uid)
            plan = self._volumes.reserve(info.pod, decision) if info.pod.spec.volumes else None
            self._spawn(self._bind(waiting, decision, plan, began))
        else:
            self._refused(waiting, decision)
            metrics.attempted(self._name, metrics.UNSCHEDULABLE, clock.real_seconds() - began)

    def _refused(self, waiting: Waiting, failure: Failure) -> None:
        info = waiting.info
        message = failure.message()
        room: Candidate | str = ""
        if failure.total:
            metrics.PREEMPTIONS.add()
            self._points.begin()
            room = preempt(info, self._cache, self._algorithm, failure, self._budgets.list())
            helps = isinstance(room, Candidate)
            self._points.done("PostFilter", metrics.SUCCESS if helps else metrics.UNSCHEDULABLE_STATUS)
            if isinstance(room, str):
                message += f" preemption: {room}"
        self._queue.retry(waiting, failure.plugins)
        candidate = room if isinstance(room, Candidate) else None
        self._cache.nominate(info, candidate.node if candidate else info.pod.status.nominated_node_name)
        self._recorder.event(info.pod, WARNING, "FailedScheduling", message, action="Scheduling")
        self._spawn(self._say_unschedulable(info.pod, message, candidate))

    async def _bind(self, waiting: Waiting, node: NodeInfo, plan: Plan | None, began: float) -> None:
        try:
            if plan is not None:
                await self._volumes.bind(plan, node, lambda: self._cache.holds(waiting.info.uid))
        except (BindingFailed, errors.StatusError) as error:
            self._cache.forget(waiting.info)
            self._no_volumes(waiting, error, began)
            return
        except BaseException:
            self._cache.forget(waiting.info)
            raise
        finally:
            if plan is not None:
                self._volumes.release(plan)
        await self._bind_pod(waiting, node.name, began)

    def _no_volumes(self, waiting: Waiting, error: Exception, began: float) -> None:
        pod = waiting.info.pod
        current = self._pods.lookup(pod.metadata.name or "", pod.metadata.namespace)
        if current is None or current.metadata.uid != pod.metadata.uid:
            return
        metrics.attempted(self._name, metrics.ERROR, clock.real_seconds() - began)
        message = f'running PreBind plugin "VolumeBinding": {error}'
        self._recorder.event(pod, WARNING, "FailedScheduling", message, action="Scheduling")
        self._queue.retry(waiting, None)

    async def _bind_pod(self, waiting: Waiting, node: str, began: float) -> None:
        pod = waiting.info.pod
        namespace, name = pod.metadata.namespace, pod.metadata.name or ""
        binding = core_v1.Binding(target=core_v1.ObjectReference(kind="Node", name=node))
        binding.metadata.name, binding.metadata.namespace, binding.metadata.uid = name, namespace, pod.metadata.uid
        asked = clock.real_seconds()
        try:
            async with self._binding:
                await self._client.post(core_v1.Pod, name, namespace, "binding", binding)
        except errors.StatusError as error:
            self._points.took("Bind", clock.real_seconds() - asked, metrics.ERROR_STATUS)
            self._cache.forget(waiting.info)
            if errors.is_not_found(error):
                return
            metrics.attempted(self._name, metrics.ERROR, clock.real_seconds() - began)
            _log.warning("binding %s to %s failed: %s", waiting.info.key, node, error)
            self._queue.retry(waiting, None)
            return
        except BaseException:
            self._cache.forget(waiting.info)
            raise
        self._points.took("Bind", clock.real_seconds() - asked)
        metrics.attempted(self._name, metrics.SCHEDULED, clock.real_seconds() - began)
        metrics.scheduled(waiting.attempts + 1, clock.elapsed() - waiting.first)
        message = f"Successfully assigned {namespace}/{name} to {node}"
        self._recorder.event(pod, NORMAL, "Scheduled", message, action="Binding")

    async def _say_unschedulable(self, pod: core_v1.Pod, message: str, candidate: Candidate | None) -> None:
        """Write the condition, and make room if that helps."""
        if candidate is not None:
            await self._make_room(pod, candidate)
        known = next((c for c in pod.status.conditions or () if c.type == "PodScheduled"), None)
        nominated = candidate.node if candidate else None
        if known and known.message == message and (pod.status.nominated_node_name or None) == nominated:
            return
        now = times.now()
        changed = known is None or known.status != "False"
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "observedGeneration": pod.metadata.generation,
            "lastProbeTime": None,
            "lastTransitionTime": now if changed or known is None else known.last_transition_time,
        }
        await self._patch_status(pod, {"conditions": [condition], "nominatedNodeName": nominated})

    async def _make_room(self, pod: core_v1.Pod, candidate: Candidate) -> None:
        metrics.VICTIMS.of().observe(len(candidate.victims))
        for victim in candidate.victims:
            meta = victim.pod.metadata
            if meta.deletion_timestamp:
                continue
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{self._name}: preempting to accommodate a higher priority pod",
                "lastTransitionTime": times.now(),
            }
            await self._patch_status(victim.pod, {"conditions": [condition]})
            try:
                await self._client.delete(core_v1.Pod, meta.name or "", meta.namespace, uid=meta.uid)
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    _log.warning("can't preempt %s: %s", victim.key, error)
                continue
            text = f"Preempted by pod {pod.metadata.uid} on node {candidate.node}"
            self._recorder.event(victim.pod, NORMAL, "Preempted", text, action="Preempting", related=pod)

    async def _patch_status(self, pod: core_v1.Pod, status: dict[str, Any]) -> None:
        meta = pod.metadata
        patch = {"metadata": {"uid": meta.uid}, "status": status}
        try:
            await self._client.patch(
                core_v1.Pod, meta.name or "", meta.namespace, patch, type=PatchType.STRATEGIC, subresource="status"
            )
        except errors.StatusError as error:
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                _log.warning("can't write the status of %s/%s: %s", meta.namespace, meta.name, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("scheduling failed", exc_info=error)


def _ended(pod: core_v1.Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")
