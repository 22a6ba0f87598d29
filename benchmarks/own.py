"""A podling cluster of one's own for the benchmarks; its start is the first of them."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import Result, connect
from benchmarks.pods import _Follower, _pod, _ready

_PORT = 16443


def podling(data: Path, command: str, *arguments: str) -> None:
    """Run the command line; its output is shown only if it fails."""
    line = [sys.executable, "-m", "podling.cli.main", command, "--data-dir", str(data), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stdout}{done.stderr}")


async def _first_pod(kubeconfig: str, image: str) -> None:
    async with connect(kubeconfig) as api:
        path = "/api/v1/namespaces/default/pods"
        async with _Follower(api, path) as pods:
            while True:
                try:
                    await api.request("POST", path, _pod("first", image))
                    break
                except RuntimeError:
                    await asyncio.sleep(0.005)
            await pods.until(lambda seen: "first" in seen and _ready(seen["first"]))
            await api.request("DELETE", f"{path}/first")
            await pods.until(lambda seen: not seen)


@contextmanager
def cluster(folder: Path, arguments: argparse.Namespace, show: Callable[[list[Result]], None]) -> Iterator[None]:
    """Started with an empty data directory that has the image only; `arguments` get its kubeconfig and pid."""
    data = folder / "cluster"
    podling(data, "image", "create", arguments.image, "--package", "busybox-static")
    try:
        starts, firsts = [], []
        for _ in range(3):
            for path in ("state.db", "state.db-wal", "state.db-shm", "pki", "nodes", "cluster.json"):
                subprocess.run(["rm", "-rf", str(data / path)], check=True)
            began = time.perf_counter()
            podling(data, "up", "--port", str(_PORT))
            starts.append(time.perf_counter() - began)
            asyncio.run(_first_pod(str(data / "admin.kubeconfig"), arguments.image))
            firsts.append(time.perf_counter() - began)
            if len(starts) < 3:
                podling(data, "down")
        show(
            [
                Result("start with an empty data directory → node Ready", sorted(starts)[1], "s", 1.0),
                Result("... → first pod Ready", sorted(firsts)[1], "s", 1.5),
            ]
        )
        arguments.kubeconfig = str(data / "admin.kubeconfig")
        from podling.cluster import config, supervisor

        arguments.pid = [supervisor.running_pid(config.layout(data))]
        yield
    finally:
        podling(data, "down", "--purge")
