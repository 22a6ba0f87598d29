"""What is special about a kind: one Strategy, in one file under `resources/<group>/`.

The handlers are the same for all kinds and call the strategy at fixed points, in upstream's order:

    create   decode, default, [mutating admission], prepare_create, validate, [validating admission], store
    update   decode, default, [mutating admission], prepare_update, validate_update, [validating admission], store
    delete   [admission], grace_period, then either mark (deletionTimestamp) or remove

A kind without a file of its own is served by `Strategy` itself: metadata rules, schema validation, generation and
status kept apart. A strategy never waits and never looks anything up, except through the allocators of `begin_create`
and `begin_update`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from podling.api.errors import FieldError
from podling.api.registry import Resource
from podling.api.request import User

T = TypeVar("T")

#: Kinds whose metadata.generation counts the changes of what is wanted: 1 at first, one more with each.
GENERATION = frozenset(
    {
        "cronjobs.batch", "customresourcedefinitions.apiextensions.k8s.io",
        "daemonsets.apps", "deployments.apps", "deviceclasses.resource.k8s.io", "endpointslices.discovery.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io", "ingressclasses.networking.k8s.io", "ingresses.networking.k8s.io",
        "jobs.batch", "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io", "networkpolicies.networking.k8s.io", "pods",
        "poddisruptionbudgets.policy", "podtemplates",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "replicasets.apps", "replicationcontrollers",
        "resourceslices.resource.k8s.io", "statefulsets.apps",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)  # fmt: skip


#: Kinds whose dependents are orphaned unless a delete request says otherwise; of events there are none.
PROPAGATION = {"jobs.batch": "Orphan", "replicationcontrollers": "Orphan", "events": "", "events.events.k8s.io": ""}

RETURNS_DELETED = frozenset(
    {
        "csidrivers.storage.k8s.io", "csinodes.storage.k8s.io", "csistoragecapacities.storage.k8s.io",
        "persistentvolumeclaims", "persistentvolumes", "pods", "podtemplates", "resourcequotas", "serviceaccounts",
        "services", "storageclasses.storage.k8s.io", "volumeattachments.storage.k8s.io",
        "volumeattributesclasses.storage.k8s.io",
    }
)  # fmt: skip


_WRITABLE = ("labels", "annotations", "finalizers", "owner_references")
#: What of an object's metadata a write of /status leaves as it was: nothing, unless it stands here.
KEPT_BY_STATUS = {
    "apiservices.apiregistration.k8s.io": _WRITABLE,
    "deployments.apps": ("labels",),
    "flowschemas.flowcontrol.apiserver.k8s.io": _WRITABLE,
    "podcertificaterequests.certificates.k8s.io": _WRITABLE,
    "pods": ("owner_references",),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": _WRITABLE,
    "resourceclaims.resource.k8s.io": _WRITABLE,
    "validatingadmissionpolicies.admissionregistration.k8s.io": _WRITABLE,
    "volumeattachments.storage.k8s.io": _WRITABLE,
}


#: Subresources whose methods are not named as they are.
_SUBRESOURCES = {"ephemeralcontainers": "ephemeral_containers"}


class Column(msgspec.Struct, frozen=True):
    """A column of `kubectl get`. `priority` 0 is always shown, 1 with -o wide. `type` and `format` are OpenAPI's."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy may know of the request."""

    now: datetime
    user: User
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    dry_run: bool = False


#: Undo of what begin_create or begin_update took (a cluster IP, a node port); called if the request fails later.
Release = Callable[[], Awaitable[None]]


