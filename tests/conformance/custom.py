"""What the conformance tests of custom resources share: a cluster in this process, requests, definitions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from podling.api import apiextensions_v1 as v1
from tests.conformance import whole

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "stable.example.com"
MERGE, APPLY = whole.MERGE, whole.APPLY
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Api(whole.Api):
    """Requests to a cluster, with what custom resources need."""

    async def define(self, raw: dict[str, Any]) -> str:
        """Create a definition and wait until it is established; gives its name."""
        name = raw["metadata"]["name"]
        await self.ask("POST", DEFINITIONS, raw)
        await self.cluster.until(v1.CustomResourceDefinition, name, established)
        return str(name)

    async def undefined(self, name: str) -> None:
        """Wait until there is no such definition."""
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

    async def run(api: whole.Api) -> None:
        await test(Api(api.cluster))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return whole.virtual(run)
