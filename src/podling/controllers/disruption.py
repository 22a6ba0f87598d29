"""PodDisruptionBudgets: how many pods of an application may be taken away on purpose right now.

The eviction API spends what the status here allows. A pod that it has promised to delete counts as gone for two
minutes; if it still lives then, the promise was not kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from podling import clock
from podling.api import apps_v1, core_v1, errors, intstr, policy_v1, selectors, times
from podling.api.meta_v1 import Condition
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING
from podling.client.informer import key_of
from podling.controllers import pods as pod_rules
from podling.controllers.base import Context, Controller, ReconcileError
from podling.controllers.references import controller_of

#: Seconds that an evicted pod has to get its deletionTimestamp.
PROMISE = 120.0
#: Seconds after which DisruptionTarget on a pod that was not deleted is taken back.
STALE_TARGET = 120.0


class Expected(msgspec.Struct):
    """How many pods there should be, and how many of them must be healthy."""

    count: int
    healthy: int


def expected(budget: policy_v1.PodDisruptionBudget, pods: int, scale: int) -> Expected:
    """`pods` is how many there are, `scale` how many their owners want."""
    spec = budget.spec
    if spec.max_unavailable is not None:
        most = intstr.scaled(spec.max_unavailable, scale, True)
        return Expected(scale, max(0, scale - most))
    if spec.min_available is None:
        return Expected(pods, 0)
    if intstr.is_percent(spec.min_available):
        return Expected(scale, intstr.scaled(spec.min_available, scale, True))
    return Expected(pods, intstr.integer(spec.min_available))


def promises(
    budget: policy_v1.PodDisruptionBudget, pods: list[core_v1.Pod], now: datetime
) -> tuple[dict[str, str], list[core_v1.Pod], float | None]:
    """(promised deletions still open, pods of broken promises, seconds until the next is broken)."""
    kept: dict[str, str] = {}
    broken: list[core_v1.Pod] = []
    waits: list[float] = []
    given = budget.status.disrupted_pods or {}
    for pod in pods:
        since = given.get(pod.metadata.name or "")
        if since is None or pod.metadata.deletion_timestamp is not None:
            continue
        left = (times.after(times.parse(since), PROMISE) - now).total_seconds()
        if left <= 0:
            broken.append(pod)
        else:
            kept[pod.metadata.name or ""] = since
            waits.append(left)
    return kept, broken, min(waits, default=None)


def healthy(pods: list[core_v1.Pod], promised: dict[str, str]) -> int:
    """Ready, not on their way out and not promised away."""
    return sum(
        pod.metadata.deletion_timestamp is None
        and (pod.metadata.name or "") not in promised
        and pod_rules.is_ready(pod)
        for pod in pods
    )


def with_allowance(
    status: policy_v1.PodDisruptionBudgetStatus, generation: int | None, reason: str, message: str, now: datetime
) -> None:
    """Put in the condition DisruptionAllowed, as the number of allowed disruptions says."""
    allowed = bool(status.disruptions_allowed)
    reason = reason or ("SufficientPods" if allowed else "InsufficientPods")
    new = Condition(
        type="DisruptionAllowed",
        status="True" if allowed else "False",
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=times.format(now),
    )
    for old in status.conditions or ():
        if old.type == new.type and old.status == new.status:
            new.last_transition_time = old.last_transition_time
    status.conditions = [c for c in status.conditions or () if c.type != new.type] + [new]


class DisruptionController(Controller):
    """See the module. Keys are of budgets, and `pod/<key>` for pods with a stale DisruptionTarget."""

    name = "disruption-controller"
    component = "controllermanager"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._budgets = self.watch(policy_v1.PodDisruptionBudget)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_handler(on_add=self._pod_seen, on_update=self._pod_updated, on_delete=self._pod_seen)
        self._owners: dict[str, Any] = {
            "ReplicaSet": self.watch(apps_v1.ReplicaSet, self._owner_changed),
            "Deployment": self.watch(apps_v1.Deployment, self._owner_changed),
            "StatefulSet": self.watch(apps_v1.StatefulSet, self._owner_changed),
            "ReplicationController": self.watch(core_v1.ReplicationController, self._owner_changed),
        }
        self._sizes: dict[str, int | None] = {}

    # Events

    def _pod_seen(self, pod: core_v1.Pod) -> None:
        for budget in self._budgets.list(pod.metadata.namespace or ""):
            selector = selectors.from_label_selector(budget.spec.selector)
            if budget.spec.selector is not None and selector.matches(pod.metadata.labels or {}):
                self.enqueue(budget)
        wait = self._stale_in(pod)
        if wait is not None:
            self.queue.add_after(f"pod/{key_of(pod)}", max(wait, 0.0))

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        if old.metadata.labels != new.metadata.labels:
            self._pod_seen(old)
        self._pod_seen(new)

    def _owner_changed(self, owner: Any) -> None:
        """Only the wanted size matters here."""
        uid, size = owner.metadata.uid or "", owner.spec.replicas
        if self._sizes.get(uid, -1) == size:
            return
        self._sizes[uid] = size
        for budget in self._budgets.list(owner.metadata.namespace or ""):
            self.enqueue(budget)

    @staticmethod
    def _stale_in(pod: core_v1.Pod) -> float | None:
        """Seconds until the pod's DisruptionTarget is stale; None if it has none or is going indeed."""
        target = pod_rules.condition(pod, "DisruptionTarget")
        if target is None or target.status != "True" or not target.last_transition_time:
            return None
        if pod.metadata.deletion_timestamp is not None or pod_rules.is_terminal(pod):
            return None
        since = times.parse(target.last_transition_time)
        return STALE_TARGET - (clock.now() - since).total_seconds()

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        if key.startswith("pod/"):
            await self._take_back(key.removeprefix("pod/"))
            return
        budget = self._budgets.get(key)
        if budget is None:
            return
        try:
            await self._sync(key, budget)
        except ReconcileError as error:
            message = f"Failed to calculate the number of expected pods: {error}"
            self.recorder.event(budget, WARNING, "CalculateExpectedPodCountFailed", message)
            changed = clone(budget)
            changed.status.disruptions_allowed = 0
            changed.status.observed_generation = budget.metadata.generation
            with_allowance(changed.status, budget.metadata.generation, "SyncFailed", str(error), clock.now())
            await self._write(budget, changed)

    async def _sync(self, key: str, budget: policy_v1.PodDisruptionBudget) -> None:
        pods = self._selected(budget)
        if not pods:
            self.recorder.event(budget, NORMAL, "NoPods", "No matching pods found")
        scale, unmanaged = self._scale(budget, pods)
        if unmanaged and self._needs_scale(budget):
            shown = selectors.format_label_selector(budget.spec.selector)
            message = (
                f"Pods selected by this PodDisruptionBudget (selector: {shown}) were found to be unmanaged. As a "
                "result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "
                'To account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.'
            )
            self.recorder.event(budget, WARNING, "UnmanagedPods", message)
        now = clock.now()
        wanted = expected(budget, len(pods), scale)
        promised, broken, wait = promises(budget, pods, now)
        for pod in broken:
            message = f"Pod was expected by PDB {key} to be deleted but it wasn't"
            self.recorder.event(pod, WARNING, "NotDeleted", message)
        changed = clone(budget)
        status = changed.status
        status.current_healthy = healthy(pods, promised)
        status.desired_healthy = wanted.healthy
        status.expected_pods = wanted.count
        status.disrupted_pods = promised or None
        status.disruptions_allowed = max(0, status.current_healthy - wanted.healthy) if wanted.count > 0 else 0
        status.observed_generation = budget.metadata.generation
        with_allowance(status, budget.metadata.generation, "", "", now)
        await self._write(budget, changed)
        if wait is not None:
            self.queue.add_after(key, wait)

    def _selected(self, budget: policy_v1.PodDisruptionBudget) -> list[core_v1.Pod]:
        if budget.spec.selector is None:
            return []
        selector = selectors.from_label_selector(budget.spec.selector)
        namespace = budget.metadata.namespace or ""
        return [p for p in self._pods.list(namespace) if selector.matches(p.metadata.labels or {})]

    @staticmethod
    def _needs_scale(budget: policy_v1.PodDisruptionBudget) -> bool:
        least = budget.spec.min_available
        return budget.spec.max_unavailable is not None or (least is not None and intstr.is_percent(least))

    def _scale(self, budget: policy_v1.PodDisruptionBudget, pods: list[core_v1.Pod]) -> tuple[int, bool]:
        """(how many pods their owners want, whether some have no owner)."""
        if not self._needs_scale(budget):
            return 0, False
        sizes: dict[str, int] = {}
        unmanaged = False
        for pod in pods:
            owner = self._top_owner(pod)
            if owner is None:
                unmanaged = True
            else:
                sizes[owner.metadata.uid or ""] = owner.spec.replicas if owner.spec.replicas is not None else 1
        return sum(sizes.values()), unmanaged

    def _top_owner(self, pod: core_v1.Pod) -> Any | None:
        """What scales the pod: its controller, or the Deployment behind its ReplicaSet. Raises ReconcileError."""
        reference = controller_of(pod)
        if reference is None:
            return None
        informer = self._owners.get(reference.kind)
        if informer is None:
            raise ReconcileError(
                f"{reference.kind.lower()}s.{reference.api_version.rpartition('/')[0]} does not implement the scale "
                "subresource"
            )
        owner = informer.lookup(reference.name, pod.metadata.namespace)
        if owner is None or owner.metadata.uid != reference.uid:
            return None
        above = controller_of(owner)
        if above is not None and above.kind == "Deployment":
            d = self._owners["Deployment"].lookup(above.name, pod.metadata.namespace)
            if d is not None and d.metadata.uid == above.uid:
                return d
        return owner

    async def _write(self, old: policy_v1.PodDisruptionBudget, new: policy_v1.PodDisruptionBudget) -> None:
        if new.status == old.status:
            return
        try:
            await self.client.update_status(new)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _take_back(self, key: str) -> None:
        """Nobody deleted the pod: it is no longer a target."""
        pod = self._pods.get(key)
        wait = self._stale_in(pod) if pod is not None else None
        if pod is None or wait is None:
            return
        if wait > 0:
            self.queue.add_after(f"pod/{key}", wait)
            return
        condition = core_v1.PodCondition(type="DisruptionTarget", status="False")
        changed = pod_rules.with_condition(pod, condition, clock.now())
        if changed is not None:
            await self.client.update_status(changed)
