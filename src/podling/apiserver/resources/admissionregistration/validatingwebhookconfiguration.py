"""ValidatingWebhookConfigurations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import admissionregistration_v1 as v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.admissionregistration import webhooks
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings


class ValidatingWebhookConfigurationStrategy(Strategy[v1.ValidatingWebhookConfiguration]):
    unconditional_update = False
    columns = (printing.NAME, printing.number("Webhooks"), printing.AGE)

    def default(self, obj: v1.ValidatingWebhookConfiguration) -> None:
        for hook in obj.webhooks or ():
            webhooks.default_webhook(hook)

    def validate(self, obj: v1.ValidatingWebhookConfiguration) -> Findings:
        return webhooks.webhooks(obj.webhooks)

    def validate_update(
        self, new: v1.ValidatingWebhookConfiguration, old: v1.ValidatingWebhookConfiguration
    ) -> Findings:
        return webhooks.webhooks(new.webhooks, old.webhooks or ())

    def row(self, obj: v1.ValidatingWebhookConfiguration, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), len(obj.webhooks or ()), printing.age(obj.metadata, now)]
