"""ReplicaSets: as many pods of a template as asked for, no more, no less.

The same reconciler serves ReplicationControllers (replication_controller.py), whose objects differ only in their class
and in how their selector is written.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from podling import clock
from podling.api import apps_v1, core_v1, errors, selectors, times
from podling.api.struct import clone
from podling.client.expectations import Expectations
from podling.client.informer import CONTROLLER, controller_uid, key_of
from podling.controllers import pods as pod_rules
from podling.controllers.base import Context, Controller, namespace_terminating
from podling.controllers.pod_control import PodControl, pod_from_template, slow_start
from podling.controllers.references import Claim, controller_of
from podling.controllers.replacement import Replacements

#: The most pods created or deleted in one reconciliation.
BURST = 500
#: The index of pods that nobody manages, by namespace.
ORPHANS = "orphans"


def orphan(obj: Any) -> list[str]:
    """The index ORPHANS."""
    return [] if controller_of(obj) else [obj.metadata.namespace or ""]


def pods_to_delete(
    active: list[core_v1.Pod], surplus: int, related: list[core_v1.Pod], now: datetime
) -> list[core_v1.Pod]:
    """The `surplus` pods that are given up first. `related` are the active pods of the ReplicaSet's siblings."""
    if surplus >= len(active):
        return active
    per_node: dict[str, int] = {}
    for pod in related:
        if pod_rules.is_active(pod):
            per_node[pod.spec.node_name or ""] = per_node.get(pod.spec.node_name or "", 0) + 1
    return pod_rules.deletion_order(active, per_node, now)[:surplus]


def status_of(
    rs: apps_v1.ReplicaSet,
    active: list[core_v1.Pod],
    terminating: int | None,
    failure: Exception | None,
    now: datetime,
) -> apps_v1.ReplicaSetStatus:
    """What the status should be. `failure` is that of creating or deleting pods."""
    status = clone(rs.status)
    template = (rs.spec.template.metadata.labels if rs.spec.template and rs.spec.template.metadata else None) or {}
    min_ready = rs.spec.min_ready_seconds or 0
    labeled = sum(1 for p in active if template.items() <= (p.metadata.labels or {}).items())
    ready = [p for p in active if pod_rules.is_ready(p)]
    available = sum(1 for p in ready if pod_rules.is_available(p, min_ready, now))
    others = [c for c in status.conditions or () if c.type != "ReplicaFailure"]
    known = [c for c in status.conditions or () if c.type == "ReplicaFailure"]
    if failure is None:
        status.conditions = others or None
    elif not known:
        diff = len(active) - wanted(rs)
        reason = "FailedCreate" if diff < 0 else "FailedDelete" if diff > 0 else ""
        condition = apps_v1.ReplicaSetCondition(
            type="ReplicaFailure",
            status="True",
            reason=reason,
            message=str(failure),
            last_transition_time=times.format(now),
        )
        status.conditions = [*others, condition]
    status.replicas = len(active)
    status.fully_labeled_replicas = labeled or None
    status.ready_replicas = len(ready) or None
    status.available_replicas = available or None
    status.terminating_replicas = terminating
    status.observed_generation = rs.metadata.generation
    return status


def wanted(rs: apps_v1.ReplicaSet) -> int:
    """spec.replicas, 1 if unset."""
    return rs.spec.replicas if rs.spec.replicas is not None else 1


