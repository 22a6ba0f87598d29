"""From any state to any other, the incremental script ends where the full one does, and never refers to nothing."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from podling.api import core_v1, discovery_v1
from podling.api.meta_v1 import ObjectMeta
from podling.proxy.config import ProxyConfig
from podling.proxy.rules import ServiceFragment, compile_service
from podling.proxy.ruleset import Ruleset
from podling.proxy.static_rules import static_rules

CONFIG = ProxyConfig(
    node_name="n1",
    pod_cidrs=("10.244.1.0/24",),
    service_ranges=("10.96.0.0/16", "fd96::/112"),
    pod_ranges=("10.244.0.0/16", "fd44::/48"),
    local_addresses=("10.96.0.10",),
)


class Kernel:
    """As much of nftables as the scripts need, and as strict: what is referred to exists, what goes is free."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}
        self.sets: dict[str, str] = {}
        self.elements: dict[str, dict[str, str]] = {}

    def run(self, script: str) -> None:
        inside = False
        for line in script.splitlines():
            if line.endswith("{") and line.startswith("table"):
                self.__init__()  # type: ignore[misc]
                inside = True
            elif line == "}":
                inside = False
            elif inside:
                self._declare(line.strip())
            elif not line.endswith(f"table inet {CONFIG.table}"):
                self._statement(line)
        for name, rules in self.chains.items():
            for rule in rules:
                self._refers(name, rule)
        for values in self.elements.values():
            for value in values.values():
                self._refers("element", value)

    def _declare(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        if kind in ("set", "map"):
            self.sets[rest.split()[0]] = rest.partition(" ")[2].strip("{} ")
        elif kind == "chain":
            self._chain = rest.split()[0]
            self.chains[self._chain] = []
        elif line not in ("}",) and not line.startswith("type "):
            self.chains[self._chain].append(line)

    def _statement(self, line: str) -> None:
        verb, kind, _, _, name, *rest = line.split(" ", 5)
        text = rest[0] if rest else ""
        match verb, kind:
            case "add", "set":
                assert name not in self.sets
                self.sets[name] = text.strip("{} ")
            case "add", "chain":
                assert name not in self.chains
                self.chains[name] = []
            case "flush", "chain":
                self.chains[name] = self.chains[name] and []
            case "add", "rule":
                self._refers(name, text)
                self.chains[name].append(text)
            case "delete", "chain":
                assert not self.chains.pop(name)
            case "delete", "set":
                del self.sets[name]
            case "add", "element":
                for element in text.strip("{} ").split(", "):
                    key, _, value = element.partition(" : ")
                    assert self.elements.setdefault(name, {}).get(key) in (None, value), "a key has one value"
                    self.elements[name][key] = value
                    assert name in self.sets
            case "delete", "element":
                for element in text.strip("{} ").split(", "):
                    del self.elements[name][element]
            case other:
                raise AssertionError(other)

    def _refers(self, name: str, rule: str) -> None:
        for chain in re.findall(r"(?:goto|jump) ([^\s,}]+)", rule):
            assert chain in self.chains, f"{name}: {rule}"
        for used in re.findall(r"@([^\s,}]+)", rule):
            assert used in self.sets, f"{name}: {rule}"

    def state(self) -> Any:
        return self.chains, self.sets, {name: values for name, values in self.elements.items() if values}


IPS = [f"10.244.1.{i}" for i in range(2, 6)]


@st.composite
def services(draw: st.DrawFn) -> tuple[core_v1.Service, list[discovery_v1.EndpointSlice]]:
    name = draw(st.sampled_from(["a", "b"]))
    local = st.sampled_from([None, "Cluster", "Local"])
    ports = [
        core_v1.ServicePort(
            name=n, port=p, protocol=draw(st.sampled_from(["TCP", "UDP"])), node_port=draw(st.sampled_from([None, q]))
        )
        for n, p, q in (("x", 80, 30080), ("y", 81, 30081))
    ]
    dual = draw(st.booleans())
    ip = draw(st.sampled_from([f"10.96.0.{ord(name)}", "None", "10.96.0.10"]))
    spec = core_v1.ServiceSpec(
        type=draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])),
        cluster_ip=ip,
        cluster_ips=[ip, "fd96::1"] if dual and ip != "None" else [ip],
        ports=ports[: draw(st.integers(1, 2))],
        external_ips=draw(st.sampled_from([None, ["198.51.100.1"]])),
        session_affinity=draw(st.sampled_from(["None", "ClientIP"])),
        internal_traffic_policy=draw(local),
        external_traffic_policy=draw(local),
        load_balancer_source_ranges=draw(st.sampled_from([None, ["192.0.2.0/24"]])),
    )
    status = core_v1.ServiceStatus(
        load_balancer=core_v1.LoadBalancerStatus(ingress=[core_v1.LoadBalancerIngress(ip="198.51.100.2")])
    )
    endpoints = [
        discovery_v1.Endpoint(
            addresses=[address],
            node_name=draw(st.sampled_from(["n1", "n2"])),
            conditions=discovery_v1.EndpointConditions(ready=draw(st.booleans()), terminating=draw(st.booleans())),
        )
        for address in draw(st.lists(st.sampled_from(IPS), max_size=4, unique=True))
    ]
    slices = [
        discovery_v1.EndpointSlice(
            metadata=ObjectMeta(name=name, namespace="ns"),
            address_type="IPv4",
            ports=[discovery_v1.EndpointPort(name=p.name, port=8080, protocol=p.protocol) for p in ports],
            endpoints=endpoints,
        )
    ]
    return core_v1.Service(metadata=ObjectMeta(name=name, namespace="ns"), spec=spec, status=status), slices


