"""Services: defaults, validation, table row; what they take in the cluster is in service_allocation.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.resources.core import service_allocation as allocation
from podling.apiserver.resources.core import service_validation as rules
from podling.apiserver.strategy import Context, Release, Strategy
from podling.machinery.validation import Findings


class ServiceStrategy(Strategy[core_v1.Service]):
    has_status = True
    create_on_update = True
    selectable_fields = ("spec.clusterIP", "spec.type")
    columns = (
        printing.NAME,
        printing.text("Type"),
        printing.text("Cluster-IP"),
        printing.text("External-IP"),
        printing.text("Port(s)"),
        printing.AGE,
        printing.SELECTOR,
    )

    #: Hands out cluster IPs and node ports; whoever puts the cluster together sets it at start. Without one Services
    #: keep what their authors wrote.
    allocator: allocation.Allocator | None = None

    def default(self, obj: core_v1.Service) -> None:
        spec = obj.spec
        spec.session_affinity = spec.session_affinity or "None"
        if spec.session_affinity == "None":
            spec.session_affinity_config = None
        elif spec.session_affinity == "ClientIP":
            config = spec.session_affinity_config
            if config is None or config.client_ip is None or config.client_ip.timeout_seconds is None:
                client = core_v1.ClientIPConfig(timeout_seconds=10800)
                spec.session_affinity_config = core_v1.SessionAffinityConfig(client_ip=client)
        spec.type = spec.type or "ClusterIP"
        for port in spec.ports or ():
            port.protocol = port.protocol or "TCP"
            if port.target_port in (None, 0, ""):
                port.target_port = port.port
        if rules.externally_accessible(obj):
            spec.external_traffic_policy = spec.external_traffic_policy or "Cluster"
        if spec.type in rules.WITH_CLUSTER_IP:
            spec.internal_traffic_policy = spec.internal_traffic_policy or "Cluster"
        if spec.type == "LoadBalancer" and spec.allocate_load_balancer_node_ports is None:
            spec.allocate_load_balancer_node_ports = True
        if obj.status.load_balancer is None:
            obj.status.load_balancer = core_v1.LoadBalancerStatus()
        for ingress in obj.status.load_balancer.ingress or ():
            if ingress.ip and spec.type == "LoadBalancer":
                ingress.ip_mode = ingress.ip_mode or "VIP"

    def prepare_create(self, obj: core_v1.Service, context: Context) -> None:
        obj.status = core_v1.ServiceStatus(load_balancer=core_v1.LoadBalancerStatus())
        allocation.sync_cluster_ips(obj, None)

    def validate(self, obj: core_v1.Service) -> Findings:
        return rules.service(obj, allocated=self.allocator is not None)

    def prepare_update(self, new: core_v1.Service, old: core_v1.Service, context: Context) -> None:
        allocation.drop_type_dependent(new, old)
        allocation.keep_allocated(new, old)
        allocation.sync_cluster_ips(new, old)

    def validate_update(self, new: core_v1.Service, old: core_v1.Service) -> Findings:
        # Health check ports are handed out after this.
        return rules.update(new, old) + rules.service(new, allocated=False)

    def validate_status_update(self, new: core_v1.Service, old: core_v1.Service) -> Findings:
        return rules.status(new)

    def warnings(self, new: core_v1.Service, old: core_v1.Service | None) -> list[str]:
        return rules.warnings(new)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.dns_1035_label(name, prefix=prefix)

    def fields(self, obj: core_v1.Service) -> dict[str, str]:
        return {"spec.clusterIP": obj.spec.cluster_ip or "", "spec.type": obj.spec.type or ""}

    async def begin_create(self, obj: core_v1.Service, context: Context) -> Release | None:
        if self.allocator is None:
            return None
        return allocation.create(self.allocator, obj)

    async def begin_update(self, new: core_v1.Service, old: core_v1.Service, context: Context) -> Release | None:
        if self.allocator is None:
            return None
        return allocation.update(self.allocator, new, old)

    async def after_delete(self, obj: core_v1.Service) -> None:
        if self.allocator is not None:
            allocation.delete(self.allocator, obj)

    def row(self, obj: core_v1.Service, now: datetime) -> list[Any]:
        spec = obj.spec
        return [
            printing.name(obj.metadata),
            spec.type or "",
            (spec.cluster_ips or [""])[0] or printing.NONE,
            _external_ip(obj),
            printing.joined(map(_port, spec.ports or ())),
            printing.age(obj.metadata, now),
            printing.labels(spec.selector),
        ]


def _port(port: core_v1.ServicePort) -> str:
    number = f"{port.port}:{port.node_port}" if port.node_port else f"{port.port}"
    return f"{number}/{port.protocol or ''}"


def _external_ip(service: core_v1.Service) -> str:
    spec = service.spec
    match spec.type:
        case "ClusterIP" | "NodePort":
            return printing.joined(spec.external_ips or ())
        case "ExternalName":
            return spec.external_name or ""
        case "LoadBalancer":
            balancer = service.status.load_balancer or core_v1.LoadBalancerStatus()
            given = sorted({i.ip or i.hostname or "" for i in balancer.ingress or ()} - {""})
            return printing.joined([*given, *(spec.external_ips or ())], "<pending>")
    return printing.UNKNOWN
