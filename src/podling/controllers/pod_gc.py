"""Pods that nobody else will remove: of nodes that are gone, ended beyond a number, deleted before they got a node.

Nothing is polled: a pod is looked at when it appears on a node that does not exist (or its node goes), when one more
pod has ended, and when one is deleted that never got a node.
"""

from __future__ import annotations

from podling import clock
from podling.api import core_v1, errors
from podling.api.struct import to_dict
from podling.client.informer import NODE, key_of, node_name
from podling.controllers import metrics, taints
from podling.controllers import pods as pod_rules
from podling.controllers.base import Context, Controller
from podling.controllers.node_lifecycle import ready_status

#: Seconds that a missing node has to show up.
QUARANTINE = 40.0
ENDED = "ended"


def ended(pod: core_v1.Pod) -> list[str]:
    """The index ENDED."""
    return [ENDED] if pod_rules.is_terminal(pod) else []


def surplus(pods: list[core_v1.Pod], threshold: int) -> list[core_v1.Pod]:
    """The ended pods to remove: evicted ones first, then the oldest."""
    count = len(pods) - threshold
    if threshold <= 0 or count <= 0:
        return []

    def order(pod: core_v1.Pod) -> tuple[bool, str, str]:
        evicted = pod.status.phase == "Failed" and pod.status.reason == "Evicted"
        return not evicted, pod.metadata.creation_timestamp or "", pod.metadata.name or ""

    return sorted(pods, key=order)[:count]


class PodGarbageCollector(Controller):
    """See the module. Keys: `node/<name>`, `ended/`, `unscheduled/<pod>`, `out-of-service/<node>`."""

    name = "pod-garbage-collector-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(NODE, node_name)
        self._pods.add_index(ENDED, ended)
        self._nodes = self.informer(core_v1.Node)
        self._pods.add_handler(on_add=self._pod_seen, on_update=lambda _, new: self._pod_seen(new))
        self._nodes.add_handler(on_update=lambda _, new: self._node_seen(new), on_delete=self._node_gone)

    def _pod_seen(self, pod: core_v1.Pod) -> None:
        if pod.spec.node_name:
            node = self._nodes.get(pod.spec.node_name)
            if node is None:
                self.queue.add_after(f"node/{pod.spec.node_name}", QUARANTINE)
            elif pod.metadata.deletion_timestamp is not None:
                self._node_seen(node)
        elif pod.metadata.deletion_timestamp is not None:
            self.queue.add(f"unscheduled/{key_of(pod)}")
        threshold = self.context.config.terminated_pod_threshold
        if pod_rules.is_terminal(pod) and len(self._pods.by_index(ENDED, ENDED)) > threshold > 0:
            self.queue.add("ended/")

    def _node_seen(self, node: core_v1.Node) -> None:
        if any(t.key == taints.OUT_OF_SERVICE for t in node.spec.taints or ()) and ready_status(node) != "True":
            self.queue.add(f"out-of-service/{node.metadata.name}")

    def _node_gone(self, node: core_v1.Node) -> None:
        self.queue.add_after(f"node/{node.metadata.name}", QUARANTINE)

    async def reconcile(self, key: str) -> None:
        what, _, name = key.partition("/")
        if what == "node":
            await self._collect_orphans(name)
        elif what == "ended":
            for pod in surplus(self._pods.by_index(ENDED, ENDED), self.context.config.terminated_pod_threshold):
                await self._remove(pod, "terminated")
        elif what == "out-of-service":
            for pod in self._pods.by_index(NODE, name):
                if pod.metadata.deletion_timestamp is not None:
                    await self._remove(pod, "out-of-service")
        else:
            found = self._pods.get(name)
            if found is not None and found.metadata.deletion_timestamp is not None and not found.spec.node_name:
                await self._remove(found, "unscheduled")

    async def _collect_orphans(self, node: str) -> None:
        pods = self._pods.by_index(NODE, node)
        if not pods or self._nodes.get(node) is not None:
            return
        try:
            await self.client.get(core_v1.Node, node)
            return
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
        condition = core_v1.PodCondition(
            type="DisruptionTarget",
            status="True",
            reason="DeletionByPodGC",
            message="PodGC: node no longer exists",
        )
        for pod in pods:
            await self._remove(pod, "orphaned", condition)

    async def _remove(self, pod: core_v1.Pod, why: str, condition: core_v1.PodCondition | None = None) -> None:
        """Fail the pod if it has not ended, and delete it without waiting for a node agent that is not there."""
        labels = pod.metadata.namespace or "", why
        metrics.FORCED_DELETIONS.add(*labels)
        meta = pod.metadata
        try:
            if not pod_rules.is_terminal(pod):
                status: dict[str, object] = {"phase": "Failed"}
                if condition is not None and pod_rules.with_condition(pod, condition, clock.now()) is not None:
                    status["conditions"] = [to_dict(condition)]
                await self.client.patch(
                    core_v1.Pod,
                    meta.name or "",
                    meta.namespace,
                    {"metadata": {"uid": meta.uid}, "status": status},
                    subresource="status",
                )
            await self.client.delete(core_v1.Pod, meta.name or "", meta.namespace, grace_period_seconds=0, uid=meta.uid)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                metrics.FORCED_DELETION_ERRORS.add(*labels)
                raise
