"""What conversions by webhooks count."""

from __future__ import annotations

from typing import Any

from apiserver.crd.test_conversion import CustomServer, FakeWebhook, converting, widget
from podling.apiserver.admission.webhooks_client import CallFailure
from tests.unit.measured import grows

NAME = "apiserver_conversion_webhook_request_total"


@converting
async def test_conversions_by_result(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget(hostPort="a:1"))
    labels = {"crd_name": "widgets.example.com", "from_version": "v1", "to_version": "v2"}
    with (
        grows(NAME, result="success"),
        grows("apiserver_conversion_webhook_duration_seconds", result="success", failure_type=""),
        grows("apiserver_crd_conversion_webhook_duration_seconds", succeeded="true", **labels),
    ):
        await server.get(version="v2")
    await server.create(widget("x", hostPort="a:1"))
    webhook.failure = CallFailure("refused")
    with (
        grows(NAME, result="failure", failure_type="conversion_webhook_call_failure"),
        grows("apiserver_crd_conversion_webhook_duration_seconds", succeeded="false", **labels),
    ):
        await server.fails("GET", f"{server.path('v2')}/x")


@converting
async def test_answers_that_are_no_good(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget(hostPort="a:1"))

    def renamed(obj: dict[str, Any]) -> dict[str, Any]:
        return obj | {"metadata": obj["metadata"] | {"name": "another"}}

    webhook.change = renamed
    with grows(NAME, failure_type="conversion_webhook_invalid_converted_object_failure"):
        await server.fails("GET", f"{server.path('v2')}/w")
