"""What every cluster has from its first moment: system namespaces, the `kubernetes` Service, priority classes, RBAC.

All of it is made by create-if-missing, so it may run at every start; what an administrator has changed stays.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, TypeVar

from podling.api import core_v1, discovery_v1, errors, meta_v1, networking_v1, rbac_v1, scheduling_v1
from podling.api.struct import clone
from podling.client.base import Client
from podling.cluster import extension_trust
from podling.cluster.certificates import PROXY_USER
from podling.cluster.config import ClusterConfig
from podling.controllers import local_path_provisioner

T = TypeVar("T")

#: The health checks that pass when `run` has: upstream has a hook for each part of it.
HOOKS = (
    "start-system-namespaces-controller",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "start-cluster-authentication-info-controller",
    "bootstrap-controller",
)
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def ensure(client: Client, obj: T) -> T | None:
    """Create `obj` unless it is there; gives what was created."""
    meta: meta_v1.ObjectMeta = obj.metadata  # type: ignore[attr-defined]
    try:
        # Asked first: a Service that is there holds its address, and creating it again would fail for that.
        await client.get(type(obj), meta.name or "", meta.namespace)
        return None
    except errors.StatusError as error:
        if not errors.is_not_found(error):
            raise
    try:
        return await client.create(obj)
    except errors.StatusError as error:
        if errors.is_already_exists(error):
            return None
        raise


async def run(client: Client, config: ClusterConfig, *, ca: bytes, front_proxy_ca: bytes = b"") -> None:
    """Make what is missing. `ca` and `front_proxy_ca` are PEM."""
    from podling.apiserver.authz import policy

    if await _is_new(client):
        # Once: who removes it wants another default, or none.
        await ensure(client, local_path_provisioner.storage_class())
    await asyncio.gather(*(ensure(client, _namespace(name)) for name in NAMESPACES))
    await asyncio.gather(
        policy.reconcile(client),
        *(ensure(client, c) for c in priority_classes()),
        extension_trust.publish(client, ca, front_proxy_ca, config.kube_apiserver),
        *(ensure(client, obj) for obj in _node_network_role()),
        ensure(client, _metrics_reader()),
        ensure(client, _service_range(config)),
        _kubernetes_service(client, config),
        ensure(client, _dns_service(config)),
        *([ensure(client, _cluster_info(config, ca))] if ca else []),
    )


async def _is_new(client: Client) -> bool:
    """Whether this is the first start of the cluster."""
    try:
        await client.get(core_v1.Namespace, "default")
    except errors.StatusError as error:
        if not errors.is_not_found(error):
            raise
        return True
    return False


def _namespace(name: str) -> core_v1.Namespace:
    return core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name))


def priority_classes() -> list[scheduling_v1.PriorityClass]:
    """The two that upstream has built in."""

    def made(name: str, value: int, description: str) -> scheduling_v1.PriorityClass:
        return scheduling_v1.PriorityClass(
            metadata=meta_v1.ObjectMeta(name=name), value=value, description=description, global_default=False
        )

    return [
        made(
            "system-cluster-critical",
            2000000000,
            "Used for system critical pods that must run in the cluster,"
            " but can be moved to another node if necessary.",
        ),
        made(
            "system-node-critical",
            2000001000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]


def _node_network_role() -> list[Any]:
    """What a node reads of the whole cluster to route, translate, filter and resolve; bound to PROXY_USER."""
    name = "podling:node-network"
    read = ["list", "watch"]
    rules = [
        rbac_v1.PolicyRule(api_groups=[""], resources=["nodes", "services", "namespaces", "pods"], verbs=read),
        rbac_v1.PolicyRule(api_groups=["discovery.k8s.io"], resources=["endpointslices"], verbs=read),
        rbac_v1.PolicyRule(api_groups=["networking.k8s.io"], resources=["networkpolicies"], verbs=read),
    ]
    subject = rbac_v1.Subject(kind="User", name=PROXY_USER, api_group="rbac.authorization.k8s.io")
    ref = rbac_v1.RoleRef(kind="ClusterRole", name=name, api_group="rbac.authorization.k8s.io")
    return [
        rbac_v1.ClusterRole(metadata=meta_v1.ObjectMeta(name=name), rules=rules),
        rbac_v1.ClusterRoleBinding(metadata=meta_v1.ObjectMeta(name=name), subjects=[subject], role_ref=ref),
    ]


def _metrics_reader() -> rbac_v1.ClusterRole:
    """Who may look at pods may also see what they use, as with metrics-server."""
    name = "system:aggregated-metrics-reader"
    labels = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("view", "edit", "admin")}
    rule = rbac_v1.PolicyRule(api_groups=["metrics.k8s.io"], resources=["pods", "nodes"], verbs=["get", "list"])
    return rbac_v1.ClusterRole(metadata=meta_v1.ObjectMeta(name=name, labels=labels), rules=[rule])


def _cluster_info(config: ClusterConfig, ca: bytes) -> core_v1.ConfigMap:
    """What a machine that joins may know before it trusts anybody; bootstrap tokens sign it."""
    cluster = {"certificate-authority-data": base64.b64encode(ca).decode(), "server": config.server}
    document: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Config", "clusters": [{"cluster": cluster, "name": ""}], "contexts": None,
        "current-context": "", "preferences": {}, "users": None,
    }  # fmt: skip
    meta = meta_v1.ObjectMeta(name="cluster-info", namespace="kube-public")
    return core_v1.ConfigMap(metadata=meta, data={"kubeconfig": json.dumps(document)})


def _service_range(config: ClusterConfig) -> networking_v1.ServiceCIDR:
    """The range that Services have their addresses of; its controller says that it is ready."""
    made = networking_v1.ServiceCIDR(metadata=meta_v1.ObjectMeta(name="kubernetes"))
    made.spec.cidrs = [config.service_cidr]
    return made


async def _kubernetes_service(client: Client, config: ClusterConfig) -> None:
    """The Service by which pods reach the API server, and its endpoints: this machine's address on the node network."""
    labels = {"component": "apiserver", "provider": "kubernetes"}
    service = core_v1.Service(metadata=meta_v1.ObjectMeta(name="kubernetes", namespace="default", labels=labels))
    service.spec.type = "ClusterIP"
    service.spec.cluster_ip = config.api_service_ip
    service.spec.ip_families, service.spec.ip_family_policy = ["IPv4"], "SingleStack"
    service.spec.session_affinity = "None"
    service.spec.ports = [core_v1.ServicePort(name="https", port=443, protocol="TCP", target_port=config.port)]
    await ensure(client, service)
    await _endpoints(client, config)
    await _endpoint_slice(client, config)


