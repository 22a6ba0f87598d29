"""Environment variables and the downward API."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from podling.api import core_v1, names, quantity
from podling.machinery.validation import Findings, Path, each, invalid, not_supported, required

_ENV_FIELDS = frozenset(
    (
        "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
        "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
    )
)  # fmt: skip
#: What downward API volumes may show.
VOLUME_FIELDS = frozenset(
    ("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")
)
_KNOWN_FIELDS = _ENV_FIELDS | VOLUME_FIELDS | {"spec.restartPolicy", "status.phase"}
_RESOURCES = frozenset(
    (
        "limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu", "requests.memory",
        "requests.ephemeral-storage",
    )
)  # fmt: skip
_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_SUBSCRIPT = re.compile(r"(.+)\['(.*)'\]")
_ENV_SOURCES = ("field_ref", "resource_field_ref", "config_map_key_ref", "secret_key_ref", "file_key_ref")


def env(variables: Sequence[core_v1.EnvVar] | None, path: Path) -> Findings:
    found: Findings = []
    for index, variable in enumerate(variables or ()):
        at = path.index(index)
        if not variable.name:
            found.append(required(at.child("name")))
        elif problems := names.env_var_name(variable.name):
            found += each(at.child("name"), variable.name, problems)
        if variable.value_from is not None:
            found += _value_from(variable.value_from, variable.value or "", at.child("valueFrom"))
    return found


def _value_from(source: core_v1.EnvVarSource, value: str, path: Path) -> Findings:
    found: Findings = []
    if source.field_ref is not None:
        found += field_selector(source.field_ref, _ENV_FIELDS, path.child("fieldRef"))
    if source.resource_field_ref is not None:
        found += resource_selector(source.resource_field_ref, path.child("resourceFieldRef"), volume=False)
    for name, selector in (("configMapKeyRef", source.config_map_key_ref), ("secretKeyRef", source.secret_key_ref)):
        if selector is not None:
            found += _key_selector(selector, path.child(name))
    if source.file_key_ref is not None:
        found += _file_key(source.file_key_ref, path.child("fileKeyRef"))
    count = sum(getattr(source, name) is not None for name in _ENV_SOURCES)
    if count == 0:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        found.append(invalid(path, "", detail))
    elif value:
        found.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        found.append(invalid(path, "", "may not have more than one field specified at a time"))
    return found


def _key_selector(selector: core_v1.ConfigMapKeySelector | core_v1.SecretKeySelector, path: Path) -> Findings:
    found = each(path.child("name"), selector.name or "", names.dns_subdomain(selector.name or ""))
    if not selector.key:
        found.append(required(path.child("key")))
    else:
        found += each(path.child("key"), selector.key, names.config_map_key(selector.key))
    return found


def _file_key(selector: core_v1.FileKeySelector, path: Path) -> Findings:
    found: Findings = []
    for name, value in (("key", selector.key), ("volumeName", selector.volume_name), ("path", selector.path)):
        if not value:
            found.append(required(path.child(name)))
    if selector.key:
        found += each(path.child("key"), selector.key, names.env_var_name(selector.key))
    if selector.path:
        found += relative_path(selector.path, path.child("path"))
    return found


def env_from(sources: Sequence[core_v1.EnvFromSource] | None, path: Path) -> Findings:
    found: Findings = []
    for index, source in enumerate(sources or ()):
        at = path.index(index)
        if source.prefix:
            found += each(at.child("prefix"), source.prefix, names.env_var_name(source.prefix))
        count = 0
        for name, reference in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
            if reference is None:
                continue
            count += 1
            if not reference.name:
                found.append(required(at.child(name, "name")))
            else:
                problems = names.dns_subdomain(reference.name, prefix=True)
                found += each(at.child(name, "name"), reference.name, problems)
        # Upstream reports these two at the list, not at the item.
        if count == 0:
            found.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            found.append(invalid(path, "", "may not have more than one field specified at a time"))
    return found


def field_selector(selector: core_v1.ObjectFieldSelector, supported: Collection[str], path: Path) -> Findings:
    """A field of the pod, such as `metadata.labels['app']`."""
    if not selector.api_version:
        return [required(path.child("apiVersion"))]
    if not selector.field_path:
        return [required(path.child("fieldPath"))]
    at = path.child("fieldPath")
    subscripted = _SUBSCRIPT.fullmatch(selector.field_path)
    base = subscripted[1] if subscripted else selector.field_path
    if selector.api_version != "v1":
        detail = f"error converting fieldPath: unsupported pod version: {selector.api_version}"
        return [invalid(at, selector.field_path, detail)]
    if subscripted and base not in ("metadata.labels", "metadata.annotations"):
        detail = f"error converting fieldPath: field label does not support subscript: {selector.field_path}"
        return [invalid(at, selector.field_path, detail)]
    if base not in _KNOWN_FIELDS:
        return [invalid(at, selector.field_path, f"error converting fieldPath: field label not supported: {base}")]
    if subscripted:
        key = subscripted[2].lower() if base == "metadata.annotations" else subscripted[2]
        return each(path, key, names.qualified_name(key))
    if base not in supported:
        return [not_supported(at, base, sorted(supported))]
    return []


def resource_selector(selector: core_v1.ResourceFieldSelector, path: Path, *, volume: bool) -> Findings:
    """A container's request or limit; in a volume the container must be named."""
    found: Findings = []
    name = selector.resource
    if volume and not selector.container_name:
        found.append(required(path.child("containerName")))
    elif not name:
        found.append(required(path.child("resource")))
    elif name not in _RESOURCES and not name.startswith(("requests.hugepages-", "limits.hugepages-")):
        found.append(not_supported(path.child("resource"), name, sorted(_RESOURCES)))
    if selector.divisor is not None and quantity.parse(selector.divisor):
        found += _divisor(name, str(quantity.parse(selector.divisor)), path.child("divisor"))
    return found


def _divisor(resource: str, divisor: str, path: Path) -> Findings:
    kind = resource.partition(".")[2]
    if kind == "cpu":
        if divisor not in ("1m", "1"):
            return [invalid(path, resource, "only divisor's values 1m and 1 are supported with the cpu resource")]
        return []
    what = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(kind)
    if kind.startswith("hugepages-"):
        what = "hugepages"
    if what and divisor not in _BYTES:
        detail = f"only divisor's values {', '.join(_BYTES)} are supported with the {what} resource"
        return [invalid(path, resource, detail)]
    return []


def no_backsteps(value: str, path: Path) -> Findings:
    return [invalid(path, value, "must not contain '..'")] if ".." in value.split("/") else []


def descending_path(value: str, path: Path) -> Findings:
    """Relative, and never upward."""
    found: Findings = [invalid(path, value, "must be a relative path")] if value.startswith("/") else []
    return found + no_backsteps(value, path)


def relative_path(value: str, path: Path) -> Findings:
    """As `descending_path`, and no name that is reserved for the kubelet."""
    found = descending_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        found.append(invalid(path, value, "must not start with '..'"))
    return found
