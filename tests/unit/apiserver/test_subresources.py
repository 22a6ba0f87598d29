"""scale, binding, eviction, ephemeralcontainers, finalize, approval, tokens, component statuses."""

import base64
from typing import Any

import msgspec
import pytest

from apiserver.harness import Server, pod, virtual
from apiserver.test_writes import deployment
from podling.api import (
    apps_v1,
    authentication_v1,
    autoscaling_v1,
    certificates_v1,
    core_v1,
    meta_v1,
    policy_v1,
)
from podling.api.errors import StatusError

DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/d"
POD = "/api/v1/namespaces/default/pods/p"
MERGE = {"headers": {"content-type": "application/merge-patch+json"}}


@virtual
async def test_scale(server: Server) -> None:
    await server.client.create(deployment(replicas=2))
    shown = (await server.ask("GET", f"{DEPLOYMENT}/scale")).obj
    assert isinstance(shown, autoscaling_v1.Scale) and shown.spec and shown.status
    assert (shown.spec.replicas, shown.status.selector, shown.metadata.name) == (2, "app=d", "d")
    patched = (await server.ask("PATCH", f"{DEPLOYMENT}/scale", {"spec": {"replicas": 5}}, **MERGE)).obj
    assert patched.spec.replicas == 5
    found = await server.client.get(apps_v1.Deployment, "d", "default")
    assert found.spec and found.spec.replicas == 5 and found.metadata.generation == 2
    # A Scale that was read before the change does not count any more.
    error = await server.fails("PUT", f"{DEPLOYMENT}/scale", msgspec.to_builtins(shown))
    assert error.code == 409
    error = await server.fails("PATCH", f"{DEPLOYMENT}/scale", {"spec": {"replicas": -1}}, **MERGE)
    assert error.code == 422 and "must be greater than or equal to 0" in str(error)


def binding(node: str = "n1", **meta: Any) -> dict[str, Any]:
    return {
        "kind": "Binding",
        "apiVersion": "v1",
        "metadata": {"name": "p", **meta},
        "target": {"kind": "Node", "name": node},
    }


@pytest.mark.parametrize("path", [f"{POD}/binding", "/api/v1/namespaces/default/bindings"])
@virtual
async def test_binding(server: Server, path: str) -> None:
    await server.client.create(pod("p"))
    response = await server.ask("POST", path, binding(annotations={"a": "b"}))
    assert response.status == 201 and response.obj.status == "Success"
    found = await server.client.get(core_v1.Pod, "p", "default")
    assert found.spec and found.spec.node_name == "n1" and found.metadata.annotations == {"a": "b"}
    assert found.status and found.status.conditions
    assert [(c.type, c.status) for c in found.status.conditions] == [("PodScheduled", "True")]
    error = await server.fails("POST", path, binding("n2"))
    assert error.code == 409 and 'pod p is already assigned to node "n1"' in str(error)


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (binding(uid="x"), 409, "Precondition failed: UID in precondition: x"),
        ({**binding(), "target": {"kind": "Pod", "name": "n"}}, 422, "target.kind: Unsupported value"),
        (binding(""), 422, "target.name: Required value"),
        ({**binding(), "metadata": {"name": "q"}}, 400, "name in URL does not match name in Binding object"),
    ],
)
@virtual
async def test_bindings_that_are_refused(server: Server, sent: Any, code: int, text: str) -> None:
    await server.client.create(pod("p"))
    error = await server.fails("POST", f"{POD}/binding", sent)
    assert error.code == code and text in str(error)


# Eviction


async def running_pod(server: Server, *, ready: bool = True) -> core_v1.Pod:
    made = await server.client.create(pod("p", node_name="n1", meta={"labels": {"app": "p"}}))
    conditions = [core_v1.PodCondition(type="Ready", status="True" if ready else "False")]
    return await server.client.update_status(
        msgspec.structs.replace(made, status=core_v1.PodStatus(phase="Running", conditions=conditions))
    )


