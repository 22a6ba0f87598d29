"""What the node agent's server is given."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.api.errors import StatusError
from podling.kubelet import stats
from podling.kubelet.backend import Backend
from podling.kubelet.server import KubeletBackend
from podling.runtime.base import Streams
from podling.runtime.fake_behaviour import Behaviour, ExecOutcome
from podling.streaming.log_query import LogQuery
from tests.unit.kubelet.node import Node, pod


def run(main: Any) -> None:
    clock.run_virtual(main())


async def _log(backend: KubeletBackend, container: str, **query: Any) -> bytes:
    return b"".join([piece async for piece in backend.container_log("default", "web", container, LogQuery(**query))])


def test_logs_of_this_and_the_previous_run(tmp_path: Path) -> None:
    async def main() -> None:
        behaviour = Behaviour(log=((0.1, "hello"),))
        async with Node(tmp_path, behaviours={"app": behaviour}) as node:
            backend: KubeletBackend = Backend(node.kubelet)
            await node.create(pod("web"))
            await node.until_ready("web")
            await asyncio.sleep(1)
            assert await _log(backend, "app") == b"hello\n"
            with pytest.raises(StatusError, match='previous terminated container "app" in pod "web" not found'):
                await _log(backend, "app", previous=True)
            node.behaviours["app"] = Behaviour(log=((0.1, "again"),))
            node.running("app").end(1)
            await asyncio.sleep(2)
            assert await _log(backend, "app") == b"again\n"
            assert await _log(backend, "app", previous=True) == b"hello\n"

    run(main)


def test_logs_of_a_container_that_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", {"name": "app", "image": "absent:1", "imagePullPolicy": "Never"}))
            await asyncio.sleep(1)
            text = 'container "app" in pod "web" is waiting to start: ErrImageNeverPull'
            with pytest.raises(StatusError, match=text):
                await _log(Backend(node.kubelet), "app")

    run(main)


def test_commands_in_containers(tmp_path: Path) -> None:
    async def main() -> None:
        behaviour = Behaviour(exec=lambda argv, age: ExecOutcome(exit_code=4, stdout=" ".join(argv).encode()))
        async with Node(tmp_path, behaviours={"app": behaviour}) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            backend = Backend(node.kubelet)
            output = bytearray()

            async def collect(data: bytes) -> None:
                output.extend(data)

            streams = Streams(stdout=collect)
            assert await backend.exec("default", "web", "app", ["a", "b"], tty=False, streams=streams) == 4
            assert output == b"a b"
            with pytest.raises(StatusError, match=r'container not found \("other"\)'):
                await backend.exec("default", "web", "other", ["a"], tty=False, streams=streams)

    run(main)


def test_statistics(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(cpu=0.25, memory=10 << 20)}) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            backend = Backend(node.kubelet)
            brief = await backend.stats_summary(only_cpu_and_memory=True)
            assert brief["node"]["cpu"]["usageNanoCores"] > 0, "the average since the machine began"
            await asyncio.sleep(10)
            node.volumes.sizes = {"data": 4096}
            summary = await backend.stats_summary(only_cpu_and_memory=False)
            (web,) = summary["pods"]
            assert web["podRef"]["name"] == "web"
            (app,) = web["containers"]
            (volume,) = web["volume"]
            assert (volume["name"], volume["usedBytes"]) == ("data", 4096)
            assert web["ephemeral-storage"]["usedBytes"] >= 4096
            assert summary["node"]["rlimit"]["maxpid"] >= summary["node"]["rlimit"]["curproc"] > 0
            assert app["cpu"]["usageNanoCores"] == pytest.approx(250_000_000, rel=0.01)
            assert app["memory"]["workingSetBytes"] == 10 << 20
            assert summary["node"]["nodeName"] == "node-1"
            text = await backend.metrics("/metrics/resource") or ""
            assert 'container_memory_working_set_bytes{container="app",namespace="default",pod="web"} 10485760' in text
            assert "kubelet_running_pods 1\n" in (await backend.metrics("/metrics") or "")
            text = await backend.metrics("/metrics") or ""
            assert 'kubelet_desired_pods{static=""} 1\n' in text and 'kubelet_active_pods{static=""} 1\n' in text
            assert "\nprocess_resident_memory_bytes " in text
            assert "container_spec_memory_limit_bytes" in (await backend.metrics("/metrics/cadvisor") or "")
            assert await backend.metrics("/metrics/nothing") is None
            assert backend.healthy() == ""

    run(main)


def test_probes_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            probe = {"httpGet": {"port": 80}, "periodSeconds": 5}
            await node.create(pod("web", {"name": "app", "livenessProbe": probe}))
            await asyncio.sleep(21)
            text = await Backend(node.kubelet).metrics("/metrics/probes") or ""
            assert 'probe_type="Liveness",result="successful"} 4' in text

    run(main)


@pytest.mark.parametrize(
    ("routes", "name"),
    [
        ("", ""),
        ("Iface\tDestination\n", ""),
        (
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
            "br0\t0000D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
            "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
            "eth0",
        ),
    ],
)
def test_the_default_route_names_the_nodes_interface(routes: str, name: str) -> None:
    assert stats.default_interface(routes) == name


def test_rates() -> None:
    started = clock.EPOCH

    def at(seconds: float) -> datetime:
        return started + timedelta(seconds=seconds)

    known = stats._Rate()
    assert known.update(at(10), 5_000_000_000, started) == 500_000_000
    assert known.update(at(10.5), 9_000_000_000, started) == 500_000_000, "too soon to say"
    assert known.update(at(20), 7_000_000_000, started) == 200_000_000
    unknown = stats._Rate()
    assert unknown.update(at(10), 5_000_000_000, None) == 0
    assert unknown.update(at(20), 7_000_000_000, None) == 200_000_000
