"""What makes a Service valid, and what may change on it (upstream: ValidateService and its relatives)."""

from __future__ import annotations

import ipaddress

from podling.api import core_v1, names
from podling.apiserver.resources.podspec.handlers import port_number_or_name
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    labels,
    not_supported,
    one_of,
    required,
)

WITH_CLUSTER_IP = ("ClusterIP", "LoadBalancer", "NodePort")
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_SPEC = Path("spec")
_ONLY_BALANCERS = "may only be used when `type` is 'LoadBalancer'"
_NOT_EXTERNAL = "may not be set for ExternalName services"
_ONCE = "may not change once set"
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"


def is_headless(service: core_v1.Service) -> bool:
    return service.spec.cluster_ips == ["None"]


def externally_accessible(service: core_v1.Service) -> bool:
    spec = service.spec
    return spec.type in ("LoadBalancer", "NodePort") or (spec.type == "ClusterIP" and bool(spec.external_ips))


def needs_health_check(service: core_v1.Service) -> bool:
    return service.spec.type == "LoadBalancer" and service.spec.external_traffic_policy == "Local"


def family_of(ip: str) -> str:
    return f"IPv{ipaddress.ip_address(ip).version}"


def service(service: core_v1.Service, *, allocated: bool) -> Findings:
    """A whole Service; `allocated` says that ports have been handed out already."""
    spec = service.spec
    found: Findings = []
    if not spec.ports and not is_headless(service) and spec.type != "ExternalName":
        found.append(required(_SPEC.child("ports")))
    found += _type(service)
    seen: set[str] = set()
    for index, port in enumerate(spec.ports or ()):
        found += _port(port, len(spec.ports or ()) > 1, seen, _SPEC.child("ports").index(index))
    found += labels(spec.selector, _SPEC.child("selector"))
    found += _affinity(spec)
    found += cluster_ips_and_families(service)
    for index, ip in enumerate(spec.external_ips or ()):
        at = _SPEC.child("externalIPs").index(index)
        found += each(at, ip, names.ip(ip)) or non_special_ip(ip, at)
    found += one_of(_SPEC.child("type"), spec.type, _TYPES, needed=True)
    found += _port_clashes(spec)
    found += _balancer(service)
    return found + _traffic(service, allocated)


def _type(service: core_v1.Service) -> Findings:
    spec = service.spec
    if spec.type in ("LoadBalancer", "NodePort") and is_headless(service):
        at = _SPEC.child("clusterIPs").index(0)
        return [invalid(at, "None", f"may not be set to 'None' for {spec.type} services")]
    if spec.type != "ExternalName":
        return []
    found: Findings = []
    for name, value in (("clusterIPs", spec.cluster_ips), ("ipFamilies", spec.ip_families)):
        if value:
            found.append(forbidden(_SPEC.child(name), _NOT_EXTERNAL))
    if spec.ip_family_policy is not None:
        found.append(forbidden(_SPEC.child("ipFamilyPolicy"), _NOT_EXTERNAL))
    name = (spec.external_name or "").removesuffix(".")
    if not name:
        return [*found, required(_SPEC.child("externalName"))]
    return found + each(_SPEC.child("externalName"), name, names.dns_subdomain(name))


def _port(port: core_v1.ServicePort, need_name: bool, seen: set[str], path: Path) -> Findings:
    found: Findings = []
    if port.name:
        found += each(path.child("name"), port.name, names.dns_label(port.name))
        if port.name in seen:
            found.append(duplicate(path.child("name"), port.name))
        seen.add(port.name)
    elif need_name:
        found.append(required(path.child("name")))
    found += each(path.child("port"), port.port, names.port_number(port.port))
    found += one_of(path.child("protocol"), port.protocol, _PROTOCOLS, needed=True)
    target = port.target_port if port.target_port is not None else 0
    found += port_number_or_name(target, path.child("targetPort"))
    if port.app_protocol is not None:
        found += each(path.child("appProtocol"), port.app_protocol, names.qualified_name(port.app_protocol))
    return found