async def budget(server: Server, name: str = "b", allowed: int = 0, policy: str | None = None, **status: int) -> None:
    made = await server.client.create(
        policy_v1.PodDisruptionBudget(
            metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
            spec=policy_v1.PodDisruptionBudgetSpec(
                min_available=1,
                selector=meta_v1.LabelSelector(match_labels={"app": "p"}),
                unhealthy_pod_eviction_policy=policy,
            ),
        )
    )
    observed = status.pop("observed_generation", 1)
    state = policy_v1.PodDisruptionBudgetStatus(
        disruptions_allowed=allowed,
        current_healthy=status.get("current", 1),
        desired_healthy=status.get("desired", 1),
        expected_pods=1,
        observed_generation=observed,
    )
    await server.client.update_status(msgspec.structs.replace(made, status=state))


EVICTION = {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}}


async def evict(server: Server, **more: Any) -> Any:
    return await server.ask("POST", f"{POD}/eviction", {**EVICTION, **more})


@virtual
async def test_eviction_without_a_budget(server: Server) -> None:
    await running_pod(server)
    response = await evict(server)
    assert response.status == 201
    held = await server.client.get(core_v1.Pod, "p", "default")
    assert held.metadata.deletion_timestamp and held.status and held.status.conditions
    condition = next(c for c in held.status.conditions if c.type == "DisruptionTarget")
    assert (condition.status, condition.reason, condition.message) == (
        "True",
        "EvictionByEvictionAPI",
        "Eviction API: evicting",
    )


@virtual
async def test_a_budget_forbids(server: Server) -> None:
    await running_pod(server)
    await budget(server)
    error = await server.fails("POST", f"{POD}/eviction", EVICTION)
    assert (error.code, str(error)) == (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    assert error.status.details and error.status.details.causes
    cause = error.status.details.causes[0]
    assert (cause.reason, cause.message) == (
        "DisruptionBudget",
        "The disruption budget b needs 1 healthy pods and has 1 currently",
    )
    assert not (await server.client.get(core_v1.Pod, "p", "default")).metadata.deletion_timestamp


@virtual
async def test_a_budget_is_charged(server: Server) -> None:
    await running_pod(server)
    await budget(server, allowed=1)
    await evict(server)
    charged = await server.client.get(policy_v1.PodDisruptionBudget, "b", "default")
    assert charged.status is not None
    assert charged.status.disruptions_allowed == 0
    assert charged.status.disrupted_pods == {"p": "2026-01-01T00:00:00Z"}
    assert charged.status.conditions and charged.status.conditions[0].reason == "InsufficientPods"


@pytest.mark.parametrize(
    ("ready", "policy", "status", "allowed"),
    [
        (False, None, {}, True),
        (False, None, {"current": 0}, False),
        (False, "AlwaysAllow", {"current": 0}, True),
        (True, "AlwaysAllow", {}, False),
    ],
)
@virtual
async def test_unhealthy_pods(
    server: Server, ready: bool, policy: str | None, status: dict[str, int], allowed: bool
) -> None:
    await running_pod(server, ready=ready)
    await budget(server, policy=policy, **status)
    try:
        response = await evict(server)
    except StatusError as error:
        assert error.code == 429 and not allowed
    else:
        assert response.status == 201 and allowed


@virtual
async def test_a_budget_that_is_not_current_and_two_budgets(server: Server) -> None:
    await running_pod(server)
    await budget(server, allowed=1, observed_generation=0)
    error = await server.fails("POST", f"{POD}/eviction", EVICTION)
    assert error.code == 429 and error.status.details
    assert error.status.details.retry_after_seconds == 10
    await budget(server, "c", allowed=1)
    error = await server.fails("POST", f"{POD}/eviction", EVICTION)
    assert error.code == 500 and "more than one PodDisruptionBudget" in str(error)


@virtual
async def test_eviction_preconditions_and_dry_run(server: Server) -> None:
    made = await running_pod(server)
    wrong = {"deleteOptions": {"preconditions": {"uid": "x"}}}
    assert (await server.fails("POST", f"{POD}/eviction", {**EVICTION, **wrong})).code == 409
    await evict(server, deleteOptions={"dryRun": ["All"]})
    assert (await server.client.get(core_v1.Pod, "p", "default")) == made
    right = {"preconditions": {"resourceVersion": made.metadata.resource_version}, "gracePeriodSeconds": 0}
    await evict(server, deleteOptions=right)
    assert (await server.fails("GET", POD)).code == 404


# The rest


@virtual
async def test_ephemeral_containers(server: Server) -> None:
    made = await server.client.create(pod("p"))
    assert made.spec is not None
    extra = core_v1.EphemeralContainer(name="debug", image="busybox")
    spec = msgspec.structs.replace(made.spec, ephemeral_containers=[extra], priority=99, hostname="x")
    changed = await server.client.update_subresource(msgspec.structs.replace(made, spec=spec), "ephemeralcontainers")
    assert changed.spec and changed.spec.ephemeral_containers
    assert [c.name for c in changed.spec.ephemeral_containers] == ["debug"]
    assert changed.spec.hostname is None and changed.spec.priority == made.spec.priority


@virtual
async def test_a_namespace_goes_when_it_is_finalized(server: Server) -> None:
    made = await server.client.create(
        core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="x"), spec=core_v1.NamespaceSpec(finalizers=["kubernetes"]))
    )
    assert made.spec and made.spec.finalizers == ["kubernetes"]
    await server.client.delete(core_v1.Namespace, "x")
    held = await server.client.get(core_v1.Namespace, "x")
    assert held.metadata.deletion_timestamp
    error = await server.fails(
        "POST", "/api/v1/namespaces/x/configmaps", {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}
    )
    assert error.code == 403
    assert str(error) == (
        'configmaps "a" is forbidden: unable to create new content in namespace x because it is being terminated'
    )
    assert error.status.details and error.status.details.causes
    assert error.status.details.causes[0].reason == "NamespaceTerminating"
    done = msgspec.structs.replace(held, spec=core_v1.NamespaceSpec(finalizers=[]))
    await server.client.update_subresource(done, "finalize")
    assert (await server.fails("GET", "/api/v1/namespaces/x")).code == 404