class Strategy(Generic[T]):
    """The behaviour that all kinds share; override what differs. Objects passed in may be changed unless said so."""

    #: Updates bump metadata.generation when the spec changes, and the status is kept apart under /status.
    has_status = False
    #: PUT of an object that does not exist creates it.
    create_on_update = False
    #: Whether there are types by which a strategic merge patch could be applied.
    merges_strategically = True
    #: PUT without a resourceVersion is allowed.
    unconditional_update = True
    #: Names that a field selector may use besides metadata.name and metadata.namespace.
    selectable_fields: tuple[str, ...] = ()
    #: A warning that every request for the kind, reads included, is answered with; "" for kinds that are here to stay.
    deprecation = ""
    #: () means upstream's default: Name and Age.
    columns: tuple[Column, ...] = ()

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        #: metadata.generation counts the changes of `desired`.
        self.has_generation = resource.qualified in GENERATION
        self.kept_by_status = KEPT_BY_STATUS.get(resource.qualified, ())
        #: What happens to dependents if a delete request does not say: Background, Orphan, "" (it may not say either).
        self.default_propagation = PROPAGATION.get(resource.qualified, "Background")
        #: DELETE answers with the object that was removed instead of a Status.
        self.returns_deleted = resource.qualified in RETURNS_DELETED

    def default(self, obj: T) -> None:
        """Fill in what the author left out. Runs on every write and must be idempotent."""

    def prepare_create(self, obj: T, context: Context) -> None:
        """Reset what a client may not set (status, generation is set to 1 by the handler)."""

    def validate(self, obj: T) -> list[FieldError]:
        """What is wrong with a new object, beyond its metadata (that is checked for all kinds)."""
        return []

    def prepare_update(self, new: T, old: T, context: Context) -> None:
        """Bring over what this verb may not change. `old` is read-only. The handler keeps status and generation."""

    def validate_update(self, new: T, old: T) -> list[FieldError]:
        """What is wrong with the change, immutable fields included. `old` is read-only."""
        return self.validate(new)

    def validate_status_update(self, new: T, old: T) -> list[FieldError]:
        """As validate_update, for /status."""
        return []

    def prepare_status_update(self, new: T, old: T, context: Context) -> None:
        """The handler has put everything but `status` (and metadata's mutable parts) back to `old`."""

    def prepare_subresource_update(self, subresource: str, new: T, old: T, context: Context) -> None:
        """As prepare_update, for a subresource other than status: `prepare_resize` and the like, if there is one."""
        method = getattr(self, f"prepare_{_SUBRESOURCES.get(subresource, subresource)}", None)
        if method is not None:
            method(new, old, context)

    def validate_subresource_update(self, subresource: str, new: T, old: T) -> list[FieldError]:
        """As validate_update, for a subresource other than status: `validate_resize` and the like, if there is one."""
        method = getattr(self, f"validate_{_SUBRESOURCES.get(subresource, subresource)}", None)
        found: list[FieldError] = method(new, old) if method is not None else []
        return found

    def desired(self, obj: T) -> Any:
        """What metadata.generation counts the changes of: everything but metadata and status."""
        fields: tuple[str, ...] = getattr(type(obj), "__struct_fields__", ())
        return [getattr(obj, f) for f in fields if f not in ("kind", "api_version", "metadata", "status")]

    def warnings(self, new: T, old: T | None) -> list[str]:
        """Texts for the Warning header."""
        return []

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        """What is wrong with a name (of generateName, if `prefix`); DNS subdomain unless overridden."""
        from podling.api import names

        return names.dns_subdomain(name, prefix=prefix)

    def fields(self, obj: T) -> Mapping[str, str]:
        """Values of `selectable_fields`. `obj` is read-only."""
        return {}

    #: What /scale shows, as a `facet.Facet`, where that is not the usual one (`handlers.scale.SCALE`).
    scale_facet: Any = None

    def row(self, obj: T, now: datetime) -> list[Any]:
        """Cells for `columns`. `obj` is read-only."""
        return []

    def grace_period(self, obj: T, requested: int | None) -> int | None:
        """Seconds of graceful deletion, None if the kind has none. `obj` is read-only. Only pods have it upstream."""
        return None

    async def begin_create(self, obj: T, context: Context) -> Release | None:
        """Take what must be unique in the cluster (after prepare_create, before validate)."""
        return None

    async def begin_update(self, new: T, old: T, context: Context) -> Release | None:
        """As begin_create, for an update."""
        return None

    def delays_deletion(self, obj: T) -> bool:
        """Whether something has to be done before the object may go: finalizers (a namespace has them in spec too)."""
        spec = getattr(obj, "spec", None)
        return bool(obj.metadata.finalizers or getattr(spec, "finalizers", None))  # type: ignore[attr-defined]

    def mark_deleting(self, obj: T) -> None:
        """The object has got its deletionTimestamp and stays until nothing delays its deletion."""

    async def after_delete(self, obj: T) -> None:
        """Give back what begin_create took."""


class PlainStrategy(Strategy[Any]):
    """Of a kind that has no file of its own."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource)
        self.has_status = "status" in resource.subresources

    def prepare_create(self, obj: Any, context: Context) -> None:
        # A kubelet registers its node together with its status.
        if self.has_status and self.resource.qualified != "nodes":
            obj.status = type(obj)().status
