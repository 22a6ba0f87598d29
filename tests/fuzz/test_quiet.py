"""Whatever was applied, a cluster comes to rest: nobody writes without an end about what can't be mended."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from podling import clock
from podling.api import registry
from podling.api.errors import StatusError
from podling.api.request import Request, Response
from podling.apiserver.app import ApiServer
from podling.cluster.inprocess import Cluster
from tests.conformance.whole import Api
from tests.fuzz.server import examples
from tests.fuzz.workloads import HELD, workloads

#: Where the workloads are, those that make others first.
_WORKLOADS = ("batch/v1/namespaces/default/cronjobs", "batch/v1/namespaces/default/jobs",
              "apps/v1/namespaces/default/deployments", "apps/v1/namespaces/default/replicasets",
              "apps/v1/namespaces/default/statefulsets", "apps/v1/namespaces/default/daemonsets")  # fmt: skip
COLLECTIONS = (
    *(f"/apis/{path}" for path in _WORKLOADS),
    "/api/v1/namespaces/default/replicationcontrollers",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/persistentvolumeclaims",
)
#: Seconds until CronJobs have been due once and all back-offs have come to their longest; and that are watched.
SETTLING, WATCHED = 2700, 300
#: What may happen in that time: (method, path) and how often for each object there is. All else may happen twice.
ENTITLED = (
    # A heartbeat every ten seconds, a node's status every five minutes.
    ("PUT", "/leases/", 31),
    ("PATCH", "/nodes/[^/]+/status", 2),
    # A crashing container starts once in five minutes: its pod's status shows it run, end, and wait.
    ("PATCH", "/pods/[^/]+/status", 8),
    # What is said again is counted up, by its own limit.
    ("PATCH", "/events/", 6),
    # Each of what a pod has (at most three containers here) is pulled, created, started and backed off from.
    ("POST", "/events$", 12),
    # One of the CronJobs may be due: its Job starts, runs, is ready, ends.
    ("PUT", "/(jobs|cronjobs)/[^/]+/status", 8),
    # What keeps (at most three) pods shows that one runs, is ready, available, and no longer is.
    ("PUT", "/(replicasets|deployments|statefulsets|daemonsets|replicationcontrollers)/[^/]+/status", 24),
    # Pods on a node that does not exist are removed after 40 seconds, and made again, as upstream does.
    ("POST", "/pods$", 30),
    ("DELETE", "/pods/", 10),
)


class Writes:
    """All requests that change something, by method, place and who made them, while `counting`."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str, str]] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        original = ApiServer.send

        async def send(server: ApiServer, request: Request) -> Response:
            if request.method != "GET":
                self.seen[request.method, self._place(request), request.headers.get("user-agent", "")] += 1
            return await original(server, request)

        ApiServer.send = send  # type: ignore[method-assign]
        try:
            yield
        finally:
            ApiServer.send = original  # type: ignore[method-assign]

    @staticmethod
    def _place(request: Request) -> str:
        """The path; of an event also what it is about and why, since each has a name of its own."""
        path = re.sub(r"(/events/[^.]+)\..*", r"\1", request.path)
        event = request.obj
        if path.endswith("/events") and request.method == "POST":
            return f"{path} {event.involved_object.name} {event.reason}"
        return path

    def excess(self) -> dict[tuple[str, str, str], int]:
        return {key: count for key, count in self.seen.items() if count > self._limit(*key[:2])}

    @staticmethod
    def _limit(method: str, place: str) -> int:
        for its_method, pattern, most in ENTITLED:
            if method == its_method and re.search(pattern, place.split(" ")[0]):
                return most
        return 2


@contextmanager
def no_errors() -> Iterator[None]:
    """Nothing may be logged as an error, which is for what a person must look at."""
    found: list[str] = []

    class Trap(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}")

    trap = Trap(logging.ERROR)
    logging.getLogger().addHandler(trap)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(trap)
    assert not found, found[:3]


async def make(api: Api, obj: dict[str, Any]) -> None:
    """Apply it; it may be refused."""
    resource = registry.by_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None
    try:
        await api.send("POST", resource.collection_path("default"), json.dumps(obj))
    except StatusError as error:
        assert error.code < 500, error


async def what_is_left(api: Api) -> list[str]:
    """Delete all workloads with what they own; what is there afterwards though nobody holds it."""
    for collection in COLLECTIONS:
        await api.delete(collection, propagationPolicy="Background")
    await asyncio.sleep(200)
    found = [item for collection in COLLECTIONS for item in (await api.get(collection))["items"]]
    return [f"{i['kind']} {i['metadata']['name']}" for i in found if HELD not in i["metadata"].get("finalizers", ())]


@examples(10)
@given(st.lists(workloads(), min_size=1, max_size=8))
def test_random_workloads_come_to_rest_and_go(found: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with Cluster(nodes=2) as cluster:
            for obj in found:
                await make(Api(cluster), obj)
            await asyncio.sleep(SETTLING)
            writes = Writes()
            with writes.counting():
                await asyncio.sleep(WATCHED)
            assert not writes.excess()
            assert not await what_is_left(Api(cluster))

    with no_errors():
        clock.run_virtual(main())
