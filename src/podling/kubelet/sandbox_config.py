"""Pod -> the runtime's sandbox configuration, and the names that follow from a pod."""

from __future__ import annotations

import os.path

from podling.api import core_v1, names
from podling.kubelet import cgroups, dns_config, pods
from podling.kubelet.config import KubeletConfig
from podling.kubelet.dns_config import ResolvConf
from podling.network.base import PortMapping
from podling.runtime.base import RuntimeFailure, SandboxConfig

#: What the kernel allows (HOST_NAME_MAX), and what fits in a DNS label.
FQDN_MAX, HOSTNAME_MAX = 64, 63


def hostname_and_domain(pod: core_v1.Pod, cluster_domain: str) -> tuple[str, str]:
    """The short name and, with a subdomain, the domain. Raises RuntimeFailure for names that are none."""
    spec = pod.spec
    if spec.hostname_override is not None:
        if problems := names.dns_subdomain(spec.hostname_override):
            raise RuntimeFailure(
                f'pod HostnameOverride "{spec.hostname_override}" is not a valid DNS subdomain: {";".join(problems)}'
            )
        return _truncate(spec.hostname_override), ""
    if spec.hostname and (problems := names.dns_label(spec.hostname)):
        raise RuntimeFailure(f'pod Hostname "{spec.hostname}" is not a valid DNS label: {";".join(problems)}')
    domain = ""
    if spec.subdomain:
        if problems := names.dns_label(spec.subdomain):
            raise RuntimeFailure(f'pod Subdomain "{spec.subdomain}" is not a valid DNS label: {";".join(problems)}')
        domain = f"{spec.subdomain}.{pods.namespace(pod)}.svc.{cluster_domain}"
    return _truncate(spec.hostname or pods.name(pod)), domain


def _truncate(hostname: str) -> str:
    return hostname if len(hostname) <= HOSTNAME_MAX else hostname[:HOSTNAME_MAX].rstrip("-.")


def node_name_of_host(pod: core_v1.Pod, hostname: str, domain: str) -> str:
    """What the kernel calls the pod: its hostname, or with setHostnameAsFQDN all of it."""
    if not (pod.spec.set_hostname_as_fqdn and domain) or pod.spec.hostname_override is not None:
        return hostname
    fqdn = f"{hostname}.{domain}"
    if len(fqdn) > FQDN_MAX:
        raise RuntimeFailure(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long "
            f"({FQDN_MAX} characters is the max, {len(fqdn)} characters requested)"
        )
    return fqdn


def log_directory(pod: core_v1.Pod, log_dir: str) -> str:
    return os.path.join(log_dir, f"{pods.namespace(pod)}_{pods.name(pod)}_{pods.uid(pod)}")


def port_mappings(pod: core_v1.Pod) -> tuple[PortMapping, ...]:
    """The hostPorts."""
    if pods.is_host_network(pod):
        return ()
    return tuple(
        PortMapping(port.host_port, port.container_port, port.protocol or "TCP", port.host_ip or "")
        for _, container in pods.containers(pod)
        for port in container.ports or ()
        if port.host_port
    )


def labels(pod: core_v1.Pod) -> dict[str, str]:
    return {
        **(pod.metadata.labels or {}),
        pods.LABEL_POD_NAME: pods.name(pod),
        pods.LABEL_POD_NAMESPACE: pods.namespace(pod),
        pods.LABEL_POD_UID: pods.uid(pod),
    }


def sandbox_config(
    pod: core_v1.Pod, attempt: int, config: KubeletConfig, host: ResolvConf, runtime_handler: str = ""
) -> tuple[SandboxConfig, tuple[tuple[str, str], ...]]:
    """The configuration, and warnings to tell: (event reason, message). Raises RuntimeFailure."""
    hostname, domain = hostname_and_domain(pod, config.cluster_domain)
    dns = dns_config.pod_dns(pod, host, config.cluster_dns, config.cluster_domain)
    security = pod.spec.security_context
    sysctls = {s.name.replace("/", "."): s.value for s in (security.sysctls if security else None) or ()}
    made = SandboxConfig(
        name=pods.name(pod),
        namespace=pods.namespace(pod),
        uid=pods.uid(pod),
        attempt=attempt,
        hostname=node_name_of_host(pod, hostname, domain),
        log_directory=log_directory(pod, config.log_dir),
        dns=dns.config,
        port_mappings=port_mappings(pod),
        labels=labels(pod),
        annotations=pod.metadata.annotations or {},
        cgroup_parent=cgroups.pod_cgroup(pod, config.cgroup_root),
        resources=cgroups.pod_resources_config(pod, config.pod_pids_limit),
        sysctls=sysctls,
        host_network=pods.is_host_network(pod),
        host_pid=bool(pod.spec.host_pid),
        host_ipc=bool(pod.spec.host_ipc),
        share_process_namespace=bool(pod.spec.share_process_namespace),
        user_namespace=pod.spec.host_users is False,
        runtime_handler=runtime_handler,
    )
    return made, dns.warnings
