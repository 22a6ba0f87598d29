"""A cluster of one node on loopback, as far as streaming needs it.

The API server and the node agent's server are real; the agent itself runs commands as processes of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Any

from podling.api import core_v1, discovery_v1, meta_v1, registry
from podling.api.request import User
from podling.apiserver.admission.base import Chain
from podling.apiserver.app import ApiServer
from podling.apiserver.handlers.kubelets import Kubelets, client_tls
from podling.apiserver.handlers.proxy import Proxy
from podling.apiserver.handlers.streaming import Streaming
from podling.apiserver.server import HttpServer, tls_context
from podling.apiserver.strategy import PlainStrategy
from podling.client.client import ApiClient
from podling.cluster import pki
from podling.kubelet import logs, server_auth
from podling.kubelet.server import KubeletServer
from podling.runtime.base import Sink, Source, Streams
from podling.store.memory import MemoryStore
from podling.streaming.log_query import LogQuery

KUBECTLS = ("/usr/bin/kubectl", str(Path(sys.executable).parent / "kubectl"))


class Agent:
    """Containers are processes in `directory`; each has a log file `<container>.log` there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.listed: list[core_v1.Pod] = []
        self.running = True
        self.sizes: list[tuple[int, int]] = []
        self.attached = asyncio.Event()

    def pods(self) -> Sequence[core_v1.Pod]:
        return self.listed

    def container_log(self, namespace: str, pod: str, container: str, query: LogQuery) -> AsyncIterator[bytes]:
        return self._log(pod, container, query)

    async def _log(self, pod: str, container: str, query: LogQuery) -> AsyncIterator[bytes]:
        found = next(p for p in self.listed if p.metadata.name == pod)
        logs.container_id(found, container, previous=query.previous)
        async for piece in logs.read(self.directory / f"{container}.log", query, running=lambda: self.running):
            yield piece

    async def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, tty: bool, streams: Streams
    ) -> int:
        if tty:
            return await self._terminal(argv, streams)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.directory, start_new_session=True
        )
        assert process.stdin is not None
        feeding = asyncio.ensure_future(_feed(streams.stdin, process.stdin))
        try:
            await asyncio.gather(_pump(process.stdout, streams.stdout), _pump(process.stderr, streams.stderr))
            return await process.wait()
        finally:
            feeding.cancel()
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def _terminal(self, argv: Sequence[str], streams: Streams) -> int:
        loop = asyncio.get_running_loop()
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=slave, stdout=slave, stderr=slave, cwd=self.directory, start_new_session=True
        )
        os.close(slave)
        os.set_blocking(master, False)
        output: asyncio.Queue[bytes] = asyncio.Queue()

        def readable() -> None:
            try:
                data = os.read(master, 65536)
            except OSError:
                data = b""
            output.put_nowait(data)
            if not data:
                loop.remove_reader(master)

        async def resize() -> None:
            assert streams.resize is not None
            async for width, height in streams.resize:
                self.sizes.append((width, height))
                ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

        async def write() -> None:
            while streams.stdin is not None and (data := await streams.stdin()):
                os.write(master, data)

        loop.add_reader(master, readable)
        tasks = [asyncio.ensure_future(resize()), asyncio.ensure_future(write())]
        try:
            while data := await output.get():
                if streams.stdout is not None:
                    await streams.stdout(data)
            return await process.wait()
        finally:
            loop.remove_reader(master)
            for task in tasks:
                task.cancel()
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            os.close(master)

    async def attach(self, namespace: str, pod: str, container: str, *, tty: bool, streams: Streams) -> None:
        """An echo."""
        self.attached.set()
        if streams.stdout is not None:
            await streams.stdout(b"attached\n")
        while streams.stdin is not None and (data := await streams.stdin()):
            if streams.stdout is not None:
                await streams.stdout(data.upper())

    async def port_forward(self, namespace: str, pod: str, port: int, stdin: Source, stdout: Sink) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            raise RuntimeError(f"failed to connect to localhost:{port} inside namespace: {error.strerror}") from error

        async def up() -> None:
            while data := await stdin():
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(up())
        try:
            while data := await reader.read(65536):
                await stdout(data)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()

    def healthy(self) -> str:
        return ""

    async def stats_summary(self, *, only_cpu_and_memory: bool) -> Mapping[str, Any]:
        return {"node": {"nodeName": "n1"}, "pods": []}

    async def metrics(self, path: str) -> str | None:
        return f"# {path}\nup 1\n" if path in ("/metrics", "/metrics/cadvisor") else None

    def configuration(self) -> Mapping[str, Any]:
        return {"kind": "KubeletConfiguration"}


async def _feed(source: Source | None, writer: asyncio.StreamWriter) -> None:
    try:
        while source is not None and (data := await source()):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def _pump(reader: asyncio.StreamReader | None, sink: Sink | None) -> None:
    assert reader is not None
    while data := await reader.read(65536):
        if sink is not None:
            await sink(data)


