"""The arithmetic of a Deployment: how many pods each of its ReplicaSets should have, and what to say of the progress.

All pure: ReplicaSets and a Deployment in, numbers and conditions out. The rules are upstream's deployment utilities,
to the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from podling.api import apps_v1, intstr, times
from podling.api.struct import clone
from podling.controllers.hashing import same_meaning

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
TEMPLATE_HASH = "pod-template-hash"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

#: Annotations of a Deployment that its ReplicaSets do not inherit.
NOT_INHERITED = {
    LAST_APPLIED,
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
}

#: The longest revision-history annotation, in characters.
HISTORY_LENGTH = 2000
MAX_INT32 = 2**31 - 1


def replicas(obj: apps_v1.Deployment | apps_v1.ReplicaSet) -> int:
    """spec.replicas, 1 if unset."""
    return obj.spec.replicas if obj.spec.replicas is not None else 1


def total(sets: Iterable[apps_v1.ReplicaSet]) -> int:
    """Pods asked for."""
    return sum(replicas(rs) for rs in sets)


def actual(sets: Iterable[apps_v1.ReplicaSet]) -> int:
    return sum(rs.status.replicas for rs in sets)


def available(sets: Iterable[apps_v1.ReplicaSet]) -> int:
    return sum(rs.status.available_replicas or 0 for rs in sets)


def is_rolling(d: apps_v1.Deployment) -> bool:
    return d.spec.strategy is None or d.spec.strategy.type in (None, "", "RollingUpdate")


def fenceposts(d: apps_v1.Deployment) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; never both 0, or nothing could move."""
    if not is_rolling(d):
        return 0, 0
    rolling = (d.spec.strategy.rolling_update if d.spec.strategy else None) or apps_v1.RollingUpdateDeployment()
    surge = intstr.scaled(rolling.max_surge if rolling.max_surge is not None else 0, replicas(d), True)
    unavailable = intstr.scaled(
        rolling.max_unavailable if rolling.max_unavailable is not None else 0, replicas(d), False
    )
    return surge, unavailable if surge or unavailable else 1


def max_surge(d: apps_v1.Deployment) -> int:
    return fenceposts(d)[0]


def max_unavailable(d: apps_v1.Deployment) -> int:
    if not is_rolling(d) or replicas(d) == 0:
        return 0
    return min(fenceposts(d)[1], replicas(d))


# Which ReplicaSet is which


def age(rs: apps_v1.ReplicaSet) -> tuple[str, str]:
    """Sorts oldest first."""
    return rs.metadata.creation_timestamp or "", rs.metadata.name or ""


def same_template(a: object, b: object) -> bool:
    """Whether two pod templates mean the same, but for the pod-template-hash label."""
    return same_meaning(_without_hash(a), _without_hash(b))


def _without_hash(template: object) -> object:
    labels = template.metadata.labels if template is not None and template.metadata else None  # type: ignore[attr-defined]
    if not labels or TEMPLATE_HASH not in labels:
        return template
    copy = clone(template)  # type: ignore[type-var]
    del copy.metadata.labels[TEMPLATE_HASH]  # type: ignore[attr-defined]
    return copy


def find_new(d: apps_v1.Deployment, sets: Iterable[apps_v1.ReplicaSet]) -> apps_v1.ReplicaSet | None:
    """The ReplicaSet of the Deployment's present template, the oldest if there are several."""
    return next((rs for rs in sorted(sets, key=age) if same_template(rs.spec.template, d.spec.template)), None)


def active(sets: Iterable[apps_v1.ReplicaSet]) -> list[apps_v1.ReplicaSet]:
    return [rs for rs in sets if replicas(rs) > 0]


def active_or_latest(new: apps_v1.ReplicaSet | None, old: list[apps_v1.ReplicaSet]) -> apps_v1.ReplicaSet | None:
    """The only active ReplicaSet, or the newest if none is; None if several are."""
    everyone = [*old, new] if new else old
    if not everyone:
        return None
    live = active(everyone)
    if not live:
        return new or max(old, key=age)
    return live[0] if len(live) == 1 else None


def revision(obj: apps_v1.Deployment | apps_v1.ReplicaSet) -> int:
    """The revision annotation; 0 if absent or not a number."""
    value = (obj.metadata.annotations or {}).get(REVISION, "0")
    try:
        return int(value)
    except ValueError:
        return 0


