"""ReplicationControllers, the predecessors of ReplicaSets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, selectors
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.podspec import defaults, warnings
from podling.apiserver.resources.workloads import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, nonnegative, required


class ReplicationControllerStrategy(Strategy[core_v1.ReplicationController]):
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

    def default(self, obj: core_v1.ReplicationController) -> None:
        spec = obj.spec
        labels = workloads.labels_of(spec.template)
        if labels:
            spec.selector = spec.selector or dict(labels)
            obj.metadata.labels = obj.metadata.labels or dict(labels)
        if spec.replicas is None:
            spec.replicas = 1
        defaults.template(spec.template)

    def prepare_create(self, obj: core_v1.ReplicationController, context: Context) -> None:
        obj.status = core_v1.ReplicationControllerStatus()

    def validate(self, obj: core_v1.ReplicationController) -> Findings:
        spec = obj.spec
        found = nonnegative(spec.min_ready_seconds, SPEC.child("minReadySeconds"))
        if not spec.selector:
            found.append(required(SPEC.child("selector")))
        found += nonnegative(spec.replicas, SPEC.child("replicas"))
        at = SPEC.child("template")
        if spec.template is None:
            return [*found, required(at)]
        no_deadline = "activeDeadlineSeconds in ReplicationController is not Supported"
        selector = selectors.from_set(spec.selector)
        return found + workloads.pod_template(spec.template, selector, no_deadline=no_deadline, path=at)

    def validate_status_update(
        self, new: core_v1.ReplicationController, old: core_v1.ReplicationController
    ) -> Findings:
        status = new.status
        parts = {
            "fullyLabeledReplicas": status.fully_labeled_replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
        }
        found = workloads.counts(
            {"replicas": status.replicas, **parts, "observedGeneration": status.observed_generation}
        )
        return found + workloads.at_most(parts, status.replicas, "status.replicas")

    def fields(self, obj: core_v1.ReplicationController) -> dict[str, str]:
        return {"status.replicas": str(obj.status.replicas)}

    def warnings(self, new: core_v1.ReplicationController, old: core_v1.ReplicationController | None) -> list[str]:
        return warnings.template(new.spec.template, old.spec.template if old else None)

    def row(self, obj: core_v1.ReplicationController, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            obj.spec.replicas or 0,
            obj.status.replicas,
            obj.status.ready_replicas or 0,
            printing.age(obj.metadata, now),
            *printing.containers_and_images(obj.spec.template),
            printing.labels(obj.spec.selector),
        ]
