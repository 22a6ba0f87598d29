"""The validation of pod specs, pods and pod templates (upstream: pkg/apis/core/validation)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from podling.api import core_v1, names, quantity
from podling.apiserver.resources.podspec import containers, defaults, requirements, scheduling, security, volumes
from podling.machinery.validation import (
    Findings,
    Path,
    annotations_,
    duplicate,
    each,
    forbidden,
    invalid,
    labels,
    not_supported,
    required,
)

SPEC = Path("spec")
METADATA = Path("metadata")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
MIRROR = "kubernetes.io/config.mirror"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_INT32 = re.compile(r"-?(0|[1-9][0-9]*)")


def pod(pod: core_v1.Pod) -> Findings:
    """Spec and the annotations that mean something, of a pod that is new or changed; metadata is checked elsewhere."""
    found = pod_annotations(pod.metadata.annotations, pod.spec, METADATA.child("annotations"))
    found += spec(pod.spec, SPEC, pod_name=pod.metadata.name or "", is_pod=True)
    if not pod.spec.service_account_name:
        for index, volume in enumerate(pod.spec.volumes or ()):
            for position, source in enumerate((volume.projected.sources if volume.projected else None) or ()):
                if source.service_account_token is not None:
                    at = SPEC.child("volumes").index(index).child("projected", "sources").index(position)
                    detail = "must not be specified when serviceAccountName is not set"
                    found.append(forbidden(at.child("serviceAccountToken"), detail))
    for name, group in (("containers", pod.spec.containers), ("initContainers", pod.spec.init_containers or [])):
        for index, container in enumerate(group):
            found += containers.trimmed_image(container, SPEC.child(name).index(index))
    return found


def new_pod(obj: core_v1.Pod) -> Findings:
    """As `pod`, and what only applies to a new one."""
    found = pod(obj)
    if obj.spec.ephemeral_containers:
        found.append(forbidden(SPEC.child("ephemeralContainers"), "cannot be set on create"))
    if obj.spec.node_name and obj.spec.scheduling_gates:
        detail = "cannot be set until all schedulingGates have been cleared"
        found.append(forbidden(SPEC.child("nodeName"), detail))
    return found


def template(template: core_v1.PodTemplateSpec, path: Path) -> Findings:
    """A pod template; without a spec it lacks containers."""
    meta = template.metadata
    inner = template.spec if template.spec is not None else core_v1.PodSpec()
    found: Findings = []
    if meta is not None:
        found += labels(meta.labels, path.child("labels"))
        found += annotations_(meta.annotations, path.child("annotations"))
        found += pod_annotations(meta.annotations, inner, path.child("annotations"))
    found += spec(inner, path.child("spec"))
    if inner.ephemeral_containers:
        detail = "ephemeral containers not allowed in pod template"
        found.append(forbidden(path.child("spec", "ephemeralContainers"), detail))
    return found


def pod_annotations(values: Mapping[str, str] | None, spec: core_v1.PodSpec, path: Path) -> Findings:
    """Annotations that the system reads."""
    if not values:
        return []
    found: Findings = []
    if MIRROR in values and not spec.node_name:
        detail = "must set spec.nodeName if mirror pod annotation is set"
        found.append(invalid(path.key(MIRROR), values[MIRROR], detail))
    cost = values.get(_DELETION_COST)
    if cost is not None and not (_INT32.fullmatch(cost) and -(2**31) <= int(cost) < 2**31):
        found.append(invalid(path.key(_DELETION_COST), cost, "must be a 32bit integer"))
    return found


def spec(spec: core_v1.PodSpec, path: Path, *, pod_name: str = "", is_pod: bool = False) -> Findings:
    """A pod spec. `pod_name` is "" in templates."""
    found: Findings = []
    if spec.termination_grace_period_seconds is None:
        found.append(required(path.child("terminationGracePeriodSeconds")))
    known, problems = volumes.volumes(spec.volumes, pod_name, path.child("volumes"))
    found += problems
    if spec.resource_claims:
        found += _resource_claims(spec.resource_claims, path.child("resourceClaims"))
    around = containers.Surroundings(
        volumes=known,
        claims=[c.name for c in spec.resource_claims or () if c.name],
        restart_policy=spec.restart_policy or "",
        grace_period=spec.termination_grace_period_seconds,
        host_users=spec.host_users is not False,
        os=spec.os.name if spec.os else "",
    )
    found += containers.regular(spec.containers, around, path.child("containers"))
    if spec.init_containers:
        found += containers.init(spec.init_containers, spec.containers, around, path.child("initContainers"))
    if spec.ephemeral_containers:
        found += containers.ephemeral(spec.ephemeral_containers, spec, around, path.child("ephemeralContainers"))
    if spec.resources is not None:
        found += _pod_resources(spec, spec.resources, path.child("resources"))
    if spec.host_network:
        found += _host_network(spec, path.child("containers"), is_pod)
    return found + _policies(spec, path) + _scheduling(spec, path) + _names(spec, path) + _rest(spec, path)


def _policies(spec: core_v1.PodSpec, path: Path) -> Findings:
    found: Findings = []
    for name, value, supported in (
        ("restartPolicy", spec.restart_policy, _RESTART_POLICIES),
        ("dnsPolicy", spec.dns_policy, _DNS_POLICIES),
    ):
        if not value:
            found.append(required(path.child(name)))
        elif value not in supported:
            found.append(not_supported(path.child(name), value, supported))
    preemption = spec.preemption_policy
    if preemption is not None and preemption not in ("PreemptLowerPriority", "Never"):
        found.append(not_supported(path.child("preemptionPolicy"), preemption, ("PreemptLowerPriority", "Never")))
    found += security.pod(spec, path)
    found += security.host_process(spec, path)
    found += security.host_users(spec, path)
    return found + security.operating_system(spec, path)


def _scheduling(spec: core_v1.PodSpec, path: Path) -> Findings:
    found: Findings = []
    if spec.node_selector:
        found += labels(spec.node_selector, path.child("nodeSelector"))
    if spec.affinity is not None:
        found += scheduling.affinity(spec.affinity, path.child("affinity"))
    for index, gate in enumerate(spec.readiness_gates or ()):
        at = path.child("readinessGates").index(index).child("conditionType")
        found += each(at, gate.condition_type, names.qualified_name(gate.condition_type))
    if spec.scheduling_gates:
        found += scheduling.gates(spec.scheduling_gates, path.child("schedulingGates"))
    if spec.topology_spread_constraints:
        found += scheduling.topology_spread(spec.topology_spread_constraints, path.child("topologySpreadConstraints"))
    if spec.tolerations:
        found += scheduling.tolerations(spec.tolerations, path.child("tolerations"))
    return found


def _names(spec: core_v1.PodSpec, path: Path) -> Findings:
    found: Findings = []
    for name, value, rule in (
        ("serviceAccountName", spec.service_account_name, names.dns_subdomain),
        ("nodeName", spec.node_name, names.dns_subdomain),
        ("hostname", spec.hostname, names.dns_label),
        ("subdomain", spec.subdomain, names.dns_label),
        ("priorityClassName", spec.priority_class_name, names.dns_subdomain),
        ("runtimeClassName", spec.runtime_class_name, names.dns_subdomain),
    ):
        if value or (value is not None and name == "runtimeClassName"):
            problems = rule(value)
            if problems:
                found += each(path.child(name), value, problems)
    if spec.hostname_override is not None:
        found += _hostname_override(spec, spec.hostname_override, path)
    return found


def _hostname_override(spec: core_v1.PodSpec, value: str, path: Path) -> Findings:
    at = path.child("hostnameOverride")
    found = each(at, value, names.dns_subdomain(value))
    if len(value) > 64:
        found.append(invalid(at, value, names.too_long(64)))
    if spec.set_hostname_as_fqdn:
        found.append(forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
    if spec.host_network:
        found.append(forbidden(at, "may not be specified when hostNetwork is true"))
    return found


def _rest(spec: core_v1.PodSpec, path: Path) -> Findings:
    found: Findings = []
    if spec.dns_config is not None or spec.dns_policy == "None":
        found += _dns_config(spec, path.child("dnsConfig"))
    deadline = spec.active_deadline_seconds
    if deadline is not None and not 1 <= deadline < 2**31:
        found.append(invalid(path.child("activeDeadlineSeconds"), deadline, names.in_range(1, 2**31 - 1)))
    for index, alias in enumerate(spec.host_aliases or ()):
        at = path.child("hostAliases").index(index)
        found += each(at.child("ip"), alias.ip, names.ip(alias.ip))
        for position, hostname in enumerate(alias.hostnames or ()):
            found += each(at.child("hostnames").index(position), hostname, names.dns_subdomain(hostname))
    if spec.overhead:
        overhead = core_v1.ResourceRequirements(limits=spec.overhead)
        found += requirements.requirements(overhead, (), path.child("overhead"))
    return found


def _dns_config(spec: core_v1.PodSpec, path: Path) -> Findings:
    config = spec.dns_config
    if config is None:
        return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
    if spec.dns_policy == "None" and not config.nameservers:
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        return [required(path.child("nameservers"), detail)]
    found: Findings = []
    nameservers, searches = config.nameservers or [], config.searches or []
    if len(nameservers) > 3:
        found.append(invalid(path.child("nameservers"), nameservers, "must not have more than 3 nameservers"))
    for index, nameserver in enumerate(nameservers):
        found += each(path.child("nameservers").index(index), nameserver, names.ip(nameserver))
    if len(searches) > 32:
        found.append(invalid(path.child("searches"), searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        detail = "must not have more than 2048 characters (including spaces) in the search list"
        found.append(invalid(path.child("searches"), searches, detail))
    for index, search in enumerate(searches):
        if search != ".":
            value = search.removesuffix(".")
            found += each(path.child("searches").index(index), value, names.dns_subdomain_underscore(value))
    for index, option in enumerate(config.options or ()):
        if not option.name:
            found.append(required(path.child("options").index(index), "must not be empty"))
    return found


def _host_network(spec: core_v1.PodSpec, path: Path, is_pod: bool) -> Findings:
    found: Findings = []
    for index, container in enumerate(spec.containers):
        for position, port in enumerate(container.ports or ()):
            host = port.host_port or 0
            if (is_pod or host) and host != port.container_port:
                at = path.index(index).child("ports").index(position).child("hostPort")
                found.append(invalid(at, host, "must match `containerPort` when `hostNetwork` is true"))
    return found


def _resource_claims(claims: Sequence[core_v1.PodResourceClaim], path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        at = path.index(index)
        if not claim.name:
            found.append(required(at.child("name")))
        elif claim.name in seen:
            found.append(duplicate(at.child("name"), claim.name))
        else:
            found += each(at.child("name"), claim.name, names.dns_label(claim.name))
            seen.add(claim.name)
        name, template_name = claim.resource_claim_name, claim.resource_claim_template_name
        if name is not None and template_name is not None:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            found.append(invalid(at, claim, detail))
        if name is None and template_name is None:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            found.append(invalid(at, claim, detail))
        for field, value in (("resourceClaimName", name), ("resourceClaimTemplateName", template_name)):
            if value is not None:
                found += each(at.child(field), value, names.dns_subdomain(value))
    return found


def _pod_resources(spec: core_v1.PodSpec, resources: core_v1.ResourceRequirements, path: Path) -> Findings:
    found: Findings = []
    if resources.claims is not None:
        found.append(forbidden(path.child("claims"), "claims cannot be set for Resources at pod-level"))
    found += requirements.requirements(resources, (), path, requirements.pod_resource_name)
    limits, requests = resources.limits or {}, resources.requests or {}
    if not limits and not requests:
        return found
    for name, total in defaults.aggregate(spec, "requests").items():
        if name not in ("cpu", "memory") and not requirements.is_huge_page(name):
            continue
        mine = quantity.parse(requests.get(name, "0"))
        if total > mine:
            detail = f"must be greater than or equal to aggregate container requests of {total}"
            found.append(invalid(path.child("requests").key(name), str(mine), detail))
    for index, container in enumerate(spec.containers):
        theirs = (container.resources.limits if container.resources else None) or {}
        for name, value in theirs.items():
            if name in limits and quantity.parse(value) > quantity.parse(limits[name]):
                at = path.child("containers").index(index).key(name).child("limits")
                limit = quantity.parse(limits[name])
                found.append(
                    invalid(at, str(quantity.parse(value)), f"must be less than or equal to pod limits of {limit}")
                )
    return found
