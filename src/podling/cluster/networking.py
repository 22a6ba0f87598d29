"""A cluster's names and ranges in the kernel, derived from its configuration: two clusters differ in all of them."""

from __future__ import annotations

import asyncio

from podling import log
from podling.api import core_v1
from podling.client.informer import Informers
from podling.cluster.config import ClusterConfig, Layout
from podling.network.config import NodeNetworkConfig, PodNetworkConfig

_log = log.get(__name__)


def node_network(config: ClusterConfig) -> NodeNetworkConfig:
    """The network between this machine and its nodes."""
    return NodeNetworkConfig(
        bridge=f"{config.short_id}-nodes",
        cidr=config.node_cidr,
        pod_ranges=(config.pod_cidr,),
        service_ranges=(config.service_cidr,),
        table=f"{config.short_id}-host",
        namespace_prefix=f"{config.name}.",
    )


def pod_network(config: ClusterConfig, paths: Layout, index: int, pod_cidrs: tuple[str, ...]) -> PodNetworkConfig:
    """The pods' network on the node with `index`, seen from inside that node's network namespace."""
    return PodNetworkConfig(
        pod_cidrs=pod_cidrs,
        state_file=str(paths.node_run(config.node_names[index]) / "leases.json"),
        node_ip=config.node_ip(index),
        bridge=f"{config.short_id}-pods",
        pod_ranges=(config.pod_cidr,),
        service_ranges=(config.service_cidr,),
        node_ranges=(config.node_cidr,),
        local_addresses=(config.dns_ip,),
        table=config.short_id,
    )


def set_up(config: ClusterConfig, paths: Layout) -> None:
    """Make the node network, and the namespaces of the nodes if there are several."""
    from podling.network.node_network import NodeNetwork

    async def work() -> None:
        network = NodeNetwork(node_network(config))
        await network.setup()
        if config.nodes > 1:
            for index, name in enumerate(config.node_names):
                await network.setup_node(name, index + 1)

    asyncio.run(work())


def enter_node(config: ClusterConfig, index: int) -> None:
    """Move this process into the network of its node, if it has one of its own, and give it the node's host name.

    Pods on the node's network have its host name too, and tell nodes apart by it.
    """
    if config.nodes == 1:
        return
    from podling.network import netns
    from podling.network.node_network import NodeNetwork
    from podling.runtime import syscalls

    name = config.node_names[index]
    netns.enter(NodeNetwork(node_network(config)).path(name))
    syscalls.unshare(syscalls.CLONE_NEWUTS)
    syscalls.sethostname(name)


def places(node: core_v1.Node) -> list[tuple[str, str]]:
    """(pod range, address) of a node: where its pods are reached."""
    address = next((a.address for a in node.status.addresses or () if a.type == "InternalIP"), None)
    return [(cidr, address) for cidr in node.spec.pod_cidrs or () if address]


async def keep_routes(informers: Informers, config: ClusterConfig, own_ip: str) -> None:
    """Keep this namespace's routes to the nodes' pods, until cancelled. The nodes' host has no `own_ip` among them."""
    from podling.network.routes import PodRoutes

    nodes = informers.of(core_v1.Node)
    changed = asyncio.Event()
    nodes.add_handler(
        on_add=lambda _: changed.set(), on_update=lambda *_: changed.set(), on_delete=lambda _: changed.set()
    )
    await nodes.wait_synced()
    routes = PodRoutes((config.pod_cidr,), own_ip=own_ip)
    before: set[tuple[str, str]] = set()
    try:
        while True:
            changed.clear()
            present = {place for node in nodes.list() for place in places(node)}
            if present != before:
                before = present
                for problem in routes.sync(present):
                    _log.warning("%s", problem)
            await changed.wait()
    finally:
        routes.close()
