"""The API over TLS: creates, gets, updates and lists per second of ConfigMaps of 1 KiB, from 16 connections."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.common import Result, connect, namespace, percentile, spread

_WORKERS = 16
_TEXT = "x" * 900


def config_map(n: int, text: str = _TEXT) -> dict[str, Any]:
    """A ConfigMap of 1 KiB."""
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": f"c{n:05}"}, "data": {"text": text}}


async def run(kubeconfig: str, arguments: Any) -> list[Result]:
    objects = 5000
    async with connect(kubeconfig, _WORKERS) as api, namespace(api, "bench-api") as name:
        path = f"/api/v1/namespaces/{name}/configmaps"
        creating, _ = await spread(objects, _WORKERS, lambda n: api.request("POST", path, config_map(n)))
        getting, gets = await spread(2 * objects, _WORKERS, lambda n: api.request("GET", f"{path}/c{n % objects:05}"))
        updating, _ = await spread(
            objects, _WORKERS, lambda n: api.request("PUT", f"{path}/c{n:05}", config_map(n, "y" * 900))
        )
        lists = []
        for query in ("", "?resourceVersion=0"):
            times = []
            for _ in range(7):
                began = time.perf_counter()
                await api.request("GET", path + query)
                times.append(time.perf_counter() - began)
            lists.append(percentile(times, 0.5) * 1000)
    return [
        Result("API creates over TLS, 16 connections", objects / creating, "/s", 3000, more=True),
        Result("API GETs", 2 * objects / getting, "/s", 8000, more=True),
        Result("API GETs, p99", percentile(gets, 0.99) * 1000, "ms"),
        Result("API updates", objects / updating, "/s", 2500, more=True),
        Result("LIST of 5,000 objects of 1 KiB, consistent", lists[0], "ms", 50),
        Result("LIST of 5,000 objects of 1 KiB, from cache", lists[1], "ms", 50),
    ]