@settings(max_examples=150)
@given(st.lists(st.tuples(services(), st.booleans(), st.booleans()), max_size=8))
def test_steps_and_the_whole_end_at_the_same_place(steps: list[Any]) -> None:
    ruleset: Ruleset[ServiceFragment] = Ruleset(CONFIG.table, static_rules(CONFIG))
    kernel = Kernel()
    kernel.run(ruleset.full())
    ruleset.installed()
    for (service, slices), remove, sync in steps:
        key = f"ns/{service.metadata.name}"
        ruleset.update(key, None if remove else compile_service(service, slices, CONFIG))
        if sync:
            kernel.run(ruleset.changes())
            ruleset.installed()
    kernel.run(ruleset.changes())
    ruleset.installed()
    fresh = Kernel()
    fresh.run(ruleset.full())
    assert kernel.state() == fresh.state()
    assert ruleset.changes() == ""
    for key in list(ruleset.fragments()):
        ruleset.update(key, None)
    kernel.run(ruleset.changes())
    empty = Kernel()
    empty.run(Ruleset(CONFIG.table, static_rules(CONFIG)).full())
    assert kernel.state() == empty.state(), "nothing is left of services that are gone"


def service(**spec: Any) -> core_v1.Service:
    return core_v1.Service(
        metadata=ObjectMeta(name="web", namespace="ns"),
        spec=core_v1.ServiceSpec(
            type="ClusterIP", cluster_ip="10.96.0.1", ports=[core_v1.ServicePort(port=80, protocol="TCP")], **spec
        ),
    )


def ready(*ips: str) -> list[discovery_v1.EndpointSlice]:
    return [
        discovery_v1.EndpointSlice(
            address_type="IPv4",
            ports=[discovery_v1.EndpointPort(port=8080, protocol="TCP")],
            endpoints=[discovery_v1.Endpoint(addresses=[ip], node_name="n2") for ip in ips],
        )
    ]


def test_a_change_costs_what_changed() -> None:
    ruleset: Ruleset[ServiceFragment] = Ruleset(CONFIG.table, static_rules(CONFIG))
    for number in range(100):
        one = service()
        one.metadata.name, one.spec.cluster_ip = f"web-{number}", f"10.96.1.{number}"
        ruleset.update(f"ns/web-{number}", compile_service(one, ready("10.244.2.2", "10.244.2.3"), CONFIG))
    ruleset.installed()
    one.spec.ports = [core_v1.ServicePort(port=80, protocol="TCP")]
    ruleset.update("ns/web-99", compile_service(one, ready("10.244.2.2", "10.244.2.4"), CONFIG))
    script = ruleset.changes()
    assert [line.split(" ")[:2] for line in script.splitlines()] == [["flush", "chain"], ["add", "rule"]]
    assert "map { 0 : 10.244.2.2 . 8080, 1 : 10.244.2.4 . 8080 }" in script


def test_a_change_and_its_undoing_cost_nothing() -> None:
    ruleset: Ruleset[ServiceFragment] = Ruleset(CONFIG.table, static_rules(CONFIG))
    fragment = compile_service(service(), ready("10.244.2.2"), CONFIG)
    ruleset.update("ns/web", fragment)
    ruleset.installed()
    ruleset.update("ns/web", None)
    ruleset.update("ns/web", fragment)
    assert ruleset.changes() == ""


def test_services_of_other_proxies_are_left_alone() -> None:
    other = service()
    other.metadata.labels = {"service.kubernetes.io/service-proxy-name": "other"}
    assert compile_service(other, ready("10.244.2.2"), CONFIG) is None
    assert compile_service(service(), ready("10.244.2.2"), CONFIG) is not None


def test_zone_of_the_node_decides_by_hints() -> None:
    slices = ready("10.244.2.2", "10.244.2.3")
    assert slices[0].endpoints
    for endpoint, zone in zip(slices[0].endpoints, ("here", "there"), strict=True):
        endpoint.hints = discovery_v1.EndpointHints(for_zones=[discovery_v1.ForZone(name=zone)])
    fragment = compile_service(service(), slices, msgspec.structs.replace(CONFIG, zone="here"))
    assert fragment is not None
    ((rule,),) = fragment.chains.values()
    assert rule == "meta l4proto tcp dnat ip to 10.244.2.2:8080"
