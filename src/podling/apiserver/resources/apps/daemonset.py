"""DaemonSets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import apps_v1
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.podspec import defaults, warnings
from podling.apiserver.resources.workloads import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    immutable,
    invalid,
    nonnegative,
    not_supported,
    required,
)


class DaemonSetStrategy(Strategy[apps_v1.DaemonSet]):
    has_status = True
    columns = (
        printing.NAME,
        printing.number("Desired"),
        printing.number("Current"),
        printing.number("Ready"),
        printing.number("Up-to-date"),
        printing.number("Available"),
        printing.text("Node Selector"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        printing.SELECTOR,
    )

    def default(self, obj: apps_v1.DaemonSet) -> None:
        spec = obj.spec
        if spec.update_strategy is None:
            spec.update_strategy = apps_v1.DaemonSetUpdateStrategy()
        strategy = spec.update_strategy
        strategy.type = strategy.type or "RollingUpdate"
        if strategy.type == "RollingUpdate":
            if strategy.rolling_update is None:
                strategy.rolling_update = apps_v1.RollingUpdateDaemonSet()
            if strategy.rolling_update.max_unavailable is None:
                strategy.rolling_update.max_unavailable = 1
            if strategy.rolling_update.max_surge is None:
                strategy.rolling_update.max_surge = 0
        if spec.revision_history_limit is None:
            spec.revision_history_limit = 10
        defaults.template(spec.template)

    def prepare_create(self, obj: apps_v1.DaemonSet, context: Context) -> None:
        obj.status = apps_v1.DaemonSetStatus()

    def validate(self, obj: apps_v1.DaemonSet) -> Findings:
        spec = obj.spec
        found = workloads.selected_template(
            spec.selector,
            spec.template,
            no_deadline="activeDeadlineSeconds in DaemonSet is not Supported",
        )
        found += nonnegative(spec.min_ready_seconds, SPEC.child("minReadySeconds"))
        found += _update_strategy(spec.update_strategy, SPEC.child("updateStrategy"))
        return found + nonnegative(spec.revision_history_limit, SPEC.child("revisionHistoryLimit"))

    def validate_update(self, new: apps_v1.DaemonSet, old: apps_v1.DaemonSet) -> Findings:
        return self.validate(new) + immutable(new.spec.selector, old.spec.selector, SPEC.child("selector"))

    def validate_status_update(self, new: apps_v1.DaemonSet, old: apps_v1.DaemonSet) -> Findings:
        status = new.status
        found = workloads.counts(
            {
                "currentNumberScheduled": status.current_number_scheduled,
                "numberMisscheduled": status.number_misscheduled,
                "desiredNumberScheduled": status.desired_number_scheduled,
                "numberReady": status.number_ready,
                "observedGeneration": status.observed_generation,
                "updatedNumberScheduled": status.updated_number_scheduled,
                "numberAvailable": status.number_available,
                "numberUnavailable": status.number_unavailable,
                "collisionCount": status.collision_count,
            }
        )
        return found + workloads.not_decremented(status.collision_count, old.status.collision_count)

    def warnings(self, new: apps_v1.DaemonSet, old: apps_v1.DaemonSet | None) -> list[str]:
        return warnings.template(new.spec.template, old.spec.template if old else None)

    def row(self, obj: apps_v1.DaemonSet, now: datetime) -> list[Any]:
        status = obj.status
        pod = obj.spec.template.spec
        return [
            printing.name(obj.metadata),
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_ready,
            status.updated_number_scheduled or 0,
            status.number_available or 0,
            printing.labels(pod.node_selector if pod else None),
            printing.age(obj.metadata, now),
            *printing.containers_and_images(obj.spec.template),
            printing.label_selector(obj.spec.selector),
        ]


def _update_strategy(strategy: apps_v1.DaemonSetUpdateStrategy | None, path: Path) -> Findings:
    if strategy is None or strategy.type == "OnDelete":
        return []
    if strategy.type != "RollingUpdate":
        return [not_supported(path, strategy, ("RollingUpdate", "OnDelete"))]
    rolling = strategy.rolling_update
    at = path.child("rollingUpdate")
    if rolling is None:
        return [required(at)]
    found: Findings = []
    for name, value in (("maxUnavailable", rolling.max_unavailable), ("maxSurge", rolling.max_surge)):
        found += workloads.int_or_percent(value, at.child(name))
        found += workloads.at_most_all(value, at.child(name))
    unavailable, surge = workloads.amount(rolling.max_unavailable), workloads.amount(rolling.max_surge)
    if unavailable and surge:
        detail = "may not be set when maxUnavailable is non-zero"
        found.append(invalid(at.child("maxSurge"), rolling.max_surge, detail))
    elif not unavailable and not surge:
        detail = "cannot be 0 when maxSurge is 0"
        found.append(invalid(at.child("maxUnavailable"), rolling.max_unavailable, detail))
    return found
