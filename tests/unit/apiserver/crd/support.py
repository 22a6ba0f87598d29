"""A server with custom resources, in memory on virtual time, and definitions for it."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from podling import clock
from podling.api import apiextensions_v1 as v1
from podling.api.request import LOOPBACK, Request, Response
from podling.api.struct import from_dict
from podling.apiserver.app import ApiServer
from podling.apiserver.crd.loading import CustomResources
from podling.store.memory import MemoryStore
from tests.unit.apiserver.harness import Server

GROUP = "example.com"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MERGE = {"content-type": "application/merge-patch+json"}


def definition(
    plural: str = "widgets", kind: str = "Widget", *, schema: Any = None, versions: Any = None, **spec: Any
) -> dict[str, Any]:
    """A definition with one version, v1, unless others are given."""
    made = versions or [version("v1", schema, storage=True, **spec.pop("version", {}))]
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"} | spec.pop(
        "names", {}
    )
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": made, **spec},
    }


def version(
    name: str, schema: Any = None, *, storage: bool = False, served: bool = True, **more: Any
) -> dict[str, Any]:
    found = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": found}, **more}


def of_spec(**properties: Any) -> dict[str, Any]:
    """The schema of an object with these fields in spec."""
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def typed(raw: dict[str, Any]) -> v1.CustomResourceDefinition:
    return from_dict(raw, v1.CustomResourceDefinition)


def widget(
    name: str = "w", *, version: str = "v1", kind: str = "Widget", meta: Any = None, **rest: Any
) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": {"name": name, **(meta or {})}, **rest}


class CustomServer(Server):
    """`custom` are its custom resources."""

    custom: CustomResources

    async def define(self, raw: dict[str, Any]) -> v1.CustomResourceDefinition:
        """Create a definition and wait until it is served."""
        await self.ask("POST", DEFINITIONS, raw)
        return await self.established(raw["metadata"]["name"])

    async def established(self, name: str) -> v1.CustomResourceDefinition:
        await self.settled()
        return (await self.ask("GET", f"{DEFINITIONS}/{name}")).obj  # type: ignore[no-any-return]

    async def settled(self) -> None:
        """Until nothing more happens by itself."""
        import asyncio

        await asyncio.sleep(0.001)

    def path(self, version: str = "v1", plural: str = "widgets", namespace: str = "default") -> str:
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"/apis/{GROUP}/{version}{scope}/{plural}"

    async def create(self, raw: dict[str, Any], version: str = "v1", **more: Any) -> Any:
        return (await self.ask("POST", self.path(version), raw, **more)).obj

    async def get(self, name: str = "w", version: str = "v1") -> Any:
        return (await self.ask("GET", f"{self.path(version)}/{name}")).obj

    async def patch(self, change: dict[str, Any], name: str = "w", version: str = "v1", subresource: str = "") -> Any:
        path = f"{self.path(version)}/{name}" + (f"/{subresource}" if subresource else "")
        return (await self.ask("PATCH", path, change, headers=MERGE)).obj

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> str:
        """What a refused request is told."""
        return str(await self.fails(method, path, body, **more))

    async def sent(self, method: str, path: str, **more: Any) -> Response:
        return await self.app.send(Request(method, path, user=LOOPBACK, **more))


@asynccontextmanager
async def running(store: MemoryStore | None = None, caller: Any = None) -> AsyncIterator[CustomServer]:
    kept = store
    store = store or MemoryStore()
    await store.open()
    app = ApiServer(store)
    server = CustomServer(app, store)
    server.custom = CustomResources(app, caller)
    await app.start()
    try:
        yield server
    finally:
        await server.custom.close()
        await app.close()
        if kept is None:
            await store.close()


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test of a running server, on virtual time; it may be parametrized."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        async def main() -> None:
            async with running() as server:
                await test(server, **arguments)

        clock.run_virtual(main())

    signature = inspect.signature(test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p for p in signature.parameters.values() if p.name != "server"]
    )
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def wire(obj: Any) -> Any:
    """An object as JSON, as a client sees it."""
    import msgspec

    return json.loads(msgspec.json.encode(obj))
