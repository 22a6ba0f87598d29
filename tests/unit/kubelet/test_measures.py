"""What a node agent counts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from podling import clock
from podling.kubelet import server_metrics
from podling.kubelet.backend import Backend
from podling.kubelet.eviction import EvictionManager, Observation
from podling.kubelet.measures import Measures
from podling.runtime.fake_behaviour import Behaviour
from tests.unit.kubelet.node import Node, pod
from tests.unit.measured import count, grows


def run(main: Any) -> None:
    clock.run_virtual(main())


def test_a_pod_that_starts_and_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:

            def of(name: str, **labels: str) -> float:
                return count(f"kubelet_{name}", node.kubelet.measures.registry, **labels)

            await node.create(pod("web", {"name": "app"}, {"name": "side"}))
            await node.until_ready("web")
            await asyncio.sleep(1)
            assert of("started_pods_total") == 1 and of("started_pods_errors_total") == 0
            assert of("started_containers_total", container_type="container") == 2
            assert of("containers_per_pod_count") == 1
            assert of("runtime_operations_total", operation_type="run_podsandbox") == 1
            assert of("runtime_operations_total", operation_type="create_container") == 2
            assert of("runtime_operations_duration_seconds", operation_type="start_container") == 2
            assert of("run_podsandbox_duration_seconds", runtime_handler="") == 1
            assert of("pod_worker_start_duration_seconds") == 1
            assert of("pod_worker_duration_seconds", operation_type="create") == 1
            assert of("pod_worker_duration_seconds") > 1
            assert of("pod_status_sync_duration_seconds") > 0
            for name in ("pod_start_duration_seconds", "pod_start_sli_duration_seconds"):
                assert of(name) == 1
            await node.client.delete(type(pod("web")), "web", "default", grace_period_seconds=1)
            await asyncio.sleep(5)
            assert of("pod_worker_duration_seconds", operation_type="kill") > 0
            assert of("runtime_operations_total", operation_type="remove_podsandbox") == 1

    run(main)


def test_images_are_taken_out_of_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            registry = node.kubelet.measures.registry
            await node.create(pod("web", {"name": "app", "image": "localhost/app:1", "imagePullPolicy": "Always"}))
            await node.until_ready("web")
            await asyncio.sleep(1)
            assert count("kubelet_image_pull_duration_seconds", registry) == 1
            assert count("kubelet_runtime_operations_total", registry, operation_type="pull_image") == 1
            sli = registry.families["kubelet_pod_start_sli_duration_seconds"].values[()][-1]  # type: ignore[index]
            total = registry.families["kubelet_pod_start_total_duration_seconds"].values[()][-1]  # type: ignore[index]
            assert sli <= total

    run(main)


def test_what_fails(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(start_error="no such file")}) as node:
            registry = node.kubelet.measures.registry
            await node.create(pod("web"))
            await asyncio.sleep(5)
            labels = {"container_type": "container", "code": "RunContainerError"}
            assert count("kubelet_started_containers_errors_total", registry, **labels) > 0
            assert count("kubelet_runtime_operations_errors_total", registry, operation_type="start_container") > 0

    run(main)


def test_all_of_it_is_shown_and_can_be_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            names: set[str] = set()
            for path in ("/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes"):
                text = await Backend(node.kubelet).metrics(path) or ""
                found = [f.name for f in text_string_to_metric_families(text)]
                assert len(set(found)) == len(found), "a family is shown once"
                names |= set(found)
            assert {"kubelet_started_pods", "kubelet_running_pods", "container_memory_rss", "process_open_fds"} <= names

    run(main)


def test_evictions_by_signal() -> None:
    from podling.kubelet.config import EvictionThreshold

    async def main() -> None:
        measures = Measures()

        async def look() -> dict[str, Observation]:
            return {"memory.available": Observation(1, 100)}

        async def usage(candidates: Any) -> dict[str, Any]:
            return {}

        async def reclaim() -> None:
            raise AssertionError

        manager = EvictionManager(
            [EvictionThreshold("memory.available", "10%")],
            0.0,
            look=look,
            candidates=lambda: [pod("web")],
            usage=usage,
            reclaim=reclaim,
            evict=lambda pod, verdict, grace: None,
            changed=lambda pressure: None,
            counted=measures.evicted,
        )
        assert await manager.check() is not None
        assert count("kubelet_evictions", measures.registry, eviction_signal="memory.available") == 1

    run(main)


@pytest.mark.parametrize(
    ("parts", "path", "lasts"),
    [
        (["pods"], "pods", "false"),
        (["metrics", "cadvisor"], "metrics/cadvisor", "false"),
        (["metrics", "../../x"], "other", "false"),
        (["exec", "default", "web", "app"], "exec", "true"),
        (["no", "such"], "other", "false"),
    ],
)
def test_requests_by_path_without_what_anybody_can_make_up(parts: list[str], path: str, lasts: str) -> None:
    labels = {"path": path, "long_running": lasts, "method": "GET", "server_type": "readwrite"}
    with (
        grows("kubelet_http_requests_total", **labels),
        grows("kubelet_http_requests_duration_seconds", **labels),
        server_metrics.serving("GET", parts, ("pods", "metrics", "exec", "stats")),
    ):
        assert count("kubelet_http_inflight_requests", **labels) == 1
    assert count("kubelet_http_inflight_requests", **labels) == 0
