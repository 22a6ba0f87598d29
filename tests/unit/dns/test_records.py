"""The names of the DNS specification: what each kind of service gives, what exists and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import core_v1, discovery_v1
from podling.api.meta_v1 import ObjectMeta
from podling.dns.records import Answer, Kind, Record, Records

ZONE = "cluster.local"


def service(name: str, namespace: str = "default", ip: str = "None", **spec: Any) -> core_v1.Service:
    spec.setdefault("ports", [core_v1.ServicePort(name="http", port=80, protocol="TCP")])
    return core_v1.Service(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=core_v1.ServiceSpec(**{"type": "ClusterIP", "cluster_ip": ip, "cluster_ips": [ip], **spec}),
    )


def endpoint(ip: str, hostname: str | None = None, ready: bool | None = None) -> discovery_v1.Endpoint:
    return discovery_v1.Endpoint(
        addresses=[ip], hostname=hostname, conditions=discovery_v1.EndpointConditions(ready=ready)
    )


def slice_(
    service: str, *endpoints: discovery_v1.Endpoint, name: str = "s1", namespace: str = "default", kind: str = "IPv4"
) -> discovery_v1.EndpointSlice:
    return discovery_v1.EndpointSlice(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={"kubernetes.io/service-name": service}),
        address_type=kind,
        ports=[discovery_v1.EndpointPort(name="http", port=8080, protocol="TCP")],
        endpoints=list(endpoints),
    )


@pytest.fixture
def records() -> Records:
    made = Records(ZONE, servers=("10.96.0.10",), ranges=("10.96.0.0/16", "10.244.0.0/16"))
    made.put_namespace(core_v1.Namespace(metadata=ObjectMeta(name="default")))
    made.put_service(service("web", ip="10.96.1.1"))
    made.put_service(service("dual", ip="10.96.1.2", cluster_ips=["10.96.1.2", "fd00::2"]))
    made.put_service(service("db"))
    made.put_slice(
        slice_("db", endpoint("10.244.1.5", "db-0"), endpoint("10.244.2.6"), endpoint("10.244.3.7", "db-2", False))
    )
    made.put_slice(slice_("web", endpoint("10.244.1.9"), name="w1"))
    made.put_service(service("silent"))
    made.put_service(service("eager", publish_not_ready_addresses=True))
    made.put_slice(slice_("eager", endpoint("10.244.4.1", "eager-0", False), name="e1"))
    made.put_service(service("outside", type="ExternalName", external_name="Example.com.", ip=""))
    return made


def data(answer: Answer) -> set[str]:
    assert answer.kind is Kind.FOUND
    return {record.data for record in answer.records}


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("web.default.svc.cluster.local", "A", {"10.96.1.1"}),
        ("dual.default.svc.cluster.local", "A", {"10.96.1.2"}),
        ("dual.default.svc.cluster.local", "AAAA", {"fd00::2"}),
        ("db.default.svc.cluster.local", "A", {"10.244.1.5", "10.244.2.6"}),
        ("db-0.db.default.svc.cluster.local", "A", {"10.244.1.5"}),
        ("10-244-2-6.db.default.svc.cluster.local", "A", {"10.244.2.6"}),
        ("10-244-1-9.web.default.svc.cluster.local", "A", {"10.244.1.9"}),
        ("eager.default.svc.cluster.local", "A", {"10.244.4.1"}),
        ("eager-0.eager.default.svc.cluster.local", "A", {"10.244.4.1"}),
        ("_http._tcp.web.default.svc.cluster.local", "A", {"10.96.1.1"}),
        ("10-244-1-5.default.pod.cluster.local", "A", {"10.244.1.5"}),
        ("fd00--5.default.pod.cluster.local", "AAAA", {"fd00::5"}),
        ("1.1.96.10.in-addr.arpa", "PTR", {"web.default.svc.cluster.local"}),
        ("5.1.244.10.in-addr.arpa", "PTR", {"db-0.db.default.svc.cluster.local"}),
        ("6.2.244.10.in-addr.arpa", "PTR", {"10-244-2-6.db.default.svc.cluster.local"}),
        (f"2.{'0.' * 27}0.0.d.f.ip6.arpa", "PTR", {"dual.default.svc.cluster.local"}),
        ("dns-version.cluster.local", "TXT", {"1.1.0"}),
        ("cluster.local", "NS", {"ns.dns.cluster.local"}),
        ("cluster.local", "SOA", {"ns.dns.cluster.local"}),
        ("ns.dns.cluster.local", "A", {"10.96.0.10"}),
    ],
)
def test_names_that_exist(records: Records, name: str, type_: str, expected: set[str]) -> None:
    assert data(records.lookup(name, type_)) == expected


@pytest.mark.parametrize(
    ("name", "type_", "kind"),
    [
        ("web.default.svc.cluster.local", "AAAA", Kind.NO_DATA),
        ("web.default.svc.cluster.local", "TXT", Kind.NO_DATA),
        ("db-0.db.default.svc.cluster.local", "AAAA", Kind.NO_DATA),
        ("default.svc.cluster.local", "A", Kind.NO_DATA),
        ("default.pod.cluster.local", "A", Kind.NO_DATA),
        ("svc.cluster.local", "A", Kind.NO_DATA),
        ("cluster.local", "A", Kind.NO_DATA),
        ("10-244-1-5.default.pod.cluster.local", "AAAA", Kind.NO_DATA),
        ("nobody.default.svc.cluster.local", "A", Kind.NO_NAME),
        ("web.nowhere.svc.cluster.local", "A", Kind.NO_NAME),
        ("nowhere.svc.cluster.local", "A", Kind.NO_NAME),
        ("10-244-1-5.nowhere.pod.cluster.local", "A", Kind.NO_NAME),
        ("not-an-address.default.pod.cluster.local", "A", Kind.NO_NAME),
        ("silent.default.svc.cluster.local", "A", Kind.NO_NAME),
        ("db-2.db.default.svc.cluster.local", "A", Kind.NO_NAME),
        ("db-9.db.default.svc.cluster.local", "A", Kind.NO_NAME),
        ("_smtp._tcp.web.default.svc.cluster.local", "SRV", Kind.NO_NAME),
        ("_http._udp.web.default.svc.cluster.local", "SRV", Kind.NO_NAME),
        ("example.com.default.svc.cluster.local", "A", Kind.NO_NAME),
        ("example.com.cluster.local", "A", Kind.NO_NAME),
        ("7.3.244.10.in-addr.arpa", "PTR", Kind.NO_NAME),
        ("99.99.96.10.in-addr.arpa", "PTR", Kind.NO_NAME),
        ("example.com", "A", Kind.NOT_OURS),
        ("notcluster.local", "A", Kind.NOT_OURS),
        ("1.2.0.192.in-addr.arpa", "PTR", Kind.NOT_OURS),
        ("244.10.in-addr.arpa", "PTR", Kind.NOT_OURS),
    ],
)
def test_names_without_an_answer(records: Records, name: str, type_: str, kind: Kind) -> None:
    assert records.lookup(name, type_).kind is kind


def test_srv_of_a_service_names_its_port_and_address(records: Records) -> None:
    name = "_http._tcp.web.default.svc.cluster.local"
    answer = records.lookup(name, "SRV")
    assert answer.records == (Record(name, "SRV", "web.default.svc.cluster.local", 100, 80),)
    assert answer.additional == (Record("web.default.svc.cluster.local", "A", "10.96.1.1"),)


def test_srv_of_a_headless_service_names_each_endpoint(records: Records) -> None:
    name = "_http._tcp.db.default.svc.cluster.local"
    answer = records.lookup(name, "SRV")
    assert {(r.data, r.weight, r.port) for r in answer.records} == {
        ("db-0.db.default.svc.cluster.local", 50, 8080),
        ("10-244-2-6.db.default.svc.cluster.local", 50, 8080),
    }
    assert {r.data for r in answer.additional} == {"10.244.1.5", "10.244.2.6"}


def test_an_external_name_is_an_alias(records: Records) -> None:
    name = "outside.default.svc.cluster.local"
    assert records.lookup(name, "A").alias == "example.com"
    answer = records.lookup(name, "CNAME")
    assert (answer.records, answer.alias) == ((Record(name, "CNAME", "Example.com"),), "")


def test_records_follow_changes(records: Records) -> None:
    name = "db.default.svc.cluster.local"
    records.put_slice(slice_("db", endpoint("10.244.1.6", "db-0")))
    assert data(records.lookup(name, "A")) == {"10.244.1.6"}
    assert records.lookup("5.1.244.10.in-addr.arpa", "PTR").kind is Kind.NO_NAME
    records.put_slice(slice_("web", endpoint("10.244.1.6", "db-0")))  # the slice now belongs to another service
    assert records.lookup(name, "A").kind is Kind.NO_NAME
    records.put_service(service("web", ip="10.96.7.7"))
    assert records.lookup("1.1.96.10.in-addr.arpa", "PTR").kind is Kind.NO_NAME
    assert data(records.lookup("7.7.96.10.in-addr.arpa", "PTR")) == {"web.default.svc.cluster.local"}
    records.remove_service(service("web"))
    assert records.lookup("7.7.96.10.in-addr.arpa", "PTR").kind is Kind.NO_NAME
    assert records.lookup("web.default.svc.cluster.local", "A").kind is Kind.NO_NAME
    records.remove_namespace(core_v1.Namespace(metadata=ObjectMeta(name="default")))
    assert records.lookup("dual.default.svc.cluster.local", "A").kind is Kind.NO_NAME


def test_removing_everything_leaves_nothing(records: Records) -> None:
    for item in (slice_("db"), slice_("web", name="w1"), slice_("eager", name="e1")):
        records.remove_slice(item)
    for name in ("web", "dual", "db", "silent", "eager", "outside"):
        records.remove_service(service(name))
    left = (records._services, records._service_ips, records._slices, records._endpoint_ips, records._slice_services)
    assert not any(left)


def test_an_address_in_two_slices_is_one_record(records: Records) -> None:
    records.put_slice(slice_("db", endpoint("10.244.1.5", "db-0"), name="s2"))
    answer = records.lookup("db-0.db.default.svc.cluster.local", "A")
    assert [r.data for r in answer.records] == ["10.244.1.5"]
    records.remove_slice(slice_("db", name="s2"))
    assert data(records.lookup("5.1.244.10.in-addr.arpa", "PTR")) == {"db-0.db.default.svc.cluster.local"}
