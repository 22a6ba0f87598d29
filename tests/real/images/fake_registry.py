"""A registry on loopback that misbehaves on demand."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.real.images.making import Built


class FakeRegistry:
    """Serves blobs of what was `add`ed, under any repository. The attributes are the faults."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.users: dict[str, str] = {}
        self.bearer = False
        self.anonymous_tokens = True
        self.scope_refused = False
        self.break_after: list[int] = []
        self.ranges = True
        self.corrupt: set[str] = set()
        self.failures: list[int] = []
        self.blob_host = ""
        self.digest_header = True
        self.address = ""

    def add(self, name: str, image: Built) -> None:
        self.blobs.update(image.blobs)
        self.tags[name] = image.target["digest"]
        for digest, data in image.blobs.items():
            try:
                self.types[digest] = json.loads(data).get("mediaType", "application/octet-stream")
            except (ValueError, AttributeError):
                self.types[digest] = "application/octet-stream"

    def paths(self, method: str = "GET") -> list[str]:
        return [path for verb, path, _ in self.requests if verb == method]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.headers)))
        if request.path == "/token":
            return self._token(request)
        if self.failures:
            status = self.failures.pop(0)
            body = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}
            return web.json_response(body, status=status)
        refused = self._authorize(request)
        if refused is not None:
            return refused
        parts = request.path.removeprefix("/v2/").split("/")
        kind, identifier = parts[-2], parts[-1]
        repository = "/".join(parts[:-2])
        digest = identifier if ":" in identifier else self.tags.get(f"{repository}:{identifier}", "")
        data = self.blobs.get(digest)
        if data is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, status=404)
        if digest in self.corrupt:
            data = bytes(len(data))
        if kind == "blobs" and self.blob_host:
            raise web.HTTPTemporaryRedirect(f"{self.blob_host}/v2/elsewhere/blobs/{digest}")
        return await self._send(request, data, digest, kind)

    async def _send(self, request: web.Request, data: bytes, digest: str, kind: str) -> web.StreamResponse:
        headers = {"Content-Type": self.types[digest]}
        if self.digest_header:
            headers["Docker-Content-Digest"] = digest
        start, status = 0, 200
        if self.ranges and kind == "blobs" and "Range" in request.headers:
            start, status = int(request.headers["Range"].removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(data) - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if kind == "blobs" and self.break_after and len(data) > self.break_after[0]:
            await response.write(data[start : start + self.break_after.pop(0)])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(data[start:])
        await response.write_eof()
        return response

    def _authorize(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self.bearer:
            if self.scope_refused and given:
                challenge = f'Bearer realm="http://{self.address}/token",service="s",error="insufficient_scope"'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})
            if given == "Bearer good":
                return None
            challenge = f'Bearer realm="http://{self.address}/token",service="s",scope="repository:app:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if self.users and not self._known(given):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return None

    def _known(self, header: str) -> bool:
        if not header.startswith("Basic "):
            return False
        user, _, password = base64.b64decode(header[6:]).decode().partition(":")
        return self.users.get(user) == password

    def _token(self, request: web.Request) -> web.Response:
        header = request.headers.get("Authorization", "")
        if (header and self._known(header)) or (not header and self.anonymous_tokens) or request.method == "POST":
            return web.json_response({"token": "good", "expires_in": 60})
        return web.Response(status=401)


@asynccontextmanager
async def serving(registry: FakeRegistry, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its `127.0.0.1:port`."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", registry.handle)
    runner: Any = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield registry.address
    finally:
        await runner.cleanup()
