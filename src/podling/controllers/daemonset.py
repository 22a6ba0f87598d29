"""DaemonSets: one pod on every node that should have one."""

from __future__ import annotations

import asyncio

from podling import clock
from podling.api import apps_v1, core_v1, errors, selectors
from podling.api.meta_v1 import LabelSelector
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING
from podling.client.expectations import Expectations
from podling.client.informer import CONTROLLER, controller_uid, key_of
from podling.client.workqueue import ItemBackoff
from podling.controllers import daemon_rules as rules
from podling.controllers import history
from podling.controllers import pods as pod_rules
from podling.controllers.base import Context, Controller, namespace_terminating
from podling.controllers.pod_control import PodControl, pod_from_template, slow_start
from podling.controllers.references import Claim, controller_of
from podling.controllers.replicaset import ORPHANS, orphan

BURST = 250


def pod_node(pod: core_v1.Pod) -> str:
    """The node of a daemon pod: where it is, or where it is pinned to."""
    if pod.spec.node_name:
        return pod.spec.node_name
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    for term in required.node_selector_terms if required else ():
        for field in term.match_fields or ():
            if field.key == "metadata.name" and field.values:
                return field.values[0]
    return ""


class DaemonSetController(Controller):
    """See the module."""

    name = "daemonset-controller"
    component = "daemonset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._expectations = Expectations()
        self._control = PodControl(self.client, self.recorder)
        #: Waits before pods that failed on a node are replaced: 1 s to 15 min.
        self._failures: ItemBackoff[str] = ItemBackoff(1.0, 900.0)
        self._retry_at: dict[str, float] = {}
        self._sets = self.watch(apps_v1.DaemonSet)
        self._revisions = self.informer(apps_v1.ControllerRevision)
        self._revisions.add_index(CONTROLLER, controller_uid)
        self._revisions.add_handler(on_update=lambda _, new: self._owned(new), on_delete=self._owned)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(CONTROLLER, controller_uid)
        self._pods.add_index(ORPHANS, orphan)
        self._pods.add_handler(on_add=self._pod_added, on_update=self._pod_updated, on_delete=self._pod_deleted)
        self._nodes = self.informer(core_v1.Node)
        self._nodes.add_handler(
            on_add=lambda _: self._all(), on_update=self._node_updated, on_delete=lambda _: self._all()
        )

    # Events

    def _owner(self, obj: core_v1.Pod | apps_v1.ControllerRevision) -> str | None:
        reference = controller_of(obj)
        if reference is None or reference.kind != "DaemonSet":
            return None
        ds = self._sets.lookup(reference.name, obj.metadata.namespace)
        return key_of(ds) if ds is not None and ds.metadata.uid == reference.uid else None

    def _owned(self, obj: core_v1.Pod | apps_v1.ControllerRevision) -> None:
        owner = self._owner(obj)
        if owner is not None:
            self.queue.add(owner)

    def _pod_added(self, pod: core_v1.Pod) -> None:
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.created(owner)
            self.queue.add(owner)
        elif controller_of(pod) is None and pod.metadata.labels:
            for ds in self._sets.list(pod.metadata.namespace or ""):
                if selectors.from_label_selector(ds.spec.selector).matches(pod.metadata.labels):
                    self.enqueue(ds)

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        self._owned(old)
        self._owned(new)
        if new.metadata.deletion_timestamp is not None and (owner := self._owner(new)):
            self._expectations.deleted(owner, new.metadata.uid or "")

    def _pod_deleted(self, pod: core_v1.Pod) -> None:
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.deleted(owner, pod.metadata.uid or "")
            self.queue.add(owner)

    def _all(self) -> None:
        for ds in self._sets.list():
            self.enqueue(ds)

    def _node_updated(self, old: core_v1.Node, new: core_v1.Node) -> None:
        """Heartbeats concern nobody: only labels and taints decide."""
        if old.metadata.labels != new.metadata.labels or old.spec.taints != new.spec.taints:
            self._all()

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        ds = self._sets.get(key)
        if ds is None:
            self._expectations.forget(key)
            return
        if ds.spec.selector == LabelSelector():
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self.recorder.event(ds, WARNING, "SelectingAll", message)
            return
        if ds.metadata.deletion_timestamp is not None:
            return
        revisions = self._revisions.by_index(CONTROLLER, ds.metadata.uid or "")
        past = history.History(self.client, ds, revisions, hash_label=history.LABEL)
        current = await past.current()
        hashed = (current.metadata.labels or {}).get(history.LABEL, "")
        template = rules.daemon_template(ds, hashed)
        nodes = self._nodes.list()
        problem: Exception | None = None
        placed = await self._placed(ds)
        await self._merge(past, current, placed)
        if self._expectations.satisfied(key):
            problem = await self._act(key, ds, template, nodes, placed, hashed)
        if problem is None and self._expectations.satisfied(key) and rules.is_rolling(ds):
            work = rules.update(ds, template, nodes, placed, hashed, clock.now())
            problem = await self._sync(key, ds, template, work.create, work.delete)
        hashes = {(p.metadata.labels or {}).get(history.LABEL) for pods in placed.values() for p in pods}
        live = {r.metadata.name or "" for r in revisions if (r.metadata.labels or {}).get(history.LABEL) in hashes}
        await past.clean_up(ds.spec.revision_history_limit, live | {current.metadata.name or ""})
        await self._update_status(ds, rules.status_of(ds, template, nodes, placed, hashed, clock.now()))
        pods = [p for found in placed.values() for p in found]
        wait = pod_rules.seconds_to_available(pods, ds.spec.min_ready_seconds or 0, clock.now())
        if wait is not None:
            self.queue.add_after(key, wait)
        if problem is not None:
            raise problem

    async def _merge(self, past: history.History, current: apps_v1.ControllerRevision, placed: rules.Placed) -> None:
        """Of several revisions of one template the newest stays: pods of the others take its label, and run on."""
        others = [r for r in past.same() if r.metadata.name != current.metadata.name]
        hashes = {(r.metadata.labels or {}).get(history.LABEL) for r in others}
        kept = (current.metadata.labels or {}).get(history.LABEL)
        for pods in placed.values() if others else ():
            for at, pod in enumerate(pods):
                mine = (pod.metadata.labels or {}).get(history.LABEL)
                if mine != kept and mine in hashes:
                    patch = {"metadata": {"labels": {history.LABEL: kept}}}
                    meta = pod.metadata
                    pods[at] = await self.client.patch(core_v1.Pod, meta.name or "", meta.namespace, patch)
        await past.delete(others)

    async def _placed(self, ds: apps_v1.DaemonSet) -> rules.Placed:
        """The set's pods by node."""
        selector = selectors.from_label_selector(ds.spec.selector)
        mine = self._pods.by_index(CONTROLLER, ds.metadata.uid or "")
        orphans = self._pods.by_index(ORPHANS, ds.metadata.namespace or "")
        placed: rules.Placed = {}
        for pod in await Claim(self.client, ds, selector).claim([*mine, *orphans]):
            placed.setdefault(pod_node(pod), []).append(pod)
        return placed

    async def _act(
        self,
        key: str,
        ds: apps_v1.DaemonSet,
        template: core_v1.PodTemplateSpec,
        nodes: list[core_v1.Node],
        placed: rules.Placed,
        hashed: str,
    ) -> Exception | None:
        work = rules.manage(ds, template, nodes, placed, hashed, clock.now())
        doomed = list(work.delete)
        for pod in work.failed:
            if self._may_replace(key, ds, pod):
                message = f"Found failed daemon pod {key_of(pod)} on node {pod_node(pod)}, will try to kill it"
                self.recorder.event(ds, WARNING, "FailedDaemonPod", message)
                doomed.append(pod)
        for pod in work.succeeded:
            message = f"Found succeeded daemon pod {key_of(pod)} on node {pod_node(pod)}, will try to delete it"
            self.recorder.event(ds, NORMAL, "SucceededDaemonPod", message)
            doomed.append(pod)
        known = {n.metadata.name for n in nodes}
        # Pinned to a node that is gone: it will never be scheduled.
        doomed += [
            p
            for name, pods in placed.items()
            if name not in known
            for p in pods
            if not p.spec.node_name and p.metadata.deletion_timestamp is None
        ]
        return await self._sync(key, ds, template, work.create, doomed)

    def _may_replace(self, key: str, ds: apps_v1.DaemonSet, pod: core_v1.Pod) -> bool:
        """Not too often on one node: a pod that always fails must not be replaced without end."""
        name = f"{ds.metadata.uid}/{ds.status.observed_generation}/{pod_node(pod)}"
        now = clock.elapsed()
        due = self._retry_at.get(name)
        if due is not None and now < due:
            self.queue.add_after(key, due - now)
            return False
        self._retry_at[name] = now + self._failures.when(name)
        return True

    async def _sync(
        self,
        key: str,
        ds: apps_v1.DaemonSet,
        template: core_v1.PodTemplateSpec,
        create: list[str],
        delete: list[core_v1.Pod],
    ) -> Exception | None:
        create, delete = create[:BURST], delete[:BURST]
        if not create and not delete:
            return None
        self._expectations.expect(key, len(create), [p.metadata.uid or "" for p in delete])

        async def make(i: int) -> None:
            try:
                await self._control.create(pod_from_template(rules.pinned(template, create[i]), ds), ds)
            except errors.StatusError as error:
                if not namespace_terminating(error):
                    raise
                self._expectations.created(key)

        async def remove(pod: core_v1.Pod) -> None:
            try:
                await self._control.delete(pod, ds)
            except errors.StatusError as error:
                self._expectations.deleted(key, pod.metadata.uid or "")
                if not errors.is_not_found(error):
                    raise

        done, failure = await slow_start(len(create), make)
        if done < len(create):
            self._expectations.created(key, len(create) - done)
        results = await asyncio.gather(*(remove(p) for p in delete), return_exceptions=True)
        return failure or next((r for r in results if isinstance(r, Exception)), None)

    async def _update_status(self, ds: apps_v1.DaemonSet, status: apps_v1.DaemonSetStatus) -> None:
        if status == ds.status:
            return
        changed = clone(ds)
        changed.status = status
        try:
            await self.client.update_status(changed)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
