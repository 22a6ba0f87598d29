"""Unmodified kubectl and the official Python client against the API server and the node agent's server on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from podling.apiserver import server as apiserver
from podling.kubelet import server as agent_server
from streaming.harness import KUBECTLS, Cluster, make_pod, running

WEBSOCKETS = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "true"}
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}

every_client = pytest.mark.parametrize(
    ("kubectl", "env"),
    [(binary, env) for binary in KUBECTLS for env in (WEBSOCKETS, SPDY)],
    ids=[f"{version}-{how}" for version in ("1.32", "1.37") for how in ("websocket", "spdy")],
)
every_kubectl = pytest.mark.parametrize("kubectl", KUBECTLS, ids=("1.32", "1.37"))


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as made:
        yield made


@every_client
async def test_exec_gives_output_apart_and_the_exit_code(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    script = "echo out; echo err >&2; exit 3"
    code, out, err = await cluster.run(kubectl, "exec", "web", "--", "sh", "-c", script, env=env)
    assert (code, out) == (3, b"out\n")
    assert err == b"err\ncommand terminated with exit code 3\n"


@every_client
async def test_exec_takes_stdin_to_its_end(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    data = os.urandom(3_000_000)
    code, out, _ = await cluster.run(kubectl, "exec", "-i", "web", "--", "sha256sum", stdin=data, env=env)
    assert (code, out.split()[0].decode()) == (0, hashlib.sha256(data).hexdigest())


@every_client
async def test_exec_gives_much_output_whole(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    code, out, _ = await cluster.run(kubectl, "exec", "web", "--", "seq", "1000000", env=env)
    assert code == 0
    assert out == b"".join(b"%d\n" % n for n in range(1, 1_000_001))


@every_client
async def test_a_command_that_can_not_start_is_reported(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    code, _, err = await cluster.run(kubectl, "exec", "web", "--", "/no/such/thing", env=env)
    assert code == 1
    assert b"Internal error occurred: error executing command in container" in err and b"/no/such/thing" in err


@every_client
async def test_exec_ends_when_the_client_goes(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    script = "echo $$ > pid; echo up; sleep 1000"
    async with cluster.kubectl(kubectl, "exec", "web", "--", "sh", "-c", script, env=env) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        pid = int((cluster.directory / "pid").read_text())
        process.kill()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the command lives on")


@pytest.mark.parametrize("first", ["api server", "node agent"])
@pytest.mark.parametrize("args", [("exec", "-i", "web", "--", "cat"), ("logs", "-f", "web"), ("attach", "-i", "web")])
async def test_servers_close_at_once_whatever_is_open(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], first: str
) -> None:
    monkeypatch.setattr(apiserver, "GRACE", 1000.0)
    monkeypatch.setattr(agent_server, "GRACE", 1000.0)
    (cluster.directory / "app.log").write_bytes(LOG)
    async with cluster.kubectl(KUBECTLS[-1], *args) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdin.write(b"x\n")
        await asyncio.wait_for(process.stdout.readline(), 20)
        async with asyncio.timeout(20):
            if first == "node agent":
                await cluster.kubelet.close()
            await cluster.streaming.close()
            await cluster.http.close()
        await asyncio.wait_for(process.wait(), 20)


@every_client
async def test_a_terminal_has_the_clients_size(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    """kubectl wants a terminal of its own for -t: `script` gives it one."""
    inner = f"stty cols 97 rows 31; {kubectl} exec -it web -- sh -c 'sleep 0.3; stty size; echo to-stderr >&2; exit 4'"
    code, out, _ = await cluster.run("script", "-qec", inner, "/dev/null", env={**env, "SHELL": "/bin/sh"})
    assert b"31 97" in out and b"to-stderr" in out
    assert code == 4
    assert (97, 31) in cluster.agent.sizes


@every_client
async def test_attach_connects_both_ways(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    code, out, err = await cluster.run(kubectl, "attach", "-i", "web", stdin=b"hello\n", env=env)
    assert code == 0, err
    assert b"attached\nHELLO\n" in out


@every_client
async def test_cp_both_ways(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    source = cluster.directory / "source"
    source.mkdir()
    data = os.urandom(2_000_000)
    (source / "data.bin").write_bytes(data)
    there, back = cluster.directory / "there", cluster.directory / "back"
    there.mkdir()
    code, _, err = await cluster.run(kubectl, "cp", f"{source}/data.bin", f"web:{there}/copy.bin", env=env)
    assert code == 0, err
    assert (there / "copy.bin").read_bytes() == data
    code, _, err = await cluster.run(kubectl, "cp", f"web:{there}/copy.bin", str(back), env=env)
    assert code == 0, err
    assert back.read_bytes() == data


class Echo:
    """A server that answers each connection with what it got, backwards."""

    async def __aenter__(self) -> int:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    @staticmethod
    async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readuntil(b"\n")
        writer.write(data[-2::-1] + b"\n")
        await writer.drain()
        writer.close()


async def _ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data + b"\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


@every_client
async def test_port_forward_carries_connections_side_by_side(
    cluster: Cluster, kubectl: str, env: dict[str, str]
) -> None:
    async with Echo() as port, cluster.kubectl(kubectl, "port-forward", "web", f":{port}", env=env) as process:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        local = int(line.split(b"127.0.0.1:")[1].split()[0])
        texts = [b"abc" * n for n in range(1, 30)]
        answers = await asyncio.gather(*(_ask(local, text) for text in texts))
        assert answers == [text[::-1] + b"\n" for text in texts]
        assert await _ask(local, b"again") == b"niaga\n"


@every_client
async def test_port_forward_tells_what_failed(cluster: Cluster, kubectl: str, env: dict[str, str]) -> None:
    async with Echo() as port:
        pass
    async with cluster.kubectl(kubectl, "port-forward", "web", f":{port}", env=env) as process:
        assert process.stdout is not None and process.stderr is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        local = int(line.split(b"127.0.0.1:")[1].split()[0])
        assert await _ask(local, b"x") == b""
        said = await asyncio.wait_for(process.stderr.read(), 20)
        assert f"error forwarding port {port} to pod".encode() in said
        assert f"failed to connect to localhost:{port} inside namespace".encode() in said


LOG = b"".join(
    b"2026-01-01T00:00:%02d.123456789Z %s %s\n" % (second, stream, text)
    for second, stream, text in [
        (1, b"stdout", b"F first"),
        (2, b"stderr", b"F second"),
        (3, b"stdout", b"P thi"),
        (3, b"stdout", b"F rd"),
        (4, b"stdout", b"F fourth"),
    ]
)


@every_kubectl
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), b"first\nsecond\nthird\nfourth\n"),
        (("--tail=1",), b"fourth\n"),
        (("--tail=0",), b""),
        (("--limit-bytes=1",), b"f"),
        (("--since-time=2026-01-01T00:00:03Z",), b"third\nfourth\n"),
        (("--tail=1", "--timestamps"), b"2026-01-01T00:00:04.123456789Z fourth\n"),
        (("-c", "app"), b"first\nsecond\nthird\nfourth\n"),
    ],
    ids=str,
)
async def test_logs(cluster: Cluster, kubectl: str, args: tuple[str, ...], expected: bytes) -> None:
    (cluster.directory / "app.log").write_bytes(LOG)
    assert await cluster.run(kubectl, "logs", "web", *args) == (0, expected, b"")


@every_kubectl
async def test_logs_are_followed_across_a_rotation_to_the_containers_end(cluster: Cluster, kubectl: str) -> None:
    path = cluster.directory / "app.log"
    path.write_bytes(LOG)
    async with cluster.kubectl(kubectl, "logs", "-f", "--tail=1", "web") as process:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"fourth\n"
        with path.open("ab") as file:
            file.write(b"2026-01-01T00:00:05Z stdout F fifth\n")
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"fifth\n"
        path.rename(cluster.directory / "app.log.1")
        path.write_bytes(b"2026-01-01T00:00:06Z stdout F sixth\n")
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"sixth\n"
        cluster.agent.running = False
        assert await asyncio.wait_for(process.stdout.read(), 20) == b""
        assert await process.wait() == 0


@every_kubectl
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("logs", "web", "-c", "none"), "container none is not valid for pod web"),
        (("logs", "web", "--previous"), 'previous terminated container "app" in pod "web" not found'),
        (("logs", "none"), 'pods "none" not found'),
        (("exec", "web", "-c", "none", "--", "true"), "container not found"),
        (("exec", "waiting", "--", "true"), "pod waiting does not have a host assigned"),
        (("port-forward", "waiting", "80"), "pod is not running"),
        (("exec", "lost", "--", "true"), 'nodes "n2" not found'),
    ],
    ids=str,
)
async def test_what_can_not_be_done_is_said_in_upstreams_words(
    cluster: Cluster, kubectl: str, args: tuple[str, ...], message: str
) -> None:
    waiting = make_pod("waiting", node="")
    assert waiting.status is not None
    waiting.status.phase = "Pending"
    await cluster.add(waiting)
    await cluster.add(make_pod("lost", node="n2"))
    code, _, err = await cluster.run(kubectl, *args)
    assert code == 1
    assert message in err.decode() or "container none is not valid for pod web" in err.decode()


@every_kubectl
async def test_one_of_several_containers_has_to_be_chosen(cluster: Cluster, kubectl: str) -> None:
    """kubectl chooses the first by itself; other clients are told to."""
    await cluster.add(make_pod("pair", "one", "two"))
    path = "/api/v1/namespaces/default/pods/pair/log"
    code, _, err = await cluster.run(kubectl, "get", "--raw", path)
    assert code == 1
    assert b"a container name must be specified for pod pair, choose one of: [one two]" in err


async def test_without_an_upgrade_there_is_nothing_to_stream(cluster: Cluster) -> None:
    async with http(cluster) as session:
        for path in ("exec?command=true&stdout=1", "attach?stdout=1", "portforward"):
            async with session.post(f"/api/v1/namespaces/default/pods/web/{path}") as answer:
                assert answer.status == 400
                assert (await answer.json())["message"] == "Upgrade request required"
        async with session.post("/api/v1/namespaces/default/pods/web/exec?command=true") as answer:
            assert "you must specify at least 1 of stdin, stdout, stderr" in (await answer.json())["message"]


def http(cluster: Cluster) -> aiohttp.ClientSession:
    tls = ssl.create_default_context(cadata=cluster.pki.ca.certificate.decode())
    tls.load_cert_chain(cluster.pki.path("admin.crt"), cluster.pki.path("admin.key"))
    connector = aiohttp.TCPConnector(ssl=tls)
    return aiohttp.ClientSession(f"https://127.0.0.1:{cluster.port}", connector=connector)


@pytest.mark.parametrize("protocol", ["channel.k8s.io", "base64.channel.k8s.io", "v4.base64.channel.k8s.io", None])
async def test_exec_over_the_older_channel_protocols(cluster: Cluster, protocol: str | None) -> None:
    """As conformance does: GET with a WebSocket handshake; stdout comes on channel 1, an error on channel 3."""
    import base64

    protocols = (protocol,) if protocol else ()
    path = "/api/v1/namespaces/default/pods/web/exec?stdout=1&stderr=1&command=sh&command=-c&command=echo+hi%3B+exit+2"
    async with http(cluster) as session, session.ws_connect(path, protocols=protocols) as socket:
        assert socket.protocol == protocol
        got: dict[int, bytes] = {}
        async for message in socket:
            if protocol and "base64" in protocol:
                channel, data = int(message.data[0]), base64.b64decode(message.data[1:])
            else:
                channel, data = message.data[0], message.data[1:]
            got[channel] = got.get(channel, b"") + data
    assert got[1] == b"hi\n"
    if protocol and protocol.startswith("v4"):
        assert b'"reason":"NonZeroExitCode"' in got[3]
    else:
        assert got[3].startswith(b"command terminated with non-zero exit code")


async def test_logs_over_a_websocket(cluster: Cluster) -> None:
    (cluster.directory / "app.log").write_bytes(LOG)
    async with http(cluster) as session:
        path = "/api/v1/namespaces/default/pods/web/log?container=app"
        async with session.ws_connect(path, protocols=("binary.k8s.io",)) as socket:
            assert b"".join([m.data async for m in socket]) == b"first\nsecond\nthird\nfourth\n"


def _python_client(cluster: Cluster) -> Any:
    from kubernetes import client, config

    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


async def test_the_python_client_executes(cluster: Cluster) -> None:
    from kubernetes.stream import stream

    def run() -> tuple[str, str, int]:
        api = _python_client(cluster)
        answer = stream(
            api.connect_get_namespaced_pod_exec,
            "web",
            "default",
            command=["sh", "-c", "read line; echo got $line; echo bad >&2; exit 5"],
            stdin=True,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
        answer.write_stdin("hello\n")
        answer.run_forever(timeout=20)
        return answer.read_stdout(), answer.read_stderr(), answer.returncode

    assert await asyncio.to_thread(run) == ("got hello\n", "bad\n", 5)


async def test_the_python_client_forwards_ports(cluster: Cluster) -> None:
    from kubernetes.stream import portforward

    def run(port: int) -> bytes:
        forwarding = portforward(
            _python_client(cluster).connect_get_namespaced_pod_portforward, "web", "default", ports=str(port)
        )
        sock = forwarding.socket(port)
        sock.setblocking(True)
        sock.settimeout(20)
        sock.sendall(b"forward\n")
        data = b""
        while piece := sock.recv(1024):
            data += piece
        sock.close()
        assert forwarding.error(port) is None
        return data

    async with Echo() as port:
        assert await asyncio.to_thread(run, port) == b"drawrof\n"


async def test_the_python_client_reads_logs(cluster: Cluster) -> None:
    (cluster.directory / "app.log").write_bytes(LOG)
    read = _python_client(cluster).read_namespaced_pod_log
    assert await asyncio.to_thread(read, "web", "default", tail_lines=2) == "rd\nfourth\n"