def make_pod(name: str = "web", *containers: str, node: str = "n1") -> core_v1.Pod:
    """A running pod."""
    names = containers or ("app",)
    started = core_v1.ContainerState(running=core_v1.ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
        spec=core_v1.PodSpec(node_name=node or None, containers=[core_v1.Container(name=n, image="i") for n in names]),
        status=core_v1.PodStatus(
            phase="Running",
            pod_ip="127.0.0.1",
            container_statuses=[
                core_v1.ContainerStatus(
                    name=n, container_id=f"x://{n}", image="i", image_id="i", ready=True, restart_count=0, state=started
                )
                for n in names
            ],
        ),
    )


class Cluster:
    """Use `running`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.agent = Agent(directory)
        self.pki = pki.Pki(directory / "pki")
        self.store = MemoryStore()
        self.app = ApiServer(self.store, authenticator=self._authenticate, admission=Chain())
        # Loopback is where everything is here, and no address for endpoints.
        slices = registry.of(discovery_v1.EndpointSlice)
        self.app.install(slices, PlainStrategy(slices))
        self.client = ApiClient(self.app)
        self.kubeconfig = directory / "kubeconfig"
        self.requests: list[str] = []

    async def _authenticate(self, headers: Mapping[str, str], certificate: bytes | None, path: str) -> User | None:
        return User("admin", ("system:masters",)) if certificate else None

    async def start(self) -> None:
        made = self.pki
        agent_pair = made.serving("kubelet", "n1", dns=["n1"], ips=["127.0.0.1"])
        caller = made.client("kubelet-client", "kube-apiserver-kubelet-client")
        access = server_auth.DelegatedAccess("n1", None, trusted=["kube-apiserver-kubelet-client"])
        self.kubelet = KubeletServer(self.agent, access, log_directory=self.directory / "log")
        tls = server_auth.tls_context(agent_pair.certificate_path, agent_pair.key_path, made.path("ca.crt"))
        port = await self.kubelet.start("127.0.0.1", 0, tls)
        kubelets = Kubelets(self.app, client_tls(caller.certificate_path, caller.key_path, made.path("ca.crt")))
        self.streaming = Streaming(self.app, kubelets, passing=Proxy(self.app, kubelets, judge=lambda _: None))
        self.http = HttpServer(self.app, streaming=self.streaming)
        server = made.serving("apiserver", "kube-apiserver", ips=["127.0.0.1"])
        await self.store.open()
        await self.app.start()
        self.port = await self.http.start(
            tls=tls_context(str(server.certificate_path), str(server.key_path), str(made.path("ca.crt")))
        )
        admin = made.client("admin", "admin", ["system:masters"])
        text = pki.kubeconfig(
            server=f"https://127.0.0.1:{self.port}",
            ca=made.ca.certificate,
            certificate=admin.certificate,
            key=admin.key,
        )
        pki.write_kubeconfig(self.kubeconfig, text)
        await self._objects(port)

    async def _objects(self, port: int) -> None:
        node = core_v1.Node(metadata=meta_v1.ObjectMeta(name="n1"))
        node = await self.client.create(node)
        node.status = core_v1.NodeStatus(
            addresses=[core_v1.NodeAddress(type="InternalIP", address="127.0.0.1")],
            daemon_endpoints=core_v1.NodeDaemonEndpoints(kubelet_endpoint=core_v1.DaemonEndpoint(port=port)),
        )
        await self.client.update_status(node)
        try:
            await self.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
        except Exception:  # made by the server itself
            pass
        await self.add(make_pod("web"))

    async def add(self, pod: core_v1.Pod) -> core_v1.Pod:
        status = pod.status
        made = await self.client.create(pod)
        made = type(made)(metadata=made.metadata, spec=made.spec, status=status)
        made = await self.client.update_status(made)
        self.agent.listed.append(made)
        return made

    async def close(self) -> None:
        await self.streaming.close()
        await self.http.close()
        await self.kubelet.close()
        await self.app.close()
        await self.store.close()

    async def run(
        self, kubectl: str, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        """kubectl's exit code and output."""
        async with self.kubectl(kubectl, *args, env=env) as process:
            out, err = await asyncio.wait_for(process.communicate(stdin), 60)
            assert process.returncode is not None
            return process.returncode, out, err

    @contextlib.asynccontextmanager
    async def kubectl(
        self, kubectl: str, *args: str, env: Mapping[str, str] | None = None
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        pipe = asyncio.subprocess.PIPE
        home = {"HOME": str(self.directory), "KUBECONFIG": str(self.kubeconfig), "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            kubectl, *args, stdin=pipe, stdout=pipe, stderr=pipe, env={**home, **(env or {})}
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(directory)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.close()
