"""The cluster's names: what the Kubernetes DNS specification v1.1 says there is, from indexes that follow the API.

    <service>.<ns>.svc.<zone>                         A, AAAA    the ClusterIPs, or the endpoints of a headless service
    _<port>._<protocol>.<service>.<ns>.svc.<zone>     SRV        the port, at the name above or at each endpoint's
    <hostname>.<service>.<ns>.svc.<zone>              A, AAAA    one endpoint; without a hostname 10-244-1-5
    <service>.<ns>.svc.<zone>                         CNAME      of an ExternalName service
    10-244-1-5.<ns>.pod.<zone>                        A, AAAA    the address in the name, if the namespace exists
    5.1.244.10.in-addr.arpa                           PTR        the service or the endpoints that have the address
    dns-version.<zone>                                TXT        the version of the specification

Pure: no sockets, no clock. A lookup costs a few dictionary accesses; a change costs its own size.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from podling.api import core_v1, discovery_v1

SPECIFICATION = "1.1.0"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

_IPV4_ARPA, _IPV6_ARPA = ".in-addr.arpa", ".ip6.arpa"

Key = tuple[str, str]


class Kind(Enum):
    """What a lookup found out about a name."""

    FOUND = auto()  # there are records of the type
    NO_DATA = auto()  # the name exists, but has none of the type
    NO_NAME = auto()  # the name does not exist (NXDOMAIN)
    NOT_OURS = auto()  # ask upstream


class Record(msgspec.Struct, frozen=True):
    """`type` is A, AAAA, CNAME, PTR, TXT, NS, SOA or SRV. `data` is the address, target or text; for SOA the primary
    server. Names end without a dot. The numbers are for SRV."""

    name: str
    type: str
    data: str
    weight: int = 0
    port: int = 0


class Answer(msgspec.Struct, frozen=True):
    """`records` answer the question, `additional` are the addresses of targets. `alias` is the target of a CNAME that
    is still to be resolved for the type that was asked for."""

    kind: Kind
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    alias: str = ""


NO_DATA, NO_NAME, NOT_OURS = Answer(Kind.NO_DATA), Answer(Kind.NO_NAME), Answer(Kind.NOT_OURS)


class _Endpoint(msgspec.Struct, frozen=True):
    """An address of a service's slices: its label under the service, and its ports as (name, protocol, number)."""

    label: str
    ip: str
    ports: tuple[tuple[str, str, int], ...]


