"""What conformance tests of whole clusters share: a cluster in this process on virtual time, requests, watches.

Bodies are JSON, as they come over the network; answers too, whatever the objects are inside.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from inspect import signature
from typing import Any

import msgspec

from podling import clock
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK, Request, Response, User
from podling.api.struct import to_dict
from podling.cluster.inprocess import Cluster

MERGE = {"content-type": "application/merge-patch+json"}
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}


class Api:
    """Requests to a cluster as they come over the network, and what is answered, as JSON."""

    def __init__(self, cluster: Cluster, user: User = LOOPBACK) -> None:
        self.cluster = cluster
        self.user = user

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> Response:
        request = Request(method, path, more.pop("query", {}), headers=more.pop("headers", {}), user=self.user)
        if body is not None:
            request.body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return await self.cluster.client.transport.send(request)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self.send(method, path, body, **more)
        if answer.body is not None:
            return json.loads(answer.body)
        found = answer.objects if answer.objects is not None else answer.obj
        return json.loads(msgspec.json.encode(found))

    async def get(self, path: str, **query: str) -> Any:
        """An object; of a collection its `metadata` and `items`."""
        answer = await self.send("GET", path, query=query)
        if answer.objects is None:
            return json.loads(answer.body if answer.body is not None else msgspec.json.encode(answer.obj))
        return json.loads(msgspec.json.encode({"metadata": answer.metadata, "items": answer.objects}))

    async def post(self, path: str, body: Any, **query: str) -> Any:
        return await self.ask("POST", path, body, query=query)

    async def put(self, path: str, body: Any, **query: str) -> Any:
        return await self.ask("PUT", path, body, query=query)

    async def patch(self, path: str, body: Any, headers: dict[str, str] = STRATEGIC, **query: str) -> Any:
        return await self.ask("PATCH", path, body, headers=headers, query=query)

    async def delete(self, path: str, options: dict[str, Any] | None = None, **query: str) -> Any:
        return await self.ask("DELETE", path, options, query=query)

    async def refusal(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The Status that a request must fail with."""
        try:
            answer = await self.send(method, path, body, **more)
        except StatusError as error:
            return to_dict(error.status)
        raise AssertionError(f"{method} {path} was not refused: {answer}")

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> str:
        """What the Status says that a request must fail with."""
        return str((await self.refusal(method, path, body, **more))["message"])

    async def change(self, path: str, how: Callable[[Any], Any], subresource: str = "") -> Any:
        """PUT an object as `how` changes it, again and again while others are faster."""
        while True:
            obj = await self.get(path)
            how(obj)
            try:
                return await self.put(f"{path}/{subresource}" if subresource else path, obj)
            except StatusError as error:
                if error.reason != "Conflict":
                    raise

    async def gone(self, path: str, seconds: float = 300.0) -> None:
        """Wait until there is nothing at the path."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.get(path)
                except StatusError as error:
                    if error.reason == "NotFound":
                        return
                    raise
                await asyncio.sleep(0.5)

    async def until(self, path: str, done: Callable[[Any], Any], seconds: float = 300.0, **query: str) -> Any:
        """Wait until what is at the path is as it should be; gives it."""
        found: Any = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found = await self.get(path, **query)
                    if done(found):
                        return found
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise TimeoutError(f"{path} is not so after {seconds} s; it is {found}") from None

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[Watching]:
        answer = await self.send("GET", path, query={"watch": "true", **query})
        assert answer.events is not None
        watching = Watching(answer.events)
        try:
            yield watching
        finally:
            await watching.close()


class Watching:
    """The events of a watch. `seen` are those that have been asked for, as (type, object)."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self.seen: list[tuple[str, Any]] = []

    async def next(self, seconds: float = 60.0) -> tuple[str, Any]:
        async with asyncio.timeout(seconds):
            event = await anext(self._events)
        self.seen.append((event.type, json.loads(msgspec.json.encode(event.obj))))
        return self.seen[-1]

    async def until(self, type_: str, done: Callable[[Any], Any] = lambda _: True, seconds: float = 300.0) -> Any:
        """The object of the next event of a type that is as it should be."""
        async with asyncio.timeout(seconds):
            while True:
                found, obj = await self.next(seconds)
                if found == type_ and done(obj):
                    return obj

    async def silent(self, seconds: float = 10.0) -> None:
        """Nothing may happen for so long."""
        try:
            event = await self.next(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected event: {event}")

    async def close(self) -> None:
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test of a whole cluster on virtual time, which is given an `Api`; it may be parametrized."""
    return virtual_with()(test)


def virtual_with(**options: Any) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """As `virtual`, with options of the cluster: `nodes`, `config`."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @wraps(test)
        def run(**arguments: Any) -> None:
            async def main() -> None:
                async with Cluster(**options) as cluster:
                    await test(Api(cluster), **arguments)

            clock.run_virtual(main())

        # pytest must not take `api` for a fixture.
        shown = [p for p in signature(test).parameters.values() if p.name != "api"]
        run.__signature__ = signature(test).replace(parameters=shown)  # type: ignore[attr-defined]
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return decorate


def in_namespace(group: str, resource: str, namespace: str = "default") -> str:
    """`in_namespace("apps/v1", "deployments")`."""
    root = "/api/v1" if group == "v1" else f"/apis/{group}"
    return f"{root}/namespaces/{namespace}/{resource}"


def labelled(manifest: dict[str, Any], name: str, **labels: str) -> dict[str, Any]:
    """A manifest under another name, with labels."""
    found = copy.deepcopy(manifest)
    meta = found.setdefault("metadata", {})
    meta["name"] = name
    meta["labels"] = {**meta.get("labels", {}), **labels}
    return found


def template(**labels: str) -> dict[str, Any]:
    """A pod template."""
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
