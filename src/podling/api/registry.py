"""Which resources there are: the table behind paths, discovery, clients and RBAC.

One row a resource. What is special about a kind's behaviour stands in `apiserver/resources/`. Custom resources
are rows too, made when their definition is accepted.
"""

from __future__ import annotations

import importlib
from functools import cached_property
from typing import Any

import msgspec

#: The order is the one that clients show.
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Resource(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A resource of one group version. `subresources` are wire names; `virtual` ones are answered, never stored.

    `storage_group` names the group whose stored objects this is another view of (events.k8s.io shows core's events).
    """

    group: str
    version: str
    name: str
    kind: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    virtual: bool = False
    #: The kind of lists, where it is not the kind with "List" behind it.
    list_kind: str = ""

    @property
    def group_version(self) -> str:
        """`v1` or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`pods` or `deployments.apps`."""
        return f"{self.name}.{self.group}" if self.group else self.name

    @cached_property
    def type(self) -> type[Any]:
        """The generated class."""
        result: type[Any] = getattr(importlib.import_module(f"podling.api.{module_name(self)}"), self.kind)
        return result

    def collection_path(self, namespace: str | None = None) -> str:
        """`/api/v1/namespaces/default/pods`; over all namespaces without one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{root}{scope}/{self.name}"

    def path(self, name: str, namespace: str | None = None, subresource: str = "") -> str:
        """`/api/v1/namespaces/default/pods/web/log`."""
        base = f"{self.collection_path(namespace)}/{name}"
        return f"{base}/{subresource}" if subresource else base


def module_name(resource: Resource) -> str:
    """`apps_v1`, `core_v1`, `rbac_v1`: the module of podling.api with the resource's type."""
    group = resource.group.split(".")[0] or "core"
    return {"internal": "flowcontrol"}.get(group, group) + "_" + resource.version


def _rows() -> list[Resource]:
    rows: list[Resource] = []

    def group(name: str, version: str, *resources: dict[str, Any]) -> None:
        rows.extend(Resource(group=name, version=version, **r) for r in resources)

    def row(name: str, kind: str, *subresources: str, short: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
        return {"name": name, "kind": kind, "subresources": subresources, "short_names": short, **more}

    cluster: dict[str, Any] = {"namespaced": False}
    create: dict[str, Any] = {"verbs": ("create",), "virtual": True}
    everything: dict[str, Any] = {"categories": ("all",)}

    group(
        "",
        "v1",
        row("bindings", "Binding", **create),
        row("componentstatuses", "ComponentStatus", short=("cs",), verbs=("get", "list"), virtual=True, **cluster),
        row("configmaps", "ConfigMap", short=("cm",)),
        row("endpoints", "Endpoints", short=("ep",)),
        row("events", "Event", short=("ev",)),
        row("limitranges", "LimitRange", short=("limits",)),
        row(
            "namespaces",
            "Namespace",
            "status",
            "finalize",
            short=("ns",),
            # Deleted one by one only.
            verbs=tuple(v for v in VERBS if v != "deletecollection"),
            **cluster,
        ),
        row("nodes", "Node", "status", "proxy", short=("no",), **cluster),
        row("persistentvolumeclaims", "PersistentVolumeClaim", "status", short=("pvc",)),
        row("persistentvolumes", "PersistentVolume", "status", short=("pv",), **cluster),
        row(
            "pods", "Pod", "status", "binding", "eviction", "ephemeralcontainers", "resize", "log", "exec", "attach",
            "portforward", "proxy", short=("po",), **everything,
        ),
        row("podtemplates", "PodTemplate"),
        row("replicationcontrollers", "ReplicationController", "status", "scale", short=("rc",), **everything),
        row("resourcequotas", "ResourceQuota", "status", short=("quota",)),
        row("secrets", "Secret"),
        row("serviceaccounts", "ServiceAccount", "token", short=("sa",)),
        row("services", "Service", "status", "proxy", short=("svc",), **everything),
    )  # fmt: skip
    group(
        "admissionregistration.k8s.io",
        "v1",
        row("mutatingadmissionpolicies", "MutatingAdmissionPolicy", **cluster),
        row("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", **cluster),
        row(
            "mutatingwebhookconfigurations",
            "MutatingWebhookConfiguration",
            categories=("api-extensions",),
            **cluster,
        ),
        row(
            "validatingadmissionpolicies",
            "ValidatingAdmissionPolicy",
            "status",
            categories=("api-extensions",),
            **cluster,
        ),
        row("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", **cluster),
        row(
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
            categories=("api-extensions",),
            **cluster,
        ),
    )
    group(
        "apiextensions.k8s.io",
        "v1",
        row(
            "customresourcedefinitions",
            "CustomResourceDefinition",
            "status",
            short=("crd", "crds"),
            categories=("api-extensions",),
            **cluster,
        ),
    )
    group(
        "apiregistration.k8s.io",
        "v1",
        row("apiservices", "APIService", "status", categories=("api-extensions",), **cluster),
    )
    group(
        "apps",
        "v1",
        row("controllerrevisions", "ControllerRevision"),
        row("daemonsets", "DaemonSet", "status", short=("ds",), **everything),
        row("deployments", "Deployment", "status", "scale", short=("deploy",), **everything),
        row("replicasets", "ReplicaSet", "status", "scale", short=("rs",), **everything),
        row("statefulsets", "StatefulSet", "status", "scale", short=("sts",), **everything),
    )
    group(
        "authentication.k8s.io",
        "v1",
        row("selfsubjectreviews", "SelfSubjectReview", **create, **cluster),
        row("tokenreviews", "TokenReview", **create, **cluster),
    )
    group(
        "authorization.k8s.io",
        "v1",
        row("localsubjectaccessreviews", "LocalSubjectAccessReview", **create),
        row("selfsubjectaccessreviews", "SelfSubjectAccessReview", **create, **cluster),
        row("selfsubjectrulesreviews", "SelfSubjectRulesReview", **create, **cluster),
        row("subjectaccessreviews", "SubjectAccessReview", **create, **cluster),
    )
    for version in ("v2", "v1"):
        group(
            "autoscaling",
            version,
            row("horizontalpodautoscalers", "HorizontalPodAutoscaler", "status", short=("hpa",), **everything),
        )
    group(
        "metrics.k8s.io",
        "v1beta1",
        row("nodes", "NodeMetrics", verbs=("get", "list"), virtual=True, **cluster),
        row("pods", "PodMetrics", verbs=("get", "list"), virtual=True),
    )
    group(
        "batch",
        "v1",
        row("cronjobs", "CronJob", "status", short=("cj",), **everything),
        row("jobs", "Job", "status", **everything),
    )
    group(
        "certificates.k8s.io",
        "v1",
        row(
            "certificatesigningrequests",
            "CertificateSigningRequest",
            "status",
            "approval",
            short=("csr",),
            **cluster,
        ),
        row("clustertrustbundles", "ClusterTrustBundle", **cluster),
        row("podcertificaterequests", "PodCertificateRequest", "status"),
    )
    group("coordination.k8s.io", "v1", row("leases", "Lease"))
    group("discovery.k8s.io", "v1", row("endpointslices", "EndpointSlice"))
    group("events.k8s.io", "v1", row("events", "Event", short=("ev",)))
    group(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        row("flowschemas", "FlowSchema", "status", **cluster),
        row("prioritylevelconfigurations", "PriorityLevelConfiguration", "status", **cluster),
    )
    group(
        "networking.k8s.io",
        "v1",
        row("ingressclasses", "IngressClass", **cluster),
        row("ingresses", "Ingress", "status", short=("ing",)),
        row("ipaddresses", "IPAddress", short=("ip",), **cluster),
        row("networkpolicies", "NetworkPolicy", short=("netpol",)),
        row("servicecidrs", "ServiceCIDR", "status", **cluster),
    )
    group("node.k8s.io", "v1", row("runtimeclasses", "RuntimeClass", **cluster))
    group("policy", "v1", row("poddisruptionbudgets", "PodDisruptionBudget", "status", short=("pdb",)))
    group(
        "rbac.authorization.k8s.io",
        "v1",
        row("clusterrolebindings", "ClusterRoleBinding", **cluster),
        row("clusterroles", "ClusterRole", **cluster),
        row("rolebindings", "RoleBinding"),
        row("roles", "Role"),
    )
    group(
        "resource.k8s.io",
        "v1",
        row("deviceclasses", "DeviceClass", **cluster),
        row("resourceclaims", "ResourceClaim", "status"),
        row("resourceclaimtemplates", "ResourceClaimTemplate"),
        row("resourceslices", "ResourceSlice", **cluster),
    )
    group("scheduling.k8s.io", "v1", row("priorityclasses", "PriorityClass", short=("pc",), **cluster))
    group(
        "storage.k8s.io",
        "v1",
        row("csidrivers", "CSIDriver", **cluster),
        row("csinodes", "CSINode", **cluster),
        row("csistoragecapacities", "CSIStorageCapacity"),
        row("storageclasses", "StorageClass", short=("sc",), **cluster),
        row("volumeattachments", "VolumeAttachment", "status", **cluster),
        row("volumeattributesclasses", "VolumeAttributesClass", short=("vac",), **cluster),
    )
    return rows


#: All built-in resources; within a group the preferred version first.
BUILTIN: tuple[Resource, ...] = tuple(_rows())

_by_kind = {(r.group_version, r.kind): r for r in BUILTIN}
_by_path = {(r.group, r.version, r.name): r for r in BUILTIN}
_by_type_name = {(f"podling.api.{module_name(r)}", r.kind): r for r in BUILTIN}


def by_kind(api_version: str, kind: str) -> Resource | None:
    """`by_kind("apps/v1", "Deployment")`."""
    return _by_kind.get((api_version, kind))


def by_name(group: str, version: str, name: str) -> Resource | None:
    """`by_name("apps", "v1", "deployments")`."""
    return _by_path.get((group, version, name))


def of(type_: type[Any]) -> Resource:
    """The resource of a generated class; KeyError if it is not the kind of one."""
    return _by_type_name[type_.__module__, type_.__qualname__]
