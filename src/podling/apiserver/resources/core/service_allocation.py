"""What a Service takes in the cluster: addresses for its families, node ports, a port for health checks.

Every change is done at once in the allocator and given back by the returned function if the request fails later.
Upstream: pkg/registry/core/service/storage/alloc.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from podling.api import core_v1, errors
from podling.api.errors import FieldError
from podling.apiserver.allocators import AllocationError, PortRange
from podling.apiserver.resources.core.service_validation import (
    WITH_CLUSTER_IP,
    cluster_ips_and_families,
    externally_accessible,
    family_of,
    is_headless,
    needs_health_check,
)
from podling.apiserver.strategy import Release
from podling.machinery.validation import Path, invalid

_SPEC = Path("spec")
_POLICY = _SPEC.child("ipFamilyPolicy")


class Allocator(Protocol):
    """Cluster IPs and node ports (see apiserver.allocators.ServiceAllocator). Failures are AllocationError."""

    @property
    def families(self) -> tuple[str, ...]:
        """IPv4, IPv6: the configured ones, the default first."""

    @property
    def ports(self) -> PortRange: ...

    def take_ip(self, ip: str) -> None: ...

    def next_ip(self, family: str) -> str: ...

    def release_ip(self, ip: str) -> None: ...


def needs_node_ports(service: core_v1.Service) -> bool:
    spec = service.spec
    if spec.type == "LoadBalancer":
        return spec.allocate_load_balancer_node_ports is not False
    return spec.type == "NodePort"


def _needs_cluster_ip(service: core_v1.Service) -> bool:
    return service.spec.type in WITH_CLUSTER_IP


def _same_cluster_ips(new: core_v1.Service, old: core_v1.Service) -> bool:
    return (new.spec.cluster_ips or []) == (old.spec.cluster_ips or [])


# -- what an author leaves out or leaves in ----------------------------------------------------------------------------


def sync_cluster_ips(new: core_v1.Service, old: core_v1.Service | None) -> None:
    """`clusterIP` and `clusterIPs[0]` are one thing: a change of one is a change of the other."""
    spec = new.spec
    if old is None:
        if spec.cluster_ip and not spec.cluster_ips:
            spec.cluster_ips = [spec.cluster_ip]
        return
    before = old.spec
    if (spec.cluster_ip or "") != (before.cluster_ip or "") and _same_cluster_ips(new, old):
        spec.cluster_ips = [spec.cluster_ip] if spec.cluster_ip else None
    elif before.cluster_ips and not spec.cluster_ips and spec.cluster_ip == before.cluster_ip:
        spec.cluster_ip = None


def keep_allocated(new: core_v1.Service, old: core_v1.Service) -> None:
    """An update that does not mention what was allocated keeps it."""
    spec, before = new.spec, old.spec
    if _needs_cluster_ip(old) and _needs_cluster_ip(new):
        spec.cluster_ip = spec.cluster_ip or before.cluster_ip
        if not spec.cluster_ips and spec.cluster_ip == before.cluster_ip:
            spec.cluster_ips = list(before.cluster_ips) if before.cluster_ips else None
    if needs_node_ports(old) and needs_node_ports(new):
        theirs = {p.name or "": p.node_port for p in before.ports or ()}
        used = {p.node_port for p in before.ports or ()} & {p.node_port for p in spec.ports or ()}
        for port in spec.ports or ():
            known = theirs.get(port.name or "")
            if not port.node_port and known and known not in used:
                port.node_port = known
                used.add(known)
    if needs_health_check(old) and needs_health_check(new):
        spec.health_check_node_port = spec.health_check_node_port or before.health_check_node_port


def drop_type_dependent(new: core_v1.Service, old: core_v1.Service) -> None:
    """A new type without a use for what the old one had, and what the author did not touch: it goes."""
    spec, before = new.spec, old.spec
    if _needs_cluster_ip(old) and not _needs_cluster_ip(new):
        if _same_cluster_ips(new, old):
            spec.cluster_ip = spec.cluster_ips = None
        if spec.ip_families == before.ip_families and spec.ip_family_policy == before.ip_family_policy:
            spec.ip_families = spec.ip_family_policy = None
    if needs_node_ports(old) and not needs_node_ports(new):
        theirs = {p.node_port for p in before.ports or () if p.node_port}
        if {p.node_port for p in spec.ports or () if p.node_port} == theirs:
            for port in spec.ports or ():
                port.node_port = None
    unchanged = spec.health_check_node_port == before.health_check_node_port
    if needs_health_check(old) and not needs_health_check(new) and unchanged:
        spec.health_check_node_port = None
    if before.type == "LoadBalancer" and spec.type != "LoadBalancer":
        if spec.allocate_load_balancer_node_ports == before.allocate_load_balancer_node_ports:
            spec.allocate_load_balancer_node_ports = None
        if spec.load_balancer_class == before.load_balancer_class:
            spec.load_balancer_class = None
    unchanged = spec.external_traffic_policy == before.external_traffic_policy
    if externally_accessible(old) and not externally_accessible(new) and unchanged:
        spec.external_traffic_policy = None


# -- families ---------------------------------------------------------------------------------------------------------


def _refuse(service: core_v1.Service, findings: list[FieldError]) -> None:
    if findings:
        raise errors.invalid("Service", "", service.metadata.name or "", findings)


def fill_families(allocator: Allocator, service: core_v1.Service, old: core_v1.Service | None) -> None:
    """Decide ipFamilyPolicy and ipFamilies. Raises StatusError 422."""
    spec = service.spec
    if spec.type == "ExternalName":
        return
    if old is not None and _matches_prefer_dual_stack(service, old):
        return
    bare = spec.cluster_ip == "None" and not spec.selector
    if spec.ip_family_policy is None:
        if old is not None and old.spec.ip_family_policy is not None:
            spec.ip_family_policy = old.spec.ip_family_policy
        else:
            spec.ip_family_policy = "RequireDualStack" if bare else "SingleStack"
    _refuse(service, cluster_ips_and_families(service))
    _refuse(service, _policy_against_lists(allocator, service, old))
    families = spec.ip_families = list(spec.ip_families or [])
    single = spec.ip_family_policy == "SingleStack"
    if not bare:
        _refuse(service, _families_against_cluster(allocator, service))
    if not families:
        families.append(allocator.families[0])
    # A headless Service without a selector may have families that the cluster has not.
    if not single and len(families) == 1 and (bare or len(allocator.families) == 2):
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")


def _matches_prefer_dual_stack(new: core_v1.Service, old: core_v1.Service) -> bool:
    return (
        old.spec.type in WITH_CLUSTER_IP
        and new.spec.ip_family_policy == old.spec.ip_family_policy == "PreferDualStack"
        and _same_cluster_ips(new, old)
        and new.spec.ip_families == old.spec.ip_families
    )


def _policy_against_lists(
    allocator: Allocator, service: core_v1.Service, old: core_v1.Service | None
) -> list[FieldError]:
    spec = service.spec
    found: list[FieldError] = []
    policy = spec.ip_family_policy
    ips, families = spec.cluster_ips or [], spec.ip_families or []
    if old is not None:
        same_families = families == (old.spec.ip_families or [])
        if policy == "SingleStack":
            if _same_cluster_ips(service, old) and len(ips) > 1:
                ips = spec.cluster_ips = ips[:1]
            if same_families and len(families) > 1:
                families = spec.ip_families = families[:1]
        else:
            if 0 < len(ips) < len(old.spec.cluster_ips or ()):
                detail = "must be 'SingleStack' to release the secondary cluster IP"
                found.append(invalid(_POLICY, policy, detail))
            if 0 < len(families) < len(old.spec.ip_families or ()):
                detail = "must be 'SingleStack' to release the secondary IP family"
                found.append(invalid(_POLICY, policy, detail))
    if policy == "SingleStack":
        for values, what in ((ips, "cluster IPs"), (families, "IP families")):
            if len(values) == 2:
                detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                found.append(invalid(_POLICY, policy, detail))
    for index, ip in enumerate(ips):
        if ip == "None" or index < len(families):
            continue
        family = family_of(ip)
        if family not in allocator.families:
            detail = f"{family} is not configured on this cluster"
            found.append(invalid(_SPEC.child("clusterIPs").index(index), ips, detail))
        else:
            families = spec.ip_families = [*families, family]
    return found


def _families_against_cluster(allocator: Allocator, service: core_v1.Service) -> list[FieldError]:
    found: list[FieldError] = []
    if service.spec.ip_family_policy == "RequireDualStack" and len(allocator.families) < 2:
        detail = "this cluster is not configured for dual-stack services"
        found.append(invalid(_POLICY, service.spec.ip_family_policy, detail))
    for index, family in enumerate(service.spec.ip_families or ()):
        if family not in allocator.families:
            at = _SPEC.child("ipFamilies").index(index)
            found.append(invalid(at, family, "not configured on this cluster"))
    return found


# -- taking and giving back -------------------------------------------------------------------------------------------


class _Transaction:
    """What was done in the allocator, to be undone in reverse."""

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self._undo: list[Callable[[], None]] = []

    def take_ip(self, ip: str) -> None:
        self.allocator.take_ip(ip)
        self._undo.append(lambda: self.allocator.release_ip(ip))

    def next_ip(self, family: str) -> str:
        ip = self.allocator.next_ip(family)
        self._undo.append(lambda: self.allocator.release_ip(ip))
        return ip

    def take_port(self, port: int) -> None:
        self.allocator.ports.take(port)
        self._undo.append(lambda: self.allocator.ports.release(port))

    def next_port(self) -> int:
        port = self.allocator.ports.next()
        self._undo.append(lambda: self.allocator.ports.release(port))
        return port

    def release_ip(self, ip: str) -> None:
        self.allocator.release_ip(ip)
        self._undo.append(lambda: self._again(self.allocator.take_ip, ip))

    def release_port(self, port: int) -> None:
        self.allocator.ports.release(port)
        self._undo.append(lambda: self._again(self.allocator.ports.take, port))

    @staticmethod
    def _again(take: Callable[..., None], value: str | int) -> None:
        try:
            take(value)
        except AllocationError:
            pass  # Somebody else was faster; the next change of either Service says so.

    def revert(self) -> None:
        while self._undo:
            self._undo.pop()()

    async def release(self) -> None:
        self.revert()


def create(allocator: Allocator, service: core_v1.Service) -> Release:
    """Families, addresses and ports of a new Service. Raises StatusError; then nothing was taken."""
    transaction = _Transaction(allocator)
    try:
        fill_families(allocator, service, None)
        _take_ips(transaction, service, held=())
        _take_ports(transaction, service, held=set())
        _take_health_check(transaction, service, None)
    except BaseException:
        transaction.revert()
        raise
    return transaction.release


def update(allocator: Allocator, new: core_v1.Service, old: core_v1.Service) -> Release:
    """As `create`, for what differs; what is no longer needed is given back."""
    transaction = _Transaction(allocator)
    try:
        fill_families(allocator, new, old)
        held_ips = [ip for ip in old.spec.cluster_ips or () if ip != "None"]
        held_ports = {p.node_port for p in old.spec.ports or () if p.node_port}
        _take_ips(transaction, new, held=held_ips)
        _take_ports(transaction, new, held=held_ports)
        _take_health_check(transaction, new, old)
        for ip in held_ips:
            if ip not in (new.spec.cluster_ips or ()):
                transaction.release_ip(ip)
        for port in held_ports - {p.node_port for p in new.spec.ports or ()}:
            transaction.release_port(port)
    except BaseException:
        transaction.revert()
        raise
    return transaction.release


def delete(allocator: Allocator, service: core_v1.Service) -> None:
    """Everything is given back."""
    for ip in service.spec.cluster_ips or ():
        if ip != "None":
            allocator.release_ip(ip)
    for port in service.spec.ports or ():
        if port.node_port:
            allocator.ports.release(port.node_port)
    if service.spec.health_check_node_port:
        allocator.ports.release(service.spec.health_check_node_port)


def _take_ips(transaction: _Transaction, service: core_v1.Service, held: list[str] | tuple[()]) -> None:
    spec = service.spec
    if spec.type == "ExternalName" or is_headless(service):
        return
    ips = list(spec.cluster_ips or [])
    for index, family in enumerate(spec.ip_families or ()):
        wanted = ips[index] if index < len(ips) else ""
        if wanted and wanted in held:
            continue
        try:
            if wanted:
                transaction.take_ip(wanted)
            else:
                ips[index:] = [transaction.next_ip(family)]
        except AllocationError as error:
            if not wanted:
                raise errors.internal(f"failed to allocate a serviceIP: {error}") from None
            at = _SPEC.child("clusterIPs")
            _refuse(service, [invalid(at, spec.cluster_ips, f"failed to allocate IP {wanted}: {error}")])
    spec.cluster_ips = ips
    spec.cluster_ip = ips[0] if ips else None


def _take_ports(transaction: _Transaction, service: core_v1.Service, held: set[int]) -> None:
    """Ports of one number but different protocols share their node port."""
    ports = service.spec.ports or []
    if service.spec.type not in ("NodePort", "LoadBalancer"):
        return
    taken = set(held)
    by_number: dict[int, int] = {}
    for index, port in enumerate(ports):
        if not port.node_port:
            continue
        if port.node_port not in taken:
            try:
                transaction.take_port(port.node_port)
            except AllocationError as error:
                at = _SPEC.child("ports").index(index).child("nodePort")
                _refuse(service, [invalid(at, port.node_port, str(error))])
            taken.add(port.node_port)
        by_number.setdefault(port.port, port.node_port)
    if not needs_node_ports(service):
        return
    for port in ports:
        if port.node_port:
            continue
        shared = by_number.get(port.port)
        if shared is None or any(p.node_port == shared and p.protocol == port.protocol for p in ports):
            try:
                shared = transaction.next_port()
            except AllocationError as error:
                raise errors.internal(f"failed to allocate a nodePort: {error}") from None
        port.node_port = by_number.setdefault(port.port, shared)


def _take_health_check(transaction: _Transaction, new: core_v1.Service, old: core_v1.Service | None) -> None:
    held = old.spec.health_check_node_port if old is not None else None
    wanted = new.spec.health_check_node_port
    if needs_health_check(new):
        if wanted and wanted != held:
            try:
                transaction.take_port(wanted)
            except AllocationError as error:
                raise errors.internal(f"failed to allocate requested HealthCheck NodePort {wanted}: {error}") from None
        elif not wanted:
            new.spec.health_check_node_port = transaction.next_port()
    if held and new.spec.health_check_node_port != held:
        transaction.release_port(held)
