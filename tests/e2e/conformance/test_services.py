"""Services, from pods and from the nodes' networks on both nodes: types, ports, affinity, what happens upon changes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conformance.client import Namespace, Object, eventually
from tests.e2e.conformance.pods import netexec, port, service

NODES = ("duo-1", "duo-2")
CLIENTS = ("client-0", "client-1", "host-0", "host-1")
BACKENDS = ("backend-0", "backend-1", "backend-2")
BACKEND = {"role": "backend"}


@pytest.fixture(scope="module")
def net(shared: Namespace) -> Namespace:
    """Three backends, and on each node a client in the node's network and one in a pod's."""
    backends = [netexec(name, labels=BACKEND, node=NODES[n % 2]) for n, name in enumerate(BACKENDS)]
    clients = [netexec(f"client-{n}", node=node) for n, node in enumerate(NODES)]
    hosts = [netexec(f"host-{n}", node=node, hostNetwork=True) for n, node in enumerate(NODES)]
    shared.run(*backends, *clients, *hosts)
    return shared


def node_ips(net: Namespace) -> list[str]:
    return [net.get("pods", f"host-{n}")["status"]["podIP"] for n in range(2)]


def made(net: Namespace, name: str, selector: Any, *ports: Object, **spec: Any) -> tuple[str, list[int]]:
    """A new service's cluster IP and node ports."""
    body = net.create("services", service(name, selector, *ports, **spec))["spec"]
    return body.get("clusterIP", ""), [p.get("nodePort", 0) for p in body.get("ports", ())]


def addresses(net: Namespace, name: str) -> dict[str, set[int]]:
    """The pods behind a service and their ports, by its Endpoints; its slices must say the same."""
    found: dict[str, set[int]] = {}
    for subset in net.get("endpoints", name).get("subsets", ()):
        for address in subset.get("addresses", ()):
            ports = {p["port"] for p in subset["ports"]}
            found.setdefault(address["targetRef"]["name"], set()).update(ports)
    sliced: dict[str, set[int]] = {}
    for part in net.list("endpointslices", labelSelector=f"kubernetes.io/service-name={name}"):
        for endpoint in part["endpoints"] or ():
            if endpoint["conditions"]["ready"]:
                ports = {p["port"] for p in part["ports"]}
                sliced.setdefault(endpoint["targetRef"]["name"], set()).update(ports)
    assert found == sliced
    return found


def test_a_node_port_is_reached_at_every_node_from_everywhere(net: Namespace) -> None:
    ports = port(80, 8080, name="http"), port(90, 8081, name="udp", protocol="UDP")
    ip, (tcp, udp) = made(net, "everywhere", BACKEND, *ports, type="NodePort")
    for client in CLIENTS:
        net.reaches(client, ip, 80, BACKENDS)
        net.reaches(client, ip, 90, BACKENDS, udp=True)
        for node in node_ips(net):
            net.reaches(client, node, tcp, BACKENDS)
            net.reaches(client, node, udp, BACKENDS, udp=True)
    net.reaches("client-0", "everywhere", 80, BACKENDS)
    net.reaches("host-1", "127.0.0.1", tcp, BACKENDS)


def test_a_pod_reaches_itself_through_its_service(net: Namespace) -> None:
    ip, (node_port,) = made(net, "hairpin", {"app": "alone"}, port(80, 8080), type="NodePort")
    alone = net.run(netexec("alone"))[0]
    net.reaches("alone", ip, 80, {"alone"})
    net.reaches("alone", alone["status"]["hostIP"], node_port, {"alone"})


