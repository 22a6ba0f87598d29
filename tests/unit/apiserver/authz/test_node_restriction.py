"""NodeRestriction: what a kubelet may write, object by object."""

from __future__ import annotations

from typing import Any

import pytest

from podling import clock
from podling.api import authentication_v1, coordination_v1, core_v1, meta_v1, registry
from podling.api.errors import StatusError
from podling.api.request import User
from podling.api.struct import clone
from podling.apiserver.admission.base import Attributes
from podling.apiserver.admission.node_restriction import NodeRestriction, forbidden_labels

NODE = User("system:node:n1", ("system:nodes",))


def node(**more: Any) -> core_v1.Node:
    labels = more.pop("labels", {"kubernetes.io/hostname": "n1"})
    spec = core_v1.NodeSpec(**more)
    return core_v1.Node(metadata=meta_v1.ObjectMeta(name="n1", uid="node-uid", labels=labels), spec=spec)


def pod(node_name: str = "n1") -> core_v1.Pod:
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="web", namespace="ns", uid="pod-uid"),
        spec=core_v1.PodSpec(node_name=node_name, service_account_name="bot"),
    )


def mirror(**change: Any) -> core_v1.Pod:
    owner = meta_v1.OwnerReference(api_version="v1", kind="Node", name="n1", uid="node-uid", controller=True)
    made = core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            name="static-n1",
            namespace="kube-system",
            annotations={"kubernetes.io/config.mirror": "x"},
            owner_references=[owner],
        ),
        spec=core_v1.PodSpec(node_name="n1"),
    )
    for path, value in change.items():
        part, _, attribute = path.partition("__")
        setattr(getattr(made, part), attribute, value)
    return made


class App:
    def cached(self, group: str, resource: str, key: str) -> Any:
        stored = {
            ("nodes", "n1"): node(),
            ("pods", "ns/web"): pod(),
            ("pods", "ns/theirs"): pod("n2"),
        }
        return stored.get((resource, key))


def write(operation: str, what: str, obj: Any = None, old: Any = None, name: str = "", user: User = NODE) -> str:
    """What the plugin says, "" if nothing."""
    resource_name, _, sub = what.partition("/")
    resource = next(r for r in registry.BUILTIN if r.name == resource_name)
    target = obj if obj is not None else old
    name = name or (target.metadata.name if target is not None else "") or ""
    namespace = (target.metadata.namespace if target is not None else None) or "ns"
    attributes = Attributes(operation, resource, sub, namespace, name, obj, old, user)
    plugin = NodeRestriction(App())  # type: ignore[arg-type]
    assert plugin.handles(attributes)
    try:
        clock.run_virtual(plugin.validate(attributes))
    except StatusError as error:
        assert error.code in (403, 404)
        return str(error)
    return ""


def test_others_are_not_looked_at() -> None:
    assert write("DELETE", "nodes", name="other", user=User("alice")) == ""


def test_a_kubelet_without_a_name_writes_nothing() -> None:
    said = write("CREATE", "nodes", node(), user=User("kubelet", ("system:nodes",)))
    assert said == 'nodes "n1" is forbidden: could not determine node from user "kubelet"'


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (mirror(), ""),
        (mirror(metadata__annotations=None), "can only create mirror pods"),
        (mirror(spec__node_name="n2"), "can only create pods with spec.nodeName set to itself"),
        (mirror(metadata__owner_references=None), "with an owner reference set to itself"),
        (mirror(spec__service_account_name="admin"), "can not create pods that reference a service account"),
        (
            mirror(spec__image_pull_secrets=[core_v1.LocalObjectReference(name="s")]),
            "can not create pods that reference secrets",
        ),
        (
            mirror(
                spec__volumes=[
                    core_v1.Volume(
                        name="v",
                        persistent_volume_claim=core_v1.PersistentVolumeClaimVolumeSource(claim_name="c"),
                    )
                ]
            ),
            "can not create pods that reference persistentvolumeclaims",
        ),
    ],
)
def test_pods_that_a_kubelet_creates_are_mirrors(made: core_v1.Pod, said: str) -> None:
    answer = write("CREATE", "pods", made)
    assert said in answer and bool(answer) == bool(said)


def test_a_mirror_pod_belongs_to_this_very_node() -> None:
    made = mirror()
    assert made.metadata.owner_references is not None
    made.metadata.owner_references[0].uid = "older"
    assert "node n1 UID mismatch: expected older got node-uid" in write("CREATE", "pods", made)