def _annotated(rs: apps_v1.ReplicaSet, name: str) -> int | None:
    try:
        return int((rs.metadata.annotations or {})[name])
    except (KeyError, ValueError):
        return None


def is_scaling_event(d: apps_v1.Deployment, sets: Iterable[apps_v1.ReplicaSet]) -> bool:
    """Whether spec.replicas has changed since the active ReplicaSets were last scaled."""
    return any(
        desired != replicas(d) for rs in active(sets) if (desired := _annotated(rs, DESIRED_REPLICAS)) is not None
    )


def is_saturated(d: apps_v1.Deployment, rs: apps_v1.ReplicaSet | None) -> bool:
    """Whether the new ReplicaSet has all the pods and they are available."""
    if rs is None:
        return False
    wanted = replicas(d)
    counts = (replicas(rs), _annotated(rs, DESIRED_REPLICAS), rs.status.available_replicas or 0)
    return counts == (wanted, wanted, wanted)


# Annotations


def set_replicas_annotations(rs: apps_v1.ReplicaSet, desired: int, most: int) -> bool:
    """Write down the sizes in force; whether that changed anything."""
    notes = rs.metadata.annotations = rs.metadata.annotations or {}
    wanted = {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(most)}
    if wanted.items() <= notes.items():
        return False
    notes.update(wanted)
    return True


def set_new_annotations(d: apps_v1.Deployment, rs: apps_v1.ReplicaSet, number: int, *, exists: bool) -> bool:
    """Bring the new ReplicaSet's annotations up to date; whether that changed anything.

    A ReplicaSet that becomes the new one again (an undo) gets a new revision number and remembers its old ones.
    """
    notes = rs.metadata.annotations = rs.metadata.annotations or {}
    changed = False
    for key, value in (d.metadata.annotations or {}).items():
        if key not in NOT_INHERITED and notes.get(key) != value:
            notes[key] = value
            changed = True
    before = notes.get(REVISION)
    if revision(rs) < number:
        notes[REVISION] = str(number)
        changed = True
        if before is not None:
            past = [r for r in notes.get(REVISION_HISTORY, "").split(",") if r]
            while past and len(",".join([*past, before])) > HISTORY_LENGTH:
                past.pop(0)
            notes[REVISION_HISTORY] = ",".join([*past, before])
    if not exists and set_replicas_annotations(rs, replicas(d), replicas(d) + max_surge(d)):
        changed = True
    return changed


# Sizes


def new_size(d: apps_v1.Deployment, sets: list[apps_v1.ReplicaSet], new: apps_v1.ReplicaSet) -> int:
    """What the new ReplicaSet may have now, surge considered; never less than it has."""
    if not is_rolling(d):
        return replicas(d)
    room = replicas(d) + max_surge(d) - total(sets)
    if room <= 0:
        return replicas(new)
    return replicas(new) + min(room, replicas(d) - replicas(new))


def scale_down_budget(d: apps_v1.Deployment, sets: list[apps_v1.ReplicaSet], new: apps_v1.ReplicaSet) -> int:
    """How many old pods may go, counting the new ones that are not available yet as already missing."""
    least = replicas(d) - max_unavailable(d)
    missing = replicas(new) - (new.status.available_replicas or 0)
    return total(sets) - least - missing


def unhealthy_first(old: list[apps_v1.ReplicaSet], budget: int) -> list[tuple[apps_v1.ReplicaSet, int]]:
    """Sizes that take pods which are not available from the old ReplicaSets, oldest first, within the budget."""
    sizes, taken = [], 0
    for rs in sorted(old, key=age):
        if taken >= budget:
            break
        unhealthy = replicas(rs) - (rs.status.available_replicas or 0)
        if replicas(rs) == 0 or unhealthy <= 0:
            continue
        count = min(budget - taken, unhealthy)
        sizes.append((rs, replicas(rs) - count))
        taken += count
    return sizes