class Records:
    """The zone `domain` and the reverse zones of the addresses in it.

    `servers` are the addresses of the DNS servers themselves. Reverse names in `ranges` that nobody has do not exist;
    those of other addresses are for upstream.
    """

    def __init__(self, domain: str, *, servers: tuple[str, ...] = (), ranges: tuple[str, ...] = ()) -> None:
        self.domain = domain.lower().rstrip(".")
        self._servers = servers
        self._ranges = [ipaddress.ip_network(cidr) for cidr in ranges]
        self._namespaces: set[str] = set()
        self._services: dict[Key, core_v1.Service] = {}
        self._service_ips: dict[str, dict[Key, None]] = {}
        self._slices: dict[Key, dict[str, discovery_v1.EndpointSlice]] = {}
        self._slice_services: dict[tuple[str, str], Key] = {}
        self._endpoint_ips: dict[str, dict[Key, int]] = {}
        self._endpoints: dict[Key, list[_Endpoint]] = {}  # computed when asked for
        #: Goes up with each change: what was answered at one serial is true while it stays.
        self.serial = 1

    # --- following the API ---

    def put_namespace(self, namespace: core_v1.Namespace) -> None:
        self._namespaces.add(namespace.metadata.name or "")
        self.serial += 1

    def remove_namespace(self, namespace: core_v1.Namespace) -> None:
        self._namespaces.discard(namespace.metadata.name or "")
        self.serial += 1

    def put_service(self, service: core_v1.Service) -> None:
        key = _key(service)
        old = self._services.get(key)
        if old is not None:
            self._forget_ips(key, old)
        self._services[key] = service
        for ip in _cluster_ips(service):
            self._service_ips.setdefault(_canonical(ip), {})[key] = None
        self._endpoints.pop(key, None)
        self.serial += 1

    def remove_service(self, service: core_v1.Service) -> None:
        key = _key(service)
        old = self._services.pop(key, None)
        if old is not None:
            self._forget_ips(key, old)
        self._endpoints.pop(key, None)
        self.serial += 1

    def _forget_ips(self, key: Key, service: core_v1.Service) -> None:
        for ip in _cluster_ips(service):
            keys = self._service_ips.get(_canonical(ip), {})
            keys.pop(key, None)
            if not keys:
                self._service_ips.pop(_canonical(ip), None)

    def put_slice(self, item: discovery_v1.EndpointSlice) -> None:
        self.remove_slice(item)
        namespace, name = item.metadata.namespace or "", item.metadata.name or ""
        service = (item.metadata.labels or {}).get(SERVICE_NAME_LABEL)
        if not service or item.address_type not in ("IPv4", "IPv6"):
            return
        key = (namespace, service)
        self._slice_services[namespace, name] = key
        self._slices.setdefault(key, {})[name] = item
        for ip in _slice_ips(item):
            keys = self._endpoint_ips.setdefault(_canonical(ip), {})
            keys[key] = keys.get(key, 0) + 1
        self._endpoints.pop(key, None)

    def remove_slice(self, item: discovery_v1.EndpointSlice) -> None:
        self.serial += 1
        name = item.metadata.name or ""
        key = self._slice_services.pop((item.metadata.namespace or "", name), None)
        if key is None:
            return
        old = self._slices[key].pop(name)
        if not self._slices[key]:
            del self._slices[key]
        for ip in _slice_ips(old):
            keys = self._endpoint_ips[_canonical(ip)]
            keys[key] -= 1
            if not keys[key]:
                del keys[key]
            if not keys:
                del self._endpoint_ips[_canonical(ip)]
        self._endpoints.pop(key, None)

    # --- answering ---

    def lookup(self, name: str, type_: str) -> Answer:
        """What is known of `name` (lower case, no dot at the end) and its records of `type_` ("ANY" is not served)."""
        if name == self.domain:
            return self._apex(type_)
        if name.endswith("." + self.domain):
            return self._in_zone(name, name[: -len(self.domain) - 1].split("."), type_)
        if name.endswith((_IPV4_ARPA, _IPV6_ARPA)):
            return self._reverse(name, type_)
        return NOT_OURS

    def soa(self) -> Record:
        """Goes with every answer that says no."""
        return Record(self.domain, "SOA", f"ns.dns.{self.domain}")

    def _apex(self, type_: str) -> Answer:
        server = f"ns.dns.{self.domain}"
        if type_ == "SOA":
            return Answer(Kind.FOUND, (self.soa(),))
        if type_ == "NS":
            return Answer(Kind.FOUND, (Record(self.domain, "NS", server),), self._addresses(server, self._servers))
        return NO_DATA

    def _in_zone(self, name: str, labels: list[str], type_: str) -> Answer:
        if labels == ["dns-version"]:
            return _answer([Record(name, "TXT", SPECIFICATION)], type_)
        if labels == ["ns", "dns"]:
            return _answer(list(self._addresses(name, self._servers)), type_)
        if labels in (["dns"], ["svc"], ["pod"]):
            return NO_DATA
        if len(labels) < 2 or labels[-1] not in ("svc", "pod") or labels[-2] not in self._namespaces:
            return NO_NAME
        namespace, rest = labels[-2], labels[:-2]
        if not rest:
            return NO_DATA
        if labels[-1] == "pod":
            return self._pod(name, rest, type_)
        return self._service(name, namespace, rest, type_)

    def _pod(self, name: str, labels: list[str], type_: str) -> Answer:
        """The address is in the name, and not checked against the pods: each node would have to watch all of them."""
        ip = _undashed(labels[0]) if len(labels) == 1 else None
        return _answer(list(self._addresses(name, [ip])), type_) if ip else NO_NAME

    def _service(self, name: str, namespace: str, labels: list[str], type_: str) -> Answer:
        key = (namespace, labels[-1])
        service = self._services.get(key)
        if service is None:
            return NO_NAME
        if service.spec.type == "ExternalName":
            return self._external(name, service, type_) if len(labels) == 1 else NO_NAME
        match labels:
            case [_]:
                return self._service_name(name, key, service, "", "", type_)
            case [port, protocol, _] if port.startswith("_") and protocol.startswith("_"):
                return self._service_name(name, key, service, port[1:], protocol[1:], type_)
            case [label, _]:
                return self._endpoint_name(name, key, label, "", "", type_)
            case [port, protocol, label, _] if port.startswith("_") and protocol.startswith("_"):
                return self._endpoint_name(name, key, label, port[1:], protocol[1:], type_)
        return NO_NAME

    def _external(self, name: str, service: core_v1.Service, type_: str) -> Answer:
        target = (service.spec.external_name or "").rstrip(".")
        record = Record(name, "CNAME", target)
        return Answer(Kind.FOUND, (record,), alias="" if type_ == "CNAME" else target.lower())

    def _service_name(
        self, name: str, key: Key, service: core_v1.Service, port: str, protocol: str, type_: str
    ) -> Answer:
        if service.spec.cluster_ip in (None, "", "None"):
            return self._endpoints_answer(name, key, self._of(key), port, protocol, type_)
        ports = [
            p for p in service.spec.ports or () if not port or _matches(port, protocol, p.name or "", p.protocol or "")
        ]
        if port and not ports:
            return NO_NAME
        if type_ != "SRV":
            return _answer(list(self._addresses(name, _cluster_ips(service))), type_)
        target = f"{key[1]}.{key[0]}.svc.{self.domain}"
        weight = max(100 // len(ports), 1) if ports else 0
        records = tuple(Record(name, "SRV", target, weight, p.port) for p in ports)
        if not records:
            return NO_DATA
        return Answer(Kind.FOUND, records, self._addresses(target, _cluster_ips(service)))

    def _endpoint_name(self, name: str, key: Key, label: str, port: str, protocol: str, type_: str) -> Answer:
        return self._endpoints_answer(name, key, [e for e in self._of(key) if e.label == label], port, protocol, type_)

    def _endpoints_answer(
        self, name: str, key: Key, endpoints: list[_Endpoint], port: str, protocol: str, type_: str
    ) -> Answer:
        """A name that stands for endpoints does not exist while it has none (specification 2.4.1)."""
        if port:
            endpoints = [e for e in endpoints if any(_matches(port, protocol, n, p) for n, p, _ in e.ports)]
        if not endpoints:
            return NO_NAME
        if type_ != "SRV":
            return _answer(list(self._addresses(name, dict.fromkeys(e.ip for e in endpoints))), type_)
        found: dict[tuple[str, int], None] = {}
        targets: dict[str, list[str]] = {}
        for endpoint in endpoints:
            target = f"{endpoint.label}.{key[1]}.{key[0]}.svc.{self.domain}"
            targets.setdefault(target, []).append(endpoint.ip)
            for port_name, port_protocol, number in endpoint.ports:
                if not port or _matches(port, protocol, port_name, port_protocol):
                    found[target, number] = None
        if not found:
            return NO_DATA
        weight = max(100 // len(found), 1)
        records = tuple(Record(name, "SRV", target, weight, number) for target, number in found)
        additional = [a for target, ips in targets.items() for a in self._addresses(target, dict.fromkeys(ips))]
        return Answer(Kind.FOUND, records, tuple(additional))

    def _of(self, key: Key) -> list[_Endpoint]:
        """The endpoints of a service that are published: the ready ones, or all."""
        known = self._endpoints.get(key)
        if known is None:
            service = self._services.get(key)
            everything = service is not None and service.spec.publish_not_ready_addresses is True
            known = [e for item in self._slices.get(key, {}).values() for e in _published(item, everything)]
            self._endpoints[key] = known
        return known

    def _reverse(self, name: str, type_: str) -> Answer:
        ip = _reversed_address(name)
        if ip is None:
            return NOT_OURS
        targets = [f"{service}.{namespace}.svc.{self.domain}" for namespace, service in self._service_ips.get(ip, {})]
        if not targets:
            for namespace, service in self._endpoint_ips.get(ip, {}):
                for endpoint in self._of((namespace, service)):
                    if _canonical(endpoint.ip) == ip:
                        targets.append(f"{endpoint.label}.{service}.{namespace}.svc.{self.domain}")
        if targets:
            return _answer([Record(name, "PTR", target) for target in dict.fromkeys(targets)], type_)
        address = ipaddress.ip_address(ip)
        ours = any(address.version == network.version and address in network for network in self._ranges)
        return NO_NAME if ours else NOT_OURS

    @staticmethod
    def _addresses(name: str, ips: Iterable[str]) -> tuple[Record, ...]:
        return tuple(Record(name, "AAAA" if ":" in ip else "A", ip) for ip in ips)


def _answer(records: list[Record], type_: str) -> Answer:
    """Of the records that a name has, those of the type."""
    matching = tuple(record for record in records if record.type == type_)
    return Answer(Kind.FOUND, matching) if matching else NO_DATA


def _key(service: core_v1.Service) -> Key:
    return service.metadata.namespace or "", service.metadata.name or ""


def _cluster_ips(service: core_v1.Service) -> list[str]:
    spec = service.spec
    if spec.type == "ExternalName":
        return []
    return [ip for ip in spec.cluster_ips or [spec.cluster_ip or ""] if ip and ip != "None"]


def _slice_ips(item: discovery_v1.EndpointSlice) -> list[str]:
    return [endpoint.addresses[0] for endpoint in item.endpoints or () if endpoint.addresses]


def _published(item: discovery_v1.EndpointSlice, everything: bool) -> list[_Endpoint]:
    ports = tuple((p.name or "", (p.protocol or "TCP").lower(), p.port or 0) for p in item.ports or ())
    found = []
    for endpoint in item.endpoints or ():
        ready = endpoint.conditions is None or endpoint.conditions.ready is not False
        if endpoint.addresses and (ready or everything):
            ip = endpoint.addresses[0]
            found.append(_Endpoint((endpoint.hostname or _dashed(ip)).lower(), ip, ports))
    return found


def _matches(port: str, protocol: str, name: str, of: str) -> bool:
    return port == name.lower() and protocol == of.lower()


def _canonical(ip: str) -> str:
    return str(ipaddress.ip_address(ip)) if ":" in ip else ip


def _dashed(ip: str) -> str:
    return ip.replace(".", "-").replace(":", "-")


def _undashed(label: str) -> str | None:
    """The address that a pod's name says: 10-244-1-5, fd00--5."""
    text = label.replace("-", "." if label.count("-") == 3 and "--" not in label else ":")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _reversed_address(name: str) -> str | None:
    """The address of a whole reverse name; None for a part of one."""
    try:
        if name.endswith(_IPV4_ARPA):
            return str(ipaddress.IPv4Address(".".join(reversed(name[: -len(_IPV4_ARPA)].split(".")))))
        digits = "".join(reversed(name[: -len(_IPV6_ARPA)].split(".")))
        return str(ipaddress.IPv6Address(int(digits, 16))) if len(digits) == 32 else None
    except ValueError:
        return None
