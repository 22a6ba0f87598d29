"""Deployments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import apps_v1
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.podspec import defaults, warnings
from podling.apiserver.resources.workloads import SPEC, STATUS
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, forbidden, immutable, invalid, nonnegative, not_supported


class DeploymentStrategy(Strategy[apps_v1.Deployment]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Ready"),
        printing.number("Up-to-date"),
        printing.number("Available"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        printing.SELECTOR,
    )

    def default(self, obj: apps_v1.Deployment) -> None:
        spec = obj.spec
        if spec.replicas is None:
            spec.replicas = 1
        if spec.strategy is None:
            spec.strategy = apps_v1.DeploymentStrategy()
        strategy = spec.strategy
        strategy.type = strategy.type or "RollingUpdate"
        if strategy.type == "RollingUpdate":
            if strategy.rolling_update is None:
                strategy.rolling_update = apps_v1.RollingUpdateDeployment()
            rolling = strategy.rolling_update
            if rolling.max_unavailable is None:
                rolling.max_unavailable = "25%"
            if rolling.max_surge is None:
                rolling.max_surge = "25%"
        if spec.revision_history_limit is None:
            spec.revision_history_limit = 10
        if spec.progress_deadline_seconds is None:
            spec.progress_deadline_seconds = 600
        defaults.template(spec.template)

    def prepare_create(self, obj: apps_v1.Deployment, context: Context) -> None:
        obj.status = apps_v1.DeploymentStatus()

    def validate(self, obj: apps_v1.Deployment) -> Findings:
        spec = obj.spec
        found = nonnegative(spec.replicas, SPEC.child("replicas"))
        found += workloads.selected_template(
            spec.selector,
            spec.template,
            no_deadline="activeDeadlineSeconds in ReplicaSet is not Supported",
        )
        found += _strategy(spec.strategy or apps_v1.DeploymentStrategy(), SPEC.child("strategy"))
        found += nonnegative(spec.min_ready_seconds, SPEC.child("minReadySeconds"))
        found += nonnegative(spec.revision_history_limit, SPEC.child("revisionHistoryLimit"))
        deadline = spec.progress_deadline_seconds
        if deadline is not None:
            at = SPEC.child("progressDeadlineSeconds")
            found += nonnegative(deadline, at)
            if deadline <= (spec.min_ready_seconds or 0):
                found.append(invalid(at, deadline, "must be greater than minReadySeconds"))
        return found

    def validate_update(self, new: apps_v1.Deployment, old: apps_v1.Deployment) -> Findings:
        return self.validate(new) + immutable(new.spec.selector, old.spec.selector, SPEC.child("selector"))

    def validate_status_update(self, new: apps_v1.Deployment, old: apps_v1.Deployment) -> Findings:
        status = new.status
        found = workloads.counts(
            {
                "observedGeneration": status.observed_generation,
                "replicas": status.replicas,
                "updatedReplicas": status.updated_replicas,
                "readyReplicas": status.ready_replicas,
                "availableReplicas": status.available_replicas,
                "unavailableReplicas": status.unavailable_replicas,
                "terminatingReplicas": status.terminating_replicas,
                "collisionCount": status.collision_count,
            }
        )
        values = {
            "updatedReplicas": status.updated_replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
        }
        found += workloads.at_most(values, status.replicas, "status.replicas")
        available = {"availableReplicas": status.available_replicas}
        found += workloads.at_most(available, status.ready_replicas, "readyReplicas", STATUS)
        return found + workloads.not_decremented(status.collision_count, old.status.collision_count)

    def warnings(self, new: apps_v1.Deployment, old: apps_v1.Deployment | None) -> list[str]:
        return warnings.template(new.spec.template, old.spec.template if old else None)

    def row(self, obj: apps_v1.Deployment, now: datetime) -> list[Any]:
        containers, images = printing.containers_and_images(obj.spec.template)
        status = obj.status
        return [
            printing.name(obj.metadata),
            f"{status.ready_replicas or 0}/{obj.spec.replicas or 0}",
            status.updated_replicas or 0,
            status.available_replicas or 0,
            printing.age(obj.metadata, now),
            containers,
            images,
            printing.label_selector(obj.spec.selector),
        ]


def _strategy(strategy: apps_v1.DeploymentStrategy, path: Path) -> Findings:
    rolling = strategy.rolling_update
    at = path.child("rollingUpdate")
    if strategy.type == "Recreate":
        if rolling is not None:
            return [forbidden(at, "may not be specified when strategy `type` is 'Recreate'")]
        return []
    if strategy.type != "RollingUpdate":
        return [not_supported(path.child("type"), strategy.type or "", ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return []
    found = workloads.int_or_percent(rolling.max_unavailable, at.child("maxUnavailable"))
    found += workloads.int_or_percent(rolling.max_surge, at.child("maxSurge"))
    if workloads.amount(rolling.max_unavailable) == 0 and workloads.amount(rolling.max_surge) == 0:
        detail = "may not be 0 when `maxSurge` is 0"
        found.append(invalid(at.child("maxUnavailable"), rolling.max_unavailable, detail))
    return found + workloads.at_most_all(rolling.max_unavailable, at.child("maxUnavailable"))
