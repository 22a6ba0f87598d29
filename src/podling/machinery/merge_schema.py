"""How each part of an object merges in server-side apply: what a walk over an object must know of its schema.

A `Node` stands for a value. Generated types answer through their metadata (`of_type`); custom resources through their
OpenAPI schema (`of_openapi`); anything else is deduced: maps merge by key, lists are replaced (`DEDUCED`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from podling.api import meta_v1
from podling.machinery import typeinfo

Shape = Literal["scalar", "map", "list", "atomic"]

#: Key fields that may be left out, and what they then are (the schema's defaults).
KEY_DEFAULTS = {"protocol": "TCP"}


#: Types that are replaced as a whole wherever they stand (x-kubernetes-map-type of the type itself).
ATOMIC_TYPES = frozenset(
    (
        "admissionregistration_v1.MatchResources", "admissionregistration_v1.NamedRuleWithOperations",
        "admissionregistration_v1.ParamKind", "admissionregistration_v1.ParamRef",
        "admissionregistration_v1.Variable", "autoscaling_v1.CrossVersionObjectReference",
        "core_v1.ConfigMapKeySelector", "core_v1.EndpointAddress", "core_v1.EndpointPort",
        "core_v1.EvictionResponder", "core_v1.FileKeySelector", "core_v1.LocalObjectReference",
        "core_v1.NodeSelector", "core_v1.NodeSelectorTerm", "core_v1.ObjectFieldSelector", "core_v1.ObjectReference",
        "core_v1.ResourceFieldSelector", "core_v1.ScopeSelector", "core_v1.SecretKeySelector",
        "core_v1.SecretReference", "core_v1.TopologySelectorTerm", "core_v1.TypedLocalObjectReference",
        "discovery_v1.EndpointPort", "networking_v1.ServiceBackendPort", "rbac_v1.RoleRef", "rbac_v1.Subject",
        "meta_v1.LabelSelector", "meta_v1.OwnerReference",
    )
)  # fmt: skip

#: Fields that hold an object even when nobody wrote one: in Go they are structs, not pointers, and so no manager ever
#: owns them as such, but in an item that is new as a whole. Besides these: metadata, spec and status of any type.
ALWAYS_THERE = {
    "admissionregistration_v1.MutatingWebhook": ("clientConfig",),
    "admissionregistration_v1.ValidatingWebhook": ("clientConfig",),
    "apps_v1.DaemonSetSpec": ("template", "updateStrategy"),
    "apps_v1.DeploymentSpec": ("template", "strategy"),
    "apps_v1.ReplicaSetSpec": ("template",),
    "apps_v1.StatefulSetSpec": ("template", "updateStrategy"),
    "autoscaling_v1.HorizontalPodAutoscalerSpec": ("scaleTargetRef",),
    "autoscaling_v2.HorizontalPodAutoscalerSpec": ("scaleTargetRef",),
    "batch_v1.CronJobSpec": ("jobTemplate",),
    "batch_v1.JobSpec": ("template",),
    "core_v1.Binding": ("target",),
    "core_v1.Container": ("resources",),
    "core_v1.ContainerStatus": ("state", "lastState"),
    "core_v1.EphemeralContainer": ("resources",),
    "core_v1.Event": ("involvedObject", "source"),
    "core_v1.NodeDaemonEndpoints": ("kubeletEndpoint",),
    "core_v1.NodeStatus": ("daemonEndpoints", "nodeInfo"),
    "core_v1.PersistentVolumeClaimSpec": ("resources",),
    "core_v1.PodTemplate": ("template",),
    "core_v1.ServiceStatus": ("loadBalancer",),
    "discovery_v1.Endpoint": ("conditions",),
    "events_v1.Event": ("regarding", "deprecatedSource"),
    "flowcontrol_v1.FlowSchemaSpec": ("priorityLevelConfiguration",),
    "flowcontrol_v1.LimitedPriorityLevelConfiguration": ("limitResponse",),
    "networking_v1.HTTPIngressPath": ("backend",),
    "networking_v1.IngressServiceBackend": ("port",),
    "networking_v1.IngressStatus": ("loadBalancer",),
    "networking_v1.NetworkPolicySpec": ("podSelector",),
    "rbac_v1.ClusterRoleBinding": ("roleRef",),
    "rbac_v1.RoleBinding": ("roleRef",),
    "resource_v1.AllocationResult": ("devices",),
    "resource_v1.ResourceClaimSpec": ("devices",),
    "resource_v1.ResourceSliceSpec": ("pool",),
    "storage_v1.VolumeAttachmentSpec": ("source",),
}


class Node:
    """A value's schema.

    `shape`: "scalar", "map" (merges by field), "list" (merges by `keys`, or as a set if there are none), "atomic"
    (replaced as a whole). `struct` says whether a map's fields are declared (labels, say, are not).
    """

    shape: Shape = "atomic"
    keys: tuple[str, ...] = ()
    struct = False

    #: What a scalar is: "string", "boolean", "numeric" or "" for any. Only checked in what is applied.
    scalar = ""

    @property
    def names(self) -> frozenset[str]:
        """The declared fields of a map."""
        return frozenset()

    @property
    def open(self) -> bool:
        """Whether a map may have fields that are not declared."""
        return not self.struct

    @property
    def values(self) -> Callable[[Any], tuple[Any, ...]]:
        """Of a generated type: gives the values of all `fields`."""
        raise TypeError("not of a generated type")

    @property
    def blank(self) -> Any:
        """An object in which nobody has written anything yet. Read-only."""
        return _NOTHING

    @property
    def key_attributes(self) -> tuple[tuple[str, str], ...]:
        """Of a list of generated types: each key with Python's name for it."""
        return ()

    @property
    def fields(self) -> tuple[Field, ...]:
        """Of a generated type: all of its fields."""
        return ()

    @property
    def always(self) -> frozenset[str]:
        """The names of fields that are there even when nobody wrote them."""
        return frozenset()

    def child(self, name: str) -> Node:
        """Of a field of a map."""
        return DEDUCED

    def item(self) -> Node:
        """Of an item of a list."""
        return DEDUCED

    def resolve(self, value: Any) -> Node:
        """The node itself, unless the schema is silent and the value decides."""
        return self


