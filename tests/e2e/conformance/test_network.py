"""What every test of the conformance programme needs: nodes that reach pods, pods that reach pods and nodes."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conformance.client import Api, Namespace, Object, condition, eventually
from tests.e2e.conformance.pods import netexec

NODES = ("duo-1", "duo-2")


@pytest.fixture(scope="module")
def net(shared: Namespace) -> dict[str, Object]:
    """A server on each node, and on each node a client in the node's network and one in a pod's."""
    servers = [netexec(f"netserver-{n}", node=node) for n, node in enumerate(NODES)]
    clients = [netexec(f"client-{n}", node=node) for n, node in enumerate(NODES)]
    hosts = [netexec(f"host-{n}", node=node, hostNetwork=True) for n, node in enumerate(NODES)]
    return {pod["metadata"]["name"]: pod for pod in shared.run(*servers, *clients, *hosts)}


def test_two_nodes_are_ready_and_schedulable(api: Api) -> None:
    nodes = api.request("GET", "/api/v1/nodes")["items"]
    assert [n["metadata"]["name"] for n in nodes] == [*NODES]
    for node in nodes:
        assert condition(node, "Ready") == "True" and not node["spec"].get("taints")
        kinds = {a["type"]: a["address"] for a in node["status"]["addresses"]}
        assert set(kinds) >= {"InternalIP", "Hostname"}
        for resource in ("cpu", "memory", "ephemeral-storage", "pods"):
            assert node["status"]["allocatable"][resource] and node["status"]["capacity"][resource]


def test_pods_of_the_node_network_have_the_nodes_address_and_name(net: dict[str, Object], shared: Namespace) -> None:
    for number, node in enumerate(NODES):
        pod = net[f"host-{number}"]
        assert pod["status"]["podIP"] == pod["status"]["hostIP"]
        assert pod["status"]["podIPs"] == pod["status"]["hostIPs"] == [{"ip": pod["status"]["hostIP"]}]
        assert shared.exec(f"host-{number}", "hostname").strip() == node
        lookup = f"import socket; print(socket.gethostbyname({node!r}))"
        resolved = shared.exec(f"host-{number}", "python3", "-c", lookup)
        assert resolved.strip() == pod["status"]["hostIP"]


def test_containers_are_the_runtimes_that_their_node_names(net: dict[str, Object], api: Api) -> None:
    for pod in net.values():
        node = api.request("GET", f"/api/v1/nodes/{pod['spec']['nodeName']}")
        runtime = node["status"]["nodeInfo"]["containerRuntimeVersion"].partition("://")[0]
        (status,) = pod["status"]["containerStatuses"]
        assert runtime in ("crun", "runc") and status["containerID"].startswith(f"{runtime}://")


@pytest.mark.parametrize("udp", [False, True], ids=["http", "udp"])
@pytest.mark.parametrize("client", ["client", "host"])
def test_every_client_reaches_every_server(net: dict[str, Object], shared: Namespace, client: str, udp: bool) -> None:
    for here in range(2):
        for there in range(2):
            address = net[f"netserver-{there}"]["status"]["podIP"]
            port = 8081 if udp else 8080
            shared.reaches(f"{client}-{here}", address, port, {f"netserver-{there}"}, udp=udp)


def test_pods_reach_the_servers_of_nodes(net: dict[str, Object], shared: Namespace) -> None:
    for here in range(2):
        for there in range(2):
            address = net[f"host-{there}"]["status"]["podIP"]
            shared.reaches(f"client-{here}", address, 8080, {NODES[there]})
            shared.reaches(f"host-{here}", address, 8081, {NODES[there]}, udp=True)


def test_a_pods_address_is_what_others_see(net: dict[str, Object], shared: Namespace) -> None:
    for name in ("client-0", "client-1", "host-1"):
        seen = shared.dial(name, net["netserver-0"]["status"]["podIP"], 8080, "clientip")["responses"][0]
        assert seen.partition(":")[0] == net[name]["status"]["podIP"]


def test_the_api_server_answers_in_pods_by_its_service(net: dict[str, Object], shared: Namespace, api: Api) -> None:
    script = (
        "import json,os,ssl,urllib.request as r; d='/var/run/secrets/kubernetes.io/serviceaccount/';"
        "h=os.environ['KUBERNETES_SERVICE_HOST']; c=ssl.create_default_context(cafile=d+'ca.crt');"
        "print(json.dumps([json.load(r.urlopen(f'https://{n}/version', context=c))['major'] "
        "for n in (h, 'kubernetes.default.svc')]))"
    )
    for name in ("client-0", "client-1", "host-0", "host-1"):
        if name.startswith("host"):
            script = script.replace("'kubernetes.default.svc'", "h")
        assert json.loads(shared.exec(name, "python3", "-c", script)) == ["1", "1"], name


def test_nodes_are_proxied_to_their_kubelets(api: Api) -> None:
    for node in NODES:
        assert api.raw("GET", f"/api/v1/nodes/{node}/proxy/healthz").data == b"ok"
        assert api.raw("GET", f"/api/v1/nodes/{node}:10250/proxy/healthz").data == b"ok"
        pods = api.request("GET", f"/api/v1/nodes/{node}/proxy/pods")["items"]
        assert all(p["spec"]["nodeName"] == node for p in pods)
        assert b"machine_memory_bytes" in api.raw("GET", f"/api/v1/nodes/{node}/proxy/metrics/cadvisor").data
        assert api.request("GET", f"/api/v1/nodes/{node}/proxy/stats/summary")["node"]["nodeName"] == node


def test_logs_and_exec_work_on_both_nodes(net: dict[str, Object], shared: Namespace) -> None:
    for number in range(2):
        assert "/healthz" in eventually(lambda n=number: shared.log(f"netserver-{n}"))  # type: ignore[misc]
        assert shared.exec(f"netserver-{number}", "sh", "-c", "echo $((6 * 7))") == "42\n"
