"""The Node authorizer: a kubelet sees what its pods refer to, for as long as they are its pods."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import core_v1, meta_v1, resource_v1, storage_v1
from podling.api.request import User
from podling.apiserver.authz.attributes import Attributes
from podling.apiserver.authz.authorizer import Authorizer

NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))
OTHER = User("system:node:n2", ("system:nodes", "system:authenticated"))


def pod(name: str = "web", node: str = "n1", **more: Any) -> core_v1.Pod:
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            name=name, namespace="ns", uid=f"{name}-uid", annotations=more.pop("annotations", None)
        ),
        spec=core_v1.PodSpec(
            node_name=node,
            service_account_name="bot",
            image_pull_secrets=[core_v1.LocalObjectReference(name="pull")],
            containers=[
                core_v1.Container(
                    name="c",
                    env_from=[
                        core_v1.EnvFromSource(config_map_ref=core_v1.ConfigMapEnvSource(name="settings")),
                        core_v1.EnvFromSource(secret_ref=core_v1.SecretEnvSource(name="from")),
                    ],
                    env=[
                        core_v1.EnvVar(
                            name="A",
                            value_from=core_v1.EnvVarSource(
                                secret_key_ref=core_v1.SecretKeySelector(name="key", key="k")
                            ),
                        )
                    ],
                )
            ],
            volumes=[
                core_v1.Volume(name="s", secret=core_v1.SecretVolumeSource(secret_name="mounted")),
                core_v1.Volume(
                    name="p",
                    projected=core_v1.ProjectedVolumeSource(
                        sources=[
                            core_v1.VolumeProjection(config_map=core_v1.ConfigMapProjection(name="kube-root-ca.crt"))
                        ]
                    ),
                ),
                core_v1.Volume(
                    name="d",
                    persistent_volume_claim=core_v1.PersistentVolumeClaimVolumeSource(claim_name="data"),
                ),
                core_v1.Volume(name="tmp", ephemeral=core_v1.EphemeralVolumeSource()),
            ],
            **more,
        ),
    )


def ask(user: User, verb: str, what: str, name: str = "", namespace: str = "ns", **more: str) -> Attributes:
    resource, _, group = what.partition(".")
    resource, _, sub = resource.partition("/")
    return Attributes(user, verb, group, "v1", resource, sub, namespace, name, **more)


def authorizer(*objects: Any) -> Authorizer:
    result = Authorizer()
    for obj in objects or (pod(),):
        result.observe("ADDED", obj)
    return result


@pytest.mark.parametrize(
    ("verb", "what", "name", "allowed"),
    [
        *[("get", "secrets", name, True) for name in ("pull", "from", "key", "mounted")],
        *[("get", "configmaps", name, True) for name in ("settings", "kube-root-ca.crt")],
        ("list", "secrets", "pull", True),
        ("watch", "configmaps", "settings", True),
        ("update", "secrets", "pull", False),
        ("get", "secrets", "strange", False),
        ("list", "secrets", "", False),
        ("get", "persistentvolumeclaims", "data", True),
        ("get", "persistentvolumeclaims", "web-tmp", True),
        ("patch", "persistentvolumeclaims/status", "data", True),
        ("patch", "persistentvolumeclaims", "data", False),
        ("create", "serviceaccounts/token", "bot", True),
        ("create", "serviceaccounts/token", "admin", False),
        ("get", "pods", "web", True),
        ("get", "pods", "elsewhere", False),
        ("list", "pods", "", False),
        ("patch", "pods/status", "web", True),
        ("create", "pods/eviction", "web", True),
        ("create", "pods/exec", "web", False),
        ("create", "events", "", True),
        ("list", "services", "", True),
        ("delete", "services", "x", False),
    ],
)
def test_a_kubelet_may_read_what_its_pods_refer_to(verb: str, what: str, name: str, allowed: bool) -> None:
    decider = authorizer()
    assert decider.authorize(ask(NODE, verb, what, name)).allowed is allowed
    if what in ("secrets", "configmaps", "serviceaccounts/token") or (what == "pods" and verb == "get"):
        assert not decider.authorize(ask(OTHER, verb, what, name)).allowed


@pytest.mark.parametrize(
    ("question", "allowed", "reason"),
    [
        (ask(NODE, "list", "pods", namespace="", field_selector="spec.nodeName=n1"), True, ""),
        (
            ask(NODE, "list", "pods", namespace="", field_selector="spec.nodeName=n2"),
            False,
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (ask(NODE, "get", "nodes", "n1", ""), True, ""),
        (ask(NODE, "get", "nodes", "n2", ""), False, "node 'n1' cannot read 'n2', only its own Node object"),
        (ask(NODE, "list", "nodes", "", ""), False, "node 'n1' cannot read all nodes, only its own Node object"),
        (ask(NODE, "patch", "nodes/status", "n1", ""), True, ""),
        (ask(NODE, "update", "leases.coordination.k8s.io", "n1", "kube-node-lease"), True, ""),
        (
            ask(NODE, "update", "leases.coordination.k8s.io", "n2", "kube-node-lease"),
            False,
            "can only access node lease with the same name as the requesting node",
        ),
        (
            ask(NODE, "get", "leases.coordination.k8s.io", "n1", "default"),
            False,
            'can only access leases in the "kube-node-lease" system namespace',
        ),
        (ask(NODE, "create", "csinodes.storage.k8s.io", "", ""), True, ""),
        (
            ask(NODE, "get", "secrets", "strange"),
            False,
            "no relationship found between node 'n1' and this object",
        ),
        (
            ask(User("kubelet", ("system:nodes",)), "get", "secrets", "pull"),
            False,
            'unknown node for user "kubelet"',
        ),
        (ask(User("system:node:n1"), "get", "secrets", "pull"), False, ""),
    ],
    ids=str,
)
def test_reasons_are_upstreams(question: Attributes, allowed: bool, reason: str) -> None:
    decision = authorizer().authorize(question)
    assert (decision.allowed, decision.reason) == (allowed, reason)


def test_access_ends_with_the_last_pod_that_gave_it() -> None:
    decider = authorizer(pod("a"), pod("b"))
    question = ask(NODE, "get", "secrets", "mounted")
    decider.observe("DELETED", pod("a"))
    assert decider.authorize(question).allowed
    decider.observe("DELETED", pod("b"))
    assert not decider.authorize(question).allowed


def test_a_pod_made_anew_elsewhere_moves_the_access() -> None:
    decider = authorizer(pod())
    moved = pod(node="n2")
    moved.metadata.uid = "another"
    decider.observe("MODIFIED", moved)
    assert not decider.authorize(ask(NODE, "get", "secrets", "mounted")).allowed
    assert decider.authorize(ask(OTHER, "get", "secrets", "mounted")).allowed


def test_an_ephemeral_container_adds_references() -> None:
    decider = authorizer(pod())
    source = core_v1.EnvFromSource(secret_ref=core_v1.SecretEnvSource(name="debug"))
    changed = pod(ephemeral_containers=[core_v1.EphemeralContainer(name="e", env_from=[source])])
    decider.observe("MODIFIED", changed)
    assert decider.authorize(ask(NODE, "get", "secrets", "debug")).allowed


def test_mirror_pods_and_unbound_pods_give_nothing() -> None:
    decider = authorizer(pod("m", annotations={"kubernetes.io/config.mirror": "x"}), pod("u", node=""))
    assert not decider.authorize(ask(NODE, "get", "secrets", "mounted")).allowed
    assert decider.authorize(ask(NODE, "get", "pods", "m")).allowed


def test_volumes_and_their_secrets_follow_the_claim() -> None:
    volume = core_v1.PersistentVolume(
        metadata=meta_v1.ObjectMeta(name="pv1"),
        spec=core_v1.PersistentVolumeSpec(
            claim_ref=core_v1.ObjectReference(namespace="ns", name="data"),
            csi=core_v1.CSIPersistentVolumeSource(
                driver="d",
                volume_handle="h",
                node_publish_secret_ref=core_v1.SecretReference(name="publish", namespace="storage"),
            ),
        ),
    )
    decider = authorizer(pod(), volume)
    assert decider.authorize(ask(NODE, "get", "persistentvolumes", "pv1", "")).allowed
    assert decider.authorize(ask(NODE, "get", "secrets", "publish", "storage")).allowed
    assert not decider.authorize(ask(OTHER, "get", "persistentvolumes", "pv1", "")).allowed
    decider.observe("DELETED", volume)
    assert not decider.authorize(ask(NODE, "get", "persistentvolumes", "pv1", "")).allowed
    assert not decider.authorize(ask(NODE, "get", "secrets", "publish", "storage")).allowed


def test_attachments_and_slices_lead_to_their_node() -> None:
    attachment = storage_v1.VolumeAttachment(
        metadata=meta_v1.ObjectMeta(name="va"), spec=storage_v1.VolumeAttachmentSpec(node_name="n1")
    )
    piece = resource_v1.ResourceSlice(
        metadata=meta_v1.ObjectMeta(name="sl"), spec=resource_v1.ResourceSliceSpec(node_name="n1")
    )
    decider = authorizer(attachment, piece)
    for what, name in (("volumeattachments.storage.k8s.io", "va"), ("resourceslices.resource.k8s.io", "sl")):
        assert decider.authorize(ask(NODE, "get", what, name, "")).allowed
        assert not decider.authorize(ask(OTHER, "get", what, name, "")).allowed
    decider.observe("DELETED", piece)
    assert not decider.authorize(ask(NODE, "get", "resourceslices.resource.k8s.io", "sl", "")).allowed
    selected = ask(NODE, "list", "resourceslices.resource.k8s.io", "", "", field_selector="spec.nodeName=n1")
    assert decider.authorize(selected).allowed
