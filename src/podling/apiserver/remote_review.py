"""A server outside that answers reviews (TokenReview, SubjectAccessReview, ImageReview): posted to the URL of a
kubeconfig, with its credentials. What looks like passing trouble is tried again, a few times.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec

from podling.apiserver.admission.webhooks_client import broken, explain
from podling.apiserver.kubeconfig_server import KubeconfigServer
from podling.client.kubeconfig import Config

ATTEMPTS = 5
FACTOR = 1.5
JITTER = 0.2
BACKOFF = 0.5
TIMEOUT = 30.0
MAX_ANSWER = 3 * 1024 * 1024
_AGAIN = frozenset((429, 500, 504))


class ReviewFailure(Exception):
    """There is no answer; the text says why."""

    def __init__(self, text: str, *, again: bool = False, timed_out: bool = False) -> None:
        super().__init__(text)
        self.again = again
        self.timed_out = timed_out


class RemoteReview:
    """`close` when done."""

    def __init__(self, config: Config, *, backoff: float = BACKOFF) -> None:
        self._server = KubeconfigServer(config)
        self._backoff = backoff

    async def ask(self, review: dict[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
        """The `status` of the answer. Raises ReviewFailure."""
        body = msgspec.json.encode(review)
        wait = self._backoff
        try:
            async with asyncio.timeout(timeout):
                for _ in range(ATTEMPTS - 1):
                    try:
                        return await self._post(body)
                    except ReviewFailure as failure:
                        if not failure.again:
                            raise
                    await asyncio.sleep(wait * (1 + JITTER * random.random()))
                    wait *= FACTOR
                return await self._post(body)
        except TimeoutError:
            raise ReviewFailure(f'Post "{self._server.url}": context deadline exceeded', timed_out=True) from None

    async def _post(self, body: bytes) -> dict[str, Any]:
        import aiohttp

        server = self._server.url
        try:
            async with self._server.post(body) as answer:
                data = b""
                while not answer.content.at_eof():
                    data += await answer.content.read(MAX_ANSWER)
                    if len(data) > MAX_ANSWER:
                        raise ReviewFailure(f'Post "{server}": the answer is too large')
                if not 200 <= answer.status < 300:
                    text = data[:1024].decode("utf-8", "replace").strip() or "unknown"
                    why = f'an error on the server ("{text}") has prevented the request from succeeding'
                    raise ReviewFailure(why, again=answer.status in _AGAIN or "Retry-After" in answer.headers)
        except (aiohttp.ClientError, OSError) as error:
            raise ReviewFailure(f'Post "{server}": {explain(error)}', again=broken(error)) from None
        return _status(data)

    async def close(self) -> None:
        await self._server.close()


def _status(data: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReviewFailure(f"couldn't get version/kind; json parse error: {error}") from None
    status = answer.get("status", {}) if isinstance(answer, dict) else None
    if not isinstance(status, dict):
        raise ReviewFailure("the answer is no review: it has no status")
    return status
