"""A request as webhooks and expressions see it: objects in their wire form, the kind and resource that were matched."""

from __future__ import annotations

from typing import Any

from podling.api import autoscaling_v1
from podling.api.numbers import is_decimal
from podling.api.request import User
from podling.api.struct import from_dict, to_dict
from podling.apiserver.admission.base import CONNECT, DELETE, Attributes
from podling.apiserver.core import Core
from podling.apiserver.handlers import scale
from podling.apiserver.served import Served

#: Group and version of what subresources show, where it is another kind than the resource's.
_KINDS = {
    "Scale": ("autoscaling", "v1"),
    "Eviction": ("policy", "v1"),
    "TokenRequest": ("authentication.k8s.io", "v1"),
}
#: What a connection is opened with: the kind, and the names and types of its fields.
_CONNECTIONS: dict[tuple[str, str], tuple[str, dict[str, str]]] = {
    ("pods", "exec"): (
        "PodExecOptions",
        {"stdin": "bool", "stdout": "bool", "stderr": "bool", "tty": "bool", "container": "", "command": "list"},
    ),
    ("pods", "attach"): (
        "PodAttachOptions",
        {"stdin": "bool", "stdout": "bool", "stderr": "bool", "tty": "bool", "container": ""},
    ),
    ("pods", "portforward"): ("PodPortForwardOptions", {"ports": "ints"}),
    ("pods", "proxy"): ("PodProxyOptions", {"path": ""}),
    ("services", "proxy"): ("ServiceProxyOptions", {"path": ""}),
    ("nodes", "proxy"): ("NodeProxyOptions", {"path": ""}),
}
_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}

Wire = dict[str, Any]


class Seen:
    """The objects of a request, as they are now, in the form of any resource that they can be shown as.

    Objects are made when they are first asked for; `changed` forgets them.
    """

    def __init__(self, app: Core, attributes: Attributes) -> None:
        self.app = app
        self.attributes = attributes
        resource = attributes.resource
        self.own = app.served[resource.group, resource.version, resource.name]
        self._objects: dict[str, Wire | None] = {}
        self._olds: dict[str, Wire | None] = {}
        shown = isinstance(attributes.obj, dict) or hasattr(attributes.obj, "spec")
        self.scale = attributes.subresource == "scale" and shown and not attributes.kind

    def kind(self, served: Served) -> tuple[str, str, str]:
        """(group, version, kind) of the object, shown as `served` shows it."""
        attributes = self.attributes
        name = "Scale" if self.scale else attributes.kind
        if attributes.operation == CONNECT:
            name = _CONNECTIONS.get((attributes.resource.name, attributes.subresource), ("", {}))[0]
        if name:
            return (*_KINDS.get(name, ("", "v1")), name)
        resource = served.resource
        return resource.group, resource.version, resource.kind

    def object(self, served: Served) -> Wire | None:
        """What is to be written; None for a DELETE."""
        name = served.resource.group_version
        if name not in self._objects:
            if self.attributes.operation == CONNECT:
                self._objects[name] = self._connection()
            else:
                self._objects[name] = self._wire(self.attributes.obj, served)
        return self._objects[name]

    def old(self, served: Served) -> Wire | None:
        """What is there; None for a CREATE."""
        name = served.resource.group_version
        if name not in self._olds:
            self._olds[name] = self._wire(self.attributes.old, served)
        return self._olds[name]

    def _wire(self, obj: Any, served: Served) -> Wire | None:
        if obj is None:
            return None
        if self.scale:
            return to_dict(scale.facet_of(self.own.strategy).show(obj))
        if self.attributes.kind:
            return to_dict(obj)
        shown = convert(obj, self.own, served)
        return served.codec.to_dict(shown)

    def _connection(self) -> Wire:
        attributes = self.attributes
        kind, fields = _CONNECTIONS.get((attributes.resource.name, attributes.subresource), ("", {}))
        found: Wire = {"kind": kind, "apiVersion": "v1"}
        query = attributes.options or {}
        for name, type_ in fields.items():
            if name not in query:
                continue
            values = query[name] if isinstance(query[name], list) else [query[name]]
            if type_ == "bool":
                if values[0].lower() not in ("false", "0"):
                    found[name] = True
            elif type_ == "list":
                found[name] = values
            elif type_ == "ints":
                found[name] = [int(p) for v in values for p in v.split(",") if is_decimal(p)]
            else:
                found[name] = values[0]
        return found

    def options(self) -> Wire | None:
        """The options of the operation."""
        attributes = self.attributes
        kind = _OPTIONS.get(attributes.operation)
        if kind is None:
            return None
        found: Wire = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
        if attributes.operation == DELETE and attributes.options is not None:
            found = {**to_dict(attributes.options), **found}
        if attributes.dry_run:
            found["dryRun"] = ["All"]
        return found

    def update(self, served: Served, wire: Wire) -> None:
        """The object is now as `wire` says. Raises schema.DecodeError if it can't be."""
        obj = self.attributes.obj
        if self.scale:
            assign(obj, scale.facet_of(self.own.strategy).merge(obj, from_dict(wire, autoscaling_v1.Scale)))
        elif self.attributes.kind:
            assign(obj, from_dict(wire, type(obj)))
        else:
            assign(obj, convert(served.codec.convert(wire), served, self.own))
            if not self.attributes.subresource:
                self.own.strategy.default(obj)
        self.changed()

    def changed(self) -> None:
        """The object is not what it was."""
        self._objects.clear()


def convert(obj: Any, source: Served, target: Served) -> Any:
    """An object of one resource as one of another that shows the same stored objects."""
    if source is target:
        return obj
    stored = obj if source.view is None else source.view.store(obj)
    return stored if target.view is None else target.view.show(stored)


def assign(target: Any, source: Any) -> None:
    """Make an object equal to another, in place; its metadata stays the same object too."""
    meta = getattr(target, "metadata", None)
    if meta is not None:
        for field in meta.__struct_fields__:
            setattr(meta, field, getattr(source.metadata, field))
    if isinstance(target, dict):
        # A custom object.
        content = {**source, "metadata": meta}
        target.clear()
        target.update(content)
        return
    for name in target.__struct_fields__:
        if name != "metadata":
            setattr(target, name, getattr(source, name))


def user_info(user: User) -> Wire:
    """Who asks, as authentication.k8s.io/v1 UserInfo."""
    found: Wire = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {k: list(v) for k, v in user.extra.items()}
    return found


def admission_request(seen: Seen, served: Served) -> Wire:
    """AdmissionRequest without the objects: what expressions see as `request`, and the body of a review."""
    attributes = seen.attributes
    own, shown = seen.own.resource, served.resource
    found: Wire = {
        "kind": _kind(seen.kind(served)),
        "resource": {"group": shown.group, "version": shown.version, "resource": shown.name},
        "requestKind": _kind(seen.kind(seen.own)),
        "requestResource": {"group": own.group, "version": own.version, "resource": own.name},
        "operation": attributes.operation,
        "userInfo": user_info(attributes.user),
        "dryRun": attributes.dry_run,
    }
    if attributes.subresource:
        found["subResource"] = found["requestSubResource"] = attributes.subresource
    if attributes.name:
        found["name"] = attributes.name
    if attributes.namespace:
        found["namespace"] = attributes.namespace
    options = seen.options()
    if options is not None:
        found["options"] = options
    return found


def _kind(kind: tuple[str, str, str]) -> Wire:
    return dict(zip(("group", "version", "kind"), kind, strict=True))
