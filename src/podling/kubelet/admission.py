"""Whether a pod that was bound to this node can run here: the node's own last word.

Source: pkg/kubelet/lifecycle/predicate.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from podling.api import core_v1
from podling.kubelet import pods
from podling.machinery import node_selection, pod_resources, tolerations

#: Sysctls that stay within a pod's namespaces and cannot harm others (pkg/kubelet/sysctl/safe_sysctls.go).
SAFE_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
})  # fmt: skip
_IPC_SYSCTLS = ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.")


class Rejection(msgspec.Struct, frozen=True):
    """Why not: the pod fails with this reason, and `Pod was rejected: ` before the message."""

    reason: str
    message: str


def admit(
    pod: core_v1.Pod,
    others: Iterable[core_v1.Pod],
    *,
    labels: Mapping[str, str],
    node_name: str,
    allocatable: Mapping[str, int],
    taints: Iterable[core_v1.Taint] = (),
    allowed_sysctls: Iterable[str] = (),
) -> Rejection | None:
    """`others` are the pods that run (or are about to) on the node, `allocatable` its amounts."""
    others = [other for other in others if pods.uid(other) != pods.uid(pod)]
    return (
        _sysctls(pod, allowed_sysctls)
        or _resources(pod, others, allocatable)
        or _placement(pod, others, labels, node_name)
        or _taints(pod, taints)
    )


def _sysctls(pod: core_v1.Pod, allowed: Iterable[str]) -> Rejection | None:
    security = pod.spec.security_context
    patterns = [*SAFE_SYSCTLS, *allowed]
    for sysctl in (security.sysctls if security else None) or ():
        name = sysctl.name.replace("/", ".")
        if not any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in patterns):
            return Rejection("SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted')
        if pods.is_host_network(pod) and name.startswith("net."):
            return Rejection("SysctlForbidden", f'forbidden sysctl: "{name}" not allowed with host net enabled')
        if pod.spec.host_ipc and name.startswith(_IPC_SYSCTLS):
            return Rejection("SysctlForbidden", f'forbidden sysctl: "{name}" not allowed with host ipc enabled')
    return None


def _resources(pod: core_v1.Pod, others: list[core_v1.Pod], allocatable: Mapping[str, int]) -> Rejection | None:
    room = allocatable.get("pods")
    if room is not None and len(others) + 1 > room:
        return _out_of("pods", 1, len(others), room)
    wanted = pod_resources.requests(pod)
    used: dict[str, int] = {}
    for other in others:
        for name, value in pod_resources.requests(other).items():
            used[name] = used.get(name, 0) + value
    for name, value in wanted.items():
        if value > 0 and name in allocatable and used.get(name, 0) + value > allocatable[name]:
            return _out_of(name, value, used.get(name, 0), allocatable[name])
    return None


def _out_of(resource: str, requested: int, used: int, capacity: int) -> Rejection:
    return Rejection(
        f"OutOf{resource}",
        f"Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}",
    )


def _placement(
    pod: core_v1.Pod, others: list[core_v1.Pod], labels: Mapping[str, str], node_name: str
) -> Rejection | None:
    matches = node_selection.required(pod.spec)
    if matches is not None and not matches(labels, node_name) and not pods.is_static(pod):
        return _predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    if pod.spec.node_name and pod.spec.node_name != node_name:
        return _predicate("NodeName", "node(s) didn't match the requested node name")
    wanted = _host_ports(pod)
    if wanted:
        taken = [port for other in others for port in _host_ports(other)]
        if any(_clash(a, b) for a in wanted for b in taken):
            return _predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _predicate(name: str, message: str) -> Rejection:
    return Rejection(name, f"Predicate {name} failed: {message}")


def _host_ports(pod: core_v1.Pod) -> list[tuple[str, str, int]]:
    """(host address or "" for all, protocol, port)."""
    every = (*pod.spec.containers, *(c for c in pod.spec.init_containers or () if pods.is_sidecar(c)))
    return [
        ("" if port.host_ip in (None, "", "0.0.0.0", "::") else port.host_ip or "", port.protocol or "TCP", number)
        for container in every
        for port in container.ports or ()
        if (number := port.host_port or (port.container_port if pods.is_host_network(pod) else 0))
    ]


def _clash(a: tuple[str, str, int], b: tuple[str, str, int]) -> bool:
    return a[1:] == b[1:] and (a[0] == b[0] or not a[0] or not b[0])


def _taints(pod: core_v1.Pod, taints: Iterable[core_v1.Taint]) -> Rejection | None:
    if pods.is_static(pod):
        return None
    if tolerations.untolerated(pod.spec.tolerations, taints, ("NoExecute",)) is not None:
        return _predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None
