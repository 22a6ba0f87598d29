"""Node pressure: what it is, who goes, and what is said about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1
from podling.kubelet import eviction, pods
from podling.kubelet.config import EvictionThreshold
from podling.kubelet.eviction import Observation, Usage
from podling.kubelet.node_status import Pressure
from podling.runtime.fake_behaviour import Behaviour
from tests.unit.kubelet.node import Node, condition, pod

MEMORY = EvictionThreshold("memory.available", "100Mi")
DISK = EvictionThreshold("nodefs.available", "10%")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("threshold", "available", "capacity", "expected"),
    [
        (MEMORY, 99 * MIB, 1 << 30, True),
        (MEMORY, 100 * MIB, 1 << 30, False),
        (DISK, 9, 100, True),
        (DISK, 10, 100, False),
    ],
)
def test_thresholds(threshold: EvictionThreshold, available: int, capacity: int, expected: bool) -> None:
    observed = {threshold.signal: Observation(available, capacity)}
    assert (eviction.met([threshold], observed) == [threshold]) is expected


def _named(name: str, request: str = "", priority: int = 0) -> core_v1.Pod:
    resources = {"requests": {"memory": request}} if request else {}
    made = pod(name, {"name": "app", "resources": resources}, priority=priority)
    made.metadata.uid = name
    return made


def test_who_goes_first() -> None:
    candidates = [
        _named("within", "300Mi"),
        _named("over-a-lot"),
        _named("over-a-little", "150Mi"),
        _named("important", priority=100),
        _named("critical", priority=pods.SYSTEM_CRITICAL_PRIORITY),
    ]
    usage = {p.metadata.uid or "": Usage(memory={"app": 200 * MIB}) for p in candidates}
    ranked = [p.metadata.name for p in eviction.rank("memory.available", candidates, usage)]
    assert ranked == ["over-a-lot", "over-a-little", "important", "within"]


def test_what_is_said() -> None:
    text = eviction.message(
        MEMORY, Observation(50 * MIB, 1 << 30), _named("a", "10Mi"), Usage(memory={"app": 200 * MIB})
    )
    assert text == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container app was using 200Mi, request is 10Mi, has larger consumption of memory. "
    )


@pytest.mark.parametrize(
    ("spec", "disk", "volumes", "expected"),
    [
        (
            {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]},
            {},
            {"v": 2 * MIB},
            'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ',
        ),
        (
            {"containers": [{"name": "a", "image": "i", "resources": {"limits": {"ephemeral-storage": "1Mi"}}}]},
            {"a": 2 * MIB},
            {},
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
        ),
        (
            {
                "containers": [
                    {"name": "a", "image": "i", "resources": {"limits": {"ephemeral-storage": "1Mi"}}},
                    {"name": "b", "image": "i"},
                ]
            },
            {"a": 2 * MIB},
            {},
            'Container a exceeded its local ephemeral storage limit "1Mi". ',
        ),
        ({"volumes": [{"name": "v", "emptyDir": {}}]}, {}, {"v": 2 * MIB}, ""),
    ],
)
def test_local_storage(
    spec: dict[str, Any], disk: Mapping[str, int], volumes: Mapping[str, int], expected: str
) -> None:
    assert eviction.storage_excess(pod("p", **spec), disk, volumes) == expected


def test_whom_a_node_under_pressure_takes() -> None:
    modest, none = _named("a", "10Mi"), _named("b")
    assert eviction.rejection(none, Pressure()) is None
    assert eviction.rejection(modest, Pressure(memory=True)) is None
    refused = eviction.rejection(none, Pressure(memory=True))
    assert refused is not None and refused.message == "The node had condition: [MemoryPressure]. "
    assert eviction.rejection(modest, Pressure(disk=True)) is not None


def test_a_node_short_of_memory_evicts(tmp_path: Path) -> None:
    async def main() -> None:
        behaviours = {"greedy": Behaviour(memory=500 * MIB)}
        async with Node(tmp_path, behaviours=behaviours, eviction=(MEMORY,)) as node:
            available = 1 << 30

            async def look() -> Mapping[str, Observation]:
                return {"memory.available": Observation(available, 8 << 30)}

            node.kubelet._evictions._look = look
            await node.create(pod("good", {"name": "app", "resources": {"requests": {"memory": "64Mi"}}}))
            await node.create(pod("bad", {"name": "greedy"}))
            await node.until_ready("good")
            await node.until_ready("bad")
            available = 50 * MIB
            status = await node.until_phase("bad", "Failed", 30)
            assert status.reason == "Evicted"
            assert (status.message or "").startswith("The node was low on resource: memory. ")
            target = condition(status, "DisruptionTarget")
            assert (target.status, target.reason) == ("True", "TerminationByKubelet")
            available = 1 << 30
            await asyncio.sleep(30)
            assert (await node.status("good")).phase == "Running"
            assert await _memory_pressure(node) == "True"
            # The condition outlasts the shortage, so that pods do not come and go.
            await asyncio.sleep(330)
            assert await _memory_pressure(node) == "False"

    clock.run_virtual(main())


async def _memory_pressure(node: Node) -> str:
    status = (await node.client.get(core_v1.Node, "node-1")).status or core_v1.NodeStatus()
    return next(c.status for c in status.conditions or () if c.type == "MemoryPressure")


def test_an_empty_dir_over_its_limit_is_evicted(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]))
            await node.until_ready("web")
            node.volumes.sizes = {"v": 3 * MIB}
            status = await node.until_phase("web", "Failed", 30)
            assert status.message == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '

    clock.run_virtual(main())