def old_sizes(
    d: apps_v1.Deployment, sets: list[apps_v1.ReplicaSet], old: list[apps_v1.ReplicaSet]
) -> list[tuple[apps_v1.ReplicaSet, int]]:
    """Sizes that take available pods from the old ReplicaSets, oldest first, while enough stay available.

    What a ReplicaSet has beyond its size is as good as gone, though its status may not say so yet.
    """
    lasting = sum(min(rs.status.available_replicas or 0, replicas(rs)) for rs in sets)
    left = lasting - (replicas(d) - max_unavailable(d))
    sizes = []
    for rs in sorted(old, key=age):
        if left <= 0:
            break
        if replicas(rs) == 0:
            continue
        count = min(replicas(rs), left)
        sizes.append((rs, replicas(rs) - count))
        left -= count
    return sizes


def proportional_sizes(d: apps_v1.Deployment, sets: list[apps_v1.ReplicaSet]) -> list[tuple[apps_v1.ReplicaSet, int]]:
    """Sizes of all active ReplicaSets when a Deployment is scaled amid a rollout: each keeps its share.

    The largest takes what rounding leaves over; of equals the newest when growing, the oldest when shrinking.
    """
    live = active(sets)
    allowed = replicas(d) + max_surge(d) if replicas(d) > 0 else 0
    to_add = allowed - total(live)
    live = sorted(live, key=age, reverse=to_add > 0)
    live.sort(key=replicas, reverse=True)
    sizes: list[tuple[apps_v1.ReplicaSet, int]] = []
    added = 0
    for rs in live:
        share = _share(d, rs, to_add, added) if to_add else 0
        sizes.append((rs, replicas(rs) + share))
        added += share
    if sizes and to_add:
        first, size = sizes[0]
        sizes[0] = (first, max(0, size + to_add - added))
    return sizes


def _share(d: apps_v1.Deployment, rs: apps_v1.ReplicaSet, to_add: int, added: int) -> int:
    if replicas(rs) == 0 or to_add == added:
        return 0
    fraction, left = _fraction(d, rs), to_add - added
    return min(fraction, left) if to_add > 0 else max(fraction, left)


def _fraction(d: apps_v1.Deployment, rs: apps_v1.ReplicaSet) -> int:
    if replicas(d) == 0:
        return -replicas(rs)
    before = _annotated(rs, MAX_REPLICAS) or d.status.replicas or 0
    if not before:
        return 0
    size = replicas(rs) * (replicas(d) + max_surge(d)) / before
    return int(size + 0.5) - replicas(rs)


# Conditions


def condition(status: apps_v1.DeploymentStatus, type_: str) -> apps_v1.DeploymentCondition | None:
    return next((c for c in status.conditions or () if c.type == type_), None)


def make_condition(type_: str, status: str, reason: str, message: str, now: datetime) -> apps_v1.DeploymentCondition:
    stamp = times.format(now)
    return apps_v1.DeploymentCondition(
        type=type_, status=status, reason=reason, message=message, last_update_time=stamp, last_transition_time=stamp
    )


def set_condition(status: apps_v1.DeploymentStatus, new: apps_v1.DeploymentCondition) -> None:
    """Put in the condition, unless status and reason are the same already."""
    old = condition(status, new.type or "")
    if old is not None and old.status == new.status:
        if old.reason == new.reason:
            return
        new.last_transition_time = old.last_transition_time
    remove_condition(status, new.type or "")
    status.conditions = [*(status.conditions or ()), new]


def remove_condition(status: apps_v1.DeploymentStatus, type_: str) -> None:
    status.conditions = [c for c in status.conditions or () if c.type != type_] or None


def has_deadline(d: apps_v1.Deployment) -> bool:
    return d.spec.progress_deadline_seconds is not None and d.spec.progress_deadline_seconds != MAX_INT32


def is_complete(d: apps_v1.Deployment, status: apps_v1.DeploymentStatus) -> bool:
    """Whether all pods are of the new template and available, and no old one is left."""
    wanted = replicas(d)
    counts = (status.updated_replicas or 0, status.replicas or 0, status.available_replicas or 0)
    return counts == (wanted, wanted, wanted) and (status.observed_generation or 0) >= (d.metadata.generation or 0)


def is_progressing(d: apps_v1.Deployment, new: apps_v1.DeploymentStatus) -> bool:
    """Whether there are more new, fewer old, more ready or more available pods than when last looked."""
    old = d.status
    old_pods = (old.replicas or 0) - (old.updated_replicas or 0)
    new_pods = (new.replicas or 0) - (new.updated_replicas or 0)
    return (
        (new.updated_replicas or 0) > (old.updated_replicas or 0)
        or new_pods < old_pods
        or (new.ready_replicas or 0) > (old.ready_replicas or 0)
        or (new.available_replicas or 0) > (old.available_replicas or 0)
    )


