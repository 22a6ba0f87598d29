"""What nodes and containers use now: the difference of two readings of a node agent's counters.

Nothing is read while nobody asks. Who asks after a silence waits for a second reading; who asks again soon gets the
difference to the last one. So a cluster without questions spends nothing on them, and the answer is never an average
over the night.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from podling import clock, log
from podling.api import times
from podling.api.errors import StatusError

_log = log.get(__name__)

#: Seconds between two readings, at least: over less a rate says little.
SHORTEST = 1.0
#: A reading that is older than this is not compared with.
LONGEST = 60.0
#: Seconds that a node agent is given to answer.
PATIENCE = 10.0

#: Asks a node's agent: its name -> the body of /stats/summary, CPU and memory at least. StatusError, OSError.
Summaries = Callable[[str], Awaitable[bytes]]


class _Cpu(msgspec.Struct, rename="camel", frozen=True):
    usage_core_nano_seconds: int = 0


class _Memory(msgspec.Struct, rename="camel", frozen=True):
    working_set_bytes: int = 0


class _Container(msgspec.Struct, rename="camel", frozen=True):
    name: str
    start_time: str | None = None
    cpu: _Cpu = _Cpu()
    memory: _Memory = _Memory()


class _PodRef(msgspec.Struct, frozen=True):
    uid: str


class _Pod(msgspec.Struct, rename="camel", frozen=True):
    pod_ref: _PodRef
    containers: list[_Container] = []


class _Node(msgspec.Struct, frozen=True):
    cpu: _Cpu = _Cpu()
    memory: _Memory = _Memory()


class _Summary(msgspec.Struct, frozen=True):
    node: _Node
    pods: list[_Pod] = []


class Usage(msgspec.Struct, frozen=True):
    """CPU in nanocores, memory (the working set) in bytes."""

    cpu: int
    memory: int


class NodeUsage(msgspec.Struct, frozen=True):
    """What a node and its pods used over the `seconds` before `when`; `pods` by UID, then container name."""

    when: datetime
    seconds: float
    node: Usage
    pods: dict[str, dict[str, Usage]]


class _Reading(msgspec.Struct, frozen=True):
    when: datetime
    summary: _Summary


class NodeUsages:
    """The usage of every node that is asked for; of `ask` see Summaries."""

    def __init__(self, ask: Summaries) -> None:
        self._ask = ask
        self._readings: dict[str, _Reading] = {}
        self._last: dict[str, NodeUsage] = {}
        self._asking: dict[str, asyncio.Task[NodeUsage | None]] = {}

    async def of(self, node: str) -> NodeUsage | None:
        """None if the node's agent does not answer. Whoever asks meanwhile waits for the same answer."""
        task = self._asking.get(node)
        if task is None:
            task = self._asking[node] = asyncio.create_task(self._measure(node))
            task.add_done_callback(lambda _: self._asking.pop(node, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()

    async def _measure(self, node: str) -> NodeUsage | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._compare(node)
        except (TimeoutError, OSError, StatusError, msgspec.MsgspecError) as error:
            _log.warning("node %s does not say what it uses: %s", node, error)
            self._readings.pop(node, None)
            self._last.pop(node, None)
            return None

    async def _compare(self, node: str) -> NodeUsage:
        before, now = self._readings.get(node), clock.now()
        age = (now - before.when).total_seconds() if before is not None else LONGEST + 1
        last = self._last.get(node)
        if age < SHORTEST and last is not None:
            return last
        if before is None or age > LONGEST:
            before = await self._read(node)
            age = 0.0
        if age < SHORTEST:
            await asyncio.sleep(SHORTEST - age)
        after = await self._read(node)
        self._readings[node] = after
        found = self._last[node] = difference(before.summary, after.summary, before.when, after.when)
        return found

    async def _read(self, node: str) -> _Reading:
        body = await self._ask(node)
        return _Reading(clock.now(), msgspec.json.decode(body, type=_Summary))


def difference(before: _Summary, after: _Summary, since: datetime, when: datetime) -> NodeUsage:
    """The usage between two readings; of a container that started in between, since it started."""
    seconds = max((when - since).total_seconds(), 1e-9)
    known = {(p.pod_ref.uid, c.name, c.start_time): c.cpu for p in before.pods for c in p.containers}

    def used(pod: _Pod, container: _Container) -> Usage:
        earlier = known.get((pod.pod_ref.uid, container.name, container.start_time))
        if earlier is not None or container.start_time is None:
            return _usage(earlier or _Cpu(), container, seconds)
        # Its start is known to the second only.
        lived = (when - times.parse(container.start_time)).total_seconds()
        return _usage(_Cpu(), container, min(seconds, max(lived, SHORTEST)))

    pods = {pod.pod_ref.uid: {c.name: used(pod, c) for c in pod.containers} for pod in after.pods}
    return NodeUsage(when, seconds, _usage(before.node.cpu, after.node, seconds), pods)


def _usage(before: _Cpu, after: _Container | _Node, seconds: float) -> Usage:
    used = after.cpu.usage_core_nano_seconds - before.usage_core_nano_seconds
    return Usage(max(0, round(used / seconds)), after.memory.working_set_bytes)