def test_a_service_keeps_the_clients_address(net: Namespace) -> None:
    ip, _ = made(net, "source", BACKEND, port(80, 8080))
    for client in ("client-0", "client-1"):
        answers = eventually(lambda c=client: net.dial(c, ip, 80, "clientip", tries=6)["responses"])  # type: ignore[misc]
        assert {a.partition(":")[0] for a in answers} == {net.get("pods", client)["status"]["podIP"]}


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_session_affinity_can_be_switched_on_and_off(net: Namespace, kind: str) -> None:
    name = f"affinity-{kind.lower()}"
    ip, (node_port,) = made(net, name, BACKEND, port(80, 8080), type=kind, sessionAffinity="ClientIP")
    for client in ("client-0", "host-1"):
        host, number = (ip, 80) if kind == "ClusterIP" else (node_ips(net)[0], node_port)

        def answers(client: str = client, host: str = host, number: int = number) -> set[str]:
            found = net.dial(client, host, number, tries=16)
            return set() if "errors" in found else set(found["responses"])

        assert eventually(lambda ask=answers: len(ask()) == 1), (client, kind)  # type: ignore[misc]
        net.patch("services", name, {"spec": {"sessionAffinity": "None"}})
        assert eventually(lambda ask=answers: len(ask()) > 1)  # type: ignore[misc]
        net.patch("services", name, {"spec": {"sessionAffinity": "ClientIP"}})
        assert eventually(lambda ask=answers: len(ask()) == 1)  # type: ignore[misc]
        assert len(set.union(*(answers() for _ in range(3)))) == 1


def test_types_change_to_and_from_external_name(net: Namespace) -> None:
    domain = f"{net.name}.svc.cluster.local"
    first, _ = made(net, "target", BACKEND, port(80, 8080))
    made(net, "changing", None, type="ExternalName", externalName=f"target.{domain}")

    def resolves(kind: str = "a") -> str:
        return net.shell("client-0", f"nslookup -type={kind} changing.{domain}")

    def inside(body: Object, kind: str) -> None:
        body["spec"].pop("externalName", None)
        body["spec"].update(type=kind, selector=BACKEND, ports=[port(80, 8080)])

    def outside(body: Object) -> None:
        for field in ("clusterIP", "clusterIPs", "selector", "ports"):
            body["spec"].pop(field, None)
        body["spec"].update(type="ExternalName", externalName=f"target.{domain}")

    assert eventually(lambda: f"canonical name = target.{domain}" in resolves("cname"))
    assert f"Address: {first}" in resolves()
    ip = net.update("services", "changing", lambda s: inside(s, "ClusterIP"))["spec"]["clusterIP"]
    net.reaches("client-0", ip, 80, BACKENDS)
    net.reaches("client-1", f"changing.{domain}", 80, BACKENDS)
    assert eventually(lambda: f"Address: {ip}" in resolves())
    after = net.update("services", "changing", outside)["spec"]
    assert "clusterIP" not in after and after["type"] == "ExternalName"
    assert eventually(lambda: f"canonical name = target.{domain}" in resolves("cname"))
    net.refused("client-0", ip, 80)
    spec = net.update("services", "changing", lambda s: inside(s, "NodePort"))["spec"]
    for node in node_ips(net):
        net.reaches("client-1", node, spec["ports"][0]["nodePort"], BACKENDS)
    net.update("services", "changing", outside)
    assert eventually(lambda: f"Address: {first}" in resolves())


def test_one_port_serves_both_protocols_until_one_is_taken_away(net: Namespace) -> None:
    net.run(netexec("both", "--http-port=8080", "--udp-port=8080"))
    tcp, udp = port(80, 8080, name="tcp", protocol="TCP"), port(80, 8080, name="udp", protocol="UDP")
    ip, _ = made(net, "both", {"app": "both"}, tcp, udp)
    for client in CLIENTS:
        net.reaches(client, ip, 80, {"both"})
        net.reaches(client, ip, 80, {"both"}, udp=True)
    for kept, is_udp in ((udp, True), (tcp, False)):
        net.update("services", "both", lambda s, kept=kept: s["spec"].update(ports=[kept]))  # type: ignore[misc]
        for client in CLIENTS:
            net.reaches(client, ip, 80, {"both"}, udp=is_udp)
            net.refused(client, ip, 80, udp=not is_udp)


