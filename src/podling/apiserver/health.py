"""/healthz, /livez and /readyz: all checks together, and each by itself.

A check belongs to some of the three. `hook` is a check that fails until something of the start has been done; /livez
forgives it for a grace period. Source of the words: k8s.io/apiserver pkg/server/healthz.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from podling import clock, log
from podling.api import errors
from podling.api.request import Request, User
from podling.apiserver.answer import Answer
from podling.apiserver.request_info import RequestInfo
from podling.metrics import Registry

if TYPE_CHECKING:
    from podling.apiserver.core import Core

LOG = log.get(__name__)

ENDPOINTS = ("healthz", "livez", "readyz")
#: Seconds that the store may take to answer.
_PATIENCE = 2.0

#: Returns if all is well; the exception says what is not.
Check = Callable[[], Awaitable[None]]

_TEXT = {"content-type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class Unhealthy(Exception):
    """What is not well, in a few words."""


class Health:
    """The checks of a server; `add` and `hook` bring in those of other parts of the cluster.

    The results of all checks are counted in `slis`, which /metrics/slis shows.
    """

    def __init__(self, app: Core) -> None:
        self._app = app
        self._checks: dict[str, list[tuple[str, Check]]] = {name: [] for name in ENDPOINTS}
        #: Seconds after the start for which /livez forgives hooks that have not run.
        self.grace = 0.0
        self._began: float | None = None
        self.slis = Registry()
        self._last = self.slis.gauge(
            "kubernetes_healthcheck",
            "[STABLE] This metric records the result of a single healthcheck.",
            ("name", "type"),
        )
        self._total = self.slis.counter(
            "kubernetes_healthchecks_total",
            "[STABLE] This metric records the results of all healthcheck.",
            ("name", "status", "type"),
        )
        self.add("ping", self._ping)
        self.add("log", self._ping)
        self.add("etcd", self._store)
        self.add("etcd-readiness", self._store, endpoints=("readyz",))
        self.add("informer-sync", self._synced, endpoints=("readyz",))
        for name in ENDPOINTS:
            app.paths[f"/{name}"] = app.paths[f"/{name}/"] = self.answer

    def add(self, name: str, check: Check, *, endpoints: tuple[str, ...] = ENDPOINTS) -> None:
        """Another check."""
        for endpoint in endpoints:
            self._checks[endpoint].append((name, check))

    def hook(self, name: str) -> Callable[[], None]:
        """A check that fails until what is returned has been called: something of the start is done then."""
        finished = False

        async def check() -> None:
            if not finished:
                raise Unhealthy("not finished")

        async def forgiving() -> None:
            if not finished and self._uptime() > self.grace:
                raise Unhealthy("not finished")

        def finish() -> None:
            nonlocal finished
            finished = True

        self.add(name, check, endpoints=("healthz", "readyz"))
        self.add(name, forgiving, endpoints=("livez",))
        return finish

    def checks(self, endpoint: str) -> list[tuple[str, Check]]:
        """Those of an endpoint, in the order in which they are shown."""
        last = [("shutdown", self._not_closing)] if endpoint == "readyz" else []
        return [*self._checks[endpoint], *last]

    async def measure(self) -> None:
        """Make all checks once, so that their results are known."""
        for endpoint in ENDPOINTS:
            await self._all(endpoint, set())

    # Answers

    async def answer(self, request: Request, info: RequestInfo, user: User) -> Answer:
        """/healthz, /healthz?verbose&exclude=<check>, /healthz/<check>."""
        endpoint, _, only = info.path.strip("/").partition("/")
        if only:
            return await self._single(endpoint, only)
        excluded = request.queries.get("exclude", [request.query["exclude"]] if "exclude" in request.query else [])
        lines, failed = await self._all(endpoint, set(excluded))
        if failed:
            said = "\n".join(f"[-]{name} failed: {why}" for name, why in failed.items())
            LOG.warning("%s check failed: %s\n%s", ",".join(failed), endpoint, said)
            return Answer(status=500, body=f"{lines}{endpoint} check failed\n".encode(), headers=_TEXT)
        if "verbose" in request.query:
            return Answer(body=f"{lines}{endpoint} check passed\n".encode(), headers=_TEXT)
        return Answer(body=b"ok", headers=_TEXT)

    async def _all(self, endpoint: str, excluded: set[str]) -> tuple[str, dict[str, str]]:
        """A line about each check, and why those failed that did."""
        lines: list[str] = []
        failed: dict[str, str] = {}
        unknown = set(excluded)
        for name, check in self.checks(endpoint):
            if name in excluded:
                unknown.discard(name)
                lines.append(f"[+]{name} excluded: ok\n")
                continue
            why = await _outcome(check)
            self._last.set(float(why is None), name, endpoint)
            self._total.add(name, "success" if why is None else "error", endpoint)
            if why is None:
                lines.append(f"[+]{name} ok\n")
            else:
                # Anybody may ask here; the reason is for those who may see the log or the single check.
                lines.append(f"[-]{name} failed: reason withheld\n")
                failed[name] = why
        if unknown:
            quoted = ",".join(f'"{name}"' for name in sorted(unknown))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}\n")
        return "".join(lines), failed

    async def _single(self, endpoint: str, name: str) -> Answer:
        check = next((c for n, c in self.checks(endpoint) if n == name), None)
        if check is None:
            raise errors.path_not_found()
        why = await _outcome(check)
        if why is None:
            return Answer(body=b"ok", headers=_TEXT)
        return Answer(status=500, body=f"internal server error: {why}\n".encode(), headers=_TEXT)

    # Checks of the server itself

    def _uptime(self) -> float:
        now = clock.elapsed()
        if self._began is None:
            self._began = now
        return now - self._began

    async def _ping(self) -> None:
        pass

    async def _store(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            await self._app.store.get("/registry/health")

    async def _synced(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            await self._app.hub.current()

    async def _not_closing(self) -> None:
        if not self._app.ready:
            raise Unhealthy("process is shutting down")


async def _outcome(check: Check) -> str | None:
    """What is wrong, if anything is: whatever a check raises is its result."""
    try:
        await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return None
