"""StatefulSets: pods with names, storage and an order.

Pod `web-2` is made when `web-0` and `web-1` run, and goes before them; what is made again under a name finds the same
claims. With `podManagementPolicy: Parallel` the names and claims stay, the order goes.
"""

from __future__ import annotations

from podling import clock
from podling.api import apps_v1, core_v1, errors, selectors, times
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING
from podling.client.informer import CONTROLLER, controller_uid, key_of
from podling.controllers import history
from podling.controllers import pods as pod_rules
from podling.controllers import stateful_rules as rules
from podling.controllers.base import Context, Controller, namespace_terminating
from podling.controllers.references import Claim, controller_of
from podling.controllers.replacement import Replacements, is_rejected
from podling.controllers.replicaset import ORPHANS, orphan

REVISION_HASH = "controller.kubernetes.io/hash"


class StatefulSetController(Controller):
    """See the module."""

    name = "statefulset-controller"
    component = "statefulset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.watch(apps_v1.StatefulSet)
        self._claims = self.informer(core_v1.PersistentVolumeClaim)
        self._revisions = self.informer(apps_v1.ControllerRevision)
        self._revisions.add_index(CONTROLLER, controller_uid)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(CONTROLLER, controller_uid)
        self._pods.add_index(ORPHANS, orphan)
        self._pods.add_handler(on_add=self._pod_seen, on_update=self._pod_updated, on_delete=self._pod_deleted)
        #: Pods that we deleted and the cache may still show as if nothing had happened, by uid.
        self._doomed: set[str] = set()
        self._replacements = Replacements()

    # Events

    def _pod_seen(self, pod: core_v1.Pod) -> None:
        reference = controller_of(pod)
        if reference is None:
            if pod.metadata.labels:
                for found in self._sets.list(pod.metadata.namespace or ""):
                    if selectors.from_label_selector(found.spec.selector).matches(pod.metadata.labels):
                        self.enqueue(found)
            return
        if reference.kind != "StatefulSet":
            return
        set_ = self._sets.lookup(reference.name, pod.metadata.namespace)
        if set_ is not None and set_.metadata.uid == reference.uid:
            self.enqueue(set_)

    def _pod_deleted(self, pod: core_v1.Pod) -> None:
        self._doomed.discard(pod.metadata.uid or "")
        self._pod_seen(pod)

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        if controller_of(old) != controller_of(new):
            self._pod_seen(old)
        self._pod_seen(new)

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        cached = self._sets.get(key)
        if cached is None:
            self._replacements.forget(key)
            return
        set_ = clone(cached)
        pods = await self._claimed(set_)
        past = history.History(
            self.client, set_, self._revisions.by_index(CONTROLLER, set_.metadata.uid or ""), hash_label=REVISION_HASH
        )
        update = await past.current()
        names = {r.metadata.name: r for r in past.revisions}
        current = names.get(set_.status.current_revision or "", update)
        try:
            await self._step(set_, pods, current, update)
        finally:
            fresh = [p for p in self._pods.by_index(CONTROLLER, set_.metadata.uid or "") if self._is_member(set_, p)]
            await self._update_status(cached, rules.status_of(set_, fresh, current, update, clock.now()))
            live = {rules.revision_of(p) for p in fresh} | {current.metadata.name or "", update.metadata.name or ""}
            await past.clean_up(set_.spec.revision_history_limit, live)
            wait = pod_rules.seconds_to_available(fresh, set_.spec.min_ready_seconds or 0, clock.now())
            if wait is not None:
                self.queue.add_after(key, wait)

    def _as_known(self, pod: core_v1.Pod) -> core_v1.Pod:
        """The cache may be behind: a pod that we have deleted is on its way out."""
        if pod.metadata.uid not in self._doomed or pod.metadata.deletion_timestamp is not None:
            return pod
        known = clone(pod)
        known.metadata.deletion_timestamp = times.now()
        return known

    @staticmethod
    def _is_member(set_: apps_v1.StatefulSet, pod: core_v1.Pod) -> bool:
        return rules.ordinal(set_, pod) is not None

    async def _claimed(self, set_: apps_v1.StatefulSet) -> list[core_v1.Pod]:
        selector = selectors.from_label_selector(set_.spec.selector)
        mine = self._pods.by_index(CONTROLLER, set_.metadata.uid or "")
        orphans = self._pods.by_index(ORPHANS, set_.metadata.namespace or "")
        members = [self._as_known(p) for p in (*mine, *orphans) if self._is_member(set_, p)]
        return await Claim(self.client, set_, selector).claim(members)

    async def _step(
        self,
        set_: apps_v1.StatefulSet,
        pods: list[core_v1.Pod],
        current: history.Revision,
        update: history.Revision,
    ) -> None:
        """One step towards what is wanted; with an order, no step before the last one is done."""
        if set_.metadata.deletion_timestamp is not None:
            return
        by_ordinal = {rules.ordinal(set_, p): p for p in pods}
        first = rules.start(set_)
        wanted = range(first, first + rules.replicas(set_))
        condemned = sorted(
            (p for n, p in by_ordinal.items() if n not in wanted),
            key=lambda p: rules.ordinal(set_, p) or 0,
            reverse=True,
        )
        monotonic = rules.is_monotonic(set_)
        wait = self._replacements.wait(key_of(set_), set_.metadata.generation, pods)
        if wait > 0:
            self.queue.add_after(key_of(set_), wait)
        for number in wanted:
            pod = by_ordinal.get(number)
            held = wait > 0 and pod is not None and is_rejected(pod)
            if (held or not await self._replica(set_, number, pod, current, update)) and monotonic:
                return
        for pod in condemned:
            await self._keep_claims(set_, pod, condemned=True)
        by_number = (*(by_ordinal.get(n) for n in wanted), *reversed(condemned))
        first_unhealthy = next((p for p in by_number if p and not rules.is_healthy(p)), None)
        for pod in condemned:
            if rules.is_terminating(pod):
                if monotonic:
                    return
                continue
            if monotonic and not self._is_available(set_, pod) and pod is not first_unhealthy:
                return
            await self._delete(set_, pod)
            if monotonic:
                return
        if rules.is_rolling(set_):
            await self._roll(set_, [by_ordinal[n] for n in wanted if n in by_ordinal], update)

    async def _replica(
        self,
        set_: apps_v1.StatefulSet,
        number: int,
        pod: core_v1.Pod | None,
        current: history.Revision,
        update: history.Revision,
    ) -> bool:
        """Whether the replica is as it should be, so that the next one may be looked at."""
        if pod is None:
            await self._create(set_, number, current, update)
            return False
        if pod.status.phase in ("Failed", "Succeeded"):
            if not rules.is_terminating(pod):
                failed = pod.status.phase == "Failed"
                what = "failed" if failed else "terminated"
                message = f"StatefulSet {key_of(set_)} is recreating {what} Pod {pod.metadata.name}"
                reason = "RecreatingFailedPod" if failed else "RecreatingTerminatedPod"
                self.recorder.event(set_, WARNING if failed else NORMAL, reason, message)
                await self._delete(set_, pod)
            return False
        if rules.is_terminating(pod):
            return False
        if pod.status.phase == "Pending":
            await self._make_claims(set_, pod, number)
        if rules.is_monotonic(set_) and not self._is_available(set_, pod):
            return False
        await self._keep_claims(set_, pod, condemned=False)
        if not rules.has_identity(set_, pod):
            changed = clone(pod)
            rules.give_identity(set_, changed, number)
            await self.client.update(changed)
        return True

    def _is_available(self, set_: apps_v1.StatefulSet, pod: core_v1.Pod) -> bool:
        if not rules.is_running_and_ready(pod):
            return False
        return pod_rules.is_available(pod, set_.spec.min_ready_seconds or 0, clock.now())

    async def _roll(self, set_: apps_v1.StatefulSet, pods: list[core_v1.Pod], update: history.Revision) -> None:
        """Delete old pods from the highest number down, as long as few enough are missing."""
        limit = rules.max_unavailable(set_)
        missing = sum(not self._is_available(set_, p) or rules.is_terminating(p) for p in pods)
        lowest = rules.start(set_) + rules.partition(set_)
        for pod in reversed(pods):
            if (rules.ordinal(set_, pod) or 0) < lowest:
                return
            old = rules.revision_of(pod) != update.metadata.name
            available = self._is_available(set_, pod) and not rules.is_terminating(pod)
            if old and not rules.is_terminating(pod):
                if available:
                    if missing >= limit:
                        return
                    missing += 1
                await self._delete(set_, pod)
                if limit == 1:
                    return
            elif not available and limit == 1:
                # An update waits for what it has replaced last.
                return

    # Pods and claims

    async def _create(
        self, set_: apps_v1.StatefulSet, number: int, current: history.Revision, update: history.Revision
    ) -> None:
        revision = current if rules.wants_current(set_, number) else update
        pod = rules.make_pod(rules.at_revision(set_, revision), number, revision.metadata.name or "")
        name = pod.metadata.name
        try:
            await self._make_claims(set_, pod, number)
            await self.client.create(pod)
        except errors.StatusError as error:
            if errors.is_already_exists(error) or namespace_terminating(error):
                return
            message = f"create Pod {name} in StatefulSet {set_.metadata.name} failed error: {error}"
            self.recorder.event(set_, WARNING, "FailedCreate", message)
            raise
        message = f"create Pod {name} in StatefulSet {set_.metadata.name} successful"
        self.recorder.event(set_, NORMAL, "SuccessfulCreate", message)

    async def _make_claims(self, set_: apps_v1.StatefulSet, pod: core_v1.Pod, number: int) -> None:
        for claim in rules.claims(set_, number).values():
            if self._claims.get(key_of(claim)) is not None:
                continue
            claim.metadata.owner_references = rules.claim_owners(set_, pod, [], condemned=False) or None
            name = claim.metadata.name
            about = f"Claim {name} Pod {pod.metadata.name} in StatefulSet {set_.metadata.name}"
            try:
                await self.client.create(claim)
            except errors.StatusError as error:
                if errors.is_already_exists(error):
                    continue
                if not namespace_terminating(error):
                    message = (
                        f"create Claim {name} for Pod {pod.metadata.name} in StatefulSet {set_.metadata.name} "
                        f"failed error: {error}"
                    )
                    self.recorder.event(set_, WARNING, "FailedCreate", message)
                raise
            self.recorder.event(set_, NORMAL, "SuccessfulCreate", f"create {about} success")

    async def _keep_claims(self, set_: apps_v1.StatefulSet, pod: core_v1.Pod, *, condemned: bool) -> None:
        """Bring the owners of the pod's claims in line with the retention policy."""
        number = rules.ordinal(set_, pod)
        for template in set_.spec.volume_claim_templates or ():
            claim = self._claims.lookup(rules.claim_name(template, set_, number or 0), set_.metadata.namespace)
            if claim is None:
                continue
            owners = rules.claim_owners(set_, pod, claim.metadata.owner_references or [], condemned=condemned)
            if {o.uid for o in owners} != {o.uid for o in claim.metadata.owner_references or ()}:
                changed = clone(claim)
                changed.metadata.owner_references = owners or None
                await self.client.update(changed)

    async def _delete(self, set_: apps_v1.StatefulSet, pod: core_v1.Pod) -> None:
        name = pod.metadata.name or ""
        about = f"delete Pod {name} in StatefulSet {set_.metadata.name}"
        try:
            await self.client.delete(core_v1.Pod, name, pod.metadata.namespace, uid=pod.metadata.uid)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return
            self.recorder.event(set_, WARNING, "FailedDelete", f"{about} failed error: {error}")
            raise
        if self._pods.get(key_of(pod)) is not None:
            self._doomed.add(pod.metadata.uid or "")
        self.recorder.event(set_, NORMAL, "SuccessfulDelete", f"{about} successful")

    async def _update_status(self, set_: apps_v1.StatefulSet, status: apps_v1.StatefulSetStatus) -> None:
        if status == set_.status:
            return
        changed = clone(set_)
        changed.status = status
        try:
            await self.client.update_status(changed)
        except errors.StatusError as error:
            # A conflict shows that the cache is behind: tried again, not at once, or it would never catch up.
            if not errors.is_not_found(error):
                raise
