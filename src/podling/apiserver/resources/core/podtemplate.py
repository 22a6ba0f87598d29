"""PodTemplates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.podspec import defaults, warnings
from podling.apiserver.resources.podspec import spec as podspec
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path


class PodTemplateStrategy(Strategy[core_v1.PodTemplate]):
    create_on_update = False
    columns = (
        printing.NAME,
        printing.text("Containers"),
        printing.text("Images"),
        printing.text("Pod Labels"),
    )

    def default(self, obj: core_v1.PodTemplate) -> None:
        defaults.template(obj.template)

    def validate(self, obj: core_v1.PodTemplate) -> Findings:
        return podspec.template(obj.template or core_v1.PodTemplateSpec(), Path("template"))

    def warnings(self, new: core_v1.PodTemplate, old: core_v1.PodTemplate | None) -> list[str]:
        return warnings.template(new.template, old.template if old else None, Path("template"))

    def row(self, obj: core_v1.PodTemplate, now: datetime) -> list[Any]:
        return [
            printing.name(obj.metadata),
            *printing.containers_and_images(obj.template),
            printing.labels(workloads.labels_of(obj.template)),
        ]
