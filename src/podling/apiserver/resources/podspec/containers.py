"""Containers: what all kinds of them share, and what regular, init and ephemeral ones may and may not have."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from podling.api import core_v1, names
from podling.apiserver.resources.podspec import env, handlers, requirements, security, volumes
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    not_found,
    not_supported,
    one_of,
    required,
    too_long,
)

AnyContainer = core_v1.Container | core_v1.EphemeralContainer

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("Always", "Never", "OnFailure")
_EPHEMERAL = "cannot be set for an Ephemeral Container"
_NOT_FOR_INIT = "may not be set for init containers without restartPolicy=Always"


class Surroundings(msgspec.Struct):
    """What containers are checked against."""

    volumes: volumes.Volumes
    claims: Collection[str]
    restart_policy: str
    grace_period: int | None
    host_users: bool
    os: str


def regular(containers: Sequence[core_v1.Container], around: Surroundings, path: Path) -> Findings:
    if not containers:
        return [required(path)]
    found: Findings = []
    seen: set[str] = set()
    for index, container in enumerate(containers):
        at = path.index(index)
        found += _common(container, around, at)
        if container.name in seen:
            found.append(duplicate(at.child("name"), container.name))
        seen.add(container.name)
        found += handlers.lifecycle(container.lifecycle, around.grace_period, at.child("lifecycle"), os=around.os)
        found += handlers.probes(container, around.grace_period, at)
        found += _restart_policy(container, at)
    return found + _host_ports(containers, path)


def init(
    containers: Sequence[core_v1.Container] | None,
    others: Sequence[core_v1.Container],
    around: Surroundings,
    path: Path,
) -> Findings:
    found: Findings = []
    seen = {c.name for c in others}
    for index, container in enumerate(containers or ()):
        at = path.index(index)
        found += _common(container, around, at)
        found += _restart_policy(container, at)
        if container.name in seen:
            found.append(duplicate(at.child("name"), container.name))
        elif container.name:
            seen.add(container.name)
        # One runs after the other, so only one's own ports can clash.
        found += _host_ports([container], path)
        if container.restart_policy == "Always":
            found += handlers.lifecycle(container.lifecycle, around.grace_period, at.child("lifecycle"), os=around.os)
            found += handlers.probes(container, around.grace_period, at)
            continue
        for name, value in (
            ("lifecycle", container.lifecycle),
            ("livenessProbe", container.liveness_probe),
            ("readinessProbe", container.readiness_probe),
            ("startupProbe", container.startup_probe),
        ):
            if value is not None:
                found.append(forbidden(at.child(name), _NOT_FOR_INIT))
    return found


def ephemeral(
    containers: Sequence[core_v1.EphemeralContainer] | None, spec: core_v1.PodSpec, around: Surroundings, path: Path
) -> Findings:
    found: Findings = []
    others = {c.name for c in (*spec.containers, *(spec.init_containers or ()))}
    seen = set(others)
    for index, container in enumerate(containers or ()):
        at = path.index(index)
        found += _common(container, around, at)
        found += trimmed_image(container, at)
        if container.name in seen:
            found.append(duplicate(at.child("name"), container.name))
        seen.add(container.name)
        if container.target_container_name and container.target_container_name not in others:
            found.append(not_found(at.child("targetContainerName"), container.target_container_name))
        for name, value in (
            ("ports", container.ports),
            ("resources", container.resources != core_v1.ResourceRequirements() and container.resources),
            ("livenessProbe", container.liveness_probe),
            ("readinessProbe", container.readiness_probe),
            ("startupProbe", container.startup_probe),
            ("lifecycle", container.lifecycle),
            ("restartPolicy", container.restart_policy),
            ("restartPolicyRules", container.restart_policy_rules),
            ("resizePolicy", container.resize_policy),
        ):
            if value:
                found.append(forbidden(at.child(name), _EPHEMERAL))
        for position, mount in enumerate(container.volume_mounts or ()):
            for name, sub_path in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
                if sub_path:
                    found.append(forbidden(at.child("volumeMounts").index(position).child(name), _EPHEMERAL))
    return found


def trimmed_image(container: AnyContainer, path: Path) -> Findings:
    """Only in pods: templates had images with blanks before this rule came."""
    image = container.image or ""
    if image == image.strip():
        return []
    return [invalid(path.child("image"), image, "must not have leading or trailing whitespace")]


def _common(container: AnyContainer, around: Surroundings, path: Path) -> Findings:
    found: Findings = []
    if not container.name:
        found.append(required(path.child("name")))
    elif problems := names.dns_label(container.name):
        found += each(path.child("name"), container.name, problems)
    if not container.image:
        found.append(required(path.child("image")))
    policies = ("File", "FallbackToLogsOnError")
    policy = container.termination_message_policy
    if not policy:
        found.append(required(path.child("terminationMessagePolicy")))
    elif policy not in policies:
        found.append(not_supported(path.child("terminationMessagePolicy"), policy, policies))
    if container.ports:
        found += _ports(container.ports, path.child("ports"))
    if container.env:
        found += env.env(container.env, path.child("env"))
    if container.env_from:
        found += env.env_from(container.env_from, path.child("envFrom"))
    if container.volume_mounts:
        found += volumes.mounts(container, around.volumes, path.child("volumeMounts"))
    if container.volume_devices:
        found += volumes.devices(container, around.volumes, path.child("volumeDevices"))
    pulls = ("Always", "IfNotPresent", "Never")
    if container.image_pull_policy not in pulls:
        found += one_of(path.child("imagePullPolicy"), container.image_pull_policy, pulls, needed=True)
    if container.resources is not None:
        found += requirements.requirements(container.resources, around.claims, path.child("resources"))
    if container.resize_policy:
        found += _resize_policy(container.resize_policy, around.restart_policy, path.child("resizePolicy"))
    if container.security_context is not None:
        at = path.child("securityContext")
        found += security.container(container.security_context, at, host_users=around.host_users)
    return found


def _ports(ports: Sequence[core_v1.ContainerPort], path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at = path.index(index)
        if port.name:
            if problems := names.port_name(port.name):
                found += each(at.child("name"), port.name, problems)
            elif port.name in seen:
                found.append(duplicate(at.child("name"), port.name))
            seen.add(port.name)
        if port.container_port == 0:
            found.append(required(at.child("containerPort")))
        else:
            found += each(at.child("containerPort"), port.container_port, names.port_number(port.container_port))
        if port.host_port:
            found += each(at.child("hostPort"), port.host_port, names.port_number(port.host_port))
        found += one_of(at.child("protocol"), port.protocol, _PROTOCOLS, needed=True)
    return found


def _host_ports(containers: Sequence[core_v1.Container], path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, container in enumerate(containers):
        for position, port in enumerate(container.ports or ()):
            if not port.host_port:
                continue
            key = f"{port.protocol or ''}/{port.host_ip or ''}/{port.host_port}"
            if key in seen:
                found.append(duplicate(path.index(index).child("ports").index(position).child("hostPort"), key))
            seen.add(key)
    return found


def _resize_policy(policies: Sequence[core_v1.ContainerResizePolicy], restart_policy: str, path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        if policy.resource_name in seen:
            found.append(duplicate(path.index(index), policy.resource_name))
        seen.add(policy.resource_name)
        found += one_of(path, policy.resource_name, ("cpu", "memory"), needed=True)
        found += one_of(path, policy.restart_policy, ("NotRequired", "RestartContainer"), needed=True)
        if restart_policy == "Never" and policy.restart_policy != "NotRequired":
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            found.append(invalid(path, policy.restart_policy, detail))
    return found


def _restart_policy(container: core_v1.Container, path: Path) -> Findings:
    """restartPolicy of one container, and its rules (KEP 5307)."""
    rules = container.restart_policy_rules or []
    if container.restart_policy is None:
        if not rules:
            return []
        detail = "must specify restartPolicy when restart rules are used"
        return [required(path.child("restartPolicy"), detail)]
    found: Findings = []
    if container.restart_policy not in _POLICIES:
        found.append(not_supported(path.child("restartPolicy"), container.restart_policy, _POLICIES))
    at = path.child("restartPolicyRules")
    if len(rules) > 20:
        found.append(too_long(at, 20))
    for index, rule in enumerate(rules):
        found += one_of(at.index(index).child("action"), rule.action, ("Restart", "RestartAllContainers"), needed=True)
        codes = rule.exit_codes
        if codes is None:
            found.append(required(at.index(index).child("exitCodes"), "must be specified"))
            continue
        here = at.index(index).child("exitCodes")
        found += one_of(here.child("operator"), codes.operator, ("In", "NotIn"), needed=True)
        if len(codes.values or ()) > 255:
            found.append(too_long(here.child("values"), 255))
    return found
