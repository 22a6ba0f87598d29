"""An API server on loopback and what clients of it send: JSON, protobuf as Go's typed clients write it, watches.

Time is the machine's here. What controllers do is tested on virtual time, without HTTP (`custom.Api`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache, wraps
from inspect import signature
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from podling.api import core_v1, meta_v1
from podling.api.request import LOOPBACK, User
from podling.apiserver.assembly import Assembly, Settings
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.server import HttpServer
from podling.client.client import ApiClient
from podling.store.memory import MemoryStore

MERGE = {"content-type": "application/merge-patch+json"}
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
METADATA = {"accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
METADATA_LIST = {"accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}


class Refused(AssertionError):
    """An answer with another status than was asked for: what it says stands in the test's report."""


class Web:
    """`assembly` behind HTTP, and a session that speaks to it."""

    def __init__(self, assembly: Assembly, url: str, session: aiohttp.ClientSession) -> None:
        self.assembly = assembly
        self.url = url
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 0, **more: Any) -> Any:
        """The answer's body; its status has to be `status`, or below 300."""
        headers = dict(more.pop("headers", {}))
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            headers.setdefault("content-type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=headers, **more) as answer:
            text = await answer.read()
            if answer.status != status if status else answer.status >= 300:
                raise Refused(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
            return json.loads(text) if answer.content_type == "application/json" else text

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """The next event of a watch, by calling; TimeoutError if there is none within five seconds."""
        parameters = {"watch": "true", **query}
        async with self.session.get(self.url + path, params=parameters) as answer:
            assert answer.status == 200, await answer.text()

            async def following() -> Any:
                async with asyncio.timeout(5):
                    return json.loads(await answer.content.readline())

            yield following


@cache
def _signing_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


async def _administrator(headers: Any, certificate: bytes | None, path: str) -> User:
    """Who comes over the network is who the parts of this process are."""
    return LOOPBACK


async def _connected(http: web.BaseRequest, info: RequestInfo, user: User) -> web.StreamResponse:
    """What would be handed to a node agent."""
    return web.json_response({"connected": f"{info.resource}/{info.subresource}"})


@asynccontextmanager
async def serving() -> AsyncIterator[Web]:
    """An API server as a cluster has it, without controllers, with the namespace `default`."""
    store = MemoryStore()
    await store.open()
    assembly = Assembly(store, Settings(signing_key=_signing_key()))
    await assembly.start()
    assembly.app.authenticator = _administrator
    served = HttpServer(assembly.app, streaming=_connected)
    await served.start()
    client = ApiClient(assembly.app)
    await client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
    await client.create(core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name="default", namespace="default")))
    async with aiohttp.ClientSession() as session:
        try:
            yield Web(assembly, f"http://127.0.0.1:{served.port}", session)
        finally:
            await served.close()
            await assembly.close()
            await store.close()


def over_http(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that is given a `Web`; it may be parametrized."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        async def main() -> None:
            async with serving() as web:
                await test(web, **arguments)

        asyncio.run(main())

    # pytest must not take `web` for a fixture.
    shown = [p for p in signature(test).parameters.values() if p.name != "web"]
    run.__signature__ = signature(test).replace(parameters=shown)  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]
    return run
