"""PodSecurity admission: pods are refused, clients warned, and the audit log told, as labels of namespaces want."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.harness import Server, virtual
from podling.api import core_v1, meta_v1, struct
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK, Request, User
from podling.apiserver.admission import base
from podling.apiserver.admission.pod_security import PodSecurity, significant
from podling.apiserver.admission.pod_security_config import Configuration

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED = 'privileged (container "c" must not set securityContext.privileged=true)'


async def namespace(server: Server, name: str = "ns", **labels: str) -> None:
    given = {PREFIX + key.replace("_", "-"): value for key, value in labels.items()}
    await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name, labels=given)))
    account = core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name="default", namespace=name))
    await server.client.create(account)


def pod(name: str, **more: Any) -> dict[str, Any]:
    meta = more.pop("metadata", {})
    security = {"privileged": True} if more.pop("privileged", False) else {}
    containers = [{"name": "c", "image": "i", "securityContext": security}]
    return {"metadata": {"name": name, **meta}, "spec": {"containers": containers, **more}}


PODS = "/api/v1/namespaces/ns/pods"
MERGE = {"content-type": "application/merge-patch+json"}


@virtual
async def test_enforcing_refuses_with_all_reasons(server: Server) -> None:
    await namespace(server, enforce="restricted")
    error = await server.fails("POST", PODS, pod("web"))
    assert error.code == 403
    assert error.status.message == (
        'pods "web" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
        '(container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities '
        '(container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container '
        '"c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set '
        'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    )
    assert await server.client.list(core_v1.Pod, "ns")


@virtual
async def test_a_version_is_what_it_was_then(server: Server) -> None:
    await namespace(server, enforce="restricted", enforce_version="v1.7")
    error = await server.fails("POST", PODS, pod("web"))
    assert error.status.message == (
        'pods "web" is forbidden: violates PodSecurity "restricted:v1.7": runAsNonRoot != true (pod or container "c" '
        "must set securityContext.runAsNonRoot=true)"
    )


@virtual
async def test_warning_lets_pods_in_and_an_enforced_level_warns_too(server: Server) -> None:
    await namespace(server, warn="baseline", warn_version="v1.30")
    made = await server.ask("POST", PODS, pod("web", privileged=True))
    assert made.warnings == [f'would violate PodSecurity "baseline:v1.30": {PRIVILEGED}']
    assert (await server.ask("POST", PODS, pod("plain"))).warnings == []


@virtual
async def test_workloads_are_warned_of_their_templates_and_never_refused(server: Server) -> None:
    await namespace(server, enforce="baseline")
    template = {**pod("x", privileged=True), "metadata": {"labels": {"a": "b"}}}
    selector = {"matchLabels": {"a": "b"}}
    job = {"spec": {**template["spec"], "restartPolicy": "Never"}, "metadata": template["metadata"]}
    expected = [f'would violate PodSecurity "baseline:latest": {PRIVILEGED}']
    apps = {"selector": selector, "template": template}
    for path, spec in (
        ("/apis/apps/v1/namespaces/ns/deployments", apps),
        ("/apis/apps/v1/namespaces/ns/replicasets", apps),
        ("/apis/apps/v1/namespaces/ns/daemonsets", apps),
        ("/apis/apps/v1/namespaces/ns/statefulsets", {**apps, "serviceName": "s"}),
        ("/api/v1/namespaces/ns/replicationcontrollers", {"selector": {"a": "b"}, "template": template}),
        ("/apis/batch/v1/namespaces/ns/jobs", {"template": job}),
        (
            "/apis/batch/v1/namespaces/ns/cronjobs",
            {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": job}}},
        ),
    ):
        made = await server.ask("POST", path, {"metadata": {"name": "w"}, "spec": spec})
        assert made.warnings == expected, path
    made = await server.ask(
        "POST", "/api/v1/namespaces/ns/podtemplates", {"metadata": {"name": "w"}, "template": template}
    )
    assert made.warnings == expected


@virtual
async def test_what_is_audited_is_noted_for_the_audit_log(server: Server) -> None:
    await namespace(server, audit="baseline")
    noted: list[dict[str, str]] = []

    class Spy(base.Plugin):
        resources = frozenset(("pods",))
        validates = True

        async def validate(self, attributes: base.Attributes) -> None:
            noted.append(dict(attributes.annotations))

    server.app.admission.add(Spy(server.app))
    made = await server.ask("POST", PODS, pod("web", privileged=True))
    assert made.warnings == []
    assert noted == [
        {
            PREFIX + "enforce-policy": "privileged:latest",
            PREFIX + "audit-violations": f'would violate PodSecurity "baseline:latest": {PRIVILEGED}',
        }
    ]
    await server.ask("POST", "/api/v1/namespaces/default/pods", pod("web", privileged=True))
    assert noted[1] == {PREFIX + "enforce-policy": "privileged:latest"}


@virtual
async def test_a_level_that_does_not_exist_is_refused_on_the_namespace(server: Server) -> None:
    body = {"metadata": {"name": "ns", "labels": {PREFIX + "enforce": "strict", PREFIX + "warn-version": "1.2"}}}
    error = await server.fails("POST", "/api/v1/namespaces", body)
    assert error.code == 422
    assert error.status.message == (
        'Namespace "ns" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": '
        "must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: "
        'Invalid value: "1.2": must be "latest" or "v1.x"]'
    )
    await namespace(server)
    patch = {"metadata": {"labels": {PREFIX + "audit": "strict"}}}
    assert (await server.fails("PATCH", "/api/v1/namespaces/ns", patch, headers=MERGE)).code == 422


@virtual
async def test_a_stricter_level_warns_of_the_pods_that_are_there(server: Server) -> None:
    await namespace(server)
    owner = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}]
    for name in ("b", "a", "c"):
        await server.ask("POST", PODS, pod(name, privileged=True, metadata={"ownerReferences": owner}))
    await server.ask("POST", PODS, pod("host", hostNetwork=True))
    await server.ask("POST", PODS, pod("both", hostNetwork=True, privileged=True))
    await server.ask("POST", PODS, pod("both2", hostNetwork=True, privileged=True))
    await server.ask("POST", PODS, pod("good"))

    async def enforce(**labels: str | None) -> list[str]:
        given = {PREFIX + key.replace("_", "-"): value for key, value in labels.items()}
        patch = {"metadata": {"labels": given}}
        return (await server.ask("PATCH", "/api/v1/namespaces/ns", patch, headers=MERGE)).warnings

    assert await enforce(enforce="baseline") == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 2 other pods): privileged",
        "both (and 1 other pod): host namespaces, privileged",
        "host: host namespaces",
    ]
    assert await enforce(enforce="baseline") == []
    assert await enforce(enforce="privileged") == []
    assert len(await enforce(enforce="restricted")) == 5
    assert await enforce(enforce="baseline") == []
    assert len(await enforce(enforce_version="v1.20")) == 4


@virtual
async def test_a_pod_that_was_let_in_before_may_change_but_not_its_images(server: Server) -> None:
    await namespace(server)
    await server.ask("POST", PODS, pod("web", privileged=True))
    patch = {"metadata": {"labels": {PREFIX + "enforce": "baseline"}}}
    await server.ask("PATCH", "/api/v1/namespaces/ns", patch, headers=MERGE)
    await server.ask("PATCH", f"{PODS}/web", {"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    strategic = {"content-type": "application/strategic-merge-patch+json"}
    image = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
    error = await server.fails("PATCH", f"{PODS}/web", image, headers=strategic)
    assert error.status.message == f'pods "web" is forbidden: violates PodSecurity "baseline:latest": {PRIVILEGED}'
    debug = {"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}}
    error = await server.fails("PATCH", f"{PODS}/web/ephemeralcontainers", debug, headers=strategic)
    assert error.code == 403


@virtual
async def test_who_is_exempt_may_do_everything(server: Server) -> None:
    plugin = next(p for p in server.app.admission.plugins if isinstance(p, PodSecurity))
    plugin.configuration = Configuration(
        usernames=frozenset(("root",)), namespaces=frozenset(("free",)), runtime_classes=frozenset(("vm",))
    )
    await namespace(server, enforce="baseline")
    with pytest.raises(StatusError):
        await server.ask("POST", PODS, pod("a", privileged=True))
    body = pod("a", privileged=True)
    request = Request("POST", PODS, obj=struct.from_dict(body, core_v1.Pod), user=User("root", LOOPBACK.groups))
    await server.app.send(request)
    runtime = {"metadata": {"name": "vm"}, "handler": "vm"}
    await server.ask("POST", "/apis/node.k8s.io/v1/runtimeclasses", runtime)
    await server.ask("POST", PODS, pod("b", privileged=True, runtimeClassName="vm"))
    labels = {PREFIX + "enforce": "baseline", PREFIX + "audit-version": "v1.20"}
    made = await server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "free", "labels": labels}})
    assert made.warnings == [
        'namespace "free" is exempt from Pod Security, and the policy (enforce=baseline:latest) will be ignored'
    ]
    account = core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name="default", namespace="free"))
    await server.client.create(account)
    await server.ask("POST", "/api/v1/namespaces/free/pods", pod("a", privileged=True))


def test_which_updates_are_looked_at() -> None:
    def spec(**more: Any) -> core_v1.PodSpec:
        return struct.from_dict({"containers": [{"name": "c", "image": "i"}], **more}, core_v1.PodSpec)

    ephemeral = [{"name": "e", "image": "x"}]
    assert not significant(spec(), spec(activeDeadlineSeconds=5))
    assert significant(spec(initContainers=[{"name": "i"}]), spec())
    assert significant(spec(ephemeralContainers=ephemeral), spec())
    assert not significant(spec(ephemeralContainers=ephemeral), spec(ephemeralContainers=ephemeral))
