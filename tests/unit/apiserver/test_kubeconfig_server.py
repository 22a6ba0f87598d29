"""What is sent to the server of a kubeconfig."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from podling.apiserver.kubeconfig_server import KubeconfigServer, TokenUnreadable
from podling.client.kubeconfig import Config


async def answer(request: web.Request) -> web.Response:
    kinds = request.headers["Content-Type"], request.headers["Accept"]
    return web.json_response([*kinds, request.headers.get("Authorization"), (await request.read()).decode()])


def test_a_token_is_read_anew_with_each_request(tmp_path: Path) -> None:
    file = tmp_path / "token"

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/", answer)
        async with TestServer(app) as server:
            asked = KubeconfigServer(Config(server=str(server.make_url("/")), token_file=str(file)))
            for token in ("one", "two\n"):
                file.write_text(token)
                async with asked.post(b"{}") as got:
                    json = "application/json"
                    assert await got.json() == [json, json, f"Bearer {token.strip()}", "{}"]
            file.unlink()
            with pytest.raises(TokenUnreadable, match=r'failed to read token file ".*/token": No such file'):
                asked.post(b"{}")
            await asked.close()

    asyncio.run(main())
