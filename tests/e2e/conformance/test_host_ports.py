"""hostPorts: told apart by address and protocol, refused to a second pod by the scheduler."""

from __future__ import annotations

from tests.e2e.conformance.client import Namespace, condition, eventually
from tests.e2e.conformance.pods import netexec, pod, shell

NODE = "duo-1"
ASK = "import http.client as h; c=h.HTTPConnection({!r}, 54323, 5, source_address=({!r}, 0))"
SAY = "; c.request('GET', '/hostname'); print(c.getresponse().read().decode())"


def test_the_same_port_with_other_addresses_and_protocols_is_no_conflict(shared: Namespace) -> None:
    (client,) = shared.run(netexec("client", node=NODE, hostNetwork=True))
    address = client["status"]["hostIP"]
    for name, host, protocol in (("pod1", "127.0.0.1", "TCP"), ("pod2", address, "TCP"), ("pod3", address, "UDP")):
        inside = 8080 if protocol == "TCP" else 8081
        ports = [{"hostPort": 54323, "containerPort": inside, "hostIP": host, "protocol": protocol}]
        shared.run(netexec(name, ports=ports, node=NODE))

    def ask(host: str) -> str:
        return shared.exec("client", "python3", "-c", ASK.format(host, address) + SAY).strip()

    assert ask("127.0.0.1") == "pod1"
    assert ask(address) == "pod2"
    shared.reaches("client", address, 54323, {"pod3"}, udp=True)
    other = netexec("other", node="duo-2")
    shared.run(other)
    shared.reaches("other", address, 54323, {"pod2"})
    shared.reaches("other", address, 54323, {"pod3"}, udp=True)
    shared.delete("pods", "pod2", gracePeriodSeconds=0)
    shared.refused("other", address, 54323)


def test_all_addresses_conflict_with_one(space: Namespace) -> None:
    for name, host in (("all", "0.0.0.0"), ("one", "127.0.0.1")):
        ports = [{"hostPort": 54322, "containerPort": 8080, "protocol": "TCP", "hostIP": host}]
        selector = {"kubernetes.io/hostname": NODE}
        space.start(pod(name, shell("sleep 600", ports=ports), nodeSelector=selector))
        if name == "all":
            space.ready(name)
    eventually(lambda: condition(space.get("pods", "one"), "PodScheduled") == "False")
    said = eventually(lambda: [e for e in space.events("one") if e["reason"] == "FailedScheduling"])
    assert "1 node(s) didn't have free ports for the requested pod ports" in (said[0].get("message") or said[0]["note"])
