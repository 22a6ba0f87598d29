"""StatefulSets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import apps_v1, names
from podling.api.struct import clone
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.podspec import defaults, warnings
from podling.apiserver.resources.workloads import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    forbidden,
    invalid,
    nonnegative,
    not_supported,
    required,
)

_MUTABLE = (
    "'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds'"
)


class StatefulSetStrategy(Strategy[apps_v1.StatefulSet]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Ready"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
    )

    def default(self, obj: apps_v1.StatefulSet) -> None:
        spec = obj.spec
        spec.pod_management_policy = spec.pod_management_policy or "OrderedReady"
        if spec.update_strategy is None:
            spec.update_strategy = apps_v1.StatefulSetUpdateStrategy()
        strategy = spec.update_strategy
        if not strategy.type:
            strategy.type = "RollingUpdate"
            if strategy.rolling_update is None:
                strategy.rolling_update = apps_v1.RollingUpdateStatefulSetStrategy(partition=0)
        if strategy.type == "RollingUpdate" and strategy.rolling_update is not None:
            strategy.rolling_update.partition = strategy.rolling_update.partition or 0
        if spec.persistent_volume_claim_retention_policy is None:
            spec.persistent_volume_claim_retention_policy = apps_v1.StatefulSetPersistentVolumeClaimRetentionPolicy()
        retention = spec.persistent_volume_claim_retention_policy
        retention.when_deleted = retention.when_deleted or "Retain"
        retention.when_scaled = retention.when_scaled or "Retain"
        if spec.replicas is None:
            spec.replicas = 1
        if spec.revision_history_limit is None:
            spec.revision_history_limit = 10
        for claim in spec.volume_claim_templates or ():
            claim.spec.volume_mode = claim.spec.volume_mode or "Filesystem"
            claim.status.phase = claim.status.phase or "Pending"
        defaults.template(spec.template)

    def prepare_create(self, obj: apps_v1.StatefulSet, context: Context) -> None:
        obj.status = apps_v1.StatefulSetStatus()

    def validate(self, obj: apps_v1.StatefulSet) -> Findings:
        spec = obj.spec
        found: Findings = []
        policies = ("OrderedReady", "Parallel")
        if spec.pod_management_policy not in policies:
            at = SPEC.child("podManagementPolicy")
            found.append(invalid(at, spec.pod_management_policy or "", "must be 'OrderedReady' or 'Parallel'"))
        found += _update_strategy(spec.update_strategy, SPEC.child("updateStrategy"))
        retention = spec.persistent_volume_claim_retention_policy
        at = SPEC.child("persistentVolumeClaimRetentionPolicy")
        for name, value in (
            ("whenDeleted", retention.when_deleted if retention else None),
            ("whenScaled", retention.when_scaled if retention else None),
        ):
            if value is not None and value not in ("Delete", "Retain"):
                found.append(not_supported(at.child(name), value, ("Retain", "Delete")))
        found += nonnegative(spec.replicas, SPEC.child("replicas"))
        found += nonnegative(spec.min_ready_seconds, SPEC.child("minReadySeconds"))
        if spec.ordinals is not None:
            found += nonnegative(spec.ordinals.start, SPEC.child("ordinals.start"))
        no_deadline = "activeDeadlineSeconds in StatefulSet is not Supported"
        template = _with_claims(spec)
        found += workloads.selected_template(spec.selector, template, no_deadline=no_deadline)
        return found + nonnegative(spec.revision_history_limit, SPEC.child("revisionHistoryLimit"))

    def validate_update(self, new: apps_v1.StatefulSet, old: apps_v1.StatefulSet) -> Findings:
        found = self.validate(new)
        changed = clone(new.spec)
        for field in (
            "replicas",
            "ordinals",
            "template",
            "update_strategy",
            "revision_history_limit",
            "persistent_volume_claim_retention_policy",
            "min_ready_seconds",
        ):
            setattr(changed, field, getattr(old.spec, field))
        if changed != old.spec:
            detail = f"updates to statefulset spec for fields other than {_MUTABLE} are forbidden"
            found.append(forbidden(SPEC, detail))
        return found

    def validate_status_update(self, new: apps_v1.StatefulSet, old: apps_v1.StatefulSet) -> Findings:
        status = new.status
        parts = {
            "readyReplicas": status.ready_replicas,
            "currentReplicas": status.current_replicas,
            "updatedReplicas": status.updated_replicas,
            "availableReplicas": status.available_replicas,
        }
        found = workloads.counts(
            {
                "replicas": status.replicas,
                **parts,
                "observedGeneration": status.observed_generation,
                "collisionCount": status.collision_count,
            }
        )
        found += workloads.at_most(parts, status.replicas, "status.replicas")
        available = {"availableReplicas": status.available_replicas}
        found += workloads.at_most(available, status.ready_replicas, "status.readyReplicas")
        return found + workloads.not_decremented(status.collision_count, old.status.collision_count)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.dns_label(name, prefix=prefix)

    def warnings(self, new: apps_v1.StatefulSet, old: apps_v1.StatefulSet | None) -> list[str]:
        return warnings.template(new.spec.template, old.spec.template if old else None)

    def row(self, obj: apps_v1.StatefulSet, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            f"{obj.status.ready_replicas or 0}/{obj.spec.replicas or 0}",
            printing.age(obj.metadata, now),
            *printing.containers_and_images(obj.spec.template),
        ]


def _with_claims(spec: apps_v1.StatefulSetSpec) -> Any:
    """The template as its pods will be: with a volume for each claim template."""
    from podling.api import core_v1

    claims = [c.metadata.name or "" for c in spec.volume_claim_templates or ()]
    if not claims or spec.template.spec is None:
        return spec.template
    template = clone(spec.template)
    assert template.spec is not None
    own = [v for v in template.spec.volumes or () if v.name not in claims]
    source = core_v1.PersistentVolumeClaimVolumeSource
    template.spec.volumes = [
        *own,
        *(core_v1.Volume(name=name, persistent_volume_claim=source(claim_name=name)) for name in claims),
    ]
    return template


def _update_strategy(strategy: apps_v1.StatefulSetUpdateStrategy | None, path: Path) -> Findings:
    kind = strategy.type if strategy else None
    if strategy is None or not kind:
        return [required(path)]
    rolling = strategy.rolling_update
    at = path.child("rollingUpdate")
    if kind == "OnDelete":
        if rolling is not None:
            return [invalid(at, rolling, "only allowed for updateStrategy 'RollingUpdate'")]
        return []
    if kind != "RollingUpdate":
        return [invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    if rolling is None:
        return []
    found = nonnegative(rolling.partition, at.child("partition"))
    if rolling.max_unavailable is not None:
        found += workloads.int_or_percent(rolling.max_unavailable, at.child("maxUnavailable"))
        if workloads.amount(rolling.max_unavailable) == 0:
            found.append(invalid(at.child("maxUnavailable"), rolling.max_unavailable, "cannot be 0"))
        found += workloads.at_most_all(rolling.max_unavailable, at.child("maxUnavailable"))
    return found
