"""Events sent to a server, as an EventList (plugin/pkg/audit/webhook). Any failure is tried again, a few times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from podling.apiserver.audit import metrics
from podling.apiserver.audit.event import Event, event_list
from podling.client.kubeconfig import Config

if TYPE_CHECKING:
    import aiohttp

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
        self._config = config
        self._backoff = backoff
        self._session: aiohttp.ClientSession | None = None

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

        session = self._open()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with session.post(self._config.server, data=data, headers=headers, allow_redirects=False) as answer:
                text = (await answer.content.read(1024)).decode("utf-8", "replace").strip()
                if not 200 <= answer.status < 300:
                    raise Failure(f"the server responded with the status code {answer.status}: {text}")
        except TimeoutError:
            raise Failure(f'Post "{self._config.server}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError) as error:
            raise Failure(f'Post "{self._config.server}": {error}') from error

    def _token(self) -> str:
        if not self._config.token_file:
            return self._config.token
        try:
            # Read anew each time: such tokens are renewed.
            with open(self._config.token_file) as file:
                return file.read().strip()
        except OSError as error:
            raise Failure(f"{self._config.token_file} can't be read: {error.strerror}") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            from podling.client.http import ssl_context

            context = ssl_context(self._config)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context if context is not None else True),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