def _dns_service(config: ClusterConfig) -> core_v1.Service:
    """Cluster DNS under its usual name. It has no endpoints: each node answers the address itself."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    service = core_v1.Service(metadata=meta_v1.ObjectMeta(name="kube-dns", namespace="kube-system", labels=labels))
    service.spec.cluster_ip = config.dns_ip
    service.spec.ports = [
        core_v1.ServicePort(name="dns", port=53, protocol="UDP"),
        core_v1.ServicePort(name="dns-tcp", port=53, protocol="TCP"),
    ]
    return service


async def _endpoints(client: Client, config: ClusterConfig) -> None:
    meta = meta_v1.ObjectMeta(
        name="kubernetes", namespace="default", labels={"endpointslice.kubernetes.io/skip-mirror": "true"}
    )
    subset = core_v1.EndpointSubset(
        addresses=[core_v1.EndpointAddress(ip=config.host_ip)],
        ports=[core_v1.EndpointPort(name="https", port=config.port, protocol="TCP")],
    )
    await _put(client, core_v1.Endpoints(metadata=meta, subsets=[subset]), ("subsets",))


async def _endpoint_slice(client: Client, config: ClusterConfig) -> None:
    meta = meta_v1.ObjectMeta(
        name="kubernetes", namespace="default", labels={"kubernetes.io/service-name": "kubernetes"}
    )
    wanted = discovery_v1.EndpointSlice(
        metadata=meta,
        address_type="IPv4",
        endpoints=[
            discovery_v1.Endpoint(addresses=[config.host_ip], conditions=discovery_v1.EndpointConditions(ready=True))
        ],
        ports=[discovery_v1.EndpointPort(name="https", port=config.port, protocol="TCP")],
    )
    await _put(client, wanted, ("endpoints", "ports"))


async def _put(client: Client, wanted: Any, fields: tuple[str, ...]) -> None:
    """Create, or bring the fields in order: the API server's address may have changed since the last start."""
    if await ensure(client, wanted) is not None:
        return
    present = await client.get(type(wanted), wanted.metadata.name, wanted.metadata.namespace)
    if all(getattr(present, f) == getattr(wanted, f) for f in fields):
        return
    changed = clone(present)
    for field in fields:
        setattr(changed, field, getattr(wanted, field))
    await client.update(changed)