def is_timed_out(d: apps_v1.Deployment, status: apps_v1.DeploymentStatus, now: datetime) -> bool:
    found = condition(status, "Progressing")
    if not has_deadline(d) or found is None or found.reason == "NewReplicaSetAvailable":
        return False
    if found.reason == "ProgressDeadlineExceeded":
        return True
    return seconds_to_deadline(d, found, now) < 0


def seconds_to_deadline(d: apps_v1.Deployment, progressing: apps_v1.DeploymentCondition, now: datetime) -> float:
    since = times.parse(progressing.last_update_time or "1970-01-01T00:00:00Z")
    return (times.after(since, d.spec.progress_deadline_seconds or 0) - now).total_seconds()


def status_of(
    d: apps_v1.Deployment, sets: list[apps_v1.ReplicaSet], new: apps_v1.ReplicaSet | None, now: datetime
) -> apps_v1.DeploymentStatus:
    """Counts and the condition Available; other conditions as they are."""
    ready_count = available(sets)
    terminating = [n for rs in sets if (n := rs.status.terminating_replicas) is not None]
    status = apps_v1.DeploymentStatus(
        observed_generation=d.metadata.generation,
        replicas=actual(sets) or None,
        updated_replicas=actual([new] if new else []) or None,
        ready_replicas=sum(rs.status.ready_replicas or 0 for rs in sets) or None,
        available_replicas=ready_count or None,
        unavailable_replicas=max(total(sets) - ready_count, 0) or None,
        terminating_replicas=sum(terminating) if terminating else None,
        collision_count=d.status.collision_count,
        conditions=list(d.status.conditions or ()) or None,
    )
    if ready_count >= replicas(d) - max_unavailable(d):
        found = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        found = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    set_condition(status, make_condition("Available", *found, now))
    return status


def rollout_status(
    d: apps_v1.Deployment, sets: list[apps_v1.ReplicaSet], new: apps_v1.ReplicaSet | None, now: datetime
) -> apps_v1.DeploymentStatus:
    """The whole status during and after a rollout, with Progressing and ReplicaFailure."""
    status = status_of(d, sets, new, now)
    if not has_deadline(d):
        remove_condition(status, "Progressing")
    current = condition(d.status, "Progressing")
    done = (
        (status.replicas or 0) == (status.updated_replicas or 0)
        and current is not None
        and current.reason == "NewReplicaSetAvailable"
    )
    if has_deadline(d) and not done:
        _set_progress(d, status, current, new, now)
    failures = [c for rs in sets for c in rs.status.conditions or () if c.type == "ReplicaFailure"]
    if new is not None:
        own = [c for c in new.status.conditions or () if c.type == "ReplicaFailure"]
        failures = own or failures
    if failures:
        worst = failures[0]
        set_condition(
            status,
            apps_v1.DeploymentCondition(
                type=worst.type,
                status=worst.status,
                reason=worst.reason,
                message=worst.message,
                last_transition_time=worst.last_transition_time,
                last_update_time=worst.last_transition_time,
            ),
        )
    else:
        remove_condition(status, "ReplicaFailure")
    return status


def _set_progress(
    d: apps_v1.Deployment,
    status: apps_v1.DeploymentStatus,
    current: apps_v1.DeploymentCondition | None,
    new: apps_v1.ReplicaSet | None,
    now: datetime,
) -> None:
    who = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{d.metadata.name}"'
    if is_complete(d, status):
        message = f"{who} has successfully progressed."
        set_condition(status, make_condition("Progressing", "True", "NewReplicaSetAvailable", message, now))
    elif is_progressing(d, status):
        found = make_condition("Progressing", "True", "ReplicaSetUpdated", f"{who} is progressing.", now)
        if current is not None:
            if current.status == "True":
                found.last_transition_time = current.last_transition_time
            # The time of the last progress is what the deadline counts from.
            remove_condition(status, "Progressing")
        set_condition(status, found)
    elif is_timed_out(d, status, now):
        message = f"{who} has timed out progressing."
        set_condition(status, make_condition("Progressing", "False", "ProgressDeadlineExceeded", message, now))
