"""Services: defaults, validation, addresses and ports, the table row."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from apiserver.resources.make import CONTEXT, created, findings, load, row, update_findings
from podling.api import core_v1
from podling.api.errors import StatusError
from podling.api.struct import clone, to_dict
from podling.apiserver.allocators import AddressRange, AllocationError, PortRange, ServiceAllocator
from podling.apiserver.resources.core import service_allocation as allocation


def service(spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", **meta},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], **(spec or {})},
    }


def test_defaults() -> None:
    assert to_dict(created(service()))["spec"] == {
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "selector": {"app": "web"},
        "sessionAffinity": "None",
        "type": "ClusterIP",
    }
    spec = created(service({"type": "LoadBalancer", "sessionAffinity": "ClientIP"})).spec
    assert spec.external_traffic_policy == "Cluster" and spec.allocate_load_balancer_node_ports is True
    assert spec.session_affinity_config.client_ip.timeout_seconds == 10800


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"ports": []}, ["spec.ports: Required value"]),
        ({"ports": [], "clusterIP": "None"}, []),
        ({"type": "X"}, ['spec.type: Unsupported value: "X": supported values: '
                         '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"']),
        ({"ports": [{"port": 0, "targetPort": 1}]},
         ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        ({"ports": [{"port": 1}, {"port": 2}]},
         ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]},
         ['spec.ports[1].name: Duplicate value: "a"']),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]},
         ['spec.ports[1]: Duplicate value: {"protocol":"TCP","port":1}']),
        ({"ports": [{"port": 1, "nodePort": 30000}]},
         ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
        ({"ports": [{"port": 1, "targetPort": "x_"}]},
         ['spec.ports[0].targetPort: Invalid value: "x_": '
          "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"]),
        ({"type": "ExternalName"}, ["spec.externalName: Required value"]),
        ({"type": "ExternalName", "externalName": "example.com."}, []),
        ({"type": "ExternalName", "externalName": "a", "clusterIP": "1.2.3.4"},
         ["spec.clusterIPs: Forbidden: may not be set for ExternalName services"]),
        ({"type": "NodePort", "clusterIP": "None"},
         ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"]),
        ({"clusterIP": "x"},
         ['spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
        ({"clusterIPs": ["1.2.3.4"]},
         ['spec.clusterIPs: Invalid value: ["1.2.3.4"]: must be empty when `clusterIP` is not specified']),
        ({"clusterIP": "1.2.3.4", "clusterIPs": ["1.2.3.5"]},
         ['spec.clusterIPs: Invalid value: ["1.2.3.5"]: first value must match `clusterIP`']),
        ({"sessionAffinity": "X"},
         ['spec.sessionAffinity: Unsupported value: "X": supported values: "ClientIP", "None"']),
        ({"externalIPs": ["127.0.0.1"]},
         ['spec.externalIPs[0]: Invalid value: "127.0.0.1": '
          "may not be in the loopback range (127.0.0.0/8, ::1/128)"]),
        ({"loadBalancerClass": "a/b"},
         ["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"]),
        ({"externalTrafficPolicy": "Local"},
         ['spec.externalTrafficPolicy: Invalid value: "Local": '
          "may only be set for externally-accessible services"]),
        ({"internalTrafficPolicy": "X"},
         ['spec.internalTrafficPolicy: Unsupported value: "X": supported values: "Cluster", "Local"']),
        ({"healthCheckNodePort": 5},
         ["spec.healthCheckNodePort: Invalid value: 5: "
          "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"]),
        ({"ipFamilies": ["IPv5"]},
         ['spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"']),
        ({"loadBalancerSourceRanges": ["10.0.0.1/8"], "type": "LoadBalancer"},
         ['spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": '
          "must not have bits set beyond the prefix length"]),
    ],
)  # fmt: skip
def test_validation(spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(service(spec)) == expected


def test_names_are_those_of_dns() -> None:
    strategy, _ = load(service())
    assert strategy.validate_name("1web", prefix=False) != [] and strategy.validate_name("web-", prefix=True) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"clusterIP": "10.0.0.1"}, {}, []),
        (
            {"clusterIP": "10.0.0.1"},
            {"clusterIP": "10.0.0.2"},
            [
                "spec.clusterIPs[0]: Invalid value: null: primary clusterIP can not be unset",
                "spec.clusterIPs: Required value",
            ],
        ),
        (
            {"clusterIP": "10.0.0.1"},
            {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]},
            ['spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set'],
        ),
        ({"clusterIP": "10.0.0.1"}, {"type": "ExternalName", "externalName": "a.b"}, []),
        (
            {"type": "LoadBalancer", "loadBalancerClass": "a/b"},
            {"type": "LoadBalancer", "loadBalancerClass": "a/c"},
            ['spec.loadBalancerClass: Invalid value: "a/c": may not change once set'],
        ),
    ],
)
def test_updates(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    assert update_findings(service(before), service(after)) == expected


# -- allocation -------------------------------------------------------------------------------------------------------


def new(spec: dict[str, Any] | None = None, name: str = "web") -> core_v1.Service:
    found: core_v1.Service = created(service(spec, name=name))
    return found


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(StatusError) as error:
        action()
    return str(error.value)


def undo(release: Callable[[], Coroutine[Any, Any, None]] | Any) -> None:
    asyncio.run(release())


def test_a_new_service_gets_an_address() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    obj = new()
    release = allocation.create(allocator, obj)
    spec = obj.spec
    assert spec.cluster_ips == [spec.cluster_ip] and spec.cluster_ip and spec.cluster_ip.startswith("10.96.")
    assert (spec.ip_families, spec.ip_family_policy) == (["IPv4"], "SingleStack")
    assert refused(lambda: allocation.create(allocator, new({"clusterIP": spec.cluster_ip}))) == (
        f'Service "web" is invalid: spec.clusterIPs: Invalid value: ["{spec.cluster_ip}"]: '
        f"failed to allocate IP {spec.cluster_ip}: provided IP is already allocated"
    )
    undo(release)
    allocation.create(allocator, new({"clusterIP": spec.cluster_ip}))


def test_a_requested_address_is_of_the_range() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    assert refused(lambda: allocation.create(allocator, new({"clusterIP": "10.97.0.1"}))).endswith(
        "failed to allocate IP 10.97.0.1: the provided network does not match the current range"
    )
    for ip in ("10.96.0.0", "10.96.255.255"):
        assert refused(lambda ip=ip: allocation.create(allocator, new({"clusterIP": ip}))).endswith(
            f"failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. "
            "The range of valid IPs is 10.96.0.0/16"
        )


def test_headless_services_take_nothing() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    obj = new({"clusterIP": "None"})
    allocation.create(allocator, obj)
    assert obj.spec.cluster_ips == ["None"] and not allocator.taken["IPv4"]
    bare = new({"clusterIP": "None", "selector": None})
    allocation.create(allocator, bare)
    assert (bare.spec.ip_family_policy, bare.spec.ip_families) == ("RequireDualStack", ["IPv4", "IPv6"])


def test_dual_stack() -> None:
    single, dual = ServiceAllocator(["10.96.0.0/16"]), ServiceAllocator(["10.96.0.0/16", "fd00::/108"])
    assert refused(lambda: allocation.create(single, new({"ipFamilyPolicy": "RequireDualStack"}))) == (
        'Service "web" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
        "this cluster is not configured for dual-stack services"
    )
    assert refused(lambda: allocation.create(single, new({"ipFamilies": ["IPv6"]}))) == (
        'Service "web" is invalid: spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'
    )
    prefer = new({"ipFamilyPolicy": "PreferDualStack"})
    allocation.create(single, prefer)
    assert prefer.spec.ip_families == ["IPv4"]
    both = new({"ipFamilyPolicy": "PreferDualStack"})
    allocation.create(dual, both)
    assert both.spec.ip_families == ["IPv4", "IPv6"] and len(both.spec.cluster_ips or ()) == 2
    six = new({"ipFamilies": ["IPv6"]})
    allocation.create(dual, six)
    assert (six.spec.cluster_ip or "").startswith("fd00::")


def test_node_ports() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    ports = [{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}, {"name": "c", "port": 80}]
    obj = new({"type": "NodePort", "ports": ports})
    allocation.create(allocator, obj)
    udp, tcp, web = (p.node_port for p in obj.spec.ports or ())
    assert udp == tcp != web and all(30000 <= p <= 32767 for p in (udp, web) if p)
    taken = {"type": "NodePort", "ports": [{"port": 80, "nodePort": web}]}
    assert refused(lambda: allocation.create(allocator, new(taken))) == (
        f'Service "web" is invalid: spec.ports[0].nodePort: Invalid value: {web}: provided port is already allocated'
    )
    outside = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}
    assert refused(lambda: allocation.create(allocator, new(outside))).endswith(
        "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
    )
    # What a failed request took was given back.
    assert len(allocator.taken["IPv4"]) == 1


def test_health_check_ports() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    obj = new({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})
    allocation.create(allocator, obj)
    assert obj.spec.health_check_node_port in allocator.ports.taken
    allocation.delete(allocator, obj)
    assert not allocator.ports.taken and not allocator.taken["IPv4"]


def changed(allocator: ServiceAllocator, old: core_v1.Service, spec: dict[str, Any]) -> core_v1.Service:
    strategy, obj = load(service(spec))
    obj.metadata.namespace, obj.metadata.uid = old.metadata.namespace, old.metadata.uid
    strategy.default(obj)
    strategy.prepare_update(obj, old, CONTEXT)
    allocation.update(allocator, obj, old)
    result: core_v1.Service = obj
    return result


def test_updates_keep_what_was_allocated() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    old = new({"type": "NodePort"})
    allocation.create(allocator, old)
    same = changed(allocator, old, {"type": "NodePort"})
    assert same.spec.cluster_ip == old.spec.cluster_ip
    assert [p.node_port for p in same.spec.ports or ()] == [p.node_port for p in old.spec.ports or ()]


def test_a_new_type_takes_and_gives_back() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    old = new()
    allocation.create(allocator, old)
    node_port = changed(allocator, old, {"type": "NodePort"})
    assert len(allocator.ports.taken) == 1
    plain = changed(allocator, node_port, {})
    assert not allocator.ports.taken and plain.spec.cluster_ip == old.spec.cluster_ip
    external = changed(allocator, plain, {"type": "ExternalName", "externalName": "a.b"})
    assert not allocator.taken["IPv4"] and external.spec.cluster_ip is None


def test_a_failed_update_changes_nothing() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    old = new({"type": "NodePort"})
    allocation.create(allocator, old)
    before = (set(allocator.ports.taken), set(allocator.taken["IPv4"]))
    strategy, obj = load(service())
    strategy.default(obj)
    strategy.prepare_update(obj, old, CONTEXT)
    release = allocation.update(allocator, obj, old)
    undo(release)
    assert (allocator.ports.taken, allocator.taken["IPv4"]) == before


def test_the_allocator_is_filled_from_what_is_stored() -> None:
    allocator = ServiceAllocator(["10.96.0.0/16"])
    old = new({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})
    allocation.create(allocator, old)
    again = ServiceAllocator(["10.96.0.0/16"], [old, clone(old), new({"clusterIP": "None"})])
    assert again.ports.taken == allocator.ports.taken
    assert again.taken["IPv4"] == allocator.taken["IPv4"]


def test_ranges_come_and_go() -> None:
    allocator = ServiceAllocator(["10.0.0.0/30"])
    first = {allocator.next_ip("IPv4") for _ in range(2)}
    allocator.add_range("10.0.1.0/30")
    allocator.reserve("10.0.1.1")
    assert allocator.next_ip("IPv4") == "10.0.1.2"
    with pytest.raises(AllocationError, match="range is full"):
        allocator.next_ip("IPv4")
    with pytest.raises(AllocationError, match="already allocated"):
        allocator.take_ip("10.0.1.1")
    allocator.unreserve("10.0.1.1")
    allocator.remove_range("10.0.1.0/30")
    with pytest.raises(AllocationError, match="does not match the current range"):
        allocator.take_ip("10.0.1.1")
    allocator.release_ip(first.pop())
    assert allocator.next_ip("IPv4") not in first


def test_ranges_run_full() -> None:
    small = AddressRange("10.0.0.0/29")
    given = {small.next() for _ in range(6)}
    assert given == {f"10.0.0.{n}" for n in range(1, 7)}
    with pytest.raises(AllocationError, match="range is full"):
        small.next()
    ports = PortRange(30000, 30003)
    assert {ports.next() for _ in range(4)} == set(range(30000, 30004))
    with pytest.raises(AllocationError, match="range is full"):
        ports.next()


# -- table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"type": "ClusterIP", "clusterIPs": ["10.96.0.5"]}, {}, ("ClusterIP", "10.96.0.5", "<none>", "80/TCP")),
        ({"type": "ClusterIP", "clusterIPs": ["None"]}, {}, ("ClusterIP", "None", "<none>", "80/TCP")),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]},
            {},
            ("NodePort", "<none>", "<none>", "80:30080/TCP"),
        ),
        ({"type": "LoadBalancer"}, {}, ("LoadBalancer", "<none>", "<pending>", "80/TCP")),
        (
            {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]},
            {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
            ("LoadBalancer", "<none>", "1.2.3.4,9.9.9.9", "80/TCP"),
        ),
        (
            {"type": "ExternalName", "externalName": "a.b", "ports": None},
            {},
            ("ExternalName", "<none>", "a.b", "<none>"),
        ),
    ],
)
def test_row(spec: dict[str, Any], status: dict[str, Any], expected: tuple[str, ...]) -> None:
    text = service({"ports": [{"port": 80, "protocol": "TCP"}], **spec})
    cells = row({**text, "status": status})
    assert (cells["Type"], cells["Cluster-IP"], cells["External-IP"], cells["Port(s)"]) == expected
    assert cells["Selector"] == "app=web"
