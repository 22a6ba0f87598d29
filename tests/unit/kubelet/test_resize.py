"""In-place resize, on virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from podling import clock
from podling.api import core_v1
from podling.client.base import PatchType
from podling.runtime.fake_behaviour import Behaviour
from tests.unit.kubelet.node import Node, condition, pod


def run(main: Any) -> None:
    clock.run_virtual(main())


def _guaranteed(cpu: str, memory: str = "64Mi") -> dict[str, Any]:
    return {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu, "memory": memory}}


async def _resize(node: Node, resources: dict[str, Any]) -> None:
    patch = {"spec": {"containers": [{"name": "app", "resources": resources}]}}
    await node.client.patch(core_v1.Pod, "web", "default", patch, type=PatchType.STRATEGIC, subresource="resize")


async def _app(node: Node) -> core_v1.ContainerStatus:
    return ((await node.status("web")).container_statuses or [])[0]


def test_cpu_changes_without_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", {"name": "app", "resources": _guaranteed("100m")}))
            await node.until_ready("web")
            await _resize(node, _guaranteed("250m"))
            await asyncio.sleep(1)
            app = await _app(node)
            assert app.restart_count == 0
            assert app.allocated_resources == {"cpu": "250m", "memory": "64Mi"}
            assert app.resources is not None
            assert app.resources.limits == {"cpu": "250m", "memory": "64Mi"}
            assert node.running("app").resources.cpu_quota == 25_000
            status = await node.status("web")
            assert condition(status, "PodResizeInProgress").status == "Missing"
            assert condition(status, "PodResizePending").status == "Missing"
            assert status.observed_generation == 2
            assert "ResizeCompleted" in [reason for reason, _ in await node.events("web")]

    run(main)


def test_a_policy_may_ask_for_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
            container = {"name": "app", "resources": _guaranteed("100m"), "resizePolicy": policy}
            await node.create(pod("web", container))
            await node.until_ready("web")
            await _resize(node, _guaranteed("100m", "128Mi"))
            await asyncio.sleep(2)
            app = await _app(node)
            assert app.restart_count == 1
            assert node.running("app").resources.memory_limit == 128 << 20
            assert ("Killing", "Container app resize requires restart") in await node.events("web")

    run(main)


def test_more_than_the_node_has_is_infeasible(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", {"name": "app", "resources": _guaranteed("1")}))
            await node.until_ready("web")
            await _resize(node, _guaranteed("9"))
            await asyncio.sleep(1)
            pending = condition(await node.status("web"), "PodResizePending")
            assert (pending.status, pending.reason) == ("True", "Infeasible")
            assert pending.message == "Node didn't have enough capacity: cpu, requested: 9000, capacity: 4000"
            assert node.running("app").resources.cpu_quota == 100_000

    run(main)


def test_what_does_not_fit_now_is_deferred_until_it_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", {"name": "app", "resources": _guaranteed("1")}))
            await node.create(pod("big", {"name": "big", "resources": _guaranteed("2")}))
            await node.until_ready("web")
            await node.until_ready("big")
            await _resize(node, _guaranteed("3"))
            await asyncio.sleep(1)
            assert condition(await node.status("web"), "PodResizePending").reason == "Deferred"
            await node.client.delete(core_v1.Pod, "big", "default")
            await asyncio.sleep(15)
            assert condition(await node.status("web"), "PodResizePending").status == "Missing"
            assert node.running("app").resources.cpu_quota == 300_000

    run(main)


def test_memory_is_not_cut_below_what_is_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(memory=40 << 20)}) as node:
            await node.create(pod("web", {"name": "app", "resources": _guaranteed("100m", "64Mi")}))
            await node.until_ready("web")
            await _resize(node, _guaranteed("100m", "32Mi"))
            await asyncio.sleep(1)
            progress = condition(await node.status("web"), "PodResizeInProgress")
            assert (progress.status, progress.reason) == ("True", "Error")
            assert "below current usage" in (progress.message or "")
            assert node.running("app").resources.memory_limit == 64 << 20
            node.running("app").set_usage(memory=8 << 20)
            await asyncio.sleep(15)
            assert node.running("app").resources.memory_limit == 32 << 20
            assert condition(await node.status("web"), "PodResizeInProgress").status == "Missing"

    run(main)
