"""The node agent's metrics in Prometheus' text format, under upstream's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from podling.kubelet import pods
from podling.kubelet.probes import ProbeCount
from podling.kubelet.stats import NodeSample, Sample, by_pod, pod_interfaces

Labels = Mapping[str, str]
#: (labels, value, milliseconds since 1970 or None)
Point = tuple[Labels, float, int | None]


def family(name: str, kind: str, text: str, points: Iterable[Point]) -> str:
    """One metric with all its series."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value, when in points:
        shown = ",".join(f'{key}="{escape(labels[key])}"' for key in sorted(labels))
        stamp = f" {when}" if when is not None else ""
        lines.append(f"{name}{{{shown}}} {number(value)}{stamp}" if shown else f"{name} {number(value)}{stamp}")
    return "\n".join(lines) + "\n"


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _names(sample: Sample) -> dict[str, str]:
    pod = sample.pod
    return {"container": sample.container.name, "namespace": pods.namespace(pod), "pod": pods.name(pod)}


def _stamp(sample: Sample) -> int:
    return int(sample.stats.timestamp.timestamp() * 1000)


def _started(sample: Sample) -> float:
    return sample.container.started_at.timestamp() if sample.container.started_at else 0.0


def resource(samples: Sequence[Sample], node: NodeSample) -> str:
    """/metrics/resource."""
    when = int(node.when.timestamp() * 1000)
    total = node.memory.get("MemTotal", 0) - node.memory.get("MemAvailable", 0)
    groups = by_pod(samples)

    def pod_points(value: str) -> list[Point]:
        return [
            (
                {"namespace": pods.namespace(g[0].pod), "pod": pods.name(g[0].pod)},
                sum(getattr(s.stats, value) for s in g) / (1e9 if value == "cpu_usage_ns" else 1),
                _stamp(g[0]),
            )
            for g in groups
        ]

    return "".join((
        family(
            "container_cpu_usage_seconds_total", "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            ((_names(s), s.stats.cpu_usage_ns / 1e9, _stamp(s)) for s in samples),
        ),
        family(
            "container_memory_working_set_bytes", "gauge",
            "[STABLE] Current working set of the container in bytes",
            ((_names(s), s.stats.memory_working_set, _stamp(s)) for s in samples),
        ),
        family(
            "container_start_time_seconds", "gauge",
            "[STABLE] Start time of the container since unix epoch in seconds",
            ((_names(s), _started(s), None) for s in samples),
        ),
        family(
            "node_cpu_usage_seconds_total", "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds", [({}, node.cpu_ns / 1e9, when)],
        ),
        family(
            "node_memory_working_set_bytes", "gauge",
            "[STABLE] Current working set of the node in bytes", [({}, total, when)],
        ),
        family(
            "pod_cpu_usage_seconds_total", "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds", pod_points("cpu_usage_ns"),
        ),
        family(
            "pod_memory_working_set_bytes", "gauge",
            "[STABLE] Current working set of the pod in bytes", pod_points("memory_working_set"),
        ),
        family(
            "resource_scrape_error", "gauge",
            "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise", [({}, 0, None)],
        ),
    ))  # fmt: skip


_CADVISOR = (
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", "cpu_usage_ns", 1e9),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.",
     "cpu_user_ns", 1e9),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.",
     "cpu_system_ns", 1e9),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", "cpu_periods", 1),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.",
     "cpu_throttled_periods", 1),
    ("container_cpu_cfs_throttled_seconds_total", "counter", "Total time duration the container has been throttled.",
     "cpu_throttled_ns", 1e9),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", "memory_cache", 1),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", "memory_mapped_file", 1),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", "memory_swap", 1),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container", "oom_kills",
     1),
    ("container_fs_reads_bytes_total", "counter", "Cumulative count of bytes read", "read_bytes", 1),
    ("container_fs_writes_bytes_total", "counter", "Cumulative count of bytes written", "written_bytes", 1),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of "
     "when it was accessed", "memory_usage", 1),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", "memory_working_set", 1),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", "memory_rss", 1),
    ("container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container on this filesystem.",
     "rootfs_used", 1),
    ("container_processes", "gauge", "Number of processes running inside the container.", "pids", 1),
)  # fmt: skip


_NETWORK = tuple(
    (f"container_network_{way}_{what}_total", f"Cumulative count of {text}", f"{field}_{kind}")
    for way, field, verb in (("receive", "rx", "received"), ("transmit", "tx", "transmitted"))
    for what, kind, text in (
        ("bytes", "bytes", f"bytes {verb}"),
        ("packets", "packets", f"packets {verb}"),
        ("errors", "errors", f"errors encountered while {'receiving' if field == 'rx' else 'transmitting'}"),
        ("packets_dropped", "dropped", f"packets dropped while {'receiving' if field == 'rx' else 'transmitting'}"),
    )
)


