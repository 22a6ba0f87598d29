"""The server that a kubeconfig names, to be told or asked something: its URL, our credentials, the connections."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from podling.client.kubeconfig import Config

if TYPE_CHECKING:
    import aiohttp


class TokenUnreadable(OSError):
    """There is no token in the file that is to hold it; the text says why."""


class KubeconfigServer:
    """`connections` limits how many are open at once, 0 for none; a request may take `timeout` seconds, None for ever.

    Connects with the first request; `close` when done.
    """

    def __init__(self, config: Config, *, connections: int = 0, timeout: float | None = None) -> None:
        self._config = config
        self._connections = connections
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return self._config.server

    def post(self, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """POST a JSON document. Raises TokenUnreadable; entering the result raises what aiohttp does."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        return self._open().post(self.url, data=body, headers=headers, allow_redirects=False)

    def _token(self) -> str:
        path = self._config.token_file
        if not path:
            return self._config.token
        try:
            # Read anew each time: such tokens are renewed.
            with open(path) as file:
                return file.read().strip()
        except OSError as error:
            raise TokenUnreadable(f'failed to read token file "{path}": {error.strerror}') from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            from podling.client.http import ssl_context

            context = ssl_context(self._config)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context if context is not None else True, limit=self._connections),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
