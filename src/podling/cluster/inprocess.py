"""A whole cluster inside a Python process, for tests: real control plane, simulated nodes, any event loop.

    async with Cluster(nodes=3) as cluster:
        await cluster.apply("deployment.yaml")
        await cluster.until(apps_v1.Deployment, "web", lambda d: d.status.available_replicas == 2)

On `clock.run_virtual` it runs on virtual time: minutes of back-off take milliseconds, and the same seed gives the same
run. Everything is there: garbage collection, finalizers, namespace deletion, the scheduler with preemption.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from podling import clock
from podling.api import core_v1, errors, registry, struct
from podling.api.request import Request
from podling.apiserver.usage import NodeUsages
from podling.client.client import ApiClient
from podling.cluster import simulation
from podling.cluster.config import ClusterConfig
from podling.cluster.control_plane import ControlPlane, is_ready
from podling.kubelet.agent import Kubelet
from podling.kubelet.backend import Backend
from podling.runtime import fake_behaviour
from podling.store.base import Store
from podling.store.memory import MemoryStore

T = TypeVar("T")


class Cluster:
    """`client` is a `client.base.Client` with full power; `nodes` the node agents by name."""

    def __init__(
        self,
        nodes: int = 1,
        *,
        store: Store | None = None,
        behaviour: Callable[..., fake_behaviour.Behaviour] = fake_behaviour.default_behaviour,
        config: ClusterConfig | None = None,
    ) -> None:
        self.config = config or ClusterConfig(name="node", simulate=True, nodes=nodes)
        self._plane = ControlPlane(self.config, store or MemoryStore())
        self._behaviour = behaviour
        self.client: ApiClient = self._plane.client
        self.nodes: dict[str, Kubelet] = {}

    async def __aenter__(self) -> Cluster:
        await self._plane.start()
        for index, name in enumerate(self.config.node_names):
            agent = self.nodes[name] = simulation.kubelet(self.client, name, index, behaviour=self._behaviour)
            await agent.start()
        backends = {name: Backend(agent) for name, agent in self.nodes.items()}

        async def summary(name: str) -> bytes:
            return struct.encode(await backends[name].stats_summary(only_cpu_and_memory=True))

        self._plane.app.usages = NodeUsages(summary)
        for name in self.nodes:
            await self.until(core_v1.Node, name, is_ready)
        await self.until(core_v1.ServiceAccount, "default", lambda _: True)
        return self

    async def __aexit__(self, *_: object) -> None:
        for agent in self.nodes.values():
            await agent.close()
        await self._plane.close()

    async def apply(self, manifest: str | Path | dict[str, Any], namespace: str = "default") -> list[Any]:
        """Create what a YAML file, a YAML text or a dict says, or bring it up to date by server-side means.

        Gives the objects. Raises api.errors.StatusError, and ValueError for what is no manifest.
        """
        return [await self._apply_one(document, namespace) for document in _documents(manifest) if document]

    async def _apply_one(self, document: dict[str, Any], namespace: str) -> Any:
        resource = registry.by_kind(str(document.get("apiVersion")), str(document.get("kind")))
        if resource is None:
            return await self._apply_custom(document, namespace)
        obj = struct.from_dict(document, resource.type)
        if resource.namespaced and not obj.metadata.namespace:
            obj.metadata.namespace = namespace
        try:
            return await self.client.create(obj)
        except errors.StatusError as error:
            if not errors.is_already_exists(error):
                raise
        return await self.client.update(obj)

    async def _apply_custom(self, document: dict[str, Any], namespace: str) -> Any:
        """As `_apply_one`, of a custom resource: a dict with typed metadata (`apiserver.crd.objects`)."""
        version, kind = str(document.get("apiVersion")), str(document.get("kind"))
        served = self._plane.app.by_kind(version, kind)
        if served is None:
            raise ValueError(f"no such kind: {version} {kind}")
        meta = document.get("metadata") or {}
        collection = served.resource.collection_path(meta.get("namespace") or namespace)
        send = self.client.transport.send
        try:
            return (await send(Request("POST", collection, obj=document))).obj
        except errors.StatusError as error:
            if not errors.is_already_exists(error):
                raise
        path = f"{collection}/{meta.get('name')}"
        live = (await send(Request("GET", path))).obj.metadata.resource_version
        return (await send(Request("PUT", path, obj={**document, "metadata": {**meta, "resourceVersion": live}}))).obj

    async def until(
        self,
        kind: type[T],
        name: str,
        done: Callable[[T], Any],
        *,
        namespace: str = "default",
        seconds: float = 300.0,
    ) -> T:
        """Wait until the object is as `done` wants it; gives it. Raises TimeoutError, saying how the object is."""
        resource = registry.of(kind)
        scope = namespace if resource.namespaced else None
        newest: T | None = None
        try:
            async with asyncio.timeout(seconds):
                async for event in self.client.watch(
                    kind, scope, field_selector=f"metadata.name={name}", send_initial_events=True
                ):
                    if event.type in ("ADDED", "MODIFIED"):
                        newest = event.object
                        if done(newest):
                            return newest
        except TimeoutError:
            raise TimeoutError(f"{resource.kind} {name} is not so after {seconds} s; it is {newest}") from None
        raise TimeoutError(f"the watch on {resource.kind} {name} ended; it is {newest}")

    async def gone(self, kind: type[Any], name: str, *, namespace: str = "default", seconds: float = 300.0) -> None:
        """Wait until there is no such object. Raises TimeoutError."""
        scope = namespace if registry.of(kind).namespaced else None
        deadline = clock.elapsed() + seconds
        while True:
            try:
                await self.client.get(kind, name, scope)
            except errors.StatusError as error:
                if errors.is_not_found(error):
                    return
                raise
            if clock.elapsed() > deadline:
                raise TimeoutError(f"{kind.__name__} {name} is still there after {seconds} s")
            await asyncio.sleep(0.1)


def _documents(manifest: str | Path | dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(manifest, dict):
        return [manifest]
    text = str(manifest)
    if "\n" not in text and Path(text).exists():
        text = Path(text).read_text()
    return list(yaml.safe_load_all(text))
