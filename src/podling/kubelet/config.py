"""What a node agent is told about itself."""

from __future__ import annotations

import msgspec

from podling.api import core_v1


class EvictionThreshold(msgspec.Struct, frozen=True):
    """Evict when `signal` (memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, pid.available)
    falls below `value`: a quantity or a percentage of capacity. A soft one waits `grace` seconds."""

    signal: str
    value: str
    grace: float = 0.0


#: Upstream's defaults for Linux.
DEFAULT_EVICTION = (
    EvictionThreshold("memory.available", "100Mi"),
    EvictionThreshold("nodefs.available", "10%"),
    EvictionThreshold("nodefs.inodesFree", "5%"),
    EvictionThreshold("imagefs.available", "15%"),
    EvictionThreshold("imagefs.inodesFree", "5%"),
)


class KubeletConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes; names and defaults follow KubeletConfiguration (kubelet.config.k8s.io/v1beta1).

    `root_dir` holds pods' volumes and container files, `log_dir` the log trees, `container_log_dir` the flat links to
    them that node log agents read; `manifests_dir` is where static pods come from ("" for none).
    `image_maximum_age` 0 keeps unused images as long as there is room.
    `reserved` is taken off the node's capacity; `capacity` overrides what is measured (simulations, several nodes on
    one machine).
    """

    node_name: str
    node_ips: tuple[str, ...] = ()
    hostname: str = ""
    port: int = 10250
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    taints: tuple[core_v1.Taint, ...] = ()
    register_node: bool = True
    provider_id: str = ""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    root_dir: str = "/var/lib/podling/kubelet"
    log_dir: str = "/var/log/pods"
    container_log_dir: str = "/var/log/containers"
    manifests_dir: str = ""
    cgroup_root: str = ""
    capacity: dict[str, str] = {}
    reserved: dict[str, str] = {}
    max_pods: int = 110
    pod_pids_limit: int = 0
    lease_duration: int = 40
    lease_period: float = 10.0
    status_period: float = 10.0
    status_report_period: float = 300.0
    registry_pull_parallel: int = 0
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
    image_minimum_age: float = 120.0
    image_maximum_age: float = 0.0
    image_gc_period: float = 300.0
    container_gc_period: float = 60.0
    container_log_max_size: int = 10 << 20
    container_log_max_files: int = 5
    container_log_period: float = 10.0
    eviction: tuple[EvictionThreshold, ...] = DEFAULT_EVICTION
    eviction_period: float = 10.0
    eviction_pressure_transition: float = 300.0
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    backoff_first: float = 10.0
    backoff_most: float = 300.0

    @property
    def node_ip(self) -> str:
        return self.node_ips[0] if self.node_ips else ""

    @property
    def host(self) -> str:
        """The node's own name in the network."""
        return self.hostname or self.node_name
