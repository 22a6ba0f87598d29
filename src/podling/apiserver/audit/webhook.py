"""Events sent to a server, as an EventList (plugin/pkg/audit/webhook). Any failure is tried again, a few times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from podling.apiserver.audit import metrics
from podling.apiserver.audit.event import Event, event_list
from podling.apiserver.kubeconfig_server import KubeconfigServer
from podling.client.kubeconfig import Config

#: How often a request is made, and how the waits between grow and vary.
ATTEMPTS = 5
FACTOR = 1.5
JITTER = 0.2
#: Seconds for one request.
TIMEOUT = 30.0


class Failure(Exception):
    """The server did not take the events."""


class Webhook:
    """Sends to `config.server`; `backoff` is the wait after the first failure, in seconds."""

    def __init__(self, config: Config, backoff: float) -> None:
        self._server = KubeconfigServer(config, connections=100, timeout=TIMEOUT)
        self._backoff = backoff

    def start(self) -> None:
        """Connects when there is something to send."""

    async def write(self, events: Sequence[Event]) -> bool:
        try:
            await self._send(event_list(list(events)))
        except Failure as error:
            metrics.failed("webhook", str(error), events)
            return False
        return True

    async def _send(self, data: bytes) -> None:
        wait = self._backoff
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._post(data)
                return
            except Failure:
                if attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(wait * (1 + JITTER * random.random()))
            wait *= FACTOR

    async def _post(self, data: bytes) -> None:
        import aiohttp

        shown = f'Post "{self._server.url}"'
        try:
            async with self._server.post(data) as answer:
                text = (await answer.content.read(1024)).decode("utf-8", "replace").strip()
                if not 200 <= answer.status < 300:
                    raise Failure(f"the server responded with the status code {answer.status}: {text}")
        except TimeoutError:
            raise Failure(f"{shown}: context deadline exceeded") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Failure(f"{shown}: {error}") from error

    async def close(self) -> None:
        await self._server.close()
