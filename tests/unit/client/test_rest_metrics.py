"""What clients count of their requests."""

from __future__ import annotations

import pytest
from aiohttp import web

from client.test_http import served
from podling.api import core_v1, errors
from podling.client.client import ApiClient
from podling.client.http import HttpTransport
from podling.client.kubeconfig import Config
from tests.unit.apiserver.harness import Server, config_map, virtual
from tests.unit.measured import count, grows

NAME = "rest_client_requests_total"


async def test_requests_over_http_by_code_and_method() -> None:
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.Response(status=429, headers={"retry-after": "0"})
        return web.json_response({"metadata": {"name": "a"}})

    async with served(handler) as client:
        with (
            grows(NAME, code="200", method="GET"),
            grows(NAME, code="429", method="GET"),
            grows("rest_client_request_retries_total", code="429", verb="GET"),
            grows("rest_client_request_duration_seconds", by=2, verb="GET"),
            grows("rest_client_response_size_bytes", verb="GET"),
            grows("rest_client_request_size_bytes", by=2, verb="GET"),
        ):
            await client.get(core_v1.Node, "a")


async def test_requests_without_an_answer() -> None:
    client = ApiClient(HttpTransport(Config(server="http://127.0.0.1:9")))
    with grows(NAME, code="<error>", host="127.0.0.1:9"), pytest.raises(errors.StatusError):
        await client.get(core_v1.Node, "a")
    await client.close()


@virtual
async def test_requests_within_the_process(server: Server) -> None:
    with grows(NAME, code="201", host="in-process", method="POST"):
        await server.client.create(config_map("a"))
    with grows(NAME, code="404", host="in-process", method="GET"), pytest.raises(errors.StatusError):
        await server.client.get(core_v1.ConfigMap, "none", "default")
    assert count("rest_client_request_duration_seconds", host="in-process", verb="POST") > 0
