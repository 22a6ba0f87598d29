"""fieldRef and resourceFieldRef: a pod's own fields as text, for environment variables and downward API files.

The rules are upstream's (pkg/fieldpath, pkg/api/v1/resource). Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from podling.api import core_v1, names, quantity
from podling.api.scalars import Quantity
from podling.errors import PodlingError

_SUBSCRIPTED = re.compile(r"(.*?)\['(.*)'\]")
_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


class FieldRefError(PodlingError):
    """No such field, or no such container; the text is upstream's."""


def field_value(pod: core_v1.Pod, path: str) -> str:
    """The field at `path`: metadata and, as far as the object knows them, spec.nodeName, serviceAccountName and status
    addresses. Raises FieldRefError."""
    subscripted = _SUBSCRIPTED.fullmatch(path)
    if subscripted:
        return _entry(pod, path, subscripted[1], subscripted[2])
    meta, status = pod.metadata, pod.status or core_v1.PodStatus()
    match path:
        case "metadata.annotations":
            return format_map(meta.annotations or {})
        case "metadata.labels":
            return format_map(meta.labels or {})
        case "metadata.name":
            return meta.name or ""
        case "metadata.namespace":
            return meta.namespace or ""
        case "metadata.uid":
            return meta.uid or ""
        case "spec.nodeName":
            return pod.spec.node_name or ""
        case "spec.serviceAccountName":
            return pod.spec.service_account_name or ""
        case "status.hostIP":
            return status.host_ip or ""
        case "status.hostIPs":
            return ",".join(entry.ip for entry in status.host_ips or ())
        case "status.podIP":
            return status.pod_ip or ""
        case "status.podIPs":
            return ",".join(entry.ip for entry in status.pod_ips or ())
    raise FieldRefError(f"unsupported fieldPath: {path}")


def _entry(pod: core_v1.Pod, path: str, field: str, key: str) -> str:
    if field not in ("metadata.annotations", "metadata.labels"):
        raise FieldRefError(f'fieldPath "{path}" does not support subscript')
    problems = names.qualified_name(key.lower() if field == "metadata.annotations" else key)
    if problems:
        raise FieldRefError(f"invalid key subscript in {path}: {';'.join(problems)}")
    entries = pod.metadata.annotations if field == "metadata.annotations" else pod.metadata.labels
    return (entries or {}).get(key, "")


def format_map(entries: Mapping[str, str]) -> str:
    """`key="value"` lines in the order of keys."""
    return "\n".join(f"{key}={quote(entries[key])}" for key in sorted(entries))


def quote(text: str) -> str:
    """`text` as Go's %q prints it."""
    parts = []
    for char in text:
        if char in '"\\':
            parts.append("\\" + char)
        elif char in _ESCAPES:
            parts.append(_ESCAPES[char])
        elif char == " " or char.isprintable():
            parts.append(char)
        else:
            code = ord(char)
            parts.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(parts) + '"'


def resource_value(
    pod: core_v1.Pod,
    selector: core_v1.ResourceFieldSelector,
    *,
    container_name: str = "",
    allocatable: Mapping[str, Quantity] | None = None,
) -> str:
    """A container's limit or request, divided by the divisor and rounded up. `container_name` is whose it is where the
    selector does not say; a limit that is not set is the pod's, or else what the node can give.

    Raises FieldRefError.
    """
    container = _container(pod, selector.container_name or container_name)
    kind, _, resource = selector.resource.partition(".")
    if kind not in ("limits", "requests") or not (resource in _RESOURCES or resource.startswith("hugepages-")):
        raise FieldRefError(f"unsupported container resource : {selector.resource}")
    amount = _amount(pod, container, kind, resource, allocatable or {})
    divisor = quantity.parse(selector.divisor if selector.divisor is not None else "0")
    if divisor.is_zero:
        divisor = quantity.parse("1")
    if resource == "cpu":
        return str(-(-amount.milli() // divisor.milli()))
    return str(-(-amount.value() // divisor.value()))


def _container(pod: core_v1.Pod, name: str) -> core_v1.Container | core_v1.EphemeralContainer:
    groups = (pod.spec.containers, pod.spec.init_containers or (), pod.spec.ephemeral_containers or ())
    for container in (c for group in groups for c in group):
        if container.name == name:
            return container
    raise FieldRefError(f"container {name} not found")


def _amount(
    pod: core_v1.Pod,
    container: core_v1.Container | core_v1.EphemeralContainer,
    kind: str,
    resource: str,
    allocatable: Mapping[str, Quantity],
) -> quantity.Quantity:
    for resources in (container.resources, pod.spec.resources if kind == "limits" else None):
        amounts = (getattr(resources, kind) if resources else None) or {}
        if resource in amounts:
            found = quantity.parse(amounts[resource])
            if kind == "requests" or not found.is_zero:
                return found
    if kind == "limits" and resource in _RESOURCES and resource in allocatable:
        return quantity.parse(allocatable[resource])
    return quantity.parse("0")
