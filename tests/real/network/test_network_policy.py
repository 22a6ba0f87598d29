"""NetworkPolicies with real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from podling.api import core_v1, networking_v1
from podling.api.meta_v1 import ObjectMeta
from podling.proxy.policy_enforcer import PolicyEnforcer
from tests.real.network.lab import Lab
from tests.real.network.test_service_proxy import Node, endpoints, service
from tests.unit.proxy.test_policy import Peer, Port, egress, ingress, labels, policy

pytestmark = pytest.mark.real


class Guarded(Node):
    """The node of the proxy's tests, with policies in force over its pods `client`, `a` and `b`."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.enforcer = PolicyEnforcer(self.informers, self.proxier.config)

    async def start(self) -> None:
        await super().start()
        await self.enforcer.start()
        await self.put(core_v1.Namespace(metadata=ObjectMeta(name="default")))
        for name, ip in self.ips.items():
            await self.put(
                core_v1.Pod(
                    metadata=ObjectMeta(name=name, namespace="default", labels={"app": name}),
                    spec=core_v1.PodSpec(node_name="n1", containers=[core_v1.Container(name="c")]),
                    status=core_v1.PodStatus(phase="Running", pod_ip=ip),
                )
            )

    async def close(self) -> None:
        await self.enforcer.teardown()
        await super().close()

    async def settle(self) -> None:
        await super().settle()
        for _ in range(20):
            await asyncio.sleep(0)
        while self.enforcer.pending:
            await asyncio.sleep(0.001)

    async def reaches(self, source: str, target: str, port: int = 8080) -> bool:
        try:
            await self.lab.tcp(self.pods[source], self.ips.get(target, target), port, patience=0.3)
        except TimeoutError:
            return False
        return True


@pytest_asyncio.fixture
async def node(lab: Lab) -> AsyncIterator[Guarded]:
    made = Guarded(lab)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def seen(node: Guarded, *pairs: tuple[str, str]) -> list[bool]:
    return list(await asyncio.gather(*(node.reaches(*pair) for pair in pairs)))


PAIRS = (("client", "a"), ("client", "b"), ("b", "a"))


async def test_default_deny_and_its_end(node: Guarded) -> None:
    deny = policy("deny")
    assert await seen(node, *PAIRS) == [True, True, True]
    await node.put(deny)
    assert await seen(node, *PAIRS) == [False, False, False]
    assert await node.lab.tcp(node.host, node.ips["a"], 8080) == "a 10.77.1.1", "the node always may"
    assert await node.lab.tcp(node.pods["a"], "127.0.0.1", 8080) == "a 127.0.0.1"
    assert await node.lab.tcp(node.pods["a"], node.ips["a"], 8080) == f"a {node.ips['a']}"
    node.feed.delete(deny)
    await node.settle()
    assert await seen(node, *PAIRS) == [True, True, True]


async def test_rules_add_up(node: Guarded) -> None:
    await node.put(policy("deny"))
    await node.put(policy("a", pod_selector=labels(app="a"), ingress=[ingress(Peer(pod_selector=labels(app="b")))]))
    assert await seen(node, *PAIRS) == [False, False, True]
    await node.put(
        policy("more", pod_selector=labels(app="a"), ingress=[ingress(ports=[Port(port=8000, end_port=8100)])])
    )
    assert await seen(node, *PAIRS) == [True, False, True]


async def test_egress(node: Guarded) -> None:
    outside = node.lab.uplink()
    await node.lab.serve(outside, 80, "outside")
    rules: list[Any] = [egress(Peer(pod_selector=labels(app="a")))]
    await node.put(policy("e", pod_selector=labels(app="client"), egress=rules, policy_types=["Egress"]))
    assert await seen(node, *PAIRS) == [True, False, True]
    assert not await node.reaches("client", "192.0.2.1", 80)
    block = networking_v1.IPBlock(cidr="192.0.2.0/24", except_=["192.0.2.128/25"])
    rules.append(egress(Peer(ip_block=block), ports=[Port(port=80)]))
    await node.put(policy("e", pod_selector=labels(app="client"), egress=rules, policy_types=["Egress"]))
    assert await node.reaches("client", "192.0.2.1", 80)


async def test_services_are_judged_by_the_pod_behind_them(node: Guarded) -> None:
    await node.put(service("web", "10.78.0.1"), endpoints("web", [node.ips["a"]]))
    allowed = egress(Peer(pod_selector=labels(app="a")), ports=[Port(port=8080)])
    await node.put(policy("e", pod_selector=labels(app="client"), egress=[allowed], policy_types=["Egress"]))
    assert await node.reaches("client", "10.78.0.1", 80)
    await node.put(endpoints("web", [node.ips["b"]]))
    assert not await node.reaches("client", "10.78.0.1", 80)


async def test_an_open_connection_survives_unrelated_changes(node: Guarded) -> None:
    await node.put(policy("a", pod_selector=labels(app="a"), ingress=[ingress(Peer(pod_selector=labels(app="b")))]))
    for number in range(20):
        await node.put(policy(f"other-{number}", pod_selector=labels(app=f"x{number}")))
    assert await seen(node, *PAIRS) == [False, True, True]
