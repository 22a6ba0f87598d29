"""A request over HTTP for what another server serves: passed on as it is, but for who asks.

Authentication and authorization are over when a request comes here. Answers are streamed (a watch for as long as both
sides want), upgrades become raw bytes both ways. Source: kube-aggregator's handler_proxy, apimachinery's util/proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from podling.api.request import User
from podling.apiserver import metadata
from podling.apiserver.aggregation import remote as remotes
from podling.apiserver.aggregation.remote import Place, Remote, Unreachable
from podling.apiserver.audit import trail as audit
from podling.apiserver.handlers import backend, proxy
from podling.apiserver.request_info import RequestInfo
from podling.streaming import upstream

#: Seconds that a server has to say what it serves: every client waits for that.
DISCOVERY_TIMEOUT = 5.0

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


#: What a client gets that was to be sent elsewhere.
_REDIRECTED = "the backend attempted to redirect this request, which is not permitted"


class Proxy:
    """Passes requests on, and ends them all when the server closes."""

    def __init__(self, *, redirects: bool = False) -> None:
        """`redirects`: whether other servers may send clients elsewhere."""
        self._redirects = redirects
        self._running: set[asyncio.Future[Any]] = set()

    async def close(self) -> None:
        """End what is running: a watch has no end of its own."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def serve(
        self, request: web.BaseRequest, remote: Remote, info: RequestInfo, user: User
    ) -> web.StreamResponse:
        """Answer a request that is allowed."""
        try:
            place = remotes.checked(remote)
            headers = [*_passed_on(request), *remotes.identity(user)]
            if request.headers.get("upgrade") and "upgrade" in request.headers.get("connection", "").lower():
                upgrading = self._upgrade(request, remote, place, headers)
                return await self._until_gone(request, upgrading)
            patience = DISCOVERY_TIMEOUT if _is_discovery(info) else None
            return await self._until_gone(request, self._pass(request, remote, place, headers, patience))
        except Unreachable as error:
            return web.Response(status=error.code, text=f"{error}\n", headers=_TEXT)

    async def _until_gone(
        self, request: web.BaseRequest, answering: Coroutine[Any, Any, web.StreamResponse]
    ) -> web.StreamResponse:
        """Answer, but no longer than the client listens."""
        task = asyncio.ensure_future(answering)
        gone = backend.cancelled_with(request)
        self._running.add(task)
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectionResetError("the client is gone")
            return task.result()
        finally:
            self._running.discard(task)
            gone.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _pass(
        self,
        request: web.BaseRequest,
        remote: Remote,
        place: Place,
        headers: list[tuple[str, str]],
        patience: float | None,
    ) -> web.StreamResponse:
        body = proxy.body_of(request) if request.body_exists else None
        headers = [*headers, *proxy.forwarded(request, "")]
        if body is not None and request.content_length is not None:
            headers.append(("Content-Length", str(request.content_length)))
        try:
            async with asyncio.timeout(patience):
                answer = await remote.open(place, request.method, request._message.path, headers, body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise remotes.failure(error) from error
        if self._forbidden(answer.status, answer.headers):
            answer.close()
            return web.Response(status=502, text=_REDIRECTED)
        trail = audit.current()
        if trail is not None and trail.long_running:
            await trail.started(answer.status)
        try:
            async with asyncio.timeout(patience):
                return await proxy.copy_answer(request, answer, proxy.Destination(place.host, place.port, None), "")
        except (aiohttp.ClientError, TimeoutError) as error:
            # The head is with the client already: all that can be told is that the rest is missing.
            raise ConnectionResetError(str(error)) from error
        finally:
            answer.close()

    async def _upgrade(
        self, request: web.BaseRequest, remote: Remote, place: Place, headers: list[tuple[str, str]]
    ) -> web.StreamResponse:
        lines = [
            ("Host", place.authority),
            *headers,
            ("Connection", "Upgrade"),
            ("Upgrade", request.headers["upgrade"]),
        ]
        try:
            answer = await upstream.upgrade(
                place.host,
                place.port,
                request.method,
                request._message.path,
                lines,
                tls=remote.context(),
                server_name=remote.server_name,
            )
        except (OSError, TimeoutError) as error:
            raise remotes.failure(error) from error
        if self._forbidden(answer.status, answer.headers):
            return web.Response(status=502, text=_REDIRECTED)
        if answer.connection is None:
            passed = CIMultiDict(upstream.end_to_end(answer.headers.items(), drop=("content-length",)))
            return web.Response(status=answer.status, reason=answer.reason, headers=passed, body=answer.body)
        return await backend.join(request, answer)

    def _forbidden(self, status: int, headers: Mapping[str, str]) -> bool:
        return 300 <= status <= 399 and not self._redirects and bool(headers.get("Location"))


def _is_discovery(info: RequestInfo) -> bool:
    return not info.resource and len(info.path.strip("/").split("/")) == 3


def _passed_on(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The client's headers without credentials, and without what only this server may say."""
    headers = [h for h in proxy.passed_on(request) if not remotes.is_identity(h[0])]
    trail = audit.current()
    known_as = trail.id if trail is not None else request.headers.get("Audit-ID") or metadata.new_uid()
    return [h for h in headers if h[0].lower() != "audit-id"] + [("Audit-ID", known_as)]
