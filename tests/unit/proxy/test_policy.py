"""NetworkPolicies: who is selected, whom the rules allow, and what a change costs."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import core_v1, networking_v1
from podling.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from podling.proxy.policy import Policies, facts
from podling.proxy.ruleset import Fragment

Peer, Port = networking_v1.NetworkPolicyPeer, networking_v1.NetworkPolicyPort


def pod(name: str, ip: str, namespace: str = "default", node: str = "n1", **labels: str) -> core_v1.Pod:
    ports = [core_v1.ContainerPort(name="http", container_port=8080)]
    return core_v1.Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, labels=labels),
        spec=core_v1.PodSpec(node_name=node, containers=[core_v1.Container(name="c", ports=ports)]),
        status=core_v1.PodStatus(phase="Running", pod_ip=ip, pod_ips=[core_v1.PodIP(ip=ip)]),
    )


def policy(name: str = "p", namespace: str = "default", **spec: Any) -> networking_v1.NetworkPolicy:
    return networking_v1.NetworkPolicy(
        metadata=ObjectMeta(name=name, namespace=namespace), spec=networking_v1.NetworkPolicySpec(**spec)
    )


def labels(**values: str) -> LabelSelector:
    return LabelSelector(match_labels=values)


def ingress(*peers: Peer, ports: list[Port] | None = None) -> networking_v1.NetworkPolicyIngressRule:
    return networking_v1.NetworkPolicyIngressRule(from_=list(peers) or None, ports=ports)


def egress(*peers: Peer, ports: list[Port] | None = None) -> networking_v1.NetworkPolicyEgressRule:
    return networking_v1.NetworkPolicyEgressRule(to=list(peers) or None, ports=ports)


def put(policies: Policies, *pods: core_v1.Pod) -> None:
    for one in pods:
        policies.put_pod(f"{one.metadata.namespace}/{one.metadata.name}", facts(one, "n1"))


@pytest.fixture
def policies() -> Policies:
    made = Policies((4,))
    made.put_namespace("default", {"kubernetes.io/metadata.name": "default"})
    made.put_namespace("other", {"team": "blue"})
    put(
        made,
        pod("web", "10.244.1.2", app="web"),
        pod("db", "10.244.1.3", app="db"),
        pod("far", "10.244.2.4", node="n2", app="web"),
        pod("blue", "10.244.2.5", "other", node="n2", app="web"),
    )
    return made


def rules_of(policies: Policies, direction: str = "ingress") -> list[str]:
    """The lines of the only policy."""
    fragment = next(f for key, f in policies.take().items() if key.startswith("policy") and f is not None)
    return [line for name, lines in fragment.chains.items() if name.startswith(direction) for line in lines]


def addresses(fragment: Fragment | None, prefix: str) -> set[str]:
    assert fragment is not None
    return {key for (name, key) in fragment.elements if name.startswith(prefix)}


def test_without_policies_nothing_is_filtered(policies: Policies) -> None:
    assert policies.take() == {}
    assert not policies.changed


def test_a_selected_pod_of_this_node_is_asked_about_and_dropped_otherwise(policies: Policies) -> None:
    policies.put_policy(policy(pod_selector=labels(app="web"), policy_types=["Ingress", "Egress"]))
    found = policies.take()
    assert sorted(key for key, fragment in found.items() if fragment is not None) == [
        "pod default/web",
        "policy default/p",
    ]
    web = found["pod default/web"]
    assert web is not None
    assert addresses(web, "ingress4") == addresses(web, "egress4") == {"10.244.1.2"}
    for chain in web.chains.values():
        assert [line.split(" ")[0] for line in chain] == ["jump", "drop"]


@pytest.mark.parametrize(
    ("types", "egress_rules", "expected"),
    [
        (None, None, {"ingress"}),
        (None, [egress()], {"ingress", "egress"}),
        (["Egress"], None, {"egress"}),
        (["Ingress"], [egress()], {"ingress"}),
    ],
)
def test_directions(policies: Policies, types: Any, egress_rules: Any, expected: set[str]) -> None:
    policies.put_policy(policy(policy_types=types, egress=egress_rules))
    fragment = policies.take()["policy default/p"]
    assert fragment is not None
    assert {name.split("/")[0] for name in fragment.chains} == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (Peer(pod_selector=LabelSelector()), {"10.244.1.2", "10.244.1.3", "10.244.2.4"}),
        (Peer(pod_selector=labels(app="web")), {"10.244.1.2", "10.244.2.4"}),
        (Peer(namespace_selector=LabelSelector()), {"10.244.1.2", "10.244.1.3", "10.244.2.4", "10.244.2.5"}),
        (Peer(namespace_selector=labels(team="blue")), {"10.244.2.5"}),
        (Peer(namespace_selector=labels(team="blue"), pod_selector=labels(app="db")), set()),
        (
            Peer(
                pod_selector=LabelSelector(
                    match_expressions=[LabelSelectorRequirement(key="app", operator="NotIn", values=["web"])]
                )
            ),
            {"10.244.1.3"},
        ),
    ],
)
def test_peers(policies: Policies, peer: Peer, expected: set[str]) -> None:
    policies.put_policy(policy(ingress=[ingress(peer)]))
    assert addresses(policies.take()["policy default/p"], "peers/") == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (ingress(), ["meta nfproto ipv4 accept"]),
        (
            ingress(ports=[Port(port=80), Port(port=8000, end_port=8010), Port(port=8005, end_port=8020)]),
            ["meta nfproto ipv4 meta l4proto tcp th dport { 80, 8000-8020 } accept"],
        ),
        (ingress(ports=[Port(protocol="UDP")]), ["meta nfproto ipv4 meta l4proto udp accept"]),
        (
            ingress(
                Peer(ip_block=networking_v1.IPBlock(cidr="10.0.0.0/8", except_=["10.1.0.0/16", "10.2.0.0/16"])),
                ports=[Port(port=80), Port(port=53, protocol="UDP")],
            ),
            [
                "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16, 10.2.0.0/16 } meta l4proto tcp th dport { 80 } accept",
                "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16, 10.2.0.0/16 } meta l4proto udp th dport { 53 } accept",
            ],
        ),
        (ingress(Peer(ip_block=networking_v1.IPBlock(cidr="fd00::/8"))), []),
    ],
)
def test_rules(policies: Policies, rule: networking_v1.NetworkPolicyIngressRule, expected: list[str]) -> None:
    policies.put_policy(policy(ingress=[rule]))
    assert rules_of(policies) == expected


def test_named_ports_are_those_of_the_pods(policies: Policies) -> None:
    policies.put_policy(policy(pod_selector=labels(app="web"), ingress=[ingress(ports=[Port(port="http")])]))
    fragment = policies.take()["policy default/p"]
    assert addresses(fragment, "ports/") == {"10.244.1.2 . tcp . 8080", "10.244.2.4 . tcp . 8080"}
    to = egress(Peer(pod_selector=labels(app="db")), ports=[Port(port="http")])
    policies.put_policy(policy(egress=[to], policy_types=["Egress"]))
    fragment = policies.take()["policy default/p"]
    assert addresses(fragment, "ports/") == {"10.244.1.3 . tcp . 8080"}


def test_only_what_policies_can_tell_apart_is_a_change(policies: Policies) -> None:
    policies.put_policy(policy(pod_selector=labels(app="web"), ingress=[ingress(Peer(pod_selector=labels(app="db")))]))
    policies.take()
    same = pod("web", "10.244.1.2", app="web")
    assert same.status is not None
    same.status.start_time = "2026-01-01T00:00:00Z"
    put(policies, same, pod("blue", "10.244.2.9", "other", node="n2", app="web"))
    assert not policies.changed
    put(policies, pod("db2", "10.244.2.7", node="n2", app="db"))
    assert set(policies.take()) == {"policy default/p"}
    put(policies, pod("web", "10.244.1.2", app="none"))
    found = policies.take()
    assert set(found) == {"policy default/p", "pod default/web"}
    assert found["pod default/web"] is not None
    assert found["pod default/web"].elements == {}


def test_a_finished_pods_address_is_nobodys(policies: Policies) -> None:
    policies.put_policy(policy(ingress=[ingress(Peer(pod_selector=labels(app="db")))]))
    policies.take()
    done = pod("db", "10.244.1.3", app="db")
    assert done.status is not None
    done.status.phase = "Succeeded"
    put(policies, done)
    found = policies.take()
    assert addresses(found["policy default/p"], "peers/") == set()
    assert found["pod default/db"] is None


def test_labels_of_namespaces_matter(policies: Policies) -> None:
    policies.put_policy(policy(ingress=[ingress(Peer(namespace_selector=labels(team="blue")))]))
    assert addresses(policies.take()["policy default/p"], "peers/") == {"10.244.2.5"}
    policies.put_namespace("other", {"team": "red"})
    assert addresses(policies.take()["policy default/p"], "peers/") == set()
    policies.put_namespace("default", {"team": "blue"})
    assert len(addresses(policies.take()["policy default/p"], "peers/")) == 3
    policies.put_namespace("default", None)
    assert addresses(policies.take()["policy default/p"], "peers/") == set()


def test_a_policy_that_goes_frees_its_pods(policies: Policies) -> None:
    policies.put_policy(policy("one"))
    policies.put_policy(policy("two", pod_selector=labels(app="web")))
    policies.take()
    policies.remove_policy("default/one")
    found = policies.take()
    assert found["policy default/one"] is None
    web, db = found["pod default/web"], found["pod default/db"]
    assert web is not None and db is not None
    assert (len(web.chains), len(db.chains)) == (1, 0)
