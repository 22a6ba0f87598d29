"""What a pod or pod template has where its author said nothing (upstream: pkg/apis/core/v1/defaults.go)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from podling.api import core_v1, quantity, scalars

Container = core_v1.Container | core_v1.EphemeralContainer

_MODE = 0o644
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")


def image_tag(image: str) -> str:
    """The tag that decides the pull policy: `latest` if there is neither tag nor digest, "" if it can't be read."""
    name, at, _ = image.partition("@")
    host, slash, rest = name.partition("/")
    path = rest if slash and (any(c in host for c in ".:") or host == "localhost" or host != host.lower()) else name
    path, colon, tag = path.partition(":")
    if not _PATH.fullmatch(path):
        return ""
    if colon:
        return tag
    return "" if at else "latest"


def default_pull_policy(image: str) -> str:
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"


def spec(spec: core_v1.PodSpec) -> None:
    """Of any pod spec, a template's included."""
    spec.dns_policy = spec.dns_policy or "ClusterFirst"
    spec.restart_policy = spec.restart_policy or "Always"
    spec.scheduler_name = spec.scheduler_name or "default-scheduler"
    if spec.security_context is None:
        spec.security_context = core_v1.PodSecurityContext()
    if spec.termination_grace_period_seconds is None:
        spec.termination_grace_period_seconds = 30
    # Two names of one thing.
    spec.service_account_name = spec.service_account = spec.service_account_name or spec.service_account
    for containers in (spec.containers, spec.init_containers, spec.ephemeral_containers):
        for container in containers or ():
            _container(container)
    for volume in spec.volumes or ():
        _volume(volume)
    if spec.resources is not None:
        _requirements(spec.resources)
    _resource_list(spec.overhead)


def pod(pod: core_v1.Pod) -> None:
    """Of a pod itself: what its spec has, and what would be premature in a template."""
    spec(pod.spec)
    for containers in (pod.spec.containers, pod.spec.init_containers or []):
        for container in containers:
            if container.resources is not None:
                _requests_from_limits(container.resources)
            if pod.spec.host_network:
                for port in container.ports or ():
                    port.host_port = port.host_port or port.container_port
    if pod.spec.resources is not None:
        _pod_level_resources(pod.spec, pod.spec.resources)
    if pod.spec.enable_service_links is None:
        pod.spec.enable_service_links = True


def template(template: core_v1.PodTemplateSpec | None) -> None:
    """Of a pod template, if there is one."""
    if template is not None and template.spec is not None:
        spec(template.spec)


def _container(container: Container) -> None:
    container.image_pull_policy = container.image_pull_policy or default_pull_policy(container.image or "")
    container.termination_message_path = container.termination_message_path or "/dev/termination-log"
    container.termination_message_policy = container.termination_message_policy or "File"
    if container.resources is None:
        container.resources = core_v1.ResourceRequirements()
    else:
        _requirements(container.resources)
    for port in container.ports or ():
        port.protocol = port.protocol or "TCP"
    for variable in container.env or ():
        source = variable.value_from
        if source is not None:
            _downward(source.field_ref, source.resource_field_ref)
    for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
        if probe is not None:
            _probe(probe)
    if container.lifecycle is not None:
        for hook in (container.lifecycle.post_start, container.lifecycle.pre_stop):
            if hook is not None:
                _http_get(hook.http_get)


def _downward(field: core_v1.ObjectFieldSelector | None, resource: core_v1.ResourceFieldSelector | None) -> None:
    if field is not None:
        field.api_version = field.api_version or "v1"
    if resource is not None and resource.divisor is None:
        resource.divisor = "0"


def _probe(probe: core_v1.Probe) -> None:
    probe.timeout_seconds = probe.timeout_seconds or 1
    probe.period_seconds = probe.period_seconds or 10
    probe.success_threshold = probe.success_threshold or 1
    probe.failure_threshold = probe.failure_threshold or 3
    _http_get(probe.http_get)
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _http_get(action: core_v1.HTTPGetAction | None) -> None:
    if action is not None:
        action.path = action.path or "/"
        action.scheme = action.scheme or "HTTP"


def _requirements(resources: core_v1.ResourceRequirements) -> None:
    _resource_list(resources.limits)
    _resource_list(resources.requests)


def _resource_list(amounts: dict[str, scalars.Quantity] | None) -> None:
    """Amounts finer than a thousandth are rounded up."""
    if amounts is None:
        return
    for name, value in amounts.items():
        try:
            parsed = quantity.parse(value)
        except ValueError:
            continue
        if parsed.nano % 10**6:
            amounts[name] = str(quantity.of_milli(parsed.milli(), parsed.format))


