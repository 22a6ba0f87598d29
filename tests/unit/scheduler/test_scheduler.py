"""The whole loop against a real API server, on virtual time: pods are bound, or told why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from podling import clock
from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.apiserver.app import ApiServer
from podling.client.base import PatchType
from podling.client.client import ApiClient
from podling.client.events import Recorder
from podling.client.informer import Informers
from podling.scheduler.scheduler import Scheduler
from podling.store.memory import MemoryStore
from tests.unit.scheduler.make import node, pod


class Cluster:
    def __init__(self, client: ApiClient) -> None:
        self.client = client

    async def create(self, *objects: Any) -> None:
        for obj in objects:
            await self.client.create(clone(obj))

    async def pod(self, name: str) -> core_v1.Pod:
        return await self.client.get(core_v1.Pod, name, "default")

    async def events(self, name: str) -> list[tuple[str, str]]:
        listed = await self.client.list(core_v1.Event, "default")
        return [(e.reason or "", e.message or "") for e in listed.items if e.involved_object.name == name]

    async def until(self, name: str, done: Callable[[core_v1.Pod], Any], seconds: float = 60) -> core_v1.Pod:
        deadline = clock.elapsed() + seconds
        while not done(found := await self.pod(name)):
            assert clock.elapsed() < deadline, found.status
            await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def running() -> AsyncIterator[Cluster]:
    store = MemoryStore()
    await store.open()
    app = ApiServer(store)
    await app.start()
    client = ApiClient(app)  # type: ignore[arg-type]
    await client.create(core_v1.Namespace(metadata=ObjectMeta(name="default")))
    informers = Informers(client, detect_mutations=True)
    recorder = Recorder(client, "default-scheduler", "test", series=True)
    scheduler = Scheduler(client, informers, recorder)
    informers.start()
    task = asyncio.create_task(scheduler.run())
    try:
        yield Cluster(client)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await recorder.close()
        await informers.close()
        await app.close()
        await store.close()


def virtual(test: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with running() as cluster:
            await test(cluster)

    clock.run_virtual(main())


def condition(found: core_v1.Pod) -> core_v1.PodCondition | None:
    return next((c for c in found.status.conditions or () if c.type == "PodScheduled"), None)


def test_a_pod_is_bound_and_told_so() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.create(node("a"), pod("p", cpu="1"))
        found = await cluster.until("p", lambda p: p.spec.node_name)
        assert found.spec.node_name == "a"
        await asyncio.sleep(1)
        assert await cluster.events("p") == [("Scheduled", "Successfully assigned default/p to a")]

    virtual(run)


def test_a_pod_that_fits_nowhere_waits_for_a_node() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.create(node("a", cpu="1"), pod("p", cpu="2"))
        found = await cluster.until("p", condition)
        told = condition(found)
        assert told is not None
        assert (told.status, told.reason) == ("False", "Unschedulable")
        assert told.message == (
            "0/1 nodes are available: 1 Insufficient cpu. "
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
        await asyncio.sleep(1)
        assert [reason for reason, _ in await cluster.events("p")] == ["FailedScheduling"]
        await cluster.create(node("b", cpu="4"))
        assert (await cluster.until("p", lambda p: p.spec.node_name)).spec.node_name == "b"

    virtual(run)


def test_no_node_is_given_more_than_it_has() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.create(*(node(f"n{n}", cpu="3") for n in range(4)))
        await cluster.create(*(pod(f"p{n}", cpu="1") for n in range(14)))
        await asyncio.sleep(5)
        placed = [(await cluster.pod(f"p{n}")).spec.node_name for n in range(14)]
        assert sorted(placed.count(f"n{n}") for n in range(4)) == [3, 3, 3, 3]
        assert placed.count(None) == 2

    virtual(run)


def test_an_important_pod_makes_room() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.create(node("a", cpu="1"), pod("low", cpu="1", on="a", priority=1))
        await cluster.create(pod("high", cpu="1", priority=10))
        waiting = await cluster.until("high", lambda p: p.status.nominated_node_name)
        assert waiting.status.nominated_node_name == "a"
        victim = await cluster.pod("low")
        assert victim.metadata.deletion_timestamp
        reason = next(c for c in victim.status.conditions or () if c.type == "DisruptionTarget")
        assert reason.reason == "PreemptionByScheduler"
        assert reason.message == "default-scheduler: preempting to accommodate a higher priority pod"
        await cluster.client.delete(core_v1.Pod, "low", "default", grace_period_seconds=0)
        assert (await cluster.until("high", lambda p: p.spec.node_name)).spec.node_name == "a"

    virtual(run)


def test_gates_hold_a_pod_until_they_are_gone() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.create(node("a"), pod("p", schedulingGates=[{"name": "example.com/wait"}]))
        await asyncio.sleep(400)
        assert (await cluster.pod("p")).spec.node_name is None
        await cluster.client.patch(
            core_v1.Pod, "p", "default", {"spec": {"schedulingGates": None}}, type=PatchType.MERGE
        )
        await cluster.until("p", lambda p: p.spec.node_name)

    virtual(run)


def test_pods_of_other_schedulers_are_left_alone() -> None:
    async def run(cluster: Cluster) -> None:
        await cluster.create(node("a"), pod("p", schedulerName="mine"))
        await asyncio.sleep(30)
        assert (await cluster.pod("p")).spec.node_name is None

    virtual(run)
