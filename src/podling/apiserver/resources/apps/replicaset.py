"""ReplicaSets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import apps_v1
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.podspec import defaults, warnings
from podling.apiserver.resources.workloads import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, immutable, nonnegative


class ReplicaSetStrategy(Strategy[apps_v1.ReplicaSet]):
    has_status = True
    selectable_fields = ("status.replicas",)
    columns = (
        printing.NAME,
        printing.number("Desired"),
        printing.number("Current"),
        printing.number("Ready"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        printing.SELECTOR,
    )

    def default(self, obj: apps_v1.ReplicaSet) -> None:
        if obj.spec.replicas is None:
            obj.spec.replicas = 1
        defaults.template(obj.spec.template)

    def prepare_create(self, obj: apps_v1.ReplicaSet, context: Context) -> None:
        obj.status = apps_v1.ReplicaSetStatus()

    def validate(self, obj: apps_v1.ReplicaSet) -> Findings:
        spec = obj.spec
        found = nonnegative(spec.replicas, SPEC.child("replicas"))
        found += nonnegative(spec.min_ready_seconds, SPEC.child("minReadySeconds"))
        return found + workloads.selected_template(
            spec.selector,
            spec.template,
            no_deadline="activeDeadlineSeconds in ReplicaSet is not Supported",
        )

    def validate_update(self, new: apps_v1.ReplicaSet, old: apps_v1.ReplicaSet) -> Findings:
        return self.validate(new) + immutable(new.spec.selector, old.spec.selector, SPEC.child("selector"))

    def validate_status_update(self, new: apps_v1.ReplicaSet, old: apps_v1.ReplicaSet) -> Findings:
        status = new.status
        parts = {
            "fullyLabeledReplicas": status.fully_labeled_replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
        }
        found = workloads.counts(
            {
                "replicas": status.replicas,
                **parts,
                "observedGeneration": status.observed_generation,
                "terminatingReplicas": status.terminating_replicas,
            }
        )
        found += workloads.at_most(parts, status.replicas, "status.replicas")
        return found + workloads.at_most(
            {"availableReplicas": status.available_replicas}, status.ready_replicas, "readyReplicas"
        )

    def warnings(self, new: apps_v1.ReplicaSet, old: apps_v1.ReplicaSet | None) -> list[str]:
        return warnings.template(new.spec.template, old.spec.template if old else None)

    def fields(self, obj: apps_v1.ReplicaSet) -> dict[str, str]:
        return {"status.replicas": str(obj.status.replicas)}

    def row(self, obj: apps_v1.ReplicaSet, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            obj.spec.replicas or 0,
            obj.status.replicas,
            obj.status.ready_replicas or 0,
            printing.age(obj.metadata, now),
            *printing.containers_and_images(obj.spec.template),
            printing.label_selector(obj.spec.selector),
        ]
