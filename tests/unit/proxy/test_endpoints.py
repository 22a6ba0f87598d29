"""Which endpoints a node uses."""

from __future__ import annotations

import pytest

from podling.api import core_v1, discovery_v1
from podling.api.meta_v1 import ObjectMeta
from podling.proxy.endpoints import Endpoint, choose, of_port


def made(ip: str, **how: object) -> Endpoint:
    for field in ("zones", "nodes"):
        if field in how:
            how[field] = frozenset(how[field])  # type: ignore[call-overload]
    return Endpoint(ip=ip, port=80, **how)  # type: ignore[arg-type]


ENDING = {"ready": False, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    ("endpoints", "cluster", "local"),
    [
        ([], "", ""),
        ([made("a"), made("b", local=True)], "ab", "b"),
        ([made("a", ready=False, serving=False), made("b")], "b", ""),
        ([made("a", **ENDING), made("b")], "b", ""),
        ([made("a", **ENDING), made("b", **ENDING, local=True)], "ab", "b"),
        ([made("a", ready=False, serving=False, terminating=True)], "", ""),
        ([made("a", ready=False, serving=True)], "", ""),
        ([made("a"), made("b", **ENDING, local=True)], "a", "b"),
        ([made("a", zones="z"), made("b", zones="y")], "a", ""),
        ([made("a", zones="z"), made("b")], "ab", ""),
        ([made("a", zones="x"), made("b", zones="y")], "ab", ""),
        ([made("a", zones="z"), made("b", zones="z", ready=False, serving=False)], "a", ""),
        ([made("a", nodes=["n1"], zones="z"), made("b", nodes=["n2"], zones="z")], "a", ""),
        ([made("a", nodes=["n3"], zones="z"), made("b", nodes=["n2"], zones="y")], "a", ""),
        ([made("a", zones="y", local=True), made("b", zones="z")], "b", "a"),
    ],
)
def test_choose(endpoints: list[Endpoint], cluster: str, local: str) -> None:
    choice = choose(endpoints, node_name="n1", zone="z")
    assert "".join(e.ip for e in choice.cluster) == cluster
    assert "".join(e.ip for e in choice.local) == local
    assert choice.any == bool(cluster or local)


def slice_(kind: str, ports: list[tuple[str | None, int | None, str]], *ips: str) -> discovery_v1.EndpointSlice:
    return discovery_v1.EndpointSlice(
        metadata=ObjectMeta(name="s", namespace="ns"),
        address_type=kind,
        ports=[discovery_v1.EndpointPort(name=n, port=p, protocol=t) for n, p, t in ports],
        endpoints=[discovery_v1.Endpoint(addresses=[ip], node_name="n1") for ip in ips],
    )


def test_ports_go_together_by_name_and_protocol() -> None:
    slices = [
        slice_("IPv4", [("http", 8080, "TCP"), ("dns", 53, "UDP")], "10.0.0.2", "10.0.0.1"),
        slice_("IPv4", [("http", 9090, "TCP")], "10.0.0.3"),
        slice_("IPv4", [("http", None, "TCP")], "10.0.0.4"),
        slice_("IPv6", [("http", 8080, "TCP")], "fd00::1"),
        slice_("IPv4", [("http", 8080, "TCP")], "10.0.0.2"),
    ]

    def found(name: str, protocol: str | None, family: int = 4) -> list[tuple[str, int]]:
        port = core_v1.ServicePort(name=name, port=80, protocol=protocol)
        return [(e.ip, e.port) for e in of_port(port, slices, family=family, node_name="n1")]

    assert found("http", "TCP") == [("10.0.0.1", 8080), ("10.0.0.2", 8080), ("10.0.0.3", 9090)]
    assert found("http", None) == found("http", "TCP")
    assert found("http", "TCP", 6) == [("fd00::1", 8080)]
    assert found("dns", "UDP") == [("10.0.0.1", 53), ("10.0.0.2", 53)]
    assert found("http", "UDP") == found("other", "TCP") == []


def test_of_an_address_listed_twice_the_ready_one_counts() -> None:
    twice = slice_("IPv4", [(None, 80, "TCP")], "10.0.0.1", "10.0.0.1", "10.0.0.1")
    assert twice.endpoints
    for endpoint, ready in zip(twice.endpoints, (False, True, False), strict=True):
        endpoint.conditions = discovery_v1.EndpointConditions(ready=ready)
    (found,) = of_port(core_v1.ServicePort(port=80), [twice], family=4, node_name="n2")
    assert (found.ready, found.local) == (True, False)
