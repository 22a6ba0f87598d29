"""The Node authorizer: a kubelet may read what the pods on its node refer to, and little else.

It keeps, for every object that pods refer to, the nodes of those pods (upstream's graph node <- pod <- secret, config
map, claim, service account, with one step less: destinations are stored, not walked to). Source: Kubernetes'
"Using Node Authorization".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from podling.api import certificates_v1, core_v1, resource_v1, storage_v1
from podling.api.request import User
from podling.api.selectors import pinned
from podling.apiserver.authz import policy
from podling.apiserver.authz.attributes import NO_OPINION, Attributes, Decision, quoted
from podling.apiserver.authz.rbac import CompiledRules, keys_of
from podling.machinery.pod_secrets import secrets_of

NODES = "system:nodes"
PREFIX = "system:node:"
MIRROR = "kubernetes.io/config.mirror"
LEASES = "kube-node-lease"

_ALLOWED = Decision(True)

#: (resource, namespace, name)
Key = tuple[str, str, str]


def node_name(user: User) -> str | None:
    """The node that `user` is the kubelet of; "" for a member of system:nodes without such a name, None for others."""
    if NODES not in user.groups:
        return None
    return user.name[len(PREFIX) :] if user.name.startswith(PREFIX) else ""


class NodeAuthorizer:
    """Feed it pods, persistent volumes, volume attachments, resource slices and pod certificate requests."""

    def __init__(self) -> None:
        #: object -> node -> how many references lead there
        self._nodes: dict[Key, dict[str, int]] = {}
        #: pod -> (what of it counts, node, what it refers to)
        self._pods: dict[Key, tuple[object, str, frozenset[Key]]] = {}
        self._volumes: dict[str, tuple[Key | None, frozenset[Key]]] = {}
        #: secret -> volumes that refer to it
        self._volume_secrets: dict[Key, set[str]] = {}
        self._known: dict[str, int] = {}
        self._rules: CompiledRules | None = None

    name_of = staticmethod(node_name)

    def put(self, obj: Any) -> None:
        """Take in a new or changed object."""
        match obj:
            case core_v1.Pod():
                self._put_pod(obj)
            case core_v1.PersistentVolume():
                self._put_volume(obj)
            case storage_v1.VolumeAttachment():
                self._single("volumeattachments", "", obj.metadata.name or "", obj.spec.node_name)
            case resource_v1.ResourceSlice():
                self._single("resourceslices", "", obj.metadata.name or "", obj.spec.node_name or "")
            case certificates_v1.PodCertificateRequest():
                meta = obj.metadata
                self._single("podcertificaterequests", meta.namespace or "", meta.name or "", obj.spec.node_name)

    def remove(self, obj: Any) -> None:
        """Forget a deleted object."""
        namespace, name = obj.metadata.namespace or "", obj.metadata.name or ""
        match obj:
            case core_v1.Pod():
                self._drop_pod(("pods", namespace, name))
            case core_v1.PersistentVolume():
                self._drop_volume(name)
            case storage_v1.VolumeAttachment():
                self._single("volumeattachments", "", name, "")
            case resource_v1.ResourceSlice():
                self._single("resourceslices", "", name, "")
            case certificates_v1.PodCertificateRequest():
                self._single("podcertificaterequests", namespace, name, "")

    def _put_pod(self, pod: core_v1.Pod) -> None:
        spec = pod.spec
        if spec is None or not spec.node_name:
            return
        key = ("pods", pod.metadata.namespace or "", pod.metadata.name or "")
        status = pod.status
        version = (
            pod.metadata.uid,
            spec.node_name,
            len(spec.ephemeral_containers or ()),
            status.resource_claim_statuses if status else None,
            status.extended_resource_claim_status if status else None,
        )
        known = self._pods.get(key)
        if known is not None and known[0] == version:
            return
        self._drop_pod(key)
        references = frozenset({key, *references_of(pod)})
        self._pods[key] = (version, spec.node_name, references)
        for reference in references:
            _count(self._nodes.setdefault(reference, {}), spec.node_name, 1)
        _count(self._known, spec.node_name, 1)

    def _drop_pod(self, key: Key) -> None:
        known = self._pods.pop(key, None)
        if known is None:
            return
        _, node, references = known
        for reference in references:
            nodes = self._nodes[reference]
            _count(nodes, node, -1)
            if not nodes:
                del self._nodes[reference]
        _count(self._known, node, -1)

    def _put_volume(self, volume: core_v1.PersistentVolume) -> None:
        name = volume.metadata.name or ""
        self._drop_volume(name)
        spec = volume.spec
        claim = spec.claim_ref if spec else None
        if spec is None or claim is None:
            return
        namespace = claim.namespace or ""
        secrets = frozenset(("secrets", ns, secret) for ns, secret in _volume_secrets(spec, namespace))
        self._volumes[name] = (("persistentvolumeclaims", namespace, claim.name or ""), secrets)
        for secret in secrets:
            self._volume_secrets.setdefault(secret, set()).add(name)

    def _drop_volume(self, name: str) -> None:
        known = self._volumes.pop(name, None)
        for secret in known[1] if known else ():
            self._volume_secrets[secret].discard(name)
            if not self._volume_secrets[secret]:
                del self._volume_secrets[secret]

    def _single(self, resource: str, namespace: str, name: str, node: str) -> None:
        """An object that leads to one node by a field of its own."""
        key = (resource, namespace, name)
        for before in self._nodes.pop(key, {}):
            _count(self._known, before, -1)
        if node:
            self._nodes[key] = {node: 1}
            _count(self._known, node, 1)

    def leads_to(self, node: str, resource: str, namespace: str, name: str) -> bool:
        """Whether something on `node` refers to the object."""
        key = (resource, namespace, name)
        if node in self._nodes.get(key, ()):
            return True
        if resource == "persistentvolumes":
            known = self._volumes.get(name)
            return known is not None and known[0] is not None and node in self._nodes.get(known[0], ())
        if resource == "secrets":
            volumes = self._volume_secrets.get(key, ())
            return any(self.leads_to(node, "persistentvolumes", "", volume) for volume in volumes)
        return False

    def authorize(self, a: Attributes) -> Decision:
        """No opinion on who is not a node."""
        node = node_name(a.user)
        if node is None:
            return NO_OPINION
        if not node:
            return Decision(False, f"unknown node for user {quoted(a.user.name)}")
        if a.resource:
            special = _SPECIAL.get((a.group, a.resource))
            if special is not None:
                return special(self, node, a)
        rules = self._rules
        if rules is None:
            rules = self._rules = CompiledRules(policy.default().cluster_role("system:node").rules or ())
        allowed = rules.allows_resource(keys_of(a), a.verb, a.name) if a.resource else rules.allows_url(a.path, a.verb)
        return _ALLOWED if allowed else NO_OPINION

    def _related(self, node: str, a: Attributes) -> Decision:
        if not a.name:
            return Decision(False, "No Object name found")
        if self.leads_to(node, a.resource, a.namespace, a.name):
            return _ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _read(self, node: str, a: Attributes) -> Decision:
        if a.verb not in ("get", "list", "watch"):
            return Decision(False, "can only read resources of this type")
        if a.subresource:
            return Decision(False, "cannot read subresource")
        if not a.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, a)

    def _get(self, node: str, a: Attributes) -> Decision:
        if a.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if a.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, a)

    def _claim(self, node: str, a: Attributes) -> Decision:
        if a.subresource != "status":
            return self._get(node, a)
        if a.verb not in ("update", "patch"):
            return Decision(False, "can only get/update/patch this type")
        return self._related(node, a)

    def _service_account(self, node: str, a: Attributes) -> Decision:
        if a.verb == "get" and not a.subresource:
            return self._related(node, a)
        if a.verb != "create" or not a.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if a.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._related(node, a)

    def _lease(self, node: str, a: Attributes) -> Decision:
        if a.verb not in _OWN_VERBS:
            return Decision(False, "can only get, create, update, patch, or delete a node lease")
        if a.namespace != LEASES:
            return Decision(False, f"can only access leases in the {quoted(LEASES)} system namespace")
        if a.verb != "create" and a.name != node:
            return Decision(False, "can only access node lease with the same name as the requesting node")
        return _ALLOWED

    def _csi_node(self, node: str, a: Attributes) -> Decision:
        if a.verb not in _OWN_VERBS:
            return Decision(False, "can only get, create, update, patch, or delete a CSINode")
        if a.subresource:
            return Decision(False, "cannot authorize CSINode subresources")
        if a.verb != "create" and a.name != node:
            return Decision(False, "can only access CSINode with the same name as the requesting node")
        return _ALLOWED

    def _resource_slice(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return Decision(False, "cannot authorize ResourceSlice subresources")
        if a.verb == "create":
            return _ALLOWED
        if a.verb in ("get", "update", "patch", "delete"):
            return self._related(node, a)
        if a.verb in ("watch", "list", "deletecollection"):
            if pinned(a.field_selector, "spec.nodeName") == node:
                return _ALLOWED
            return Decision(False, "can only list/watch/deletecollection resourceslices with nodeName field selector")
        return Decision(
            False,
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, "
            "delete, deletecollection",
        )

    def _node(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "":
            if a.verb in ("create", "update", "patch"):
                return _ALLOWED
            if a.verb in ("get", "list", "watch"):
                if a.name == node:
                    return _ALLOWED
                if not a.name:
                    return Decision(False, f"node '{node}' cannot read all nodes, only its own Node object")
                return Decision(False, f"node '{node}' cannot read '{a.name}', only its own Node object")
        elif a.subresource == "status" and a.verb in ("update", "patch"):
            return _ALLOWED
        return NO_OPINION

    def _pod(self, node: str, a: Attributes) -> Decision:
        match a.subresource, a.verb:
            case "", "get":
                return self._get(node, a)
            case "", "list" | "watch":
                if pinned(a.field_selector, "spec.nodeName") == node:
                    return _ALLOWED
                if a.name:
                    return self._related(node, a)
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return _ALLOWED
        return NO_OPINION

    def _pod_certificate_request(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return NO_OPINION
        if a.verb == "create":
            return _ALLOWED
        if a.verb == "get":
            return self._related(node, a)
        if a.verb in ("list", "watch"):
            if pinned(a.field_selector, "spec.nodeName") == node:
                return _ALLOWED
            return Decision(False, "can only list/watch podcertificaterequests with spec.nodeName field selector")
        return NO_OPINION


_OWN_VERBS = frozenset({"get", "create", "update", "patch", "delete"})

_Rule = Callable[[NodeAuthorizer, str, Attributes], Decision]
_SPECIAL: dict[tuple[str, str], _Rule] = {
    ("", "secrets"): NodeAuthorizer._read,
    ("", "configmaps"): NodeAuthorizer._read,
    ("", "persistentvolumeclaims"): NodeAuthorizer._claim,
    ("", "persistentvolumes"): NodeAuthorizer._get,
    ("", "serviceaccounts"): NodeAuthorizer._service_account,
    ("", "nodes"): NodeAuthorizer._node,
    ("", "pods"): NodeAuthorizer._pod,
    ("coordination.k8s.io", "leases"): NodeAuthorizer._lease,
    ("resource.k8s.io", "resourceclaims"): NodeAuthorizer._get,
    ("resource.k8s.io", "resourceslices"): NodeAuthorizer._resource_slice,
    ("storage.k8s.io", "csinodes"): NodeAuthorizer._csi_node,
    ("storage.k8s.io", "volumeattachments"): NodeAuthorizer._get,
    ("certificates.k8s.io", "podcertificaterequests"): NodeAuthorizer._pod_certificate_request,
}


def references_of(pod: core_v1.Pod) -> Iterator[Key]:
    """All that the kubelet has to read to run `pod`. A mirror pod refers to nothing: a node writes it itself."""
    spec, namespace = pod.spec, pod.metadata.namespace or ""
    if spec is None or MIRROR in (pod.metadata.annotations or {}):
        return
    if spec.service_account_name:
        yield "serviceaccounts", namespace, spec.service_account_name
    for secret in secrets_of(pod):
        yield "secrets", namespace, secret
    for config_map in config_maps_of(pod):
        yield "configmaps", namespace, config_map
    for volume in spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            yield "persistentvolumeclaims", namespace, volume.persistent_volume_claim.claim_name
        elif volume.ephemeral is not None:
            yield "persistentvolumeclaims", namespace, f"{pod.metadata.name}-{volume.name}"
    for claim in _resource_claims(pod):
        yield "resourceclaims", namespace, claim


def _containers(spec: core_v1.PodSpec) -> Iterator[Any]:
    yield from spec.init_containers or ()
    yield from spec.containers or ()
    yield from spec.ephemeral_containers or ()


def config_maps_of(pod: core_v1.Pod) -> Iterator[str]:
    """Names of the config maps that `pod` refers to."""
    spec = pod.spec
    if spec is None:
        return
    for container in _containers(spec):
        for source in container.env_from or ():
            if source.config_map_ref is not None and source.config_map_ref.name:
                yield source.config_map_ref.name
        for env in container.env or ():
            if env.value_from is not None and env.value_from.config_map_key_ref is not None:
                yield env.value_from.config_map_key_ref.name or ""
    for volume in spec.volumes or ():
        if volume.config_map is not None and volume.config_map.name:
            yield volume.config_map.name
        if volume.projected is not None:
            for projection in volume.projected.sources or ():
                if projection.config_map is not None and projection.config_map.name:
                    yield projection.config_map.name


def _resource_claims(pod: core_v1.Pod) -> Iterator[str]:
    spec, status = pod.spec, pod.status
    made = {s.name: s.resource_claim_name for s in (status.resource_claim_statuses or ())} if status else {}
    for claim in (spec.resource_claims or ()) if spec else ():
        name = claim.resource_claim_name or made.get(claim.name)
        if name:
            yield name
    extended = status.extended_resource_claim_status if status else None
    if extended is not None and extended.resource_claim_name:
        yield extended.resource_claim_name


def _volume_secrets(spec: core_v1.PersistentVolumeSpec, namespace: str) -> Iterator[tuple[str, str]]:
    """(namespace, name) of the secrets of a persistent volume; without a namespace of their own, in the claim's."""
    if spec.azure_file is not None:
        yield spec.azure_file.secret_namespace or namespace, spec.azure_file.secret_name
    for attribute in ("cephfs", "cinder", "flex_volume", "rbd", "scale_io", "iscsi", "storageos"):
        ref = getattr(getattr(spec, attribute, None), "secret_ref", None)
        if ref is not None and ref.name:
            yield getattr(ref, "namespace", None) or namespace, ref.name
    if spec.csi is not None:
        for attribute in ("node_publish_secret_ref", "node_stage_secret_ref", "node_expand_secret_ref"):
            ref = getattr(spec.csi, attribute, None)
            if ref is not None and ref.name:
                yield ref.namespace or namespace, ref.name


def _count(counts: dict[str, int], key: str, change: int) -> None:
    value = counts.get(key, 0) + change
    if value:
        counts[key] = value
    else:
        counts.pop(key, None)
