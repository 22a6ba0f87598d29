"""What the conformance tests of custom resources share: a cluster in this process, requests, definitions."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from podling import clock
from podling.api import apiextensions_v1 as v1
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK, Request, Response
from podling.cluster.inprocess import Cluster

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "stable.example.com"
MERGE = {"content-type": "application/merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Api:
    """Requests to a cluster as they come over the network, and what is answered, as JSON."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> Response:
        request = Request(method, path, more.pop("query", {}), headers=more.pop("headers", {}), user=LOOPBACK)
        if body is not None:
            request.body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return await self.cluster.client.transport.send(request)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self.send(method, path, body, **more)
        if answer.body is not None:
            return json.loads(answer.body)
        found = answer.objects if answer.objects is not None else answer.obj
        return json.loads(msgspec.json.encode(found))

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> str:
        try:
            answer = await self.send(method, path, body, **more)
        except StatusError as error:
            return str(error)
        raise AssertionError(f"{method} {path} was not refused: {answer}")

    async def define(self, raw: dict[str, Any]) -> str:
        """Create a definition and wait until it is established; gives its name."""
        name = raw["metadata"]["name"]
        await self.ask("POST", DEFINITIONS, raw)
        await self.cluster.until(v1.CustomResourceDefinition, name, established)
        return str(name)

    async def gone(self, name: str) -> None:
        await self.cluster.gone(v1.CustomResourceDefinition, name)


def established(crd: v1.CustomResourceDefinition) -> bool:
    return any(c.type == "Established" and c.status == "True" for c in crd.status.conditions or ())


def definition(plural: str, kind: str, *versions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    group = spec.pop("group", GROUP)
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": list(versions), **spec}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "labels": {"e2e": "crd"}},
        "spec": spec,
    }


def version(
    name: str, schema: Any = None, *, storage: bool = False, served: bool = True, **more: Any
) -> dict[str, Any]:
    found = {"openAPIV3Schema": schema or ANYTHING}
    return {"name": name, "served": served, "storage": storage, "schema": found, **more}


def virtual(test: Callable[[Api], Awaitable[None]]) -> Callable[[], None]:
    """A test of a whole cluster on virtual time."""

    def run() -> None:
        async def main() -> None:
            async with Cluster() as cluster:
                await test(Api(cluster))

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
