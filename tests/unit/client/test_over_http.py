"""The client over HTTP against the real API server: what it reads, writes and follows is what it is in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from podling.api import apps_v1, core_v1, errors, meta_v1, registry
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.apiserver.app import ApiServer
from podling.apiserver.server import HttpServer
from podling.client.base import PatchType
from podling.client.client import ApiClient
from podling.client.http import HttpTransport
from podling.client.informer import Informers
from podling.client.kubeconfig import Config
from podling.controllers.manager import ControllerManager
from podling.controllers.replicaset import ReplicaSetController
from podling.store.memory import MemoryStore


@asynccontextmanager
async def served() -> AsyncIterator[ApiClient]:
    store = MemoryStore()
    await store.open()
    app = ApiServer(store)
    await app.start()
    server = HttpServer(app)
    port = await server.start("127.0.0.1", 0)
    client = ApiClient(HttpTransport(Config(server=f"http://127.0.0.1:{port}")))
    try:
        yield client
    finally:
        await client.close()
        await server.close()
        await app.close()
        await store.close()


def config_map(name: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name=name, namespace="default", labels={"n": name}), data={"a": "1"})


async def test_reads_and_writes() -> None:
    async with served() as client:
        made = await client.create(config_map("one"))
        assert made.metadata.uid and made.metadata.resource_version
        changed = clone(made)
        changed.data = {"a": "2"}
        await client.update(changed)
        with pytest.raises(errors.StatusError) as caught:
            await client.update(changed)
        assert errors.is_conflict(caught.value)
        patched = await client.patch(core_v1.ConfigMap, "one", "default", {"data": {"b": "3"}}, type=PatchType.MERGE)
        assert patched.data == {"a": "2", "b": "3"}
        await client.create(config_map("two"))
        listed = await client.list(core_v1.ConfigMap, "default", label_selector="n in (two, three)")
        assert [c.metadata.name for c in listed.items] == ["two"] and listed.resource_version
        partial = await client.list(registry.of(core_v1.ConfigMap), "default")  # type: ignore[arg-type]
        assert sorted(c.metadata.name for c in partial.items) == ["one", "two"]  # type: ignore[attr-defined]
        await client.delete(core_v1.ConfigMap, "one", "default", uid=made.metadata.uid)
        with pytest.raises(errors.StatusError) as caught:
            await client.get(core_v1.ConfigMap, "one", "default")
        assert errors.is_not_found(caught.value)
        await client.delete_collection(core_v1.ConfigMap, "default")
        assert (await client.list(core_v1.ConfigMap)).items == []


async def test_informers_and_controllers_work_from_another_process() -> None:
    async with served() as client:
        informers = Informers(client, detect_mutations=True)
        manager = ControllerManager(client, controllers=(ReplicaSetController,), informers=informers)
        pods = informers.of(core_v1.Pod)
        names = informers.of(registry.of(core_v1.Pod))  # type: ignore[arg-type]
        await manager.start()
        template = core_v1.PodTemplateSpec(
            metadata=ObjectMeta(labels={"a": "b"}),
            spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="i")]),
        )
        await client.create(core_v1.Namespace(metadata=ObjectMeta(name="default")))
        rs = apps_v1.ReplicaSet(
            metadata=ObjectMeta(name="web", namespace="default"),
            spec=apps_v1.ReplicaSetSpec(
                replicas=3, selector=meta_v1.LabelSelector(match_labels={"a": "b"}), template=template
            ),
        )
        arrived = asyncio.Event()
        for informer in (pods, names):
            informer.add_handler(on_add=lambda _: arrived.set() if len(pods) == len(names) == 3 else None)
        await client.create(rs)
        async with asyncio.timeout(20):
            await arrived.wait()
        assert {p.metadata.name for p in pods.list()} == {p.metadata.name for p in names.list()}
        await manager.close()
        await informers.close()