def _affinity(spec: core_v1.ServiceSpec) -> Findings:
    found = one_of(_SPEC.child("sessionAffinity"), spec.session_affinity, ("ClientIP", "None"), needed=True)
    at = _SPEC.child("sessionAffinityConfig")
    config = spec.session_affinity_config
    if spec.session_affinity == "None" and config is not None:
        found.append(forbidden(at, "must not be set when session affinity is None"))
    if spec.session_affinity != "ClientIP":
        return found
    needed = "when session affinity type is ClientIP"
    if config is None:
        found.append(required(at, needed))
    elif config.client_ip is None:
        found.append(required(at.child("clientIP"), needed))
    elif config.client_ip.timeout_seconds is None:
        found.append(required(at.child("clientIP", "timeoutSeconds"), needed))
    elif not 0 < config.client_ip.timeout_seconds <= 86400:
        detail = "must be greater than 0 and less than 86400"
        found.append(invalid(at.child("clientIP", "timeoutSeconds"), config.client_ip.timeout_seconds, detail))
    return found


def _port_clashes(spec: core_v1.ServiceSpec) -> Findings:
    found: Findings = []
    at = _SPEC.child("ports")
    node_ports: set[tuple[str, int]] = set()
    ports: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.ports or ()):
        if port.node_port and spec.type == "ClusterIP":
            detail = "may not be used when `type` is 'ClusterIP'"
            found.append(forbidden(at.index(index).child("nodePort"), detail))
    for index, port in enumerate(spec.ports or ()):
        key = (port.protocol or "", port.node_port or 0)
        if port.node_port and key in node_ports:
            found.append(duplicate(at.index(index).child("nodePort"), port.node_port))
        node_ports.add(key)
    for index, port in enumerate(spec.ports or ()):
        key = (port.protocol or "", port.port)
        if key in ports:
            found.append(duplicate(at.index(index), {"protocol": port.protocol, "port": port.port}))
        ports.add(key)
    return found


def _balancer(service: core_v1.Service) -> Findings:
    spec = service.spec
    is_balancer = spec.type == "LoadBalancer"
    found: Findings = []
    annotation = (service.metadata.annotations or {}).get(_SOURCE_RANGES)
    if spec.load_balancer_source_ranges:
        at = _SPEC.child("LoadBalancerSourceRanges")
        if not is_balancer:
            found.append(forbidden(at, _ONLY_BALANCERS))
        for index, value in enumerate(spec.load_balancer_source_ranges):
            found += each(at.index(index), value.strip(), names.cidr(value.strip()))
    elif annotation is not None:
        at = Path("metadata").child("annotations").key(_SOURCE_RANGES)
        if not is_balancer:
            found.append(forbidden(at, _ONLY_BALANCERS))
        for value in filter(None, annotation.strip().split(",")):
            found += each(at, value.strip(), names.cidr(value.strip()))
    if spec.allocate_load_balancer_node_ports is not None and not is_balancer:
        found.append(forbidden(_SPEC.child("allocateLoadBalancerNodePorts"), _ONLY_BALANCERS))
    if spec.load_balancer_class is not None:
        at = _SPEC.child("loadBalancerClass")
        if is_balancer:
            found += each(at, spec.load_balancer_class, names.qualified_name(spec.load_balancer_class))
        else:
            found.append(forbidden(at, _ONLY_BALANCERS))
    return found