def signing_request() -> str:
    """A PKCS#10 request, as the API carries it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


@virtual
async def test_approval_writes_conditions_only(server: Server) -> None:
    made = await server.client.create(
        certificates_v1.CertificateSigningRequest(
            metadata=meta_v1.ObjectMeta(name="c"),
            spec=certificates_v1.CertificateSigningRequestSpec(
                request=signing_request(), signer_name="example.com/x", usages=["client auth"]
            ),
        )
    )
    condition = certificates_v1.CertificateSigningRequestCondition(type="Approved", status="True", reason="ok")
    status = certificates_v1.CertificateSigningRequestStatus(conditions=[condition], certificate="bm8=")
    changed = await server.client.update_subresource(msgspec.structs.replace(made, status=status), "approval")
    assert changed.status and changed.status.conditions and changed.status.certificate is None
    assert changed.status.conditions[0].type == "Approved"


@virtual
async def test_tokens_come_from_the_issuer(server: Server) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    sent = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": ["a"]}}
    assert (await server.fails("POST", path, sent)).code == 404

    def issue(namespace: str, name: str, request: authentication_v1.TokenRequest) -> authentication_v1.TokenRequest:
        request.status = authentication_v1.TokenRequestStatus(token=f"{namespace}/{name}/{request.spec.audiences}")
        return request

    server.app.token_issuer = issue
    response = await server.ask("POST", path, sent)
    assert response.status == 201 and response.obj.status.token == "default/default/['a']"


@virtual
async def test_component_statuses(server: Server) -> None:
    async def well() -> str | None:
        return None

    async def full() -> str | None:
        return "no disk"

    server.app.components = {"scheduler": well, "etcd-0": full}
    listed = await server.ask("GET", "/api/v1/componentstatuses")
    assert [(o.metadata.name, o.conditions[0].status) for o in listed.objects or []] == [
        ("etcd-0", "False"),
        ("scheduler", "True"),
    ]
    assert listed.warnings == ["v1 ComponentStatus is deprecated in v1.19+"]
    assert (await server.fails("GET", "/api/v1/componentstatuses/x")).code == 404


@virtual
async def test_every_request_for_a_deprecated_kind_is_answered_with_a_warning(server: Server) -> None:
    path, warning = (
        "/api/v1/namespaces/default/endpoints",
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    )
    made = await server.ask("POST", path, {"metadata": {"name": "e"}})
    for method, at in (("GET", path), ("GET", f"{path}/e"), ("DELETE", f"{path}/e")):
        assert (await server.ask(method, at)).warnings == [warning]
    assert made.warnings == [warning]
