"""What nodes and pods use, from two readings, and as metrics.k8s.io."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from podling import clock
from podling.api import times
from podling.apiserver.usage import NodeUsages, Usage


def summary(cpu: float, memory: int = 1 << 20, started: str = "2026-01-01T00:00:00Z") -> bytes:
    """A node agent's answer: a node and one container have used `cpu` seconds so far."""
    used = {
        "cpu": {"usageCoreNanoSeconds": int(cpu * 1e9), "usageNanoCores": 1},
        "memory": {"workingSetBytes": memory, "usageBytes": 0},
    }
    container = {"name": "c", "startTime": started, **used}
    pod = {"podRef": {"name": "p", "namespace": "n", "uid": "u"}, "containers": [container]}
    return json.dumps({"node": {"nodeName": "node", **used}, "pods": [pod]}).encode()


class Agent:
    """Has used half a core since the start, unless said otherwise."""

    def __init__(self, answer: Callable[[float], bytes] = lambda now: summary(now / 2)) -> None:
        self.answer = answer
        self.asked = 0
        self.began = clock.elapsed()

    async def __call__(self, node: str) -> bytes:
        self.asked += 1
        return self.answer(clock.elapsed() - self.began)


def on_virtual_time(scenario: Callable[[], Any]) -> None:
    clock.run_virtual(scenario())


def test_the_first_question_waits_for_a_second_reading() -> None:
    async def scenario() -> None:
        agent, began = Agent(), clock.elapsed()
        found = await NodeUsages(agent).of("node")
        assert found is not None
        assert (found.node, found.seconds) == (Usage(500_000_000, 1 << 20), 1.0)
        assert found.pods == {"u": {"c": Usage(500_000_000, 1 << 20)}}
        assert (clock.elapsed() - began, agent.asked) == (1.0, 2)

    on_virtual_time(scenario)


def test_the_next_question_compares_with_the_last_reading() -> None:
    async def scenario() -> None:
        agent = Agent(lambda now: summary(0 if now < 5 else now - 5))
        usages = NodeUsages(agent)
        await usages.of("node")
        await asyncio.sleep(14)
        found = await usages.of("node")
        assert found is not None and (found.seconds, found.node.cpu) == (14.0, round(10 / 14 * 1e9))
        assert agent.asked == 3

    on_virtual_time(scenario)


def test_an_old_reading_is_not_compared_with() -> None:
    async def scenario() -> None:
        agent = Agent(lambda now: summary(min(now, 100)))
        usages = NodeUsages(agent)
        await usages.of("node")
        await asyncio.sleep(3600)
        found = await usages.of("node")
        assert found is not None and (found.seconds, found.node.cpu) == (1.0, 0)

    on_virtual_time(scenario)


def test_questions_at_once_share_an_answer_and_soon_after_get_the_same() -> None:
    async def scenario() -> None:
        agent = Agent()
        usages = NodeUsages(agent)
        first, second = await asyncio.gather(usages.of("node"), usages.of("node"))
        await asyncio.sleep(0.5)
        assert first is second is await usages.of("node")
        assert agent.asked == 2

    on_virtual_time(scenario)


def test_a_restarted_container_has_used_what_it_has_used_since() -> None:
    async def scenario() -> None:
        restarted = times.format(clock.now() + timedelta(seconds=11))
        agent = Agent(lambda now: summary(50) if now < 11 else summary((now - 11) / 4, started=restarted))
        usages = NodeUsages(agent)
        await usages.of("node")
        await asyncio.sleep(14)
        found = await usages.of("node")
        assert found is not None and found.pods["u"]["c"].cpu == 250_000_000

    on_virtual_time(scenario)


def test_a_node_that_does_not_answer_has_no_usage() -> None:
    async def scenario() -> None:
        async def refuses(node: str) -> bytes:
            raise ConnectionRefusedError(node)

        async def hangs(node: str) -> bytes:
            await asyncio.sleep(3600)
            return b""

        async def babbles(node: str) -> bytes:
            return b"<html>"

        for agent in (refuses, hangs, babbles):
            assert await NodeUsages(agent).of("node") is None

    on_virtual_time(scenario)