@pytest.mark.parametrize(
    ("operation", "what", "name", "said"),
    [
        ("DELETE", "pods", "web", ""),
        ("DELETE", "pods", "theirs", 'node "n1" can only delete pods with spec.nodeName set to itself'),
        ("DELETE", "pods", "none", 'pods "none" not found'),
        ("CREATE", "pods/eviction", "web", ""),
        ("CREATE", "pods/eviction", "theirs", "node n1 can only evict pods with spec.nodeName set to itself"),
        ("CREATE", "pods/binding", "web", 'unexpected pod subresource "binding"'),
        ("DELETE", "nodes", "n2", 'node "n1" is not allowed to modify node "n2"'),
        ("UPDATE", "persistentvolumeclaims", "c", "may only update PVC status"),
    ],
)
def test_pods_and_nodes_of_others_are_out_of_reach(operation: str, what: str, name: str, said: str) -> None:
    answer = write(operation, what, name=name)
    assert said in answer and bool(answer) == bool(said)


def test_pod_status() -> None:
    changed = clone(pod())
    changed.status = core_v1.PodStatus(phase="Running")
    assert write("UPDATE", "pods/status", changed, pod()) == ""
    assert "pods with spec.nodeName set to itself" in write("UPDATE", "pods/status", changed, pod("n2"))
    changed.metadata.labels = {"app": "other"}
    assert "cannot update labels through pod status" in write("UPDATE", "pods/status", changed, pod())


def test_a_kubelet_does_not_draw_work_to_its_node() -> None:
    taint = core_v1.Taint(key="k", effect="NoSchedule")
    assert "is not allowed to modify taints" in write("UPDATE", "nodes", node(), node(taints=[taint]))
    assert write("UPDATE", "nodes/status", node(), node()) == ""
    labelled = node(labels={"node-restriction.kubernetes.io/secure": "yes"})
    assert "is not allowed to set the following labels: node-restriction.kubernetes.io/secure" in write(
        "CREATE", "nodes", labelled
    )
    assert "is not allowed to modify labels" in write("UPDATE", "nodes", labelled, node())


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        ("team", True),
        ("example.com/x", True),
        ("kubernetes.io/arch", True),
        ("topology.kubernetes.io/zone", True),
        ("node.kubernetes.io/anything", True),
        ("sub.kubelet.kubernetes.io/anything", True),
        ("kubernetes.io/role", False),
        ("node-role.kubernetes.io/master", False),
        ("x.k8s.io/y", False),
        ("a.node-restriction.kubernetes.io/y", False),
    ],
)
def test_which_labels_a_kubelet_may_set(label: str, allowed: bool) -> None:
    assert (forbidden_labels({label: "1"}, {}) == []) is allowed
    assert (forbidden_labels({}, {label: "1"}) == []) is allowed
    assert forbidden_labels({label: "1"}, {label: "1"}) == []


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        (None, "node requested token not bound to a pod"),
        (("Secret", "web", "pod-uid"), "node requested token not bound to a pod"),
        (("Pod", "web", None), "node requested token with a pod binding without a uid"),
        (("Pod", "web", "other"), "does not match the UID in record"),
        (("Pod", "theirs", "pod-uid"), "node requested token bound to a pod scheduled on a different node"),
        (("Pod", "web", "pod-uid"), ""),
    ],
)
def test_tokens_are_for_pods_of_the_node(ref: tuple[str, str, str | None] | None, said: str) -> None:
    bound = None
    if ref is not None:
        bound = authentication_v1.BoundObjectReference(kind=ref[0], name=ref[1], uid=ref[2], api_version="v1")
    request = authentication_v1.TokenRequest(spec=authentication_v1.TokenRequestSpec(bound_object_ref=bound))
    answer = write("CREATE", "serviceaccounts/token", request)
    assert said in answer and bool(answer) == bool(said)


def test_a_lease_has_the_name_of_its_node() -> None:
    def lease(name: str, namespace: str = "kube-node-lease") -> coordination_v1.Lease:
        return coordination_v1.Lease(metadata=meta_v1.ObjectMeta(name=name, namespace=namespace))

    assert write("CREATE", "leases", lease("n1")) == ""
    assert "same name as the requesting node" in write("CREATE", "leases", lease("n2"))
    assert 'can only access leases in the "kube-node-lease"' in write("CREATE", "leases", lease("n1", "default"))


def test_a_claim_grows_and_nothing_else() -> None:
    claim = core_v1.PersistentVolumeClaim(
        metadata=meta_v1.ObjectMeta(name="c", namespace="ns"), status=core_v1.PersistentVolumeClaimStatus(phase="Bound")
    )
    grown = clone(claim)
    assert grown.status is not None
    grown.status.capacity = {"storage": "2Gi"}
    assert write("UPDATE", "persistentvolumeclaims/status", grown, claim) == ""
    grown.metadata.labels = {"a": "b"}
    assert "is not allowed to update fields other than" in write(
        "UPDATE", "persistentvolumeclaims/status", grown, claim
    )
