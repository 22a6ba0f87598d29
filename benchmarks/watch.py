"""Watch fan-out: one sequential writer, 100 watchers; how many deliveries a second, and how late they are."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from benchmarks.common import Result, connect, namespace, percentile

_WATCHERS, _WRITES = 100, 500
_SENT = re.compile(rb'"sent":"([0-9.]+)"')


async def run(kubeconfig: str, arguments: Any) -> list[Result]:
    late: list[float] = []
    async with connect(kubeconfig, _WATCHERS + 4) as api, namespace(api, "bench-watch") as name:
        path = f"/api/v1/namespaces/{name}/configmaps"
        await api.request("POST", path, {"metadata": {"name": "c"}, "data": {"sent": "0"}})
        version = (await api.json("GET", path))["metadata"]["resourceVersion"]
        ready = asyncio.Semaphore(0)

        async def watch() -> None:
            seen = 0
            async for line in api.lines(f"{path}?watch=1&fieldSelector=metadata.name%3Dc&resourceVersion={version}"):
                found = _SENT.search(line)
                if found is None:
                    continue
                if found[1] == b"1":
                    ready.release()
                    continue
                late.append(time.perf_counter() - float(found[1]))
                seen += 1
                if seen == _WRITES:
                    return

        watchers = [asyncio.create_task(watch()) for _ in range(_WATCHERS)]

        async def write(sent: str) -> None:
            await api.request(
                "PUT", f"{path}/c", {"metadata": {"name": "c"}, "data": {"sent": sent, "text": "x" * 900}}
            )

        await write("1")
        for _ in range(_WATCHERS):
            await ready.acquire()
        began = time.perf_counter()
        for _ in range(_WRITES):
            await write(f"{time.perf_counter():.6f}")
        await asyncio.gather(*watchers)
        took = time.perf_counter() - began
    return [
        Result("watch deliveries, 1 writer, 100 watchers", _WATCHERS * _WRITES / took, "/s", 30000, more=True),
        Result("watch delivery, p50", percentile(late, 0.5) * 1000, "ms", 3),
        Result("watch delivery, p99", percentile(late, 0.99) * 1000, "ms", 10),
    ]
