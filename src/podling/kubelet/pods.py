"""What can be read off a pod: its containers, its kind, its names."""

from __future__ import annotations

from collections.abc import Iterator

from podling.api import core_v1, quantity
from podling.api.scalars import Quantity
from podling.machinery import pod_resources

AnyContainer = core_v1.Container | core_v1.EphemeralContainer

CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_MIRROR = "kubernetes.io/config.mirror"
CONFIG_SEEN = "kubernetes.io/config.seen"

#: A container that has no grace left still gets this many seconds between SIGTERM and SIGKILL.
MINIMUM_GRACE = 2
#: What spec.terminationGracePeriodSeconds defaults to.
DEFAULT_GRACE = 30

SYSTEM_CRITICAL_PRIORITY = 2_000_000_000

LABEL_POD_NAME = "io.kubernetes.pod.name"
LABEL_POD_NAMESPACE = "io.kubernetes.pod.namespace"
LABEL_POD_UID = "io.kubernetes.pod.uid"
LABEL_CONTAINER_NAME = "io.kubernetes.container.name"
ANNOTATION_HASH = "io.kubernetes.container.hash"
ANNOTATION_RESTARTS = "io.kubernetes.container.restartCount"
ANNOTATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
ANNOTATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
ANNOTATION_GRACE = "io.kubernetes.pod.terminationGracePeriod"
ANNOTATION_DELETION_GRACE = "io.kubernetes.pod.deletionGracePeriod"
ANNOTATION_PRE_STOP = "io.kubernetes.container.preStopHandler"
ANNOTATION_PORTS = "io.kubernetes.container.ports"


def uid(pod: core_v1.Pod) -> str:
    return pod.metadata.uid or ""


def name(pod: core_v1.Pod) -> str:
    return pod.metadata.name or ""


def namespace(pod: core_v1.Pod) -> str:
    return pod.metadata.namespace or "default"


def key(pod: core_v1.Pod) -> str:
    """`namespace/name`."""
    return f"{namespace(pod)}/{name(pod)}"


def full_name(pod: core_v1.Pod) -> str:
    """`name_namespace`, as static pods and their mirrors find each other."""
    return f"{name(pod)}_{namespace(pod)}"


def described(pod: core_v1.Pod) -> str:
    """`name_namespace(uid)`, as messages name a pod."""
    return f"{name(pod)}_{namespace(pod)}({uid(pod)})"


def is_sidecar(container: AnyContainer) -> bool:
    """An init container that keeps running beside the others. Only meaningful for init containers."""
    return container.restart_policy == "Always"


def has_sidecars(pod: core_v1.Pod) -> bool:
    return any(is_sidecar(c) for c in pod.spec.init_containers or ())


def containers(pod: core_v1.Pod) -> Iterator[tuple[str, AnyContainer]]:
    """All containers with the name of the spec's field that holds them."""
    for container in pod.spec.init_containers or ():
        yield "initContainers", container
    for container in pod.spec.containers:
        yield "containers", container
    for ephemeral in pod.spec.ephemeral_containers or ():
        yield "ephemeralContainers", ephemeral


def find_container(pod: core_v1.Pod, wanted: str) -> AnyContainer | None:
    return next((c for _, c in containers(pod) if c.name == wanted), None)


def field_path(pod: core_v1.Pod, wanted: str) -> str:
    """Such as `spec.containers{app}`: what an event about a container refers to."""
    for field, container in containers(pod):
        if container.name == wanted:
            return f"spec.{field}{{{wanted}}}"
    return ""


def is_static(pod: core_v1.Pod) -> bool:
    """From a file on the node (and not its mirror)."""
    source = (pod.metadata.annotations or {}).get(CONFIG_SOURCE)
    return source is not None and source != "api"


def is_mirror(pod: core_v1.Pod) -> bool:
    """Stands in the API server for a static pod."""
    return CONFIG_MIRROR in (pod.metadata.annotations or {})


def is_critical(pod: core_v1.Pod) -> bool:
    """Never evicted, and makes room for itself."""
    return is_static(pod) or is_mirror(pod) or (pod.spec.priority or 0) >= SYSTEM_CRITICAL_PRIORITY


def is_host_network(pod: core_v1.Pod) -> bool:
    return bool(pod.spec.host_network)


def is_terminal(status: core_v1.PodStatus | None) -> bool:
    return status is not None and status.phase in ("Succeeded", "Failed")


def _positive(resources: core_v1.ResourceRequirements | None, kind: str) -> dict[str, int]:
    """cpu and memory of a resource list, as far as they are more than nothing."""
    given = (getattr(resources, kind) if resources else None) or {}
    found = {r: pod_resources.amount(r, given[r]) for r in ("cpu", "memory") if r in given}
    return {r: value for r, value in found.items() if value > 0}


def qos_class(pod: core_v1.Pod) -> str:
    """Guaranteed, Burstable or BestEffort (pkg/apis/core/v1/helper/qos)."""
    if pod.status is not None and pod.status.qos_class:
        return pod.status.qos_class
    if pod.spec.resources is not None and (pod.spec.resources.requests or pod.spec.resources.limits):
        each = [pod.spec.resources]
    else:
        each = [c.resources for c in (*pod.spec.containers, *(pod.spec.init_containers or ()))]
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for resources in each:
        limited = _positive(resources, "limits")
        for total, more in ((requests, _positive(resources, "requests")), (limits, limited)):
            for resource, value in more.items():
                total[resource] = total.get(resource, 0) + value
        guaranteed = guaranteed and len(limited) == 2
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


def milli_cpu(value: Quantity) -> int:
    return quantity.parse(value).milli()