def _requests_from_limits(resources: core_v1.ResourceRequirements) -> None:
    if resources.limits is None:
        return
    requests = resources.requests
    if requests is None:
        requests = resources.requests = {}
    for name, value in resources.limits.items():
        requests.setdefault(name, value)


def _volume(volume: core_v1.Volume) -> None:
    if volume.empty_dir is not None:
        return
    if all(getattr(volume, f) is None for f in core_v1.Volume.__struct_fields__ if f != "name"):
        volume.empty_dir = core_v1.EmptyDirVolumeSource()
        return
    for source in (volume.secret, volume.config_map, volume.downward_api, volume.projected):
        if source is not None and source.default_mode is None:
            source.default_mode = _MODE
    if volume.downward_api is not None:
        _downward_files(volume.downward_api.items)
    if volume.projected is not None:
        for projection in volume.projected.sources or ():
            if projection.downward_api is not None:
                _downward_files(projection.downward_api.items)
            token = projection.service_account_token
            if token is not None and token.expiration_seconds is None:
                token.expiration_seconds = 3600
    if volume.host_path is not None and volume.host_path.type is None:
        volume.host_path.type = ""
    if volume.image is not None:
        volume.image.pull_policy = volume.image.pull_policy or default_pull_policy(volume.image.reference or "")
    if volume.ephemeral is not None and volume.ephemeral.volume_claim_template is not None:
        claim = volume.ephemeral.volume_claim_template.spec
        claim.volume_mode = claim.volume_mode or "Filesystem"
    _remote_volume(volume)


def _downward_files(files: Iterable[core_v1.DownwardAPIVolumeFile] | None) -> None:
    for file in files or ():
        _downward(file.field_ref, file.resource_field_ref)


def _remote_volume(volume: core_v1.Volume) -> None:
    if volume.iscsi is not None:
        volume.iscsi.iscsi_interface = volume.iscsi.iscsi_interface or "default"
    if (rbd := volume.rbd) is not None:
        rbd.pool, rbd.user = rbd.pool or "rbd", rbd.user or "admin"
        rbd.keyring = rbd.keyring or "/etc/ceph/keyring"
    if (disk := volume.azure_disk) is not None:
        disk.caching_mode, disk.kind = disk.caching_mode or "ReadWrite", disk.kind or "Shared"
        disk.fs_type = disk.fs_type or "ext4"
        disk.read_only = disk.read_only or False
    if (scale_io := volume.scale_io) is not None:
        scale_io.storage_mode = scale_io.storage_mode or "ThinProvisioned"
        scale_io.fs_type = scale_io.fs_type or "xfs"


def _pod_level_resources(spec: core_v1.PodSpec, resources: core_v1.ResourceRequirements) -> None:
    """Pod-level requests and limits that follow from the containers' or from each other (KEP 2837)."""
    if not resources.limits and not resources.requests:
        return
    limits = dict(resources.limits or {})
    for name, value in aggregate(spec, "limits").items():
        if name.startswith("hugepages-") and name not in (resources.requests or {}):
            limits.setdefault(name, str(value))
    if limits:
        resources.limits = limits
    if limits:
        requests = dict(resources.requests or {})
        for name, value in aggregate(spec, "requests").items():
            if name in ("cpu", "memory"):
                requests.setdefault(name, str(value))
        for name, amount in limits.items():
            if name in ("cpu", "memory") or name.startswith("hugepages-"):
                requests.setdefault(name, amount)
        if requests:
            resources.requests = requests


def aggregate(spec: core_v1.PodSpec, kind: str) -> dict[str, quantity.Quantity]:
    """`limits` or `requests` of all containers together: the sum, or the most that the init containers need."""
    total: dict[str, quantity.Quantity] = {}
    sidecars: dict[str, quantity.Quantity] = {}
    peak: dict[str, quantity.Quantity] = {}
    for container in spec.containers:
        _add(total, _amounts(container, kind))
    for container in spec.init_containers or ():
        needs = _amounts(container, kind)
        if container.restart_policy == "Always":
            _add(total, needs)
            _add(sidecars, needs)
            needs = dict(sidecars)
        else:
            _add(needs, sidecars)
        for name, value in needs.items():
            peak[name] = max(peak.get(name, value), value)
    for name, value in peak.items():
        total[name] = max(total.get(name, value), value)
    return total


def _amounts(container: core_v1.Container, kind: str) -> dict[str, quantity.Quantity]:
    found = getattr(container.resources, kind, None) if container.resources is not None else None
    return {name: quantity.parse(value) for name, value in (found or {}).items()}


def _add(total: dict[str, quantity.Quantity], more: dict[str, quantity.Quantity]) -> None:
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value
