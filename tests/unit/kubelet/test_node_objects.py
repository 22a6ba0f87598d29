"""What a node follows of the API's objects, and when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from podling import clock
from podling.api import core_v1, meta_v1
from podling.api.struct import clone, from_dict
from podling.apiserver.app import ApiServer
from podling.client.client import ApiClient
from podling.client.informer import Informers
from podling.kubelet.node_objects import NodeObjects, mentioned
from podling.store.memory import MemoryStore


class Counting:
    """A transport that counts requests by verb."""

    def __init__(self, api: ApiServer) -> None:
        self.api, self.asked = api, 0

    async def send(self, request: Any) -> Any:
        self.asked += 1
        return await self.api.send(request)

    async def close(self) -> None:
        pass


def with_objects(body: Callable[[NodeObjects, ApiClient, Counting, list[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        store = MemoryStore()
        await store.open()
        api = ApiServer(store)
        await api.start()
        client = ApiClient(api)  # type: ignore[arg-type]
        await client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
        transport = Counting(api)
        node = ApiClient(transport)  # type: ignore[arg-type]
        informers = Informers(node)
        objects = NodeObjects(node, informers, dict)
        told: list[str] = []
        objects.changed = lambda *key: told.append("/".join(key))
        await body(objects, client, transport, told)
        await objects.close()
        await informers.close()
        await api.close()
        await store.close()

    clock.run_virtual(main())


def _claim(name: str) -> core_v1.PersistentVolumeClaim:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    body = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
    return from_dict(body, core_v1.PersistentVolumeClaim)


async def _bind(client: ApiClient, name: str) -> None:
    found = clone(await client.get(core_v1.PersistentVolumeClaim, name, "default"))
    found.status = core_v1.PersistentVolumeClaimStatus(phase="Bound")
    await client.update_status(found)


def test_a_claim_that_is_waited_for_is_told_of_when_it_comes_and_when_it_is_bound() -> None:
    async def body(objects: NodeObjects, client: ApiClient, transport: Counting, told: list[str]) -> None:
        assert await objects.claim("default", "data") is None
        await asyncio.sleep(20)
        assert told == []
        await client.create(_claim("data"))
        await asyncio.sleep(5)
        assert told == ["PersistentVolumeClaim/default/data"]
        assert await objects.claim("default", "data") is not None
        await _bind(client, "data")
        await asyncio.sleep(1)
        assert told == ["PersistentVolumeClaim/default/data"] * 2
        found = await objects.claim("default", "data")
        assert found is not None and found.status is not None and found.status.phase == "Bound"
        before = transport.asked
        await asyncio.sleep(1000)
        assert transport.asked == before

    with_objects(body)


def test_nothing_is_looked_at_for_pods_that_are_gone() -> None:
    async def body(objects: NodeObjects, client: ApiClient, transport: Counting, told: list[str]) -> None:
        await client.create(_claim("data"))
        await objects.claim("default", "data")
        await objects.config_map("default", "settings")
        await asyncio.sleep(10)
        await objects.forget_all_but({("PersistentVolumeClaim", "default", "data")})
        before = transport.asked
        await asyncio.sleep(100)
        assert transport.asked > before
        await client.create(core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name="settings", namespace="default")))
        await objects.forget_all_but(set())
        await asyncio.sleep(10)
        before = transport.asked
        await _bind(client, "data")
        await asyncio.sleep(100)
        assert transport.asked == before and told == []

    with_objects(body)


def test_what_pods_mention() -> None:
    volumes = [
        {"name": "a", "configMap": {"name": "c1"}},
        {"name": "b", "secret": {"secretName": "s1"}},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "c2"}}, {"secret": {"name": "s2"}}]}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "p1"}},
        {"name": "e", "ephemeral": {}},
        {"name": "f", "emptyDir": {}},
    ]
    body = {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"containers": [], "volumes": volumes}}
    assert mentioned([from_dict(body, core_v1.Pod)]) == {
        ("ConfigMap", "ns", "c1"),
        ("ConfigMap", "ns", "c2"),
        ("Secret", "ns", "s1"),
        ("Secret", "ns", "s2"),
        ("PersistentVolumeClaim", "ns", "p1"),
        ("PersistentVolumeClaim", "ns", "web-e"),
    }
