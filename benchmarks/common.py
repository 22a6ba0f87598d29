"""What the benchmarks share: a session to the API server, statistics, and the table."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from podling.client import kubeconfig
from podling.client.http import ssl_context


class Result:
    """A row of the table. `budget` and `upstream` are texts out of docs/benchmarks.md."""

    def __init__(self, what: str, value: float, unit: str, budget: float | None = None, *, more: bool = False) -> None:
        self.what, self.value, self.unit, self.budget, self.more_is_better = what, value, unit, budget, more

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        met = self.value >= self.budget if self.more_is_better else self.value <= self.budget
        return "within" if met else "OVER"

    def row(self) -> str:
        budget = "" if self.budget is None else f"{self.budget:,.4g}"
        return f"| {self.what} | {self.value:,.4g} {self.unit} | {budget} | {self.verdict} |"


HEADER = "| what | measured | budget | |\n|---|---|---|---|"


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Api:
    """Raw requests: the benchmark measures the server, so the client does as little as it can."""

    def __init__(self, config: kubeconfig.Config, session: aiohttp.ClientSession) -> None:
        self._config, self.session = config, session
        self.headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}

    async def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": content_type} if data is not None else self.headers
        async with self.session.request(method, self._config.server + path, data=data, headers=headers) as response:
            answer = await response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {answer[:300]!r}")
            return answer

    async def json(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        return json.loads(await self.request(method, path, body, content_type))

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """A watch, line by line."""
        url = self._config.server + path
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(url, headers=self.headers, timeout=timeout) as response:
            pending = b""
            async for chunk in response.content.iter_any():
                *whole, pending = (pending + chunk).split(b"\n")
                for line in whole:
                    yield line


@asynccontextmanager
async def connect(path: str, connections: int = 200) -> AsyncIterator[Api]:
    config = kubeconfig.load(path)
    connector = aiohttp.TCPConnector(limit=connections, ssl=ssl_context(config) or False)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Api(config, session)


@asynccontextmanager
async def namespace(api: Api, name: str) -> AsyncIterator[str]:
    """A namespace of one's own, with its ServiceAccount; gone afterwards."""
    await api.json("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    while True:
        try:
            await api.request("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default")
            break
        except RuntimeError:
            await asyncio.sleep(0.05)
    try:
        yield name
    finally:
        await api.request("DELETE", f"/api/v1/namespaces/{name}")
        while True:
            try:
                await api.request("GET", f"/api/v1/namespaces/{name}")
            except RuntimeError:
                break
            await asyncio.sleep(0.1)


async def spread(count: int, workers: int, work: Any) -> tuple[float, list[float]]:
    """Call `work(n)` for n in range(count) from `workers` tasks; gives seconds in all, and each call's."""
    numbers = iter(range(count))
    taken: list[float] = []

    async def worker() -> None:
        for n in numbers:
            began = time.perf_counter()
            await work(n)
            taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(workers)))
    return time.perf_counter() - began, taken
