"""POST pods/<name>/eviction: a deletion that disruption budgets have a say in.

The rules are those of the Kubernetes page "API-initiated Eviction" and of a budget's unhealthyPodEvictionPolicy.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, errors, meta_v1, policy_v1, selectors, times
from podling.api.errors import StatusError
from podling.api.struct import clone
from podling.apiserver import body
from podling.apiserver.admission.base import CREATE, Attributes
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call, check_dry_run
from podling.apiserver.codec import StructCodec
from podling.apiserver.entry import Entry
from podling.apiserver.handlers.delete import check_preconditions, delete_one
from podling.apiserver.handlers.pods import set_condition, success
from podling.apiserver.handlers.write import ATTEMPTS, MODIFIED, write
from podling.store.base import Conflict

_EVICTION = StructCodec(policy_v1.Eviction, "policy/v1")
_MAX_DISRUPTED = 2000


async def evict(call: Call) -> Answer:
    """201 if the pod is on its way out, 429 if a budget forbids it now."""
    eviction: policy_v1.Eviction = body.read_object(call, _EVICTION, "Eviction", "policy/v1")
    name = call.info.name
    if eviction.metadata is not None and eviction.metadata.name and eviction.metadata.name != name:
        raise errors.bad_request("name in URL does not match name in Eviction object")
    options = eviction.delete_options or meta_v1.DeleteOptions()
    dry_run = check_dry_run(options.dry_run or [], "DeleteOptions") or call.context().dry_run
    attributes = Attributes(
        CREATE, call.served.resource, "eviction", call.info.namespace, name, eviction, None, call.user, dry_run,
        call.warnings, kind="Eviction",
    )  # fmt: skip
    await call.app.admission.mutate(attributes)
    await call.app.admission.validate(attributes)
    await call.app.hub.current()
    if dry_run:
        options.dry_run = ["All"]
    paid: set[str] = set()
    for _ in range(ATTEMPTS):
        try:
            await _attempt(call, options, dry_run, paid)
        except Conflict:
            await call.app.hub.current()
            continue
        return Answer(status=201, obj=success())
    raise errors.conflict("pods", "", name, MODIFIED)


async def _attempt(call: Call, options: meta_v1.DeleteOptions, dry_run: bool, paid: set[str]) -> None:
    """One try; `paid` keeps the pod's uid once a budget was charged for it, so that a lost race costs nothing more."""
    namespace, name = call.info.namespace, call.info.name
    entry = call.served.cache.get(f"{namespace}/{name}")
    if entry is None:
        raise errors.not_found("pods", "", name)
    pod: core_v1.Pod = entry.object
    uid = pod.metadata.uid or ""
    check_preconditions(call, pod, options)
    if uid not in paid and not _needs_no_budget(pod):
        budgets = _budgets_of(call, pod)
        if len(budgets) > 1:
            raise errors.internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        if budgets and not _may_ignore(pod, budgets[0].object):
            await _take_from_budget(call, budgets[0], name, dry_run)
            paid.add(uid)
    if not dry_run:
        if options.preconditions is not None:
            # The version was looked at; what follows makes another one.
            options.preconditions = meta_v1.Preconditions(uid=uid)
        await _say_why(call, entry)
        await call.app.hub.current()
    await delete_one(call, name, namespace, options)


def _needs_no_budget(pod: core_v1.Pod) -> bool:
    """Pods that are over, or have not begun."""
    phase = pod.status.phase if pod.status is not None else None
    return phase in ("Succeeded", "Failed", "Pending") or bool(pod.metadata.deletion_timestamp)


def _budgets_of(call: Call, pod: core_v1.Pod) -> list[Entry]:
    served = call.app.served.get(("policy", "v1", "poddisruptionbudgets"))
    if served is None:
        return []
    found = []
    for entry in served.cache.in_namespace(call.info.namespace):
        spec = entry.object.spec
        selector = selectors.from_label_selector(spec.selector if spec is not None else None)
        if selector.matches(pod.metadata.labels):
            found.append(entry)
    return found


