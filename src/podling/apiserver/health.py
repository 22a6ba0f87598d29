"""/healthz, /livez, /readyz with their single checks, /version and /metrics."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable

from podling import __version__
from podling.api import errors, version
from podling.api.request import Request, User
from podling.api.struct import encode
from podling.apiserver import metrics
from podling.apiserver.answer import Answer
from podling.apiserver.core import Core
from podling.apiserver.metrics import Counter, Gauge
from podling.apiserver.request_info import RequestInfo

#: The version of Kubernetes whose API is served.
KUBERNETES = ("1", "37", "0")

#: Returns if all is well; the exception says what is not.
Check = Callable[[], Awaitable[None]]

_TEXT = {"content-type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


def version_info() -> version.Info:
    """What /version says."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    major, minor, patch = KUBERNETES
    return version.Info(
        major=major,
        minor=minor,
        git_version=f"v{major}.{minor}.{patch}+podling-{__version__}",
        git_commit="0000000000000000000000000000000000000000",
        git_tree_state="clean",
        build_date="1970-01-01T00:00:00Z",
        go_version="none",
        compiler="python",
        platform=f"{platform.system().lower()}/{machine}",
    )


class Health:
    """The checks of a server; `add` brings in those of other parts of the cluster (poststarthook/...)."""

    def __init__(self, app: Core) -> None:
        self._app = app
        #: Metrics of single parts of the server.
        self.metrics: list[Counter] = []
        self._checks: dict[str, list[tuple[str, Check]]] = {"healthz": [], "livez": [], "readyz": []}
        self.add("ping", self._ping)
        self.add("log", self._ping)
        self.add("store", self._store)
        self.add("informer-sync", self._synced, endpoints=("readyz",))
        self.add("shutdown", self._not_closing, endpoints=("readyz",))
        for name in self._checks:
            app.paths[f"/{name}"] = app.paths[f"/{name}/"] = self.answer
        app.paths["/version"] = self._version
        app.paths["/metrics"] = self._metrics
        self._objects = Gauge(
            "apiserver_resource_objects",
            "[ALPHA] Number of stored objects at the time of last check split by kind.",
            ("group", "resource"),
            self._count,
        )
        self._watchers = Gauge(
            "apiserver_longrunning_requests",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, "
            "resource, scope and component.",
            ("component", "group", "resource", "verb", "version"),
            self._long_running,
        )

    def add(self, name: str, check: Check, *, endpoints: tuple[str, ...] = ("healthz", "livez", "readyz")) -> None:
        """Another check."""
        for endpoint in endpoints:
            self._checks[endpoint].append((name, check))

    async def answer(self, request: Request, info: RequestInfo, user: User) -> Answer:
        """/healthz, /healthz?verbose, /healthz/<check>."""
        endpoint, _, only = info.path.strip("/").partition("/")
        checks = self._checks[endpoint]
        if only:
            checks = [c for c in checks if c[0] == only]
            if not checks:
                raise errors.path_not_found()
        excluded = set(request.queries.get("exclude", [request.query["exclude"]] if "exclude" in request.query else []))
        lines, failed = [], []
        for name, check in checks:
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            try:
                await check()
                lines.append(f"[+]{name} ok")
            except Exception:
                lines.append(f"[-]{name} failed: reason withheld")
                failed.append(name)
        if failed:
            text = "\n".join([*lines, f"{endpoint} check failed", ""])
            return Answer(status=500, body=text.encode(), headers=_TEXT)
        if "verbose" in request.query and not only:
            return Answer(body="\n".join([*lines, f"{endpoint} check passed", ""]).encode(), headers=_TEXT)
        return Answer(body=b"ok", headers=_TEXT)

    async def _ping(self) -> None:
        pass

    async def _store(self) -> None:
        async with asyncio.timeout(2):
            await self._app.store.get("/registry/health")

    async def _synced(self) -> None:
        async with asyncio.timeout(2):
            await self._app.hub.current()

    async def _not_closing(self) -> None:
        if not self._app.ready:
            raise errors.unavailable("the server is not ready")

    async def _version(self, request: Request, info: RequestInfo, user: User) -> Answer:
        return Answer(body=encode(version_info()))

    async def _metrics(self, request: Request, info: RequestInfo, user: User) -> Answer:
        text = metrics.text([*metrics.METRICS, self._objects, self._watchers, *self.metrics])
        return Answer(body=text.encode(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    def _count(self) -> dict[tuple[str, ...], float]:
        return {
            (s.resource.group, s.resource.name): float(len(s.cache.entries))
            for s in self._app.served.values()
            if not s.resource.virtual and s.view is None
        }

    def _long_running(self) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for s in self._app.served.values():
            if not s.resource.virtual and s.view is None and (count := len(s.cache.watches())):
                found["apiserver", s.resource.group, s.resource.name, "WATCH", s.resource.version] = float(count)
        return found