def _traffic(service: core_v1.Service, allocated: bool) -> Findings:
    spec = service.spec
    found: Findings = []
    at = _SPEC.child("externalTrafficPolicy")
    if externally_accessible(service):
        found += one_of(at, spec.external_traffic_policy, ("Cluster", "Local"), needed=True)
    elif spec.external_traffic_policy:
        detail = "may only be set for externally-accessible services"
        found.append(invalid(at, spec.external_traffic_policy, detail))
    at = _SPEC.child("healthCheckNodePort")
    if spec.health_check_node_port:
        if needs_health_check(service):
            found += each(at, spec.health_check_node_port, names.port_number(spec.health_check_node_port))
        else:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            found.append(invalid(at, spec.health_check_node_port, detail))
    elif needs_health_check(service) and allocated:
        found.append(required(at))
    at = _SPEC.child("internalTrafficPolicy")
    needed = spec.type in WITH_CLUSTER_IP
    found += one_of(at, spec.internal_traffic_policy, ("Cluster", "Local"), needed=needed)
    distributions = ("PreferClose", "PreferSameNode", "PreferSameZone")
    if spec.traffic_distribution is not None and spec.traffic_distribution not in distributions:
        at = _SPEC.child("trafficDistribution")
        found.append(not_supported(at, spec.traffic_distribution, distributions))
    return found


def cluster_ips_and_families(service: core_v1.Service) -> Findings:
    """clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy, and how they belong together."""
    spec = service.spec
    if spec.type == "ExternalName":
        return []
    found: Findings = []
    at = _SPEC.child("clusterIPs")
    ips, families = spec.cluster_ips or [], spec.ip_families or []
    if spec.cluster_ip and not ips:
        found.append(required(at))
    elif spec.cluster_ip and ips[0] != spec.cluster_ip:
        found.append(invalid(at, ips, "first value must match `clusterIP`"))
    elif ips and not spec.cluster_ip:
        found.append(invalid(at, ips, "must be empty when `clusterIP` is not specified"))
    for index, family in enumerate(families):
        here = _SPEC.child("ipFamilies").index(index)
        if family not in ("IPv4", "IPv6"):
            found.append(not_supported(here, family, ("IPv4", "IPv6")))
        if family in families[:index]:
            found.append(duplicate(here, family))
    policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
    if spec.ip_family_policy is not None and spec.ip_family_policy not in policies:
        found.append(not_supported(_SPEC.child("ipFamilyPolicy"), spec.ip_family_policy, policies))
    return found + _cluster_ips(service, ips, families, at)


def _cluster_ips(service: core_v1.Service, ips: list[str], families: list[str], path: Path) -> Findings:
    found: Findings = []
    bad = False
    for index, ip in enumerate(ips):
        if index == 0 and ip == "None":
            if len(ips) > 1:
                bad = True
                found.append(invalid(path, ips, "'None' must be the first and only value"))
            continue
        problems = names.ip(ip)
        bad = bad or bool(problems)
        found += each(path.index(index), ip, problems)
    if len(ips) > 2:
        found.append(invalid(path, ips, "may only hold up to 2 values"))
    if bad:
        return found
    if len(ips) > 1 and len({family_of(ip) for ip in ips}) < 2:
        found.append(invalid(path, ips, "may specify no more than one IP for each IP family"))
    if not is_headless(service):
        for index, (ip, family) in enumerate(zip(ips, families, strict=False)):
            if family in ("IPv4", "IPv6") and family_of(ip) != family:
                detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                found.append(invalid(path.index(index), ip, detail))
    return found