class ReplicaSetController(Controller):
    """See the module."""

    name = "replicaset-controller"
    component = "replicaset-controller"
    kind: ClassVar[type[Any]] = apps_v1.ReplicaSet
    #: Whether the status has a place for pods on their way out.
    counts_terminating: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._expectations = Expectations()
        self._control = PodControl(self.client, self.recorder)
        self._replacements = Replacements()
        self._sets = self.watch(self.kind)
        self._sets.add_index(CONTROLLER, controller_uid)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(CONTROLLER, controller_uid)
        self._pods.add_index(ORPHANS, orphan)
        self._pods.add_handler(on_add=self._pod_added, on_update=self._pod_updated, on_delete=self._pod_deleted)

    # What the two kinds differ in

    def selector(self, rs: Any) -> Any:
        return selectors.from_label_selector(rs.spec.selector)

    def view(self, rs: Any) -> apps_v1.ReplicaSet:
        """The object as a ReplicaSet, for the decisions."""
        result: apps_v1.ReplicaSet = rs
        return result

    # Events

    def _pod_added(self, pod: core_v1.Pod) -> None:
        if pod.metadata.deletion_timestamp is not None:
            self._pod_deleted(pod)
            return
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.created(owner)
            self.queue.add(owner)
        elif controller_of(pod) is None:
            self._enqueue_matching(pod)

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        if new.metadata.deletion_timestamp is not None:
            self._pod_deleted(new)
            if (old.metadata.labels or {}) != (new.metadata.labels or {}):
                self._pod_deleted(old)
            return
        before, now = controller_of(old), controller_of(new)
        if before is not None and (now is None or now.uid != before.uid) and (owner := self._owner(old)):
            self.queue.add(owner)
        if owner := self._owner(new):
            self.queue.add(owner)
        elif now is None and (old.metadata.labels != new.metadata.labels or before is not None):
            self._enqueue_matching(new)

    def _pod_deleted(self, pod: core_v1.Pod) -> None:
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.deleted(owner, pod.metadata.uid or "")
            self.queue.add(owner)

    def _owner(self, pod: core_v1.Pod) -> str | None:
        """The key of the set that manages the pod, if it is one of ours and the very same."""
        reference = controller_of(pod)
        if reference is None or reference.kind != self.kind.__name__:
            return None
        rs = self._sets.lookup(reference.name, pod.metadata.namespace)
        return key_of(rs) if rs is not None and rs.metadata.uid == reference.uid else None

    def _enqueue_matching(self, pod: core_v1.Pod) -> None:
        labels = pod.metadata.labels or {}
        if not labels:
            return
        for rs in self._sets.list(pod.metadata.namespace or ""):
            selector = self.selector(rs)
            if not selector.empty and selector.matches(labels):
                self.enqueue(rs)

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        rs = self._sets.get(key)
        if rs is None:
            self._expectations.forget(key)
            self._replacements.forget(key)
            return
        may_act = self._expectations.satisfied(key)
        selector = self.selector(rs)
        mine = [
            *self._pods.by_index(CONTROLLER, rs.metadata.uid or ""),
            *self._pods.by_index(ORPHANS, rs.metadata.namespace or ""),
        ]
        active = await Claim(self.client, rs, selector).claim([p for p in mine if pod_rules.is_active(p)])
        terminating = [
            p
            for p in self._pods.by_index(CONTROLLER, rs.metadata.uid or "")
            if pod_rules.is_terminating(p) and selector.matches(p.metadata.labels or {})
        ]
        failure: Exception | None = None
        if may_act and rs.metadata.deletion_timestamp is None:
            failure = await self._manage(key, rs, active)
        now = clock.now()
        leaving = len(terminating) if self.counts_terminating else None
        await self._update_status(rs, status_of(self.view(rs), active, leaving, failure, now))
        wait = pod_rules.seconds_to_available(active, rs.spec.min_ready_seconds or 0, now)
        if wait is not None:
            self.queue.add_after(key, wait)
        if failure is not None:
            raise failure

    async def _manage(self, key: str, rs: Any, active: list[core_v1.Pod]) -> Exception | None:
        """Create what is missing, delete what is too much; the first failure."""
        diff = len(active) - wanted(self.view(rs))
        wait = self._replacements.wait(
            key, rs.metadata.generation, self._pods.by_index(CONTROLLER, rs.metadata.uid or "")
        )
        if diff < 0 and wait > 0:
            self.queue.add_after(key, wait)
        elif diff < 0:
            return await self._create(key, rs, min(-diff, BURST))
        if diff > 0:
            return await self._delete(key, rs, active, min(diff, BURST))
        return None

    async def _create(self, key: str, rs: Any, count: int) -> Exception | None:
        self._expectations.expect_creations(key, count)

        async def one(_: int) -> None:
            try:
                await self._control.create(pod_from_template(rs.spec.template or core_v1.PodTemplateSpec(), rs), rs)
            except Exception as error:
                if not namespace_terminating(error):
                    raise
                self._expectations.created(key)

        done, failure = await slow_start(count, one)
        if done < count:
            # No event will come for those that were not created.
            self._expectations.created(key, count - done)
        return failure

    async def _delete(self, key: str, rs: Any, active: list[core_v1.Pod], count: int) -> Exception | None:
        victims = pods_to_delete(active, count, self._related(rs), clock.now())
        self._expectations.expect_deletions(key, [p.metadata.uid or "" for p in victims])

        async def one(pod: core_v1.Pod) -> None:
            try:
                await self._control.delete(pod, rs)
            except errors.StatusError as error:
                self._expectations.deleted(key, pod.metadata.uid or "")
                if not errors.is_not_found(error):
                    raise

        results = await asyncio.gather(*(one(p) for p in victims), return_exceptions=True)
        return next((r for r in results if isinstance(r, Exception)), None)

    def _related(self, rs: Any) -> list[core_v1.Pod]:
        """The pods of all sets of the same owner: of the nodes that carry many of them, one is given up first."""
        reference = controller_of(rs)
        siblings = self._sets.by_index(CONTROLLER, reference.uid) if reference is not None else [rs]
        return [p for s in siblings for p in self._pods.by_index(CONTROLLER, s.metadata.uid or "")]

    async def _update_status(self, rs: Any, status: apps_v1.ReplicaSetStatus) -> None:
        current = self.view(rs).status
        if current == status:
            return
        changed = clone(rs)
        changed.status = msgspec.convert(msgspec.to_builtins(status), type(rs.status))
        try:
            await self.client.update_status(changed)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return
            raise
