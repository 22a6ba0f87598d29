"""Tokens that a webhook knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from apiserver.authn.provider import ca, listening
from podling.api.request import User
from podling.apiserver.authn.token_webhook import TokenWebhook
from podling.apiserver.authn.tokens import TokenError
from podling.apiserver.remote_review import RemoteReview
from podling.client.kubeconfig import Config

API = ("api",)
BOB = {"authenticated": True, "user": {"username": "bob", "uid": "7", "groups": ["a"], "extra": {"k": ["v"]}}}


class Room:
    def __init__(self, webhook: TokenWebhook) -> None:
        self.webhook = webhook
        self.reviews: list[dict[str, Any]] = []
        self.headers: list[str] = []


@asynccontextmanager
async def asking(answer: Callable[[str], Any], *, version: str = "v1", seconds: float = 120.0) -> AsyncIterator[Room]:
    """A webhook whose answer to a token is `answer(token)`: a status, or a whole HTTP response."""
    room: Room

    def handle(request: web.BaseRequest, body: bytes) -> Any:
        review = json.loads(body)
        room.reviews.append(review)
        room.headers.append(request.headers.get("Authorization", ""))
        made = answer(review["spec"]["token"])
        return made if isinstance(made, web.Response) else {**review, "status": made}

    async with listening(handle) as url:
        config = Config(server=f"{url}/authenticate", ca=ca().encode(), token="secret")
        webhook = TokenWebhook(RemoteReview(config, backoff=0.01), API, version=version, seconds=seconds)
        room = Room(webhook)
        try:
            yield room
        finally:
            await webhook.close()


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_it_is_asked_by_a_token_review_and_names_the_user(version: str) -> None:
    async with asking(lambda token: BOB, version=version) as room:
        found = await room.webhook.review("t", API)
        assert found == (User("bob", ("a",), "7", {"k": ("v",)}), API)
        review = room.reviews[0]
        assert review["kind"] == "TokenReview" and review["apiVersion"] == f"authentication.k8s.io/{version}"
        assert review["spec"] == {"token": "t", "audiences": ["api"]}
        assert room.headers == ["Bearer secret"]


async def test_answers_are_kept_each_for_its_token_and_audience() -> None:
    async with asking(lambda token: BOB if token == "t" else {"authenticated": False}) as room:
        for _ in range(3):
            assert await room.webhook.review("t", API) is not None
            assert await room.webhook.review("other", API) is None
        assert await room.webhook.review("t", ("elsewhere",)) is None
        assert len(room.reviews) == 3


async def test_an_answer_is_forgotten_in_time() -> None:
    async with asking(lambda token: BOB, seconds=0.05) as room:
        await room.webhook.review("t", API)
        await asyncio.sleep(0.1)
        await room.webhook.review("t", API)
        assert len(room.reviews) == 2


async def test_who_asks_at_the_same_time_shares_an_answer() -> None:
    async with asking(lambda token: BOB) as room:
        found = await asyncio.gather(*(room.webhook.review("t", API) for _ in range(10)))
        assert all(found) and len(room.reviews) == 1


async def test_audiences_that_the_webhook_names_count() -> None:
    async with asking(lambda token: {**BOB, "audiences": ["x", "y"]}) as room:
        assert (await room.webhook.review("t", ("y", "z")) or (None, ()))[1] == ("y",)
        assert await room.webhook.review("t", API) is None


async def test_failures_are_tried_again_and_not_kept() -> None:
    answers = iter([web.Response(status=500), web.Response(status=429), BOB])
    async with asking(lambda token: next(answers)) as room:
        assert await room.webhook.review("t", API) is not None
        assert len(room.reviews) == 3
    async with asking(lambda token: web.Response(status=401, text="who?")) as room:
        for _ in range(2):
            with pytest.raises(TokenError, match="an error on the server"):
                await room.webhook.review("t", API)
        assert len(room.reviews) == 2


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"authenticated": False, "error": "revoked"}, "revoked"),
        (web.Response(text="<html>"), "couldn't get version/kind; json parse error"),
        (web.Response(text="[]"), "the answer is no review"),
        ({"authenticated": True, "user": {"username": "x", "groups": 7}}, "the webhook's answer has no user"),
    ],
)
async def test_what_is_no_good_answer_is_an_error(status: Any, why: str) -> None:
    async with asking(lambda token: status) as room:
        with pytest.raises(TokenError, match=why.replace("(", r"\(")):
            await room.webhook.review("t", API)


async def test_only_true_is_authenticated() -> None:
    for value in ("true", 1, None, {}):
        async with asking(lambda token, value=value: {"authenticated": value, "user": {"username": "x"}}) as room:
            assert await room.webhook.review("t", API) is None