def non_special_ip(ip: str, path: Path) -> Findings:
    """Not an address that means something to one node only."""
    address = ipaddress.ip_address(ip)
    found: Findings = []
    if address.is_unspecified:
        found.append(invalid(path, ip, f"may not be unspecified ({ip})"))
    if address.is_loopback:
        found.append(invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        found.append(invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if address in ipaddress.ip_network("224.0.0.0/24") or ip.lower().startswith("ff02:"):
        detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        found.append(invalid(path, ip, detail))
    return found


def update(new: core_v1.Service, old: core_v1.Service) -> Findings:
    """What may not change."""
    found = _cluster_ip_changes(new, old) + _family_changes(new, old)
    before, after = old.spec, new.spec
    if after.type == before.type == "LoadBalancer" and after.load_balancer_class != before.load_balancer_class:
        found.append(invalid(_SPEC.child("loadBalancerClass"), after.load_balancer_class, _ONCE))
    both = needs_health_check(old) and needs_health_check(new)
    if both and after.health_check_node_port != before.health_check_node_port:
        found.append(forbidden(_SPEC.child("healthCheckNodePort"), "field is immutable"))
    return found


def _cluster_ip_changes(new: core_v1.Service, old: core_v1.Service) -> Findings:
    if "ExternalName" in (new.spec.type, old.spec.type) or (is_headless(new) and is_headless(old)):
        return []
    at = _SPEC.child("clusterIPs")
    now, before = new.spec.cluster_ips or [], old.spec.cluster_ips or []
    found: Findings = []
    if len(now) == len(before):
        for index, ip in enumerate(before):
            if ip != now[index]:
                found.append(invalid(at.index(index), now, _ONCE))
        return found
    if before and not now:
        found.append(invalid(at.index(0), None, "primary clusterIP can not be unset"))
    elif before and now[0] != before[0]:
        found.append(invalid(at.index(0), now, _ONCE))
    if len(before) > len(now) == 1 and new.spec.ip_family_policy != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        found.append(invalid(_SPEC.child("ipFamilyPolicy"), new.spec.ip_family_policy, detail))
    return found


def _family_changes(new: core_v1.Service, old: core_v1.Service) -> Findings:
    if "ExternalName" in (new.spec.type, old.spec.type) or is_headless(new) or is_headless(old):
        return []
    at = _SPEC.child("ipFamilies").index(0)
    now, before = new.spec.ip_families or [], old.spec.ip_families or []
    if not now:
        return []  # Filled in from the old ones, or the cluster's default.
    found: Findings = []
    if len(now) == len(before):
        return [invalid(at, now, _ONCE) for a, b in zip(now, before, strict=True) if a != b]
    if before and now[0] != before[0]:
        found.append(invalid(at, new.spec.cluster_ips, _ONCE))
    if len(before) > len(now) == 1 and new.spec.ip_family_policy != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        found.append(invalid(_SPEC.child("ipFamilyPolicy"), new.spec.ip_family_policy, detail))
    return found


def status(service: core_v1.Service) -> Findings:
    balancer = service.status.load_balancer
    ingress = (balancer.ingress if balancer else None) or []
    at = Path("status").child("loadBalancer", "ingress")
    if ingress and service.spec.type != "LoadBalancer":
        return [forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'")]
    found: Findings = []
    for index, point in enumerate(ingress):
        here = at.index(index)
        if point.ip:
            found += each(here.child("ip"), point.ip, names.ip(point.ip))
            if point.ip_mode is None:
                found.append(required(here.child("ipMode"), "must be specified when `ip` is set"))
        elif point.ip_mode is not None:
            found.append(forbidden(here.child("ipMode"), "may not be specified when `ip` is not set"))
        if point.ip and point.ip_mode is not None:
            found += one_of(here.child("ipMode"), point.ip_mode, ("Proxy", "VIP"))
        if point.hostname:
            found += each(here.child("hostname"), point.hostname, names.dns_subdomain(point.hostname))
            if not names.ip(point.hostname):
                detail = "must be a DNS name, not an IP address"
                found.append(invalid(here.child("hostname"), point.hostname, detail))
    return found


def warnings(service: core_v1.Service) -> list[str]:
    """What is allowed but has no effect or no future."""
    spec = service.spec
    found: list[str] = []
    if spec.load_balancer_ip:
        found.append("spec.loadBalancerIP: deprecated in v1.24+; use an implementation-specific annotation instead")
    if spec.type == "ExternalName":
        for name, value in (
            ("externalIPs", spec.external_ips),
            ("sessionAffinity", spec.session_affinity == "ClientIP"),
        ):
            if value:
                found.append(f'spec.{name} is ignored when spec.type is "ExternalName"')
    if spec.cluster_ip == "None":
        if spec.external_ips:
            found.append('spec.externalIPs is ignored when spec.clusterIP is "None"')
        if spec.session_affinity == "ClientIP":
            found.append("spec.SessionAffinity is ignored for headless services")
    return found