_NOTHING: dict[str, Any] = {}


class _Plain(Node):
    def __init__(self, shape: Shape, scalar: str = "") -> None:
        self.shape = shape
        self.scalar = scalar


SCALAR = _Plain("scalar")
STRING, NUMERIC, BOOLEAN = (_Plain("scalar", kind) for kind in ("string", "numeric", "boolean"))
_SCALARS: dict[type[Any], Node] = {str: STRING, int: NUMERIC, float: NUMERIC, bool: BOOLEAN}
ATOMIC = _Plain("atomic")


class _Deduced(Node):
    def resolve(self, value: Any) -> Node:
        if isinstance(value, dict):
            return _DEDUCED_MAP
        return ATOMIC if isinstance(value, list) else SCALAR


DEDUCED = _Deduced()


class _DeducedMap(Node):
    shape: Shape = "map"


_DEDUCED_MAP = _DeducedMap()


class Field(NamedTuple):
    """A field of a generated type: Python's name, the wire's, the path element, the schema; whether it is always there,
    and whether nothing in it is owned by itself."""

    attribute: str
    name: str
    element: str
    node: Node
    always: bool
    leaf: bool


def _field(info: typeinfo.FieldInfo, always: bool) -> Field:
    node = _of_field(info)
    return Field(info.attribute, info.name, f"f:{info.name}", node, always, node.shape in ("scalar", "atomic")
                 and not isinstance(node, _Deduced))  # fmt: skip


class _Struct(Node):
    """An object of a generated type."""

    shape: Shape = "map"
    struct = True

    def __init__(self, type_: type[Any]) -> None:
        self._type = type_
        if _name(type_) in ATOMIC_TYPES:
            self.shape = "atomic"

    def __getattr__(self, name: str) -> Any:
        # Types refer to each other, so their tables are built when they are first asked for.
        infos = typeinfo.fields(self._type)
        if name == "table":
            self.table = tuple(_field(info, self._always(info)) for info in infos.values())
        elif name == "getter":
            self.getter = attrgetter(*(info.attribute for info in infos.values())) if len(infos) > 1 else _single(infos)
        elif name == "by_name":
            self.by_name = {f.name: f for f in self.table}
        elif name == "declared":
            self.declared = frozenset(infos)
        elif name == "empty":
            self.empty = self._type()
        elif name == "standing":
            self.standing = frozenset(f.name for f in self.table if f.always)
        else:
            raise AttributeError(name)
        return self.__dict__[name]

    def _always(self, info: typeinfo.FieldInfo) -> bool:
        if info.struct is None or info.shape:
            return False
        return info.name in ("metadata", "spec", "status") or info.name in ALWAYS_THERE.get(_name(self._type), ())

    @property
    def names(self) -> frozenset[str]:
        declared: frozenset[str] = self.declared
        return declared

    @property
    def values(self) -> Callable[[Any], tuple[Any, ...]]:
        getter: Callable[[Any], tuple[Any, ...]] = self.getter
        return getter

    @property
    def blank(self) -> Any:
        return self.empty

    @property
    def fields(self) -> tuple[Field, ...]:
        table: tuple[Field, ...] = self.table
        return table

    @property
    def always(self) -> frozenset[str]:
        found: frozenset[str] = self.standing
        return found

    def child(self, name: str) -> Node:
        known = self.by_name.get(name)
        return known.node if known is not None else DEDUCED


