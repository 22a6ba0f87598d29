"""A large cluster's API: 10,000 objects, 1,000 watches, 200 custom resource definitions, and what they cost.

With --pid, also the memory (PSS) that each of them adds.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from benchmarks.api import config_map
from benchmarks.common import Api, Result, connect, namespace, percentile, spread
from benchmarks.idle import pss, tree

_OBJECTS, _WATCHES, _DEFINITIONS, _WORKERS = 10_000, 1_000, 200, 16
_GROUP = "bench.podling.test"


async def run(kubeconfig: str, arguments: Any) -> list[Result]:
    memory = _Memory(arguments.pid)
    async with connect(kubeconfig, _WATCHES + _WORKERS) as api, namespace(api, "bench-size") as name:
        return [
            *await _objects(api, name, memory),
            *await _watches(api, name, memory),
            *await _definitions(api, name, memory),
        ]


class _Memory:
    """What has been added since the last question; nothing without processes to look at."""

    def __init__(self, pids: list[int] | None) -> None:
        self._pids = pids
        self._before = self._now()

    def _now(self) -> float:
        return sum(pss(p) for p in tree(self._pids)) / 1024 if self._pids else 0.0

    def added(self, what: str) -> list[Result]:
        if not self._pids:
            return []
        now = self._now()
        grown, self._before = now - self._before, now
        return [Result(f"{what}, PSS added", grown, "MiB")]


async def _objects(api: Api, name: str, memory: _Memory) -> list[Result]:
    path = f"/api/v1/namespaces/{name}/configmaps"
    await spread(_OBJECTS, _WORKERS, lambda n: api.request("POST", path, config_map(n)))
    _, gets = await spread(2000, 1, lambda n: api.request("GET", f"{path}/c{n:05}"))
    began = time.perf_counter()
    await api.request("GET", path)
    listing = time.perf_counter() - began
    return [
        Result("10,000 objects there: one GET, p50", percentile(gets, 0.5) * 1000, "ms"),
        Result("... LIST of all", listing * 1000, "ms"),
        *memory.added("10,000 objects of 1 KiB"),
    ]


async def _watches(api: Api, name: str, memory: _Memory) -> list[Result]:
    path = f"/api/v1/namespaces/{name}/configmaps"
    version = (await api.json("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
    late: list[float] = []
    opened = 0

    async def watch(n: int) -> None:
        nonlocal opened
        query = f"watch=1&resourceVersion={version}&allowWatchBookmarks=true"
        async for line in api.lines(f"{path}?{query}"):
            if b'"mark"' in line:
                opened += 1
            elif b'"name":"signal"' in line:
                late.append(time.perf_counter() - sent)
                return

    began = time.perf_counter()
    tasks = [asyncio.create_task(watch(n)) for n in range(_WATCHES)]
    await api.request("POST", path, {"metadata": {"name": "mark"}})
    while opened < _WATCHES:
        await asyncio.sleep(0.05)
    opening = time.perf_counter() - began
    grown = memory.added("1,000 watches")
    sent = time.perf_counter()
    await api.request("POST", path, {"metadata": {"name": "signal"}})
    await asyncio.gather(*tasks)
    return [
        Result("1,000 watches opened", opening, "s"),
        Result("... one change at the last of them", max(late) * 1000, "ms"),
        *grown,
    ]


def _definition(n: int) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {f"field{i}": {"type": "string", "maxLength": 64} for i in range(20)},
                "x-kubernetes-validations": [{"rule": "!has(self.field0) || self.field0 != 'wrong'"}],
            }
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"benches{n:03}.{_GROUP}"},
        "spec": {
            "group": _GROUP,
            "scope": "Namespaced",
            "names": {"plural": f"benches{n:03}", "singular": f"bench{n:03}", "kind": f"Bench{n:03}"},
            "versions": [version],
        },
    }


async def _definitions(api: Api, name: str, memory: _Memory) -> list[Result]:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    last = f"/apis/{_GROUP}/v1/namespaces/{name}/benches{_DEFINITIONS - 1:03}"
    try:
        began = time.perf_counter()
        await spread(_DEFINITIONS, 4, lambda n: api.request("POST", path, _definition(n)))
        custom = {"apiVersion": f"{_GROUP}/v1", "kind": f"Bench{_DEFINITIONS - 1:03}", "metadata": {"name": "one"}}
        while True:
            with suppress(RuntimeError):
                await api.request("POST", last, custom)
                break
            await asyncio.sleep(0.01)
        established = time.perf_counter() - began
        began = time.perf_counter()
        while len((await api.json("GET", f"/apis/{_GROUP}/v1"))["resources"]) < _DEFINITIONS:
            await asyncio.sleep(0.01)
        discovered = time.perf_counter() - began
        creating, _ = await spread(
            2000, _WORKERS, lambda n: api.request("POST", last, {**custom, "metadata": {"name": f"c{n}"}})
        )
        began = time.perf_counter()
        await api.request("GET", f"/openapi/v3/apis/{_GROUP}/v1")
        published = time.perf_counter() - began
        return [
            Result("200 definitions created, the last one's first object there", established, "s"),
            Result("... until discovery shows them all", discovered * 1000, "ms"),
            Result("... their OpenAPI v3 document", published * 1000, "ms"),
            Result("... creates of custom objects", 2000 / creating, "/s", more=True),
            *memory.added("200 definitions"),
        ]
    finally:
        for n in range(_DEFINITIONS):
            with suppress(RuntimeError):
                await api.request("DELETE", f"{path}/benches{n:03}.{_GROUP}")