def ready(pod: core_v1.Pod) -> bool:
    """The pod's Ready condition."""
    conditions = (pod.status.conditions if pod.status is not None else None) or []
    return any(c.type == "Ready" and c.status == "True" for c in conditions)


def _may_ignore(pod: core_v1.Pod, budget: policy_v1.PodDisruptionBudget) -> bool:
    """An unhealthy pod: always, or as long as the budget is met without it."""
    if ready(pod):
        return False
    policy = budget.spec.unhealthy_pod_eviction_policy if budget.spec is not None else None
    if policy == "AlwaysAllow":
        return True
    status = budget.status
    return status is not None and (status.current_healthy or 0) >= (status.desired_healthy or 0) > 0


async def _take_from_budget(call: Call, entry: Entry, name: str, dry_run: bool) -> None:
    """Use one of the budget's disruptions. StatusError 403 or 429."""
    context = call.context()
    budget = charged(entry.object, name, context.now)
    if dry_run:
        return
    served = call.app.served["policy", "v1", "poddisruptionbudgets"]
    budget.metadata.resource_version = None
    await write(call, served.prefix + entry.key, served.stored_codec.encode(budget), budget, entry.revision)


def charged(old: policy_v1.PodDisruptionBudget, pod: str, now: datetime) -> policy_v1.PodDisruptionBudget:
    """The budget after the eviction of `pod`. StatusError 403 or 429 if it does not allow it."""
    name = old.metadata.name or ""
    status = old.status or policy_v1.PodDisruptionBudgetStatus()
    if (status.observed_generation or 0) < (old.metadata.generation or 0):
        why = f"The disruption budget {name} is still being processed by the server."
        raise _too_many("Cannot evict pod as it would violate the pod's disruption budget.", why, 10)
    allowed = status.disruptions_allowed or 0
    if allowed < 0:
        raise errors.forbidden("poddisruptionbudgets", "policy", name, "pdb disruptions allowed is negative")
    if len(status.disrupted_pods or {}) > _MAX_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise errors.forbidden("poddisruptionbudgets", "policy", name, why)
    if allowed == 0:
        why = (
            f"The disruption budget {name} needs {status.desired_healthy or 0} healthy pods and has "
            f"{status.current_healthy or 0} currently"
        )
        raise _too_many("Cannot evict pod as it would violate the pod's disruption budget.", why, 0)
    new = clone(old)
    assert new.status is not None
    new.status.disruptions_allowed = allowed - 1
    if allowed == 1:
        _set_insufficient(new, times.format(now))
    new.status.disrupted_pods = {**(new.status.disrupted_pods or {}), pod: times.format(now)}
    return new


def _set_insufficient(budget: policy_v1.PodDisruptionBudget, now: str) -> None:
    assert budget.status is not None
    conditions = budget.status.conditions = list(budget.status.conditions or [])
    new = meta_v1.Condition(
        type="DisruptionAllowed",
        status="False",
        reason="InsufficientPods",
        observed_generation=budget.status.observed_generation,
        last_transition_time=now,
    )
    for index, existing in enumerate(conditions):
        if existing.type == new.type:
            if existing.status == new.status:
                new.last_transition_time = existing.last_transition_time
            conditions[index] = new
            return
    conditions.append(new)


def _too_many(message: str, why: str, seconds: int) -> StatusError:
    error = errors.too_many_requests(message, seconds)
    details = error.status.details or meta_v1.StatusDetails()
    details.causes = [meta_v1.StatusCause(reason="DisruptionBudget", message=why)]
    error.status.details = details
    return error


async def _say_why(call: Call, entry: Entry) -> None:
    """The pod's status says that it is being evicted."""
    served = call.served
    pod: Any = clone(entry.object)
    if pod.metadata.deletion_timestamp:
        return
    status = pod.status = pod.status or core_v1.PodStatus()
    condition = core_v1.PodCondition(
        type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI", message="Eviction API: evicting"
    )
    if pod.metadata.generation:
        condition.observed_generation = pod.metadata.generation
    set_condition(status, condition, times.format(call.app.now()))
    pod.metadata.resource_version = None
    await write(call, served.prefix + entry.key, served.stored_codec.encode(pod), pod, entry.revision)
