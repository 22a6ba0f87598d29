"""Names in the cluster, asked over UDP and TCP and by the C library, from pods on both nodes."""

from __future__ import annotations

import json

import pytest
from dnslib import QTYPE, DNSRecord

from tests.e2e.conformance.client import Namespace, Object, eventually
from tests.e2e.conformance.pods import netexec, once, pod, port, service, shell

CLIENTS = ("client-0", "client-1")
LABELS = {"served": "yes"}
# Asks the name server of resolv.conf each query (hexadecimal) over UDP and over TCP.
QUERY = """
import json, socket, sys
server = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")][0]
found = []
for query in map(bytes.fromhex, sys.argv[1:]):
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); end.settimeout(5)
    end.sendto(query, (server, 53)); found.append(end.recv(4096).hex())
    with socket.create_connection((server, 53), 5) as end:
        end.sendall(len(query).to_bytes(2, "big") + query); reply = end.makefile("rb")
        found.append(reply.read(int.from_bytes(reply.read(2), "big")).hex())
print(json.dumps(found))
"""
RESOLVE = "import socket,sys; print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], None)}))"


@pytest.fixture(scope="module")
def net(shared: Namespace) -> Namespace:
    clients = [netexec(f"client-{n}", node=f"duo-{n + 1}") for n in range(2)]
    named = netexec("named", labels=LABELS, hostname="first", subdomain="headless")
    shared.create("services", service("headless", LABELS, port(80, name="http"), clusterIP="None"))
    shared.create("services", service("normal", LABELS, port(80, 8080, name="http")))
    shared.run(*clients, named, netexec("plain", labels=LABELS))
    eventually(lambda: len(shared.get("endpoints", "headless")["subsets"][0]["addresses"]) == 2)
    return shared


def asked(net: Namespace, client: str, name: str, kind: str = "A") -> set[str]:
    """The answers of that kind, which are the same over both protocols."""
    query = DNSRecord.question(name, kind).pack().hex()
    replies = json.loads(net.exec(client, "python3", "-c", QUERY, query))
    both = [DNSRecord.parse(bytes.fromhex(reply)).rr for reply in replies]
    udp, tcp = ({str(record.rdata) for record in rr if record.rtype == getattr(QTYPE, kind)} for rr in both)
    assert udp == tcp
    return udp


def ips(net: Namespace, *names: str) -> set[str]:
    return {net.get("pods", name)["status"]["podIP"] for name in names}


@pytest.mark.parametrize("client", CLIENTS)
def test_services_have_addresses_ports_and_names(net: Namespace, client: str) -> None:
    domain = f"{net.name}.svc.cluster.local"
    ip = net.get("services", "normal")["spec"]["clusterIP"]
    assert asked(net, client, "kubernetes.default.svc.cluster.local") == {"10.100.0.1"}
    assert eventually(lambda: asked(net, client, f"normal.{domain}")) == {ip}
    assert eventually(lambda: asked(net, client, f"headless.{domain}")) == ips(net, "named", "plain")
    assert asked(net, client, f"_http._tcp.normal.{domain}", "SRV") == {f"0 100 80 normal.{domain}."}
    dashed = next(iter(ips(net, "plain"))).replace(".", "-")
    targets = {f"0 50 80 {name}.headless.{domain}." for name in ("first", dashed)}
    assert asked(net, client, f"_http._tcp.headless.{domain}", "SRV") == targets
    backwards = ".".join(reversed(ip.split(".")))
    assert asked(net, client, f"{backwards}.in-addr.arpa", "PTR") == {f"normal.{domain}."}
    assert asked(net, client, f"first.headless.{domain}") == ips(net, "named")
    assert asked(net, client, f"{dashed}.{net.name}.pod.cluster.local") == ips(net, "plain")


@pytest.mark.parametrize("client", CLIENTS)
def test_partial_names_are_completed(net: Namespace, client: str) -> None:
    ip = net.get("services", "normal")["spec"]["clusterIP"]
    for name in ("normal", f"normal.{net.name}", f"normal.{net.name}.svc", f"normal.{net.name}.svc.cluster.local."):
        assert eventually(lambda name=name: net.exec(client, "python3", "-c", RESOLVE, name)) == f"{ip}\n"  # type: ignore[misc]


def test_a_pod_knows_its_own_names(net: Namespace) -> None:
    domain = f"headless.{net.name}.svc.cluster.local"
    (own,) = ips(net, "named")
    hosts = net.exec("named", "cat", "/etc/hosts")
    assert hosts.startswith("# Kubernetes-managed hosts file.\n")
    assert f"{own}\tfirst.{domain}\tfirst\n" in hosts
    assert net.exec("named", "hostname").strip() == "first"
    for name in ("first", f"first.{domain}"):
        assert net.exec("named", "python3", "-c", RESOLVE, name) == f"{own}\n"


def test_external_names_are_aliases_and_follow_changes(net: Namespace) -> None:
    name = f"outside.{net.name}.svc.cluster.local"
    net.create("services", service("outside", None, type="ExternalName", externalName="foo.example.com"))
    assert eventually(lambda: asked(net, "client-0", name, "CNAME")) == {"foo.example.com."}
    net.patch("services", "outside", {"spec": {"externalName": "bar.example.com"}})
    assert eventually(lambda: asked(net, "client-0", name, "CNAME") == {"bar.example.com."})
    inside = {"spec": {"type": "ClusterIP", "externalName": None, "ports": [{"port": 80, "name": "http"}]}}
    ip = net.patch("services", "outside", inside)["spec"]["clusterIP"]
    assert eventually(lambda: asked(net, "client-0", name) == {ip})


def test_a_pods_own_configuration_of_dns(net: Namespace) -> None:
    config = {
        "nameservers": ["1.1.1.1"],
        "searches": ["resolv.conf.local"],
        "options": [{"name": "ndots", "value": "2"}],
    }
    cat = "cat /etc/resolv.conf"
    pods: list[Object] = [
        once("none", cat, dnsPolicy="None", dnsConfig=config),
        once("default", cat, dnsPolicy="Default"),
        once("host", cat, dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True),
        pod("hosts", shell("cat /etc/hosts"), restartPolicy="Never",
            hostAliases=[{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]),
    ]  # fmt: skip
    net.start(*pods)
    assert net.output("none") == "search resolv.conf.local\nnameserver 1.1.1.1\noptions ndots:2\n"
    domain = f"{net.name}.svc.cluster.local"
    expected = f"search {domain} svc.cluster.local cluster.local"
    assert expected in net.output("host") and "nameserver 10.100.0.10" in net.output("host")
    assert "10.100.0.10" not in net.output("default")
    assert "123.45.67.89\tfoo\tbar\n" in net.output("hosts")
