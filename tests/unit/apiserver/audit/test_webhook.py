from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from podling.apiserver.audit import metrics
from podling.apiserver.audit.event import Event
from podling.apiserver.audit.webhook import ATTEMPTS, Webhook
from podling.client.kubeconfig import Config


@asynccontextmanager
async def receiver(status: Callable[[int], int], token: str = "") -> AsyncIterator[tuple[Webhook, list[Any]]]:
    got: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        got.append((dict(request.headers), await request.json()))
        return web.Response(status=status(len(got)), text="no")

    app = web.Application()
    app.router.add_post("/audit", take)
    async with TestServer(app) as server:
        webhook = Webhook(Config(server=str(server.make_url("/audit")), token=token), 0.001)
        webhook.start()
        yield webhook, got
        await webhook.close()


async def test_events_come_as_a_list() -> None:
    async with receiver(lambda _: 200, token="t") as (webhook, got):
        assert await webhook.write([Event(audit_id="1"), Event(audit_id="2")])
    ((headers, body),) = got
    assert body["kind"] == "EventList" and [e["auditID"] for e in body["items"]] == ["1", "2"]
    assert headers["Authorization"] == "Bearer t" and headers["Content-Type"] == "application/json"


async def test_any_failure_is_tried_again() -> None:
    async with receiver(lambda n: 200 if n == 3 else 403) as (webhook, got):
        assert await webhook.write([Event()])
    assert len(got) == 3


async def test_after_some_attempts_the_events_are_lost_and_counted() -> None:
    before = metrics.ERRORS.values.get(("webhook",), 0)
    async with receiver(lambda _: 500) as (webhook, got):
        assert not await webhook.write([Event(), Event()])
    assert len(got) == ATTEMPTS and metrics.ERRORS.values["webhook",] == before + 2


async def test_nobody_there_is_a_failure_like_any_other() -> None:
    webhook = Webhook(Config(server="http://127.0.0.1:9/audit"), 0.001)
    assert not await webhook.write([Event()])
    await webhook.close()


def test_the_body_is_what_upstream_sends() -> None:
    from podling.apiserver.audit.event import event_list

    assert json.loads(event_list([]))["items"] == []
