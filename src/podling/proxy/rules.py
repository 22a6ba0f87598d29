"""A service as nftables rules: pure, one service at a time, so that a change costs what changed.

services4       address . protocol . port -> goto a chain     ClusterIPs, externalIPs, load balancer addresses
node-ports4     protocol . port -> goto a chain               on every address of the node
no-endpoints4, no-endpoint-node-ports4                        -> reject, or drop where a Local policy asks for it
cluster-ips4    all ClusterIPs: another port of one is refused
hairpin4        pods that may come back to themselves through a service, and must not see their own address

service/...     picks an endpoint: one rule with a map of all of them
local/...       the same with the endpoints of this node
external/...    what is done to traffic from outside before that
endpoint/...    one endpoint, only for services with session affinity, each with a set of the clients it holds
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from podling.api import core_v1, discovery_v1
from podling.proxy import endpoints
from podling.proxy.config import ProxyConfig
from podling.proxy.endpoints import Choice, Endpoint
from podling.proxy.ruleset import Fragment

REJECT = "goto refusal"
DROP = "drop"

#: Where UDP traffic to (address or "" for any of the node's, port) may go, for the clean-up of flows.
UDPTargets = dict[tuple[str, int], frozenset[tuple[str, int]]]


class ServiceFragment(Fragment):
    """The part of the ruleset that one service needs.

    `local` is the number of ready endpoints on this node, `health_port` where to tell of it (0: nowhere).
    """

    udp: UDPTargets = {}
    health_port: int = 0
    local: int = 0


def compile_service(
    service: core_v1.Service, slices: Iterable[discovery_v1.EndpointSlice], config: ProxyConfig
) -> ServiceFragment | None:
    """The rules of `service`; None for one without any (headless, ExternalName, of another proxy)."""
    spec = service.spec
    labels = service.metadata.labels or {}
    if spec.type == "ExternalName" or not spec.cluster_ip or spec.cluster_ip == "None":
        return None
    if "service.kubernetes.io/service-proxy-name" in labels:
        return None
    fragment = ServiceFragment()
    known = list(slices)
    for family in config.families:
        addresses = [ip for ip in spec.cluster_ips or [spec.cluster_ip] if _version(ip) == family]
        if not addresses:
            continue
        for ip in addresses:
            if ip not in config.local_addresses:
                fragment.elements[f"cluster-ips{family}", ip] = ""
        for port in spec.ports or ():
            _Port(fragment, service, port, family, config).compile(addresses, known)
    if spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local":
        fragment.health_port = spec.health_check_node_port or 0
    return fragment


class _Port:
    """One port of a service in one address family, written into a fragment."""

    def __init__(
        self,
        fragment: ServiceFragment,
        service: core_v1.Service,
        port: core_v1.ServicePort,
        family: int,
        config: ProxyConfig,
    ) -> None:
        self.fragment, self.service, self.port, self.family, self.config = fragment, service, port, family, config
        self.ip = "ip" if family == 4 else "ip6"
        self.protocol = (port.protocol or "TCP").lower()
        meta = service.metadata
        self.name = name_of(f"{meta.namespace}/{meta.name}/{self.protocol}/{port.port}/{family}")
        self.affinity = _affinity_timeout(service.spec)

    def compile(self, cluster_ips: list[str], slices: list[discovery_v1.EndpointSlice]) -> None:
        config, spec, port = self.config, self.service.spec, self.port
        found = endpoints.of_port(port, slices, family=self.family, node_name=config.node_name)
        choice = endpoints.choose(found, node_name=config.node_name, zone=config.zone)
        ready_here = {e.ip for e in choice.local if e.ready}
        self.fragment.local = max(self.fragment.local, len(ready_here))
        external = self._external_addresses()
        node_port = port.node_port or 0
        self._chains(choice, external=bool(external or node_port))
        inside = choice.local if spec.internal_traffic_policy == "Local" else choice.cluster
        target = "local" if spec.internal_traffic_policy == "Local" else "service"
        for ip in cluster_ips:
            if ip not in config.local_addresses:
                self._lead(f"{ip} . ", port.port, f"goto {target}/{self.name}", bool(inside), choice)
        outside = choice.local if spec.external_traffic_policy == "Local" else choice.cluster
        for ip, chain in external.items():
            self._lead(f"{ip} . ", port.port, f"goto {chain}/{self.name}", bool(outside), choice)
        if node_port:
            self._lead("", node_port, f"goto external/{self.name}", bool(outside), choice)
        for endpoint in (*choice.cluster, *choice.local):
            if endpoint.local or endpoints.is_inside(endpoint.ip, config.pod_cidrs):
                self.fragment.elements[f"hairpin{self.family}", f"{endpoint.ip} . {endpoint.ip}"] = ""
        if self.protocol == "udp":
            everywhere = frozenset((e.ip, e.port) for e in (*choice.cluster, *choice.local))
            for ip in (*cluster_ips, *external):
                self.fragment.udp[ip, port.port] = everywhere
            if node_port:
                self.fragment.udp["", node_port] = everywhere

    def _lead(self, address: str, number: int, target: str, usable: bool, choice: Choice) -> None:
        """Enter where traffic to `address` (with its dot; "" is the node) and `number` goes, and what else befalls it.

        With a Local policy and endpoints on other nodes only, traffic that is not led to them by an exception (pods
        that use an external address) is dropped, so that load balancers look elsewhere.
        """
        key = f"{address}{self.protocol} . {number}"
        leading, refusing = ("services", "no-endpoints") if address else ("node-ports", "no-endpoint-node-ports")
        if choice.any and (usable or not target.startswith("goto local/")):
            self.fragment.elements[f"{leading}{self.family}", key] = target
        if not usable:
            self.fragment.elements[f"{refusing}{self.family}", key] = DROP if choice.any else REJECT

    def _external_addresses(self) -> dict[str, str]:
        """externalIPs and load balancer addresses, with the kind of chain that each leads to."""
        spec, found = self.service.spec, {}
        for ip in spec.external_ips or ():
            if _version(ip) == self.family:
                found[ip] = "external"
        balancer = self.service.status.load_balancer if self.service.status else None
        if spec.type == "LoadBalancer" and balancer is not None:
            for ingress in balancer.ingress or ():
                if ingress.ip and ingress.ip_mode != "Proxy" and _version(ingress.ip) == self.family:
                    found[ingress.ip] = "firewall" if spec.load_balancer_source_ranges else "external"
        return {ip: chain for ip, chain in found.items() if ip not in self.config.local_addresses}

    def _chains(self, choice: Choice, *, external: bool) -> None:
        if not choice.any:
            return
        spec, chains = self.service.spec, self.fragment.chains
        keep_here = external and spec.external_traffic_policy == "Local"
        chains[f"service/{self.name}"] = self._pick(choice.cluster)
        if keep_here or spec.internal_traffic_policy == "Local":
            chains[f"local/{self.name}"] = self._pick(choice.local)
        if external and keep_here:
            chains[f"external/{self.name}"] = (
                # Pods and the node itself are inside already: an external address is another name to them.
                f"{self.ip} saddr @pods{self.family} goto service/{self.name}",
                "fib saddr type local jump mark-for-masquerade",
                f"fib saddr type local goto service/{self.name}",
                f"goto local/{self.name}",
            )
        elif external:
            chains[f"external/{self.name}"] = ("jump mark-for-masquerade", f"goto service/{self.name}")
        if external and spec.load_balancer_source_ranges:
            ranges = [r.strip() for r in spec.load_balancer_source_ranges if _version(r) == self.family]
            allowed = f"{self.ip} saddr != {{ {', '.join(ranges)} }} drop" if ranges else "drop"
            chains[f"firewall/{self.name}"] = (allowed, f"goto external/{self.name}")

    def _pick(self, chosen: Sequence[Endpoint]) -> tuple[str, ...]:
        """The rules that send a connection to one of `chosen`, each as likely."""
        if not chosen:
            return ()
        if self.affinity:
            return self._pick_with_affinity(chosen)
        translate = f"meta l4proto {self.protocol} dnat {self.ip} to"
        if len(chosen) == 1:
            return (f"{translate} {self._socket(chosen[0])}",)
        targets = ", ".join(f"{i} : {e.ip} . {e.port}" for i, e in enumerate(chosen))
        return (f"{translate} numgen random mod {len(chosen)} map {{ {targets} }}",)

    def _pick_with_affinity(self, chosen: Sequence[Endpoint]) -> tuple[str, ...]:
        """First the endpoint that holds the client, if there is one; the sets are kept while the rules change."""
        stay: list[str] = []
        names: list[str] = []
        for endpoint in chosen:
            name = name_of(f"{self.name}/{endpoint.ip}/{endpoint.port}")
            clients = f"affinity/{self.affinity}/{name}"
            names.append(name)
            stay.append(f"{self.ip} saddr @{clients} goto endpoint/{name}")
            self.fragment.sets[clients] = (
                f"type ipv{self.family}_addr; size 65535; flags dynamic,timeout; timeout {self.affinity}s;"
            )
            self.fragment.chains[f"endpoint/{name}"] = (
                f"update @{clients} {{ {self.ip} saddr }}",
                f"meta l4proto {self.protocol} dnat {self.ip} to {self._socket(endpoint)}",
            )
        targets = ", ".join(f"{i} : goto endpoint/{name}" for i, name in enumerate(names))
        return (*stay, f"numgen random mod {len(names)} vmap {{ {targets} }}")

    def _socket(self, endpoint: Endpoint) -> str:
        return f"{endpoint.ip}:{endpoint.port}" if self.family == 4 else f"[{endpoint.ip}]:{endpoint.port}"


def _affinity_timeout(spec: core_v1.ServiceSpec) -> int:
    """Seconds for which a client stays with its endpoint, 0 without affinity."""
    if spec.session_affinity != "ClientIP":
        return 0
    client = spec.session_affinity_config.client_ip if spec.session_affinity_config else None
    return client.timeout_seconds or 10800 if client else 10800


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def name_of(text: str) -> str:
    """`text` as part of an nftables name: readable, unique, and within the 127 characters that the kernel allows."""
    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    readable = text if ":" not in text else text.replace(":", "-")
    return f"{digest}/{readable[:80]}"
