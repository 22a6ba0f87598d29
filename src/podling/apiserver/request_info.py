"""What a request means: its verb, and the resource or the path that it is about.

The rules are upstream's (k8s.io/apiserver pkg/endpoints/request): authorization, metrics and audit all speak in these
terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from podling.api.errors import bad_request
from podling.api.selectors import pinned

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

#: What stands behind /namespaces/<name>/ without being a resource inside the namespace.
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


class RequestInfo(NamedTuple):
    """`verb` is get, list, watch, create, update, patch, delete or deletecollection; for a path that is no resource
    (`resource` is "") the HTTP method in lower case. `namespace` of /namespaces/<name> is the name itself. `tail` is
    what follows the subresource in the path (of a proxy request), with its leading slash; else ""."""

    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    tail: str = ""
    field_selector: str = ""
    label_selector: str = ""

    @property
    def is_resource(self) -> bool:
        return self.resource != ""


def truthy(value: str | None) -> bool:
    """A boolean query parameter as upstream reads it: there and not `false` or `0`."""
    return value is not None and value.lower() not in ("false", "0")


def resolve(method: str, path: str, query: Mapping[str, str]) -> RequestInfo:
    """The meaning of a request; `path` is decoded. StatusError 400 if it can't be made out."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return RequestInfo(method.lower(), path)
    verb = _VERBS.get(method, "")
    by_path = rest[0] in ("watch", "proxy")
    if by_path:
        if len(rest) < 2:
            raise bad_request(f"unable to determine kind and namespace from url, {path}")
        verb, rest = rest[0], rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    resource = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 and verb != "proxy" else ""
    tail = _tail(path, rest) if len(rest) > 3 or (subresource and path.endswith("/")) else ""
    if not query and name:
        return RequestInfo(verb, path, group, version, resource, subresource, namespace, name, tail)
    fields = labels = ""
    if not name and verb == "get":
        verb = "watch" if truthy(query.get("watch")) else "list"
    if not name and verb == "delete":
        verb = "deletecollection"
    if verb in ("list", "watch", "deletecollection"):
        fields, labels = query.get("fieldSelector", ""), query.get("labelSelector", "")
        if not name and verb != "deletecollection" and not by_path:
            name = pinned_name(fields)
    return RequestInfo(verb, path, group, version, resource, subresource, namespace, name, tail, fields, labels)


def pinned_name(field_selector: str) -> str:
    """The one name that a field selector allows, "" if it does not say."""
    name = pinned(field_selector, "metadata.name")
    return "" if name in (".", "..") or "/" in name or "%" in name else name


def _tail(path: str, rest: list[str]) -> str:
    """What follows `resource/name/subresource`, exactly as it stands in the path."""
    marker = "/" + "/".join(rest[:3])
    return path[path.index(marker) + len(marker) :]
