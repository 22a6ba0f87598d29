"""What the scheduler knows of nodes and of the pods on them, kept current by events, never computed anew.

The scheduler runs on one event loop and decides about a pod without waiting, so it reads this cache itself: no copy is
taken for a decision. A pod that was given a node is here at once (assumed), before the API server has heard of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podling.api import core_v1
from podling.machinery import pod_resources

#: (host IP, protocol, port); host IP 0.0.0.0 means all.
HostPort = tuple[str, str, int]


def host_ports(pod: core_v1.Pod) -> list[HostPort]:
    """The ports that a pod takes on its node."""
    containers = [*pod.spec.containers, *(c for c in pod.spec.init_containers or () if pod_resources.is_sidecar(c))]
    return [
        (p.host_ip or "0.0.0.0", p.protocol or "TCP", p.host_port)
        for c in containers
        for p in c.ports or ()
        if p.host_port
    ]


_shape = msgspec.json.Encoder()


class PodInfo:
    """A pod with what is asked of it again and again."""

    __slots__ = ("anti_affinity", "assumed", "key", "pod", "ports", "priority", "requests", "shape", "uid")

    def __init__(self, pod: core_v1.Pod) -> None:
        self.pod = pod
        self.key = f"{pod.metadata.namespace}/{pod.metadata.name}"
        self.uid = pod.metadata.uid or self.key
        self.requests = pod_resources.requests(pod)
        self.assumed = pod_resources.assumed_requests(pod)
        self.ports = host_ports(pod)
        self.priority = pod.spec.priority or 0
        affinity = pod.spec.affinity
        anti = affinity.pod_anti_affinity if affinity else None
        self.anti_affinity = tuple(anti.required_during_scheduling_ignored_during_execution or ()) if anti else ()
        #: All that decides how a node by itself suits the pod: pods of one Deployment have the same.
        self.shape = _shape.encode(
            (
                self.requests,
                self.assumed,
                self.ports,
                pod.spec.node_name,
                pod.spec.node_selector,
                pod.spec.tolerations,
                affinity.node_affinity if affinity else None,
            )
        )


class NodeInfo:
    """A node and the sums over its pods."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: core_v1.Node | None = None
        self.labels: dict[str, str] = {}
        self.taints: tuple[core_v1.Taint, ...] = ()
        self.allocatable: dict[str, int] = {}
        self.max_pods = 0
        self.images: dict[str, int] = {}
        self.pods: dict[str, PodInfo] = {}
        self.requested: dict[str, int] = {}
        self.assumed: dict[str, int] = {}
        self.ports: dict[HostPort, int] = {}
        self.anti_affinity: dict[str, PodInfo] = {}
        #: Another number after every change.
        self.version = 0

    def set_node(self, node: core_v1.Node) -> None:
        self.node = node
        self.version += 1
        self.labels = node.metadata.labels or {}
        self.taints = tuple(node.spec.taints or ())
        self.allocatable = pod_resources.amounts(node.status.allocatable)
        self.max_pods = self.allocatable.get("pods", 0)
        self.images = {n: i.size_bytes or 0 for i in node.status.images or () for n in i.names or ()}

    def add(self, info: PodInfo) -> None:
        self.remove(info.uid)
        self.pods[info.uid] = info
        self._count(info, 1)

    def remove(self, uid: str) -> PodInfo | None:
        info = self.pods.pop(uid, None)
        if info is not None:
            self._count(info, -1)
        return info

    def _count(self, info: PodInfo, sign: int) -> None:
        self.version += 1
        for total, part in ((self.requested, info.requests), (self.assumed, info.assumed)):
            for name, value in part.items():
                total[name] = total.get(name, 0) + sign * value
        for port in info.ports:
            self.ports[port] = self.ports.get(port, 0) + sign
            if not self.ports[port]:
                del self.ports[port]
        if info.anti_affinity:
            if sign > 0:
                self.anti_affinity[info.uid] = info
            else:
                del self.anti_affinity[info.uid]

    def without(self, victims: Iterable[PodInfo]) -> NodeInfo:
        """This node as it were without some of its pods."""
        other = NodeInfo(self.name)
        other.__dict__.update(self.__dict__)
        for name in ("pods", "requested", "assumed", "ports", "anti_affinity"):
            setattr(other, name, dict(getattr(self, name)))
        for victim in victims:
            other.remove(victim.uid)
        # What is remembered of the node itself does not hold for it.
        other.version = -1
        return other


