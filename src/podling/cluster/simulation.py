"""Simulated nodes: real node agents over virtual containers, with no disk, no network and no time of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from podling.api import core_v1
from podling.client import kubeconfig
from podling.client.base import Client
from podling.client.client import ApiClient
from podling.client.http import HttpTransport
from podling.cluster import process
from podling.cluster.certificates import API_SERVER
from podling.cluster.config import ClusterConfig, Layout
from podling.images.base import ImageConfig
from podling.kubelet.agent import Kubelet
from podling.kubelet.backend import Backend
from podling.kubelet.config import KubeletConfig
from podling.kubelet.resources import Machine
from podling.kubelet.server import KubeletServer
from podling.kubelet.server_auth import DelegatedAccess, tls_context
from podling.runtime import fake, fake_behaviour
from podling.runtime.fake_images import FakeImages
from podling.volumes.usage import Usage

#: What a simulated node has, unless said otherwise.
CAPACITY = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"}


class VirtualVolumes:
    """Volumes that are always there: virtual containers read no files."""

    async def mount_pod_volumes(self, pod: core_v1.Pod) -> Mapping[str, str]:
        return {volume.name: f"/virtual/{pod.metadata.uid}/{volume.name}" for volume in pod.spec.volumes or ()}

    async def unmount_pod(self, uid: str) -> None:
        return None

    async def clean_orphans(self, live: Collection[str]) -> list[str]:
        return []

    def pod_changed(self, pod: core_v1.Pod) -> None:
        return None

    async def usage(self, uid: str) -> Mapping[str, Usage]:
        return {}

    def changed(self, kind: str, namespace: str, name: str) -> set[str]:
        return set()

    async def close(self) -> None:
        return None


def kubelet(
    client: Client,
    name: str,
    index: int,
    *,
    root: Path | None = None,
    port: int = 10250,
    behaviour: Callable[..., fake_behaviour.Behaviour] = fake_behaviour.default_behaviour,
    capacity: Mapping[str, str] = CAPACITY,
    labels: Mapping[str, str] | None = None,
) -> Kubelet:
    """The node agent of a simulated node, not yet started; with `root`, logs are written there."""
    # Nobody knows what the images say. That their users are not root lets pods run that must not run as root.
    images = FakeImages(default=ImageConfig(user="65532"))
    # 10.244.1.0/24 upwards, as real nodes have it.
    machine = fake.Machine(seed=name, addresses=f"10.{244 + (index + 1) // 256}.{(index + 1) % 256}.")
    runtime = fake.FakeRuntime(images, behaviour=behaviour, machine=machine, log_to_disk=root is not None)
    directory = root or Path("/virtual") / name
    config = KubeletConfig(
        node_name=name,
        node_ips=("127.0.0.1",) if root else (f"10.213.{index // 240}.{11 + index % 240}",),
        port=port,
        cluster_dns=("10.96.0.10",),
        labels={"podling.dev/simulated": "true", **(labels or {})},
        root_dir=str(directory),
        log_dir=str(directory / "log" / "pods"),
        container_log_dir="",
        capacity=dict(capacity),
        eviction=(),
    )
    info = core_v1.NodeSystemInfo(
        kubelet_version="v1.37.0",
        container_runtime_version="fake://1.0.0",
        operating_system="linux",
        os_image="podling simulation",
        kernel_version="6.0.0",
        architecture="amd64",
        machine_id=name,
        system_uuid=name,
        boot_id=name,
    )
    return Kubelet(client, runtime, images, config, volumes=VirtualVolumes(), machine=Machine(cpus=8, info=info))


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class SimulatedNodes:
    """Node agents over virtual containers, talking to the API server over TLS as real ones do."""

    def __init__(self, config: ClusterConfig, paths: Layout) -> None:
        self.config, self.paths = config, paths
        self._kubelets: list[Kubelet] = []
        self._servers: list[KubeletServer] = []

    async def start(self) -> None:
        pki = self.paths.pki
        self._clients: list[ApiClient] = []
        await process.wait_for(self.config.server)
        for index, name in enumerate(self.config.node_names):
            credentials = kubeconfig.Config(
                server=self.config.server,
                ca=(pki / "ca.crt").read_bytes(),
                cert=(pki / f"node-{name}.crt").read_bytes(),
                key=(pki / f"node-{name}.key").read_bytes(),
            )
            client = ApiClient(HttpTransport(credentials), user=None, agent="kubelet/podling")
            self._clients.append(client)
            port = free_port()
            agent = kubelet(client, name, index, root=self.paths.node(name), port=port)
            await agent.start()
            self._kubelets.append(agent)
            server = KubeletServer(Backend(agent), DelegatedAccess(name, client, trusted=(API_SERVER,)))
            tls = tls_context(pki / f"kubelet-{name}.crt", pki / f"kubelet-{name}.key", pki / "ca.crt")
            await server.start("127.0.0.1", port, tls)
            self._servers.append(server)

    async def close(self) -> None:
        await asyncio.gather(*(s.close() for s in self._servers))
        await asyncio.gather(*(k.close() for k in self._kubelets))
        await asyncio.gather(*(c.close() for c in self._clients))


def run(config: ClusterConfig, paths: Layout) -> None:
    """The process of all simulated nodes, until SIGTERM."""
    process.run(lambda: SimulatedNodes(config, paths))