def _networks(samples: Sequence[Sample]) -> str:
    """A pod's interfaces: series of the pod, with no container."""
    found = [
        ({**_names(group[0]), "container": "", "id": f"/pod{pods.uid(group[0].pod)}", "image": "",
          "interface": interface.name, "name": ""}, interface, _stamp(group[0]))
        for group in by_pod(samples)
        for interface in pod_interfaces(group)
    ]  # fmt: skip
    return "".join(
        family(name, "counter", text, ((labels, getattr(each, field), when) for labels, each, when in found))
        for name, text, field in _NETWORK
    )


def cadvisor(samples: Sequence[Sample], cpus: int, memory: int) -> str:
    """/metrics/cadvisor: the series that dashboards are built on."""

    def labels(sample: Sample) -> dict[str, str]:
        found = sample.container
        return {**_names(sample), "id": f"/{found.id}", "image": found.image_name, "name": found.id}

    parts = [
        family(name, kind, text, ((labels(s), getattr(s.stats, field) / unit, _stamp(s)) for s in samples))
        for name, kind, text, field, unit in _CADVISOR
    ]
    limits = ((labels(s), s.container.resources.memory_limit, None) for s in samples)
    quotas = ((labels(s), s.container.resources.cpu_quota, None) for s in samples if s.container.resources.cpu_quota)
    periods = ((labels(s), s.container.resources.cpu_period, None) for s in samples if s.container.resources.cpu_quota)
    shares = ((labels(s), s.container.resources.cpu_shares, None) for s in samples)
    seen = ((labels(s), int(s.stats.timestamp.timestamp()), None) for s in samples)
    started = ((labels(s), _started(s), None) for s in samples)
    faults = (
        ({**labels(s), "failure_type": kind, "scope": "container"}, value, _stamp(s))
        for s in samples
        for kind, value in (("pgfault", s.stats.memory_page_faults), ("pgmajfault", s.stats.memory_major_page_faults))
    )
    parts += [
        family("container_memory_failures_total", "counter", "Cumulative count of memory allocation failures.", faults),
        family("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", limits),
        _networks(samples),
        family("container_last_seen", "gauge", "Last time a container was seen by the exporter", seen),
        family("container_spec_cpu_shares", "gauge", "CPU share of the container.", shares),
        family("container_spec_cpu_quota", "gauge", "CPU quota of the container.", quotas),
        family("container_spec_cpu_period", "gauge", "CPU period of the container.", periods),
        family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.",
               started),
        family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [({}, cpus, None)]),
        family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.", [({}, memory, None)]),
    ]  # fmt: skip
    return "".join(parts)


def probes(counts: Mapping[tuple[str, str, str, str, str], ProbeCount]) -> str:
    """/metrics/probes."""
    points: list[Point] = []
    for (namespace, pod, uid, container, kind), count in counts.items():
        names = {"namespace": namespace, "pod": pod, "pod_uid": uid, "container": container, "probe_type": kind}
        points += [
            ({**names, "result": result}, value, None)
            for result, value in (
                ("successful", count.successful),
                ("failed", count.failed),
                ("unknown", count.unknown),
            )
            if value
        ]
    text = (
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result: "
        "successful, failed, or unknown."
    )
    return family("prober_probe_total", "counter", text, points)


def agent(node: str, version: str, running_pods: int, containers: Mapping[str, int]) -> str:
    """/metrics."""
    states: list[Point] = [({"container_state": state}, count, None) for state, count in sorted(containers.items())]
    build = {"git_version": version, "platform": "linux"}
    return "".join((
        family("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.",
               [({"node": node}, 1, None)]),
        family("kubelet_running_pods", "gauge", "[ALPHA] Number of pods that have a running pod sandbox",
               [({}, running_pods, None)]),
        family("kubelet_running_containers", "gauge", "[ALPHA] Number of containers currently running", states),
        family("kubernetes_build_info", "gauge", "[BETA] A metric with a constant '1' value labeled by the version "
               "from which Kubernetes was built, and the platform on which it runs.", [(build, 1, None)]),
    ))  # fmt: skip


def pods_of(desired: int, static: int, active: int, active_static: int) -> str:
    """Pods that the node is to run, and those that take up room: those of the API server, and those of manifests."""
    by_kind: list[Point] = [({"static": ""}, desired, None), ({"static": "true"}, static, None)]
    active_points: list[Point] = [({"static": ""}, active, None), ({"static": "true"}, active_static, None)]
    return family(
        "kubelet_desired_pods", "gauge", "[ALPHA] The number of pods the kubelet is being instructed to run. static is "
        "true if the pod is not from the apiserver.", by_kind,
    ) + family(
        "kubelet_active_pods", "gauge", "[ALPHA] The number of pods the kubelet considers active and which are being "
        "considered when admitting new pods. static is true if the pod is not from the apiserver.", active_points,
    )  # fmt: skip