class Cache:
    """All nodes by name, and where each pod is."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        #: The same, in an order to go round in.
        self.order: list[NodeInfo] = []
        self._known: dict[str, NodeInfo] = {}
        self._where: dict[str, NodeInfo] = {}
        self._assumed: set[str] = set()
        #: Pods with required anti-affinity: rare, and asked about at every pod.
        self.anti_affinity: dict[str, tuple[NodeInfo, PodInfo]] = {}
        #: Pods with affinity of any kind: what they prefer counts for others.
        self.affinity: dict[str, tuple[NodeInfo, PodInfo]] = {}
        #: Pods that wait for room that is being made for them, by node and uid.
        self.nominated: dict[str, dict[str, PodInfo]] = {}

    def nominate(self, info: PodInfo, node: str | None) -> None:
        """Room for the pod is being made on `node`; None takes it back."""
        self.withdraw(info.uid)
        if node:
            self.nominated.setdefault(node, {})[info.uid] = info

    def withdraw(self, uid: str) -> None:
        """The pod waits for no room any more."""
        for node, pods in list(self.nominated.items()):
            if pods.pop(uid, None) is not None and not pods:
                del self.nominated[node]

    def expected(self, node: str, info: PodInfo) -> list[PodInfo]:
        """Other pods of at least the same priority that the node's room was made for."""
        waiting = self.nominated.get(node)
        if not waiting:
            return []
        return [p for p in waiting.values() if p.uid != info.uid and p.priority >= info.priority]

    def with_node(self, node: NodeInfo) -> Cache:
        """This cache as it were with another version of one node."""
        view = Cache()
        view.nodes = {**self.nodes, node.name: node}
        view.order = list(view.nodes.values())
        view.nominated = self.nominated
        view.anti_affinity = {
            uid: (n, p) for uid, (n, p) in self.anti_affinity.items() if n.name != node.name or uid in node.pods
        }
        return view

    def set_node(self, node: core_v1.Node) -> None:
        """A node appeared or changed."""
        name = node.metadata.name or ""
        info = self._known.setdefault(name, NodeInfo(name))
        info.set_node(node)
        if name not in self.nodes:
            self.nodes[name] = info
            self.order.append(info)

    def drop_node(self, name: str) -> None:
        """A node is gone. Its pods stay counted until they are gone too: the node may come back."""
        info = self.nodes.pop(name, None)
        if info is not None:
            self.order.remove(info)
            info.node = None
            if not info.pods:
                del self._known[name]

    def set_pod(self, pod: core_v1.Pod) -> None:
        """A pod with a node appeared or changed; confirms an assumed one."""
        info = PodInfo(pod)
        self._assumed.discard(info.uid)
        self._place(info, pod.spec.node_name or "")

    def drop_pod(self, pod: core_v1.Pod) -> None:
        """A pod has ended or is gone."""
        self._displace(pod.metadata.uid or "")

    def assume(self, info: PodInfo, node: str) -> None:
        """Count a pod that is about to be bound."""
        self._assumed.add(info.uid)
        self._place(info, node)

    def forget(self, info: PodInfo) -> None:
        """The binding failed. Does nothing once the API server has shown the pod on a node."""
        if info.uid in self._assumed:
            self._displace(info.uid)

    def holds(self, uid: str) -> bool:
        """Whether the pod is on a node, or about to be."""
        return uid in self._where

    def _place(self, info: PodInfo, node: str) -> None:
        self._displace(info.uid, keep_assumed=True)
        target = self._known.setdefault(node, NodeInfo(node))
        target.add(info)
        self._where[info.uid] = target
        if info.pod.spec.affinity is not None:
            self.affinity[info.uid] = (target, info)
        if info.anti_affinity:
            self.anti_affinity[info.uid] = (target, info)

    def _displace(self, uid: str, *, keep_assumed: bool = False) -> None:
        if not keep_assumed:
            self._assumed.discard(uid)
        self.anti_affinity.pop(uid, None)
        self.affinity.pop(uid, None)
        node = self._where.pop(uid, None)
        if node is not None:
            node.remove(uid)
            if not node.pods and node.node is None:
                self._known.pop(node.name, None)
