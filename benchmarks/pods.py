"""Pods: from create to Ready and from delete to gone, one at a time and 50 at once; a Deployment of 30."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import Api, Result, connect, namespace, percentile

_AT_ONCE = 50
_REPLICAS = 30


def _spec(image: str) -> dict[str, Any]:
    return {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": image, "command": ["sleep", "100000"]}],
    }


def _pod(name: str, image: str) -> dict[str, Any]:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": _spec(image)}


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class _Follower:
    """Follows a resource of a namespace; `until` waits for a condition on all objects seen."""

    def __init__(self, api: Api, path: str) -> None:
        self._api, self._path = api, path
        self.objects: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> _Follower:
        listed = await self._api.json("GET", self._path)
        for item in listed["items"]:
            self.objects[item["metadata"]["name"]] = item
        version = listed["metadata"]["resourceVersion"]
        self._task = asyncio.create_task(self._follow(version))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, version: str) -> None:
        async for line in self._api.lines(f"{self._path}?watch=1&resourceVersion={version}"):
            event = json.loads(line)
            item = event["object"]
            if event["type"] == "DELETED":
                self.objects.pop(item["metadata"]["name"], None)
            else:
                self.objects[item["metadata"]["name"]] = item
            self._changed.set()

    async def until(self, done: Callable[[dict[str, dict[str, Any]]], bool], seconds: float = 180) -> None:
        async with asyncio.timeout(seconds):
            while not done(self.objects):
                self._changed.clear()
                await self._changed.wait()


async def _one_at_a_time(api: Api, path: str, image: str, count: int) -> tuple[list[float], list[float]]:
    started, ended = [], []
    async with _Follower(api, path) as pods:
        for n in range(count):
            name = f"p{n}"
            began = time.perf_counter()
            await api.request("POST", path, _pod(name, image))
            await pods.until(lambda seen, name=name: name in seen and _ready(seen[name]))  # type: ignore[misc]
            started.append(time.perf_counter() - began)
            began = time.perf_counter()
            await api.request("DELETE", f"{path}/{name}")
            await pods.until(lambda seen, name=name: name not in seen)  # type: ignore[misc]
            ended.append(time.perf_counter() - began)
    return started, ended


async def _at_once(api: Api, path: str, image: str) -> tuple[float, float]:
    async with _Follower(api, path) as pods:
        began = time.perf_counter()
        await asyncio.gather(*(api.request("POST", path, _pod(f"q{n}", image)) for n in range(_AT_ONCE)))
        await pods.until(lambda seen: sum(_ready(p) for p in seen.values()) == _AT_ONCE)
        started = time.perf_counter() - began
        began = time.perf_counter()
        await api.request("DELETE", path)
        await pods.until(lambda seen: not seen)
        return started, time.perf_counter() - began


async def _deployment(api: Api, name: str, image: str) -> tuple[float, float]:
    path = f"/apis/apps/v1/namespaces/{name}/deployments"
    labels = {"app": "d"}
    body = {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": _REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _spec(image)},
        },
    }

    def rolled(seen: dict[str, dict[str, Any]]) -> bool:
        d = seen.get("d", {})
        s = d.get("status", {})
        return (
            s.get("observedGeneration", 0) >= d["metadata"]["generation"]
            and s.get("updatedReplicas") == s.get("availableReplicas") == s.get("replicas") == _REPLICAS
            if d
            else False
        )

    async with _Follower(api, path) as deployments:
        began = time.perf_counter()
        await api.request("POST", path, body)
        await deployments.until(rolled)
        applied = time.perf_counter() - began
        patch = {"spec": {"template": {"metadata": {"annotations": {"restarted": "1"}}}}}
        began = time.perf_counter()
        answer = await api.json("PATCH", f"{path}/d", patch, "application/merge-patch+json")
        deployments.objects["d"] = answer
        await deployments.until(rolled)
        return applied, time.perf_counter() - began


async def run(kubeconfig: str, arguments: Any) -> list[Result]:
    async with connect(kubeconfig) as api, namespace(api, "bench-pods") as name:
        path = f"/api/v1/namespaces/{name}/pods"
        await _one_at_a_time(api, path, arguments.image, 2)
        started, ended = await _one_at_a_time(api, path, arguments.image, 40)
        together, gone = await _at_once(api, path, arguments.image)
        applied, rolled = await _deployment(api, name, arguments.image)
    return [
        Result("create → Ready of one pod, p50", percentile(started, 0.5) * 1000, "ms", 60),
        Result("create → Ready of one pod, p99", percentile(started, 0.99) * 1000, "ms", 150),
        Result("delete → gone of one pod, p50", percentile(ended, 0.5) * 1000, "ms"),
        Result("50 pods created at once, all Ready", together, "s", 2.5),
        Result("50 pods deleted at once, all gone", gone, "s"),
        Result("Deployment of 30: applied → available", applied, "s", 2),
        Result("Deployment of 30: rolled", rolled, "s", 4),
    ]
