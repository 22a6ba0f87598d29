"""An API server in memory on virtual time, and a client of it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from podling import clock
from podling.api import core_v1, meta_v1
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK, Request, Response
from podling.apiserver.admission.default import default_chain
from podling.apiserver.app import ApiServer
from podling.client.client import ApiClient
from podling.store.memory import MemoryStore


class Server:
    """`app` over `store`, with the namespace `default` and its service account."""

    def __init__(self, app: ApiServer, store: MemoryStore) -> None:
        self.app = app
        self.store = store
        self.client = ApiClient(app)  # type: ignore[arg-type]

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Response:
        """A request as it comes from HTTP: dicts, or bytes with a content type."""
        query = more.pop("query", {})
        headers = more.pop("headers", {})
        request = Request(method, path, query, more.pop("queries", {}), headers, user=LOOPBACK, **more)
        if isinstance(body, bytes):
            request.body = body
        elif body is not None:
            import json

            request.body = json.dumps(body).encode()
        return await self.app.send(request)

    async def fails(self, method: str, path: str, body: Any = None, **more: Any) -> StatusError:
        """The failure of a request that must fail."""
        try:
            response = await self.ask(method, path, body, **more)
        except StatusError as error:
            return error
        raise AssertionError(f"{method} {path} did not fail: {response}")


def config_map(name: str, **more: Any) -> core_v1.ConfigMap:
    data = more.pop("data", {"k": "v"})
    namespace = more.pop("namespace", "default")
    return core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name=name, namespace=namespace, **more), data=data)


def pod(name: str, **spec: Any) -> core_v1.Pod:
    meta = spec.pop("meta", {})
    containers = spec.pop("containers", None) or [core_v1.Container(name="c", image="busybox")]
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default", **meta),
        spec=core_v1.PodSpec(containers=containers, **spec),
    )


@asynccontextmanager
async def running(*, admission: bool = True, **options: Any) -> AsyncIterator[Server]:
    store = MemoryStore()
    await store.open()
    app = ApiServer(store, **options)
    if admission:
        app.admission = default_chain(app)
    await app.start()
    server = Server(app, store)
    try:
        await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
        account = core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name="default", namespace="default"))
        await server.client.create(account)
        yield server
    finally:
        await app.close()
        await store.close()


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test of a running server, on virtual time; it may be parametrized."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        async def main() -> None:
            async with running() as server:
                await test(server, **arguments)

        clock.run_virtual(main())

    # pytest must not take `server` for a fixture.
    signature = inspect.signature(test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p for p in signature.parameters.values() if p.name != "server"]
    )
    del run.__wrapped__  # type: ignore[attr-defined]
    return run
