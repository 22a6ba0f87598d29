"""Deployments: from one pod template to the next, without an outage, and back.

A Deployment owns ReplicaSets, one for each template it has had. It moves pods between them by changing their sizes;
what the sizes should be is decided in rollout.py. Pods are the ReplicaSets' matter.
"""

from __future__ import annotations

from podling import clock
from podling.api import apps_v1, core_v1, errors, selectors
from podling.api.meta_v1 import LabelSelector, ObjectMeta
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING
from podling.client.informer import CONTROLLER, controller_uid, key_of
from podling.controllers import pods as pod_rules
from podling.controllers import rollout
from podling.controllers.base import Context, Controller, NotYet, namespace_terminating
from podling.controllers.hashing import template_hash
from podling.controllers.references import Claim, controller_of, controller_reference, is_controlled_by

Sets = list[apps_v1.ReplicaSet]


class DeploymentController(Controller):
    """See the module."""

    name = "deployment-controller"
    component = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._deployments = self.watch(apps_v1.Deployment)
        self._sets = self.informer(apps_v1.ReplicaSet)
        self._sets.add_index(CONTROLLER, controller_uid)
        self._sets.add_handler(on_add=self._set_changed, on_update=self._set_updated, on_delete=self._set_changed)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(CONTROLLER, controller_uid)
        self._pods.add_handler(on_delete=self._pod_deleted)

    # Events

    def _owner(self, rs: apps_v1.ReplicaSet) -> apps_v1.Deployment | None:
        reference = controller_of(rs)
        if reference is None or reference.kind != "Deployment":
            return None
        d = self._deployments.lookup(reference.name, rs.metadata.namespace)
        return d if d is not None and d.metadata.uid == reference.uid else None

    def _set_changed(self, rs: apps_v1.ReplicaSet) -> None:
        if (d := self._owner(rs)) is not None:
            self.enqueue(d)
        elif controller_of(rs) is None and rs.metadata.labels:
            for d in self._deployments.list(rs.metadata.namespace or ""):
                selector = selectors.from_label_selector(d.spec.selector)
                if not selector.empty and selector.matches(rs.metadata.labels):
                    self.enqueue(d)

    def _set_updated(self, old: apps_v1.ReplicaSet, new: apps_v1.ReplicaSet) -> None:
        if (before := self._owner(old)) is not None and not is_controlled_by(new, before):
            self.enqueue(before)
        self._set_changed(new)

    def _pod_deleted(self, pod: core_v1.Pod) -> None:
        """Recreate waits for the last old pod to be gone."""
        reference = controller_of(pod)
        if reference is None or reference.kind != "ReplicaSet":
            return
        rs = self._sets.lookup(reference.name, pod.metadata.namespace)
        if rs is not None and (d := self._owner(rs)) is not None and not rollout.is_rolling(d):
            self.enqueue(d)

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        cached = self._deployments.get(key)
        if cached is None:
            return
        d = clone(cached)
        if d.spec.selector == LabelSelector():
            await self._refuse(d)
            return
        sets = await self._claimed(d)
        if d.metadata.deletion_timestamp is not None:
            await self._sync_status_only(d, sets)
            return
        d = await self._note_pause(d)
        if d.spec.paused or rollout.is_scaling_event(d, sets):
            await self._scale(d, sets)
        elif rollout.is_rolling(d):
            await self._roll(d, sets)
        else:
            await self._recreate(d, sets)

    async def _refuse(self, d: apps_v1.Deployment) -> None:
        message = "This deployment is selecting all pods. A non-empty selector is required."
        self.recorder.event(d, WARNING, "SelectingAll", message)
        if (d.status.observed_generation or 0) < (d.metadata.generation or 0):
            d.status.observed_generation = d.metadata.generation
            await self.client.update_status(d)

    async def _claimed(self, d: apps_v1.Deployment) -> Sets:
        selector = selectors.from_label_selector(d.spec.selector)
        mine = self._sets.by_index(CONTROLLER, d.metadata.uid or "")
        orphans = [
            rs
            for rs in self._sets.list(d.metadata.namespace or "")
            if controller_of(rs) is None and selector.matches(rs.metadata.labels or {})
        ]
        return await Claim(self.client, d, selector).claim([*mine, *orphans])

    async def _note_pause(self, d: apps_v1.Deployment) -> apps_v1.Deployment:
        """Say that it is paused or goes on again, so that the pause does not count against the deadline."""
        if not rollout.has_deadline(d):
            return d
        current = rollout.condition(d.status, "Progressing")
        reason = current.reason if current else None
        if reason == "ProgressDeadlineExceeded" or bool(d.spec.paused) == (reason == "DeploymentPaused"):
            return d
        if d.spec.paused:
            said = ("DeploymentPaused", "Deployment is paused")
        else:
            said = ("DeploymentResumed", "Deployment is resumed")
        rollout.set_condition(d.status, rollout.make_condition("Progressing", "Unknown", *said, clock.now()))
        return clone(await self.client.update_status(d))

    async def _sync_status_only(self, d: apps_v1.Deployment, sets: Sets) -> None:
        new, old = await self._split(d, sets, create=False)
        await self._sync_status(d, [*old, new] if new else old, new)

    async def _scale(self, d: apps_v1.Deployment, sets: Sets) -> None:
        """Paused, or spec.replicas changed: sizes only, no step of the rollout."""
        new, old = await self._split(d, sets, create=False)
        one = rollout.active_or_latest(new, old)
        if one is not None:
            sizes = [(one, rollout.replicas(d))]
        elif rollout.is_saturated(d, new):
            sizes = [(rs, 0) for rs in rollout.active(old)]
        elif rollout.is_rolling(d):
            sizes = rollout.proportional_sizes(d, [*old, new] if new else old)
        else:
            sizes = []
        # Sizes that stay are written too: the ReplicaSets note the size of the Deployment that they were made for.
        resized = {rs.metadata.uid: await self._resize(d, rs, size, always=one is None) for rs, size in sizes}
        old = [resized.get(rs.metadata.uid, rs) for rs in old]
        new = resized.get(new.metadata.uid, new) if new else None
        if d.spec.paused:
            await self._clean_up(d, old)
        await self._sync_status(d, [*old, new] if new else old, new)

    async def _roll(self, d: apps_v1.Deployment, sets: Sets) -> None:
        new, old = await self._split(d, sets, create=True)
        assert new is not None
        if await self._grow_new(d, new, old):
            await self._sync_rollout(d, new, old)
            return
        if await self._shrink_old(d, new, old):
            await self._sync_rollout(d, new, old)
            return
        if rollout.is_complete(d, d.status):
            await self._clean_up(d, old)
        await self._sync_rollout(d, new, old)

    async def _grow_new(self, d: apps_v1.Deployment, new: apps_v1.ReplicaSet, old: Sets) -> bool:
        have, wanted = rollout.replicas(new), rollout.replicas(d)
        if have == wanted:
            return False
        size = wanted if have > wanted else rollout.new_size(d, [*old, new], new)
        if size == have:
            return False
        await self._resize(d, new, size)
        return True

    async def _shrink_old(self, d: apps_v1.Deployment, new: apps_v1.ReplicaSet, old: Sets) -> bool:
        if rollout.total(old) == 0:
            return False
        budget = rollout.scale_down_budget(d, [*old, new], new)
        if budget <= 0:
            return False
        changed = False
        for rs, size in rollout.unhealthy_first(old, budget):
            updated = await self._resize(d, rs, size)
            old[old.index(rs)] = updated
            changed = True
        for rs, size in rollout.old_sizes(d, [*old, new], old):
            await self._resize(d, rs, size)
            changed = True
        return changed

    async def _recreate(self, d: apps_v1.Deployment, sets: Sets) -> None:
        new, old = await self._split(d, sets, create=False)
        live = rollout.active(old)
        if live:
            for rs in live:
                await self._resize(d, rs, 0)
            await self._sync_rollout(d, new, old)
            return
        if self._old_pods_run(new, old):
            await self._sync_rollout(d, new, old)
            return
        if new is None:
            new, old = await self._split(d, sets, create=True)
        assert new is not None
        if rollout.replicas(new) != rollout.replicas(d):
            await self._resize(d, new, rollout.replicas(d))
        if rollout.is_complete(d, d.status):
            await self._clean_up(d, old)
        await self._sync_rollout(d, new, old)

    def _old_pods_run(self, new: apps_v1.ReplicaSet | None, old: Sets) -> bool:
        if rollout.actual(old) > 0:
            return True
        pods = (p for rs in old for p in self._pods.by_index(CONTROLLER, rs.metadata.uid or ""))
        return any(not pod_rules.is_terminal(p) for p in pods)

    # ReplicaSets

    async def _split(
        self, d: apps_v1.Deployment, sets: Sets, *, create: bool
    ) -> tuple[apps_v1.ReplicaSet | None, Sets]:
        """(new, old), with the new one's revision and annotations up to date."""
        new = rollout.find_new(d, sets)
        old = [rs for rs in sets if new is None or rs.metadata.uid != new.metadata.uid]
        number = max((rollout.revision(rs) for rs in old), default=0) + 1
        if new is not None:
            return await self._renew(d, new, number), old
        return (await self._create_set(d, old, number), old) if create else (None, old)

    async def _renew(self, d: apps_v1.Deployment, found: apps_v1.ReplicaSet, number: int) -> apps_v1.ReplicaSet:
        new = clone(found)
        noted = rollout.set_new_annotations(d, new, number, exists=True)
        if noted or (new.spec.min_ready_seconds or 0) != (d.spec.min_ready_seconds or 0):
            new.spec.min_ready_seconds = d.spec.min_ready_seconds
            return await self.client.update(new)
        changed = self._set_revision(d, (new.metadata.annotations or {}).get(rollout.REVISION, "0"))
        if rollout.has_deadline(d) and rollout.condition(d.status, "Progressing") is None:
            message = f'Found new replica set "{new.metadata.name}"'
            found_it = rollout.make_condition("Progressing", "True", "FoundNewReplicaSet", message, clock.now())
            rollout.set_condition(d.status, found_it)
            changed = True
        if changed:
            await self._write_status(d)
        return found

    async def _create_set(self, d: apps_v1.Deployment, old: Sets, number: int) -> apps_v1.ReplicaSet:
        new = self._make_set(d)
        size = rollout.new_size(d, [*old, new], new)
        new.spec.replicas = size
        rollout.set_new_annotations(d, new, number, exists=False)
        try:
            made = await self.client.create(clone(new))
            existed = False
        except errors.StatusError as error:
            made = await self._after_failed_create(d, new, error)
            existed = True
        if not existed and size > 0:
            message = f"Scaled up replica set {made.metadata.name} from 0 to {size}"
            self.recorder.event(d, NORMAL, "ScalingReplicaSet", message)
        changed = self._set_revision(d, str(number))
        if not existed and rollout.has_deadline(d):
            message = f'Created new replica set "{made.metadata.name}"'
            said = rollout.make_condition("Progressing", "True", "NewReplicaSetCreated", message, clock.now())
            rollout.set_condition(d.status, said)
            changed = True
        if changed:
            await self._write_status(d)
        return made

    def _make_set(self, d: apps_v1.Deployment) -> apps_v1.ReplicaSet:
        template = clone(d.spec.template)
        hashed = template_hash(template, d.status.collision_count)
        template.metadata = template.metadata or ObjectMeta()
        template.metadata.labels = {**(template.metadata.labels or {}), rollout.TEMPLATE_HASH: hashed}
        selector = clone(d.spec.selector)
        selector.match_labels = {**(selector.match_labels or {}), rollout.TEMPLATE_HASH: hashed}
        return apps_v1.ReplicaSet(
            metadata=ObjectMeta(
                # The hash must fit: names of pods are made from this one.
                name=f"{(d.metadata.name or '')[: 252 - len(hashed)]}-{hashed}",
                namespace=d.metadata.namespace,
                labels=dict(template.metadata.labels),
                owner_references=[controller_reference(d)],
            ),
            spec=apps_v1.ReplicaSetSpec(
                replicas=0, min_ready_seconds=d.spec.min_ready_seconds, selector=selector, template=template
            ),
        )

    async def _after_failed_create(
        self, d: apps_v1.Deployment, new: apps_v1.ReplicaSet, error: errors.StatusError
    ) -> apps_v1.ReplicaSet:
        """The ReplicaSet that was there already (a stale cache), or an error; a collision of hashes is counted."""
        if errors.is_already_exists(error):
            there = await self.client.get(apps_v1.ReplicaSet, new.metadata.name or "", new.metadata.namespace)
            if is_controlled_by(there, d) and rollout.same_template(there.spec.template, d.spec.template):
                return there
            d.status.collision_count = (d.status.collision_count or 0) + 1
            await self._write_status(d)
            raise NotYet(f"replica set {new.metadata.name} exists and is another's: the hash is made anew")
        if namespace_terminating(error):
            raise error
        message = f'Failed to create new replica set "{new.metadata.name}": {error}'
        if rollout.has_deadline(d):
            said = rollout.make_condition("Progressing", "False", "ReplicaSetCreateError", message, clock.now())
            rollout.set_condition(d.status, said)
            await self._write_status(d)
        self.recorder.event(d, WARNING, "ReplicaSetCreateError", message)
        raise error

    def _set_revision(self, d: apps_v1.Deployment, number: str) -> bool:
        notes = d.metadata.annotations = d.metadata.annotations or {}
        if notes.get(rollout.REVISION) == number:
            return False
        notes[rollout.REVISION] = number
        return True

    async def _resize(
        self, d: apps_v1.Deployment, rs: apps_v1.ReplicaSet, size: int, *, always: bool = False
    ) -> apps_v1.ReplicaSet:
        """Give a ReplicaSet its size and the annotations that go with it; `always`: the annotations count alone too."""
        before = rollout.replicas(rs)
        changed = clone(rs)
        noted = rollout.set_replicas_annotations(
            changed, rollout.replicas(d), rollout.replicas(d) + rollout.max_surge(d)
        )
        if before == size and not (always and noted):
            return rs
        changed.spec.replicas = size
        updated = await self.client.update(changed)
        if before != size:
            verb = "up" if before < size else "down"
            message = f"Scaled {verb} replica set {rs.metadata.name} from {before} to {size}"
            self.recorder.event(d, NORMAL, "ScalingReplicaSet", message)
        return updated

    async def _clean_up(self, d: apps_v1.Deployment, old: Sets) -> None:
        """Delete the oldest ReplicaSets beyond the history limit that have no pods."""
        limit = d.spec.revision_history_limit
        if limit is None or limit == rollout.MAX_INT32:
            return
        alive = [rs for rs in old if rs.metadata.deletion_timestamp is None]
        surplus = len(alive) - limit
        for rs in sorted(alive, key=rollout.revision)[: max(surplus, 0)]:
            unseen = (rs.metadata.generation or 0) > (rs.status.observed_generation or 0)
            if rs.status.replicas or rollout.replicas(rs) or unseen:
                continue
            try:
                await self.client.delete(apps_v1.ReplicaSet, rs.metadata.name or "", rs.metadata.namespace)
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    raise

    # Status

    async def _sync_rollout(self, d: apps_v1.Deployment, new: apps_v1.ReplicaSet | None, old: Sets) -> None:
        sets = [*old, new] if new else old
        status = rollout.rollout_status(d, sets, new, clock.now())
        if status == d.status:
            self._await_deadline(d, status)
            return
        d.status = status
        await self.client.update_status(d)

    async def _sync_status(self, d: apps_v1.Deployment, sets: Sets, new: apps_v1.ReplicaSet | None) -> None:
        status = rollout.status_of(d, sets, new, clock.now())
        if status != d.status:
            d.status = status
            await self.client.update_status(d)

    async def _write_status(self, d: apps_v1.Deployment) -> None:
        """Write status and annotations, and go on from what the server made of them."""
        updated = await self.client.update_status(clone(d))
        d.metadata, d.status = clone(updated.metadata), clone(updated.status)

    def _await_deadline(self, d: apps_v1.Deployment, status: apps_v1.DeploymentStatus) -> None:
        """Come back when the deadline has passed: nothing else would tell."""
        current = rollout.condition(d.status, "Progressing")
        if not rollout.has_deadline(d) or current is None:
            return
        if rollout.is_complete(d, status) or current.reason == "ProgressDeadlineExceeded":
            return
        left = rollout.seconds_to_deadline(d, current, clock.now())
        if left < 1:
            self.queue.add_rate_limited(key_of(d))
        else:
            self.queue.add_after(key_of(d), left + 1)
