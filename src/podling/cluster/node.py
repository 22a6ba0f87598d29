"""A node agent's process: kubelet, service proxy and cluster DNS of one node.

The agent starts without the API server: what ran before runs on, static pods start. The node's pod range comes with its
Node object the first time and is kept on disk; until it is there, sandboxes wait and the node is not ready.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from podling import log
from podling.api import core_v1
from podling.client import kubeconfig
from podling.client.client import ApiClient
from podling.client.http import HttpTransport
from podling.client.informer import Informers
from podling.cluster import networking, process
from podling.cluster.certificates import API_SERVER
from podling.cluster.config import ClusterConfig, Layout
from podling.images.registry_config import RegistryConfig
from podling.images.store import ImageStore
from podling.kubelet.agent import Kubelet
from podling.kubelet.backend import Backend
from podling.kubelet.config import KubeletConfig
from podling.kubelet.server import KubeletServer
from podling.kubelet.server_auth import DelegatedAccess, tls_context
from podling.network.base import Attachment, PortMapping
from podling.network.bridge import BridgeNetwork

_log = log.get(__name__)

_KUBELET_PORT = 10250


class DeferredNetwork:
    """A SandboxNetwork that is known later: whoever needs it waits."""

    def __init__(self) -> None:
        self._network: BridgeNetwork | None = None
        self._ready = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    def set(self, network: BridgeNetwork) -> None:
        self._network = network
        self._ready.set()

    async def _wait(self) -> BridgeNetwork:
        await self._ready.wait()
        assert self._network is not None
        return self._network

    async def attach(self, sandbox_id: str, netns: str, port_mappings: tuple[PortMapping, ...] = ()) -> Attachment:
        return await (await self._wait()).attach(sandbox_id, netns, port_mappings)

    async def detach(self, sandbox_id: str, netns: str | None) -> None:
        await (await self._wait()).detach(sandbox_id, netns)

    async def attachments(self) -> dict[str, Attachment]:
        return await (await self._wait()).attachments()

    async def retain(self, sandbox_ids: Iterable[str]) -> None:
        await (await self._wait()).retain(sandbox_ids)


class Node:
    """The parts of one node, in the order in which they depend on each other."""

    def __init__(self, config: ClusterConfig, paths: Layout, index: int) -> None:
        self.config, self.paths, self.index = config, paths, index
        self.name = config.node_names[index]
        self.ip = config.node_ip(index)
        self.directory = paths.node(self.name)
        self.run_directory = paths.node_run(self.name)
        for directory in (self.directory, self.run_directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._closers: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        from podling.runtime.oci import OciRuntime

        config, paths = self.config, self.paths
        self.client = ApiClient(HttpTransport(self._credentials("node")), user=None, agent="kubelet/podling")
        # Services and routes need to know more of the cluster than a kubelet may.
        self.proxy_client = ApiClient(HttpTransport(self._credentials("proxy")), user=None, agent="kube-proxy/podling")
        self.images = open_images(config, paths)
        self.network = DeferredNetwork()
        runtime = OciRuntime(self.directory / "runtime", self.run_directory, self.images, self.network)
        self.informers = Informers(self.proxy_client)
        kubelet_config = self._kubelet_config()
        self.kubelet = Kubelet(self.client, runtime, self.images, kubelet_config, not_ready=self._network_not_ready)
        known = self._known_ranges()
        if known:
            await self._start_network(known)
        await process.wait_for(self._credentials("node").server)
        await self.kubelet.start()
        await self._start_server()
        self.informers.start()
        self._spawn("pod range", self._follow_ranges())
        self._spawn("routes", networking.keep_routes(self.informers, config, self.ip))
        self._spawn("services", self._start_services())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for close in reversed(self._closers):
            await close()
        await self.kubelet.close()
        await self.informers.close()
        await self.images.close()
        await self.client.close()
        await self.proxy_client.close()

    def _credentials(self, role: str) -> kubeconfig.Config:
        pki = self.paths.pki
        host = self.config.host_ip if self.config.nodes > 1 else "127.0.0.1"
        return kubeconfig.Config(
            server=f"https://{host}:{self.config.port}",
            ca=(pki / "ca.crt").read_bytes(),
            cert=(pki / f"{role}-{self.name}.crt").read_bytes(),
            key=(pki / f"{role}-{self.name}.key").read_bytes(),
        )

    def _kubelet_config(self) -> KubeletConfig:
        config = self.config
        # The standard places belong to one agent a machine: it tidies up what it does not know there.
        alone = config.nodes == 1 and self.paths.data == Path("/var/lib/podling")
        logs = Path("/var/log") if alone else self.directory / "log"
        manifests = self.directory / "manifests"
        manifests.mkdir(exist_ok=True)
        return KubeletConfig(
            node_name=self.name,
            node_ips=(self.ip,),
            port=_KUBELET_PORT,
            cluster_dns=(config.dns_ip,),
            cluster_domain=config.cluster_domain,
            root_dir=str(self.directory),
            log_dir=str(logs / "pods"),
            container_log_dir=str(logs / "containers"),
            manifests_dir=str(manifests),
            cgroup_root="" if alone else f"/{config.short_id}-{self.index}",
        )

    # -- network -----------------------------------------------------------------------------------------------------

    def _known_ranges(self) -> tuple[str, ...]:
        try:
            return msgspec.json.decode((self.directory / "pod-ranges.json").read_bytes(), type=tuple[str, ...])
        except (OSError, msgspec.DecodeError):
            return ()

    async def _start_network(self, ranges: tuple[str, ...]) -> None:
        network = BridgeNetwork(networking.pod_network(self.config, self.paths, self.index, ranges))
        await network.start()
        self._closers.append(network.close)
        (self.directory / "pod-ranges.json").write_bytes(msgspec.json.encode(ranges))
        self.network.set(network)
        self.kubelet.reporter.kick()

    def _network_not_ready(self) -> str:
        """What the node's Ready condition says of the network, "" if all is well."""
        if self.network.ready:
            return ""
        return (
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
            "message:Network plugin returns error: the node has no pod range yet"
        )

    async def _follow_ranges(self) -> None:
        """The network begins when the node's pod range is known for the first time."""
        nodes = self.informers.of(core_v1.Node)
        known = asyncio.Event()

        def look(node: core_v1.Node) -> None:
            if node.metadata.name == self.name and node.spec.pod_cidrs:
                known.set()

        remove = nodes.add_handler(on_add=look, on_update=lambda _, new: look(new))
        await known.wait()
        remove()
        own = nodes.get(self.name)
        if own is not None and not self.network.ready:
            await self._start_network(tuple(own.spec.pod_cidrs or ()))

    async def _start_services(self) -> None:
        """Service proxy and cluster DNS."""
        from podling.dns.server import DNSConfig, DNSServer
        from podling.proxy.config import ProxyConfig
        from podling.proxy.policy_enforcer import PolicyEnforcer
        from podling.proxy.proxier import Proxier

        config = self.config
        dns = DNSServer(
            self.informers,
            DNSConfig(
                addresses=(config.dns_ip,),
                domain=config.cluster_domain,
                ranges=(config.service_cidr, config.pod_cidr),
                loopback_upstream=config.nodes == 1,
            ),
        )
        await dns.start()
        self._closers.append(dns.close)
        settings = ProxyConfig(
            node_name=self.name,
            pod_cidrs=self._known_ranges(),
            pod_ranges=(config.pod_cidr,),
            service_ranges=(config.service_cidr,),
            node_ranges=(config.node_cidr,),
            local_addresses=(config.dns_ip,),
            table=f"{config.short_id}-services",
        )
        for part in (Proxier(self.informers, settings), PolicyEnforcer(self.informers, settings)):
            self._closers.append(part.close)
            await part.start()

    # -- server ------------------------------------------------------------------------------------------------------

    async def _start_server(self) -> None:
        pki = self.paths.pki
        access = DelegatedAccess(self.name, self.client, trusted=(API_SERVER,))
        server = KubeletServer(Backend(self.kubelet), access)
        tls = tls_context(pki / f"kubelet-{self.name}.crt", pki / f"kubelet-{self.name}.key", pki / "ca.crt")
        await server.start(self.ip, _KUBELET_PORT, tls)
        self._closers.append(server.close)

    def _spawn(self, name: str, work: Any) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:
                _log.exception("%s failed: the node agent starts again", name)
                os.kill(os.getpid(), signal.SIGTERM)

        self._tasks.append(asyncio.create_task(guarded(), name=name))


def open_images(config: ClusterConfig, paths: Layout) -> ImageStore:
    """The machine's image store."""
    return ImageStore(str(paths.images), registries=RegistryConfig(insecure=frozenset(config.insecure_registries)))


def run(config: ClusterConfig, paths: Layout, index: int) -> None:
    """The node agent's process, until SIGTERM; containers run on."""
    networking.enter_node(config, index)
    process.run(lambda: Node(config, paths, index))
