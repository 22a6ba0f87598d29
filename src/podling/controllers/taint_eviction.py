"""Pods leave nodes with NoExecute taints they do not tolerate: at once, or when their tolerationSeconds are over.

The seconds count from when this controller saw the taint; a taint that goes in time cancels the eviction.
"""

from __future__ import annotations

import msgspec

from podling import clock
from podling.api import core_v1, errors
from podling.api.struct import to_dict
from podling.client.events import NORMAL
from podling.client.informer import NODE, node_name, split_key
from podling.controllers import metrics, taints
from podling.controllers import pods as pod_rules
from podling.controllers.base import Context, Controller


class _Scheduled(msgspec.Struct):
    """An eviction to come, on the event loop's clock."""

    uid: str
    since: float
    at: float


class TaintEvictionController(Controller):
    """See the module. Keys are of pods."""

    name = "taint-eviction-controller"
    component = "taint-eviction-controller"
    workers = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(NODE, node_name)
        self._pods.add_handler(on_add=self._pod_seen, on_update=self._pod_updated, on_delete=self._pod_seen)
        self._nodes = self.informer(core_v1.Node)
        self._nodes.add_handler(on_add=self._node_seen, on_update=self._node_updated, on_delete=self._node_seen)
        self._scheduled: dict[str, _Scheduled] = {}

    def _pod_seen(self, pod: core_v1.Pod) -> None:
        if pod.spec.node_name:
            self.enqueue(pod)

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        if old.spec.node_name != new.spec.node_name or old.spec.tolerations != new.spec.tolerations:
            self._pod_seen(new)

    def _node_seen(self, node: core_v1.Node) -> None:
        if taints.no_execute(node) or self._scheduled:
            for pod in self._pods.by_index(NODE, node.metadata.name or ""):
                self.enqueue(pod)

    def _node_updated(self, old: core_v1.Node, new: core_v1.Node) -> None:
        if taints.no_execute(old) != taints.no_execute(new):
            for pod in self._pods.by_index(NODE, new.metadata.name or ""):
                self.enqueue(pod)

    async def reconcile(self, key: str) -> None:
        pod = self._pods.get(key)
        planned = self._scheduled.get(key)
        if pod is None or (planned is not None and planned.uid != pod.metadata.uid):
            self._scheduled.pop(key, None)
            planned = None
        if pod is None or pod.metadata.deletion_timestamp is not None:
            self._scheduled.pop(key, None)
            return
        found = taints.no_execute(self._nodes.get(pod.spec.node_name or ""))
        seconds = taints.seconds_borne(found, pod.spec.tolerations or []) if found else None
        now = clock.elapsed()
        if seconds is None:
            self._cancel(key, pod)
        elif seconds == 0:
            await self._evict(key, pod)
        elif planned is None:
            self._scheduled[key] = _Scheduled(pod.metadata.uid or "", now, now + seconds)
            self.queue.add_after(key, seconds)
        else:
            # The time already served counts, also when the tolerations or taints have changed meanwhile.
            planned.at = planned.since + seconds
            if now >= planned.at - 1e-6:
                await self._evict(key, pod)
            else:
                self.queue.add_after(key, planned.at - now)

    def _cancel(self, key: str, pod: core_v1.Pod) -> None:
        if self._scheduled.pop(key, None) is not None:
            self.recorder.event(pod, NORMAL, "TaintManagerEviction", f"Cancelling deletion of Pod {key}")

    async def _evict(self, key: str, pod: core_v1.Pod) -> None:
        planned, began = self._scheduled.pop(key, None), clock.elapsed()
        self.recorder.event(pod, NORMAL, "TaintManagerEviction", f"Marking for deletion Pod {key}")
        condition = core_v1.PodCondition(
            type="DisruptionTarget",
            status="True",
            reason="DeletionByTaintManager",
            message="Taint manager: deleting due to NoExecute taint",
        )
        namespace, name = split_key(key)
        try:
            fresh = await self.client.get(core_v1.Pod, name, namespace)
            if fresh.metadata.uid != pod.metadata.uid:
                return
            marked = pod_rules.with_condition(fresh, condition, clock.now())
            if marked is not None:
                await self.client.patch(
                    core_v1.Pod,
                    name,
                    namespace,
                    {
                        "metadata": {"uid": pod.metadata.uid},
                        "status": {"conditions": [to_dict(condition)]},
                    },
                    subresource="status",
                )
            await self.client.delete(core_v1.Pod, name, namespace, uid=pod.metadata.uid)
            metrics.EVICTIONS.add()
            metrics.EVICTION_DURATIONS.of().observe(clock.elapsed() - (planned.at if planned is not None else began))
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