def test_endpoints_follow_pods_as_they_come_and_go(space: Namespace) -> None:
    ports = port(80, "a", name="one"), port(81, "b", name="two")
    ip, _ = made(space, "follow", {"set": "x"}, *ports)
    assert eventually(lambda: space.get("endpoints", "follow")) and addresses(space, "follow") == {}
    space.run(netexec("client"))
    space.refused("client", ip, 80)
    expected: dict[str, set[int]] = {}
    for name, label, number in (("pod1", "a", 8080), ("pod2", "b", 8090)):
        containers = [{"name": label, "containerPort": number}]
        space.run(netexec(name, f"--http-port={number}", ports=containers, labels={"set": "x"}))
        expected[name] = {number}
        eventually(lambda: addresses(space, "follow") == expected, 30, f"{expected}")
        space.reaches("client", ip, 80 if label == "a" else 81, {name})
    for name in ("pod1", "pod2"):
        space.delete("pods", name)
        del expected[name]
        eventually(lambda: addresses(space, "follow") == expected, 30, f"{expected}")
    space.refused("client", ip, 81)


def test_slices_made_by_hand_lead_to_their_addresses_and_ports(net: Namespace) -> None:
    ips = [net.get("pods", name)["status"]["podIP"] for name in BACKENDS[:2]]
    net.run(netexec("two-ports", "--http-port=8070"), netexec("plain"))
    ip, _ = made(net, "by-hand", None, port(80, name="a"), port(81, name="b"))
    third = net.get("pods", "two-ports")["status"]["podIP"]
    for number, (address, name, target) in enumerate(
        ((ips[0], "a", 8080), (ips[1], "a", 8080), (third, "b", 8070), (ips[0], "b", 8080))
    ):
        meta = {"name": f"by-hand-{number}", "labels": {"kubernetes.io/service-name": "by-hand"}}
        body = {"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": [address]}]}
        net.create("endpointslices", {**body, "ports": [{"name": name, "port": target}]})
    for client in CLIENTS:
        net.reaches(client, ip, 80, BACKENDS[:2])
        net.reaches(client, ip, 81, {"two-ports", BACKENDS[0]})


SEND = """
import socket, sys, time
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); end.bind(("", 12345)); end.settimeout(0.2)
last = ""
for n in range(600):
    end.sendto(b"hostname", (sys.argv[1], int(sys.argv[2])))
    try: got = end.recv(99).decode()
    except OSError: got = ""
    if got and got != last: print(got, flush=True); last = got
    time.sleep(0.05)
"""


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_a_flow_of_datagrams_moves_to_the_new_backend(net: Namespace, kind: str) -> None:
    """The client uses one source port for all, so that the kernel's memory of the flow must be cleaned."""
    name = f"flow-{kind.lower()}"
    ip, (node_port,) = made(net, name, {"flow": name}, port(80, 8081, protocol="UDP"), type=kind)
    host, number = (ip, 80) if kind == "ClusterIP" else (node_ips(net)[0], node_port)
    sender = netexec(f"{name}-sender")
    sender["spec"]["containers"][0] |= {"command": ["python3", "-c", SEND, host, str(number)], "readinessProbe": None}
    net.start(sender)
    net.run(netexec(f"{name}-1", labels={"flow": name}, node=NODES[0]))
    eventually(lambda: net.log(f"{name}-sender") == f"{name}-1\n")
    net.start(netexec(f"{name}-2", labels={"flow": name}, node=NODES[1]))
    net.ready(f"{name}-2")
    net.delete("pods", f"{name}-1", gracePeriodSeconds=0)
    eventually(lambda: net.log(f"{name}-sender") == f"{name}-1\n{name}-2\n")


def test_endpoints_of_many_services_come_soon(net: Namespace) -> None:
    names = [f"latency-{n}" for n in range(60)]

    def one(name: str) -> bool:
        net.create("services", service(name, BACKEND, port(80, 8080)))
        return bool(eventually(lambda: len(addresses(net, name)) == 3, 20))

    with ThreadPoolExecutor(15) as pool:
        assert all(pool.map(one, names))
        list(pool.map(lambda name: net.delete("services", name), names))


def test_the_status_of_a_service_has_conditions_and_addresses(net: Namespace) -> None:
    kind = {"type": "LoadBalancer", "loadBalancerClass": "example.com/internal-vip"}
    made(net, "stated", BACKEND, port(80, 8080), **kind)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}]}}}
    assert net.patch("services", "stated", status, kind="merge", sub="status")["status"] == status["status"]
    assert json.loads(net.kubectl("get", "service", "stated", "-o", "json"))["status"] == status["status"]
