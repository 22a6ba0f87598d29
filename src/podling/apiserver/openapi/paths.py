"""OpenAPI operations of what is served, in a form from which both flavours are made."""

from __future__ import annotations

from typing import Any, NamedTuple

from podling.api.registry import Resource
from podling.apiserver.discovery import subresource


class Operation(NamedTuple):
    """One method of one path. `body` and `answer` are kinds as (group, version, kind); `options` names parameters."""

    method: str
    action: str
    id: str
    kind: tuple[str, str, str]
    body: tuple[str, str, str] | None
    answer: tuple[str, str, str] | None
    options: tuple[str, ...]
    summary: str


#: Parameters: name -> (type, description).
PARAMETERS: dict[str, tuple[str, str]] = {
    "allowWatchBookmarks": (
        "boolean",
        'allowWatchBookmarks requests watch events with type "BOOKMARK", which tell how far the watch has come.',
    ),
    "continue": ("string", "The token of the next page, from the list before."),
    "dryRun": ("string", "All: everything happens but the storing."),
    "fieldManager": ("string", "The name of the actor that makes the change, for managed fields."),
    "fieldSelector": ("string", "Only objects whose fields match are meant."),
    "fieldValidation": (
        "string",
        "What becomes of unknown and duplicate fields. Ignore: they are dropped. Warn: they are dropped with a warning "
        "each. Strict: the request fails.",
    ),
    "force": ("boolean", "Take over fields of other managers in an apply request."),
    "gracePeriodSeconds": ("integer", "Seconds before the object is deleted; zero means at once."),
    "ignoreStoreReadErrorWithClusterBreakingPotential": ("boolean", "Delete an object that can't be read."),
    "labelSelector": ("string", "Only objects whose labels match are meant."),
    "limit": ("integer", "How many objects a page has at most."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
    "pretty": ("string", "If 'true', the output is formatted for people."),
    "propagationPolicy": ("string", "What becomes of dependents: Orphan, Background or Foreground."),
    "resourceVersion": ("string", "The version that a read may or must have."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Begin a watch with what there is, and a bookmark at its end."),
    "timeoutSeconds": ("integer", "Seconds after which a list or watch ends."),
    "watch": ("boolean", "Watch for changes instead of returning a list."),
}
_LIST = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = (
    "dryRun", "gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential", "orphanDependents",
    "propagationPolicy",
)  # fmt: skip
_COLLECTION = tuple(o for o in _LIST if o not in ("allowWatchBookmarks", "watch"))
_STATUS = ("", "v1", "Status")
_OPTIONS = ("", "v1", "DeleteOptions")
_PATCH = ("", "v1", "Patch")
_STEMS = {"get": "read", "update": "replace", "create": "create", "patch": "patch", "delete": "delete", "list": "list"}
_METHODS = {"get": "get", "list": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_CONNECT = ("exec", "attach", "portforward", "proxy")


def of(resource: Resource) -> dict[str, list[Operation]]:
    """Operations by path."""
    scope = "Namespaced" if resource.namespaced else ""
    collection = resource.collection_path("{namespace}")
    item = resource.path("{name}", "{namespace}")
    paths: dict[str, list[Operation]] = {collection: [], item: []}
    kind = (resource.group, resource.version, resource.kind)
    many = (resource.group, resource.version, resource.list_kind or f"{resource.kind}List")
    for verb in resource.verbs:
        match verb:
            case "list":
                paths[collection].append(_operation(resource, verb, kind, None, many, _LIST, scope))
                if resource.namespaced:
                    whole = resource.collection_path()
                    op = _operation(resource, verb, kind, None, many, _LIST, "", "ForAllNamespaces")
                    paths[whole] = [op]
            case "create":
                paths[collection].append(_operation(resource, verb, kind, kind, kind, _WRITE, scope))
            case "deletecollection":
                options = tuple(sorted({*_DELETE, *_COLLECTION}))
                paths[collection].append(_operation(resource, verb, kind, _OPTIONS, _STATUS, options, scope))
            case "get":
                paths[item].append(_operation(resource, verb, kind, None, kind, (), scope))
            case "update":
                paths[item].append(_operation(resource, verb, kind, kind, kind, _WRITE, scope))
            case "patch":
                paths[item].append(_operation(resource, verb, kind, _PATCH, kind, (*_WRITE, "force"), scope))
            case "delete":
                paths[item].append(_operation(resource, verb, kind, _OPTIONS, _STATUS, _DELETE, scope))
    for name in resource.subresources:
        paths[f"{item}/{name}"] = _subresource(resource, name, scope)
    return {path: ops for path, ops in paths.items() if ops}


def _subresource(resource: Resource, name: str, scope: str) -> list[Operation]:
    sub = subresource(resource, name)
    kind = (sub.group, sub.version, sub.kind) if sub.kind else (resource.group, resource.version, resource.kind)
    tail = name[0].upper() + name[1:]
    if name in _CONNECT or name == "log":
        verbs = [v for v in sub.verbs if v in _METHODS]
        return [_operation(resource, v, kind, None, None, (), scope, tail, connect=name != "log") for v in verbs]
    operations = []
    for verb in sub.verbs:
        body = {"get": None, "patch": _PATCH}.get(verb, kind)
        options = () if verb == "get" else (*_WRITE, "force") if verb == "patch" else _WRITE
        operations.append(_operation(resource, verb, kind, body, kind, options, scope, tail))
    return operations


def _operation(
    resource: Resource,
    verb: str,
    kind: tuple[str, str, str],
    body: tuple[str, str, str] | None,
    answer: tuple[str, str, str] | None,
    options: tuple[str, ...],
    scope: str,
    tail: str = "",
    *,
    connect: bool = False,
) -> Operation:
    group = resource.group.split(".")[0] or "core"
    stem = group[0].upper() + group[1:] + resource.version[0].upper() + resource.version[1:]
    method = _METHODS.get(verb, "delete")
    action = {"create": "post", "update": "put"}.get(verb, verb)
    if connect:
        action = "connect"
        name = f"connect{stem and method.capitalize()}{stem}{scope}{resource.kind}{tail}"
    elif verb == "deletecollection":
        name = f"delete{stem}Collection{scope}{resource.kind}"
    else:
        name = f"{_STEMS[verb]}{stem}{scope}{resource.kind}{tail}"
    summary = {
        "get": f"read the specified {resource.kind}",
        "list": f"list or watch objects of kind {resource.kind}",
        "create": f"create a {resource.kind}",
        "update": f"replace the specified {resource.kind}",
        "patch": f"partially update the specified {resource.kind}",
        "delete": f"delete a {resource.kind}",
        "deletecollection": f"delete collection of {resource.kind}",
    }[verb]
    if tail and tail != "ForAllNamespaces":
        summary = f"{verb} {tail[0].lower()}{tail[1:]} of the specified {resource.kind}"
    return Operation(method, action, name, kind, body, answer, options, summary)


def extensions(operation: Operation) -> dict[str, Any]:
    """What Kubernetes adds to an operation."""
    group, version, kind = operation.kind
    return {
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    }
