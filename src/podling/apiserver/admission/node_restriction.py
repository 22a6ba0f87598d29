"""NodeRestriction: a kubelet writes its own node and its own pods, and nothing that would draw work or rights to it.

The Node authorizer says which kinds a kubelet may write at all; this plugin looks at the objects. Source: Kubernetes'
"Admission Controllers", NodeRestriction.
"""

from __future__ import annotations

from typing import Any

from podling.api import authentication_v1, core_v1, errors
from podling.api.errors import StatusError
from podling.api.struct import clone
from podling.apiserver.admission.base import CREATE, DELETE, UPDATE, Attributes, Plugin
from podling.apiserver.authz.attributes import quoted
from podling.apiserver.authz.node import LEASES, MIRROR, config_maps_of, node_name
from podling.machinery.pod_secrets import secrets_of

#: Labels of kubernetes.io and k8s.io that a kubelet may set on its node.
KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/windows-build",
    }
)
KUBELET_LABEL_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
RESTRICTED = "node-restriction.kubernetes.io"


class NodeRestriction(Plugin):
    """Looks at writes of members of system:nodes, and at no others."""

    name = "NodeRestriction"
    operations = frozenset((CREATE, UPDATE, DELETE))
    resources = frozenset(
        (
            "pods",
            "nodes",
            "persistentvolumeclaims",
            "serviceaccounts",
            "leases.coordination.k8s.io",
            "csinodes.storage.k8s.io",
            "resourceslices.resource.k8s.io",
            "podcertificaterequests.certificates.k8s.io",
        )
    )
    subresources = None
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        node = node_name(attributes.user)
        if node is None:
            return
        if not node:
            raise _refusal(attributes, f"could not determine node from user {quoted(attributes.user.name)}")
        why = self._judge(node, attributes)
        if why:
            raise _refusal(attributes, why)

    def _judge(self, node: str, a: Attributes) -> str:
        match a.qualified, a.subresource:
            case "pods", "":
                return self._pod(node, a)
            case "pods", "status":
                return _pod_status(node, a)
            case "pods", "eviction":
                return self._eviction(node, a)
            case "pods", sub:
                return f"unexpected pod subresource {quoted(sub)}, only 'status' and 'eviction' are allowed"
            case "nodes", _:
                return _node(node, a)
            case "persistentvolumeclaims", "status":
                return _claim_status(node, a)
            case "persistentvolumeclaims", _:
                return "may only update PVC status"
            case "serviceaccounts", "token":
                return self._token(node, a)
            case "leases.coordination.k8s.io", _:
                return _lease(node, a)
            case "csinodes.storage.k8s.io", _:
                return _own(node, a, "can only access CSINode with the same name as the requesting node")
            case "resourceslices.resource.k8s.io", _:
                return _resource_slice(node, a)
            case "podcertificaterequests.certificates.k8s.io", _:
                return self._certificate_request(node, a)
        return ""

    def _stored_pod(self, a: Attributes, name: str) -> core_v1.Pod:
        pod = self.app.cached("", "pods", f"{a.namespace}/{name}")
        if pod is None:
            raise errors.not_found("pods", "", name)
        assert isinstance(pod, core_v1.Pod)
        return pod

    def _pod(self, node: str, a: Attributes) -> str:
        if a.operation == CREATE:
            return self._mirror_pod(node, a.obj)
        if a.operation == DELETE:
            if self._stored_pod(a, a.name).spec.node_name != node:
                return f"node {quoted(node)} can only delete pods with spec.nodeName set to itself"
            return ""
        return f"unexpected operation {quoted(a.operation)}, node {quoted(node)} can only create and delete mirror pods"

    def _mirror_pod(self, node: str, pod: core_v1.Pod) -> str:
        who = f"node {quoted(node)}"
        if MIRROR not in (pod.metadata.annotations or {}):
            return f"pod does not have {quoted(MIRROR)} annotation, {who} can only create mirror pods"
        if pod.spec.node_name != node:
            return f"{who} can only create pods with spec.nodeName set to itself"
        return self._owner(node, pod) or _references(who, pod)

    def _owner(self, node: str, pod: core_v1.Pod) -> str:
        who, owners = f"node {quoted(node)}", pod.metadata.owner_references or []
        if len(owners) > 1:
            return f"{who} can only create pods with a single owner reference set to itself"
        if not owners or (owners[0].api_version, owners[0].kind, owners[0].name) != ("v1", "Node", node):
            return f"{who} can only create pods with an owner reference set to itself"
        owner = owners[0]
        if not owner.controller:
            return f"{who} can only create pods with a controller owner reference set to itself"
        if owner.block_owner_deletion:
            return f"{who} must not set blockOwnerDeletion on an owner reference"
        stored = self.app.cached("", "nodes", node)
        if stored is None:
            raise errors.not_found("nodes", "", node)
        if owner.uid != stored.metadata.uid:
            return f"node {node} UID mismatch: expected {owner.uid} got {stored.metadata.uid}"
        return ""

    def _eviction(self, node: str, a: Attributes) -> str:
        if a.operation != CREATE:
            return f"unexpected operation {a.operation}"
        name = a.name or (a.obj.metadata.name if a.obj is not None else "")
        if not name:
            return "could not determine pod from request data"
        if self._stored_pod(a, name).spec.node_name != node:
            return f"node {node} can only evict pods with spec.nodeName set to itself"
        return ""

    def _token(self, node: str, a: Attributes) -> str:
        if a.operation != CREATE or not isinstance(a.obj, authentication_v1.TokenRequest):
            return ""
        ref = a.obj.spec.bound_object_ref
        if ref is None or ref.api_version != "v1" or ref.kind != "Pod" or not ref.name:
            return "node requested token not bound to a pod"
        if not ref.uid:
            return "node requested token with a pod binding without a uid"
        pod = self._stored_pod(a, ref.name)
        if ref.uid != pod.metadata.uid:
            return (
                f"the UID in the bound object reference ({ref.uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
        if pod.spec.node_name != node:
            return "node requested token bound to a pod scheduled on a different node"
        return ""

    def _certificate_request(self, node: str, a: Attributes) -> str:
        if a.operation != CREATE or a.subresource:
            return ""
        spec = a.obj.spec
        if spec.node_name != node:
            return (
                f"PodCertificateRequest.Spec.NodeName={quoted(spec.node_name)}, which is not the requesting node "
                f"{quoted(node)}"
            )
        pod, subject = self._stored_pod(a, spec.pod_name), quoted(f"{a.namespace}/{spec.pod_name}")
        if pod.metadata.uid != spec.pod_uid:
            return (
                f"PodCertificateRequest for pod {subject} contains pod UID ({quoted(spec.pod_uid)}) which differs "
                f"from running pod UID ({quoted(pod.metadata.uid or '')})"
            )
        if pod.spec.node_name != node:
            return f"PodCertificateRequest for pod {subject}, which is not running on node {quoted(node)}"
        return ""


def _refusal(a: Attributes, why: str) -> StatusError:
    return errors.forbidden(a.resource.name, a.resource.group, a.name, why)


def _references(who: str, pod: core_v1.Pod) -> str:
    """A node must not give itself access by a pod that it writes."""
    if pod.spec.service_account_name:
        return f"{who} can not create pods that reference a service account"
    if any(secrets_of(pod)):
        return f"{who} can not create pods that reference secrets"
    if any(config_maps_of(pod)):
        return f"{who} can not create pods that reference configmaps"
    for volume in pod.spec.volumes or ():
        if volume.projected is not None and any(s.cluster_trust_bundle for s in volume.projected.sources or ()):
            return f"{who} can not create pods that reference clustertrustbundles"
        if volume.persistent_volume_claim is not None:
            return f"{who} can not create pods that reference persistentvolumeclaims"
    if pod.spec.resource_claims:
        return f"{who} can not create pods that reference resourceclaims"
    return ""


def _pod_status(node: str, a: Attributes) -> str:
    if a.operation != UPDATE:
        return f"unexpected operation {quoted(a.operation)}"
    if a.old.spec.node_name != node:
        return f"node {quoted(node)} can only update pod status for pods with spec.nodeName set to itself"
    if (a.old.metadata.labels or {}) != (a.obj.metadata.labels or {}):
        return f"node {quoted(node)} cannot update labels through pod status"
    old, new = a.old.status, a.obj.status
    if ((old and old.resource_claim_statuses) or []) != ((new and new.resource_claim_statuses) or []):
        return f"node {quoted(node)} cannot update resource claim statues"
    return ""


def _node(node: str, a: Attributes) -> str:
    requested = a.name or (a.obj.metadata.name if a.obj is not None else "")
    if requested != node:
        return f"node {quoted(node)} is not allowed to modify node {quoted(requested)}"
    if a.operation == CREATE:
        if a.obj.spec is not None and a.obj.spec.config_source is not None:
            return f"node {quoted(node)} is not allowed to create pods with a non-nil configSource"
        labels = forbidden_labels(a.obj.metadata.labels or {}, {})
        if labels:
            return f"node {quoted(node)} is not allowed to set the following labels: {', '.join(labels)}"
    if a.operation == UPDATE:
        new, old = a.obj.spec or core_v1.NodeSpec(), a.old.spec or core_v1.NodeSpec()
        if new.config_source is not None and new.config_source != old.config_source:
            return f"node {quoted(node)} is not allowed to update configSource to a new non-nil configSource"
        if (new.taints or []) != (old.taints or []):
            return f"node {quoted(node)} is not allowed to modify taints"
        labels = forbidden_labels(a.obj.metadata.labels or {}, a.old.metadata.labels or {})
        if labels:
            return f"is not allowed to modify labels: {', '.join(labels)}"
    return ""


def forbidden_labels(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """The labels that changed though a kubelet may not change them, sorted."""
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
    return sorted(key for key in changed if _restricted(key))


def _restricted(key: str) -> bool:
    namespace = key.partition("/")[0] if "/" in key else ""
    if _within(namespace, RESTRICTED):
        return True
    if not (_within(namespace, "kubernetes.io") or _within(namespace, "k8s.io")):
        return False
    return key not in KUBELET_LABELS and not any(_within(namespace, n) for n in KUBELET_LABEL_NAMESPACES)


def _within(namespace: str, parent: str) -> bool:
    return namespace == parent or namespace.endswith(f".{parent}")


def _claim_status(node: str, a: Attributes) -> str:
    if a.operation != UPDATE:
        return f"unexpected operation {quoted(a.operation)}"
    if _without_kubelet_fields(a.old) != _without_kubelet_fields(a.obj):
        return f"node {quoted(node)} is not allowed to update fields other than status.capacity and status.conditions"
    return ""


def _without_kubelet_fields(claim: core_v1.PersistentVolumeClaim) -> core_v1.PersistentVolumeClaim:
    result = clone(claim)
    result.metadata.resource_version = result.metadata.managed_fields = None
    status: Any = result.status
    if status is not None:
        status.capacity = status.conditions = status.allocated_resource_statuses = status.allocated_resources = None
    return result


def _lease(node: str, a: Attributes) -> str:
    if a.namespace != LEASES:
        return f"can only access leases in the {quoted(LEASES)} system namespace"
    return _own(node, a, "can only access node lease with the same name as the requesting node")


def _own(node: str, a: Attributes, why: str) -> str:
    name = a.obj.metadata.name if a.operation == CREATE else a.name
    return "" if name == node else why


def _resource_slice(node: str, a: Attributes) -> str:
    if a.operation == CREATE and a.obj.spec.node_name != node:
        return "can only create ResourceSlice with the same NodeName as the requesting node"
    if a.operation == DELETE and a.old is not None and a.old.spec.node_name != node:
        return "can only delete ResourceSlice with the same NodeName as the requesting node"
    return ""