class _Map(Node):
    """A map of any keys to values of one schema."""

    shape: Shape = "map"

    def __init__(self, values: Node) -> None:
        self._values = values

    def child(self, name: str) -> Node:
        return self._values


class _AtomicList(Node):
    """A list that is replaced; its items are only looked at to see whether they fit."""

    def __init__(self, items: Node) -> None:
        self._items = items

    def item(self) -> Node:
        return self._items


class _List(Node):
    """A list that merges."""

    shape: Shape = "list"

    def __init__(self, items: Node, keys: tuple[str, ...], type_: type[Any] | None = None) -> None:
        self._type = type_
        self._items = items
        self.keys = tuple(sorted(keys))

    def item(self) -> Node:
        return self._items

    @property
    def key_attributes(self) -> tuple[tuple[str, str], ...]:
        found = self.__dict__.get("_attributes")
        if found is None:
            # The type's own table, also where its objects are replaced as a whole.
            infos = typeinfo.fields(self._type) if self._type is not None else {}
            found = self._attributes = tuple((k, infos[k].attribute) for k in self.keys if k in infos)
        return found


def _single(infos: Mapping[str, typeinfo.FieldInfo]) -> Callable[[Any], tuple[Any, ...]]:
    """As `attrgetter` of several: a tuple, of one value or none."""
    names = [info.attribute for info in infos.values()]
    return lambda obj: tuple(getattr(obj, name) for name in names)


def _name(type_: type[Any]) -> str:
    return f"{type_.__module__.rpartition('.')[2]}.{type_.__name__}"


@typeinfo.cached
def of_type(type_: type[Any]) -> Node:
    """The schema of a generated class."""
    return _Struct(type_)


def _of_field(info: typeinfo.FieldInfo) -> Node:
    if info.struct is not None:
        value: Node = of_type(info.struct)
    elif info.scalar is object and not info.meaning:
        value = DEDUCED
    elif info.meaning in ("", "Base64"):
        value = _SCALARS.get(info.scalar, SCALAR)
    else:
        value = SCALAR
    if info.list_type == "atomic":
        return _AtomicList(value) if info.shape == "list" else ATOMIC
    if info.shape == "list":
        if info.list_type == "map":
            return _List(value, info.map_keys, info.struct)
        return _List(value, ()) if info.list_type == "set" else _AtomicList(value)
    return _Map(value) if info.shape == "map" else value


_OPENAPI_SCALARS = {"string": "string", "integer": "numeric", "number": "numeric", "boolean": "boolean"}


#: What an embedded resource has without declaring it.
_OBJECT = frozenset(("apiVersion", "kind", "metadata"))


class _OpenApi(Node):
    """A part of a custom resource's structural schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        kind = schema.get("type")
        self.struct = bool(schema.get("properties"))
        if kind == "object" or (kind is None and self.struct):
            self.shape = "atomic" if schema.get("x-kubernetes-map-type") == "atomic" else "map"
        elif kind == "array":
            list_type = schema.get("x-kubernetes-list-type", "atomic")
            self.shape = "atomic" if list_type == "atomic" else "list"
            self.keys = tuple(sorted(schema.get("x-kubernetes-list-map-keys", ()))) if list_type == "map" else ()
        else:
            self.shape = "scalar"
            self.scalar = _OPENAPI_SCALARS.get(str(kind), "")

    @property
    def names(self) -> frozenset[str]:
        declared = frozenset(self._schema.get("properties") or ())
        return declared | _OBJECT if self._schema.get("x-kubernetes-embedded-resource") else declared

    @property
    def open(self) -> bool:
        schema = self._schema
        return bool(schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("additionalProperties"))

    def child(self, name: str) -> Node:
        properties = self._schema.get("properties") or {}
        if name == "metadata" and self._schema.get("x-kubernetes-embedded-resource"):
            return of_type(meta_v1.ObjectMeta)
        if name in properties:
            return of_openapi(properties[name])
        additional = self._schema.get("additionalProperties")
        return of_openapi(additional) if isinstance(additional, dict) else DEDUCED

    def item(self) -> Node:
        return of_openapi(self._schema.get("items") or {})


def of_openapi(schema: Mapping[str, Any]) -> Node:
    """The schema of a custom resource; a schema that says nothing is deduced."""
    if schema.get("x-kubernetes-embedded-resource"):
        return _OpenApi(schema)
    if schema.get("x-kubernetes-preserve-unknown-fields") and not schema.get("properties"):
        return DEDUCED
    if not schema.get("type") and not schema.get("properties") and not schema.get("x-kubernetes-int-or-string"):
        return DEDUCED
    return _OpenApi(schema)
