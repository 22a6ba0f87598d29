"""Admission webhooks, with real HTTPS servers on loopback."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
from aiohttp import web

from apiserver.admission.hooks import Hook, allow, ca_bundle, deny, patch, serving
from apiserver.harness import Server, config_map, running
from podling.api import admissionregistration_v1 as v1
from podling.api import apps_v1, core_v1, discovery_v1, meta_v1
from podling.api.errors import StatusError
from podling.api.request import LOOPBACK
from podling.api.struct import clone, from_dict
from podling.apiserver.admission.base import CONNECT, Attributes
from podling.apiserver.admission.webhooks import read_response

RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}


def real(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test of a running server on the real event loop: sockets have no virtual time."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        async def main() -> None:
            async with running() as server:
                await test(server, **arguments)

        asyncio.run(main())

    signature = inspect.signature(test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p for p in signature.parameters.values() if p.name != "server"]
    )
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def webhook(hook: Hook, path: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "name": f"{path}.example.com", "clientConfig": hook.config(f"/{path}"), "rules": [RULE], "sideEffects": "None",
        "admissionReviewVersions": ["v1"], **more,
    }  # fmt: skip


def validating(name: str, *hooks: dict[str, Any]) -> v1.ValidatingWebhookConfiguration:
    return from_dict({"metadata": {"name": name}, "webhooks": list(hooks)}, v1.ValidatingWebhookConfiguration)


def mutating(name: str, *hooks: dict[str, Any]) -> v1.MutatingWebhookConfiguration:
    return from_dict({"metadata": {"name": name}, "webhooks": list(hooks)}, v1.MutatingWebhookConfiguration)


async def refused(server: Server, obj: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await server.client.create(obj)
    return caught.value


@real
async def test_the_review_that_is_sent(server: Server) -> None:
    async with serving(a=allow) as hook:
        await server.client.create(validating("v", webhook(hook, timeoutSeconds=7)))
        await server.client.create(config_map("x"))
        (request,) = hook.requests
        assert hook.queries == ["timeout=7s"]
        assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
        assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
        assert (request["name"], request["namespace"], request["operation"]) == ("x", "default", "CREATE")
        assert request["userInfo"] == {
            "username": "system:apiserver",
            "groups": ["system:masters", "system:authenticated"],
        }
        assert request["object"]["data"] == {"k": "v"} and request["object"]["kind"] == "ConfigMap"
        assert request["object"]["metadata"]["uid"]
        assert (request["oldObject"], request["dryRun"]) == (None, False)
        assert request["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}


@pytest.mark.parametrize(
    ("answer", "code", "reason", "message"),
    [
        (deny("no"), 400, "", 'admission webhook "a.example.com" denied the request: no'),
        (deny(), 400, "", 'admission webhook "a.example.com" denied the request without explanation'),
        (deny(reason="Teapot"), 400, "Teapot", 'admission webhook "a.example.com" denied the request: Teapot'),
        (deny("no", code=403, reason="Forbidden"), 403, "Forbidden",
         'admission webhook "a.example.com" denied the request: no'),
    ],
)  # fmt: skip
@real
async def test_denials(server: Server, answer: Any, code: int, reason: str, message: str) -> None:
    async with serving(a=answer) as hook:
        await server.client.create(validating("v", webhook(hook)))
        error = await refused(server, config_map("x"))
        assert (error.code, error.reason, str(error)) == (code, reason, message)


@real
async def test_update_delete_and_dry_run(server: Server) -> None:
    rule = {**RULE, "operations": ["UPDATE", "DELETE"]}
    async with serving(a=allow) as hook:
        await server.client.create(validating("v", webhook(hook, rules=[rule])))
        made = clone(await server.client.create(config_map("x")))
        made.data = {"k": "new"}
        path = "/api/v1/namespaces/default/configmaps/x"
        body = {"metadata": {"name": "x"}, "data": {"k": "new"}}
        await server.ask("PUT", path, body, query={"dryRun": "All"}, queries={})
        await server.client.delete(core_v1.ConfigMap, "x", "default")
        update, delete = hook.requests
        assert update["dryRun"] is True and update["oldObject"]["data"] == {"k": "v"}
        assert update["options"]["dryRun"] == ["All"]
        assert delete["object"] is None and delete["oldObject"]["data"] == {"k": "v"}
        assert delete["options"]["kind"] == "DeleteOptions"


@real
async def test_mutations_in_order_with_defaults_after(server: Server) -> None:
    rule = {**RULE, "resources": ["pods"]}
    container = {"name": "side", "image": "busybox"}
    async with serving(
        a=patch({"op": "add", "path": "/spec/initContainers", "value": [container]}, warnings=["look"]),
        b=lambda review: patch(
            {
                "op": "add",
                "path": "/metadata/labels",
                "value": {"seen": str(len(review["request"]["object"]["spec"]["initContainers"]))},
            }
        )(review),
    ) as hook:
        # The configurations are asked in the order of their names.
        await server.client.create(mutating("z", webhook(hook, "b", rules=[rule])))
        await server.client.create(mutating("c", webhook(hook, "a", rules=[rule])))
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "image": "x"}]}}  # fmt: skip
        answer = await server.ask("POST", "/api/v1/namespaces/default/pods", body)
        assert hook.paths == ["/a", "/b"] and "look" in answer.warnings
        made = answer.obj
        assert made.metadata.labels == {"seen": "1"}
        assert made.spec.init_containers[0].termination_message_policy == "File"


@real
async def test_reinvocation(server: Server) -> None:
    count = patch({"op": "add", "path": "/data/n", "value": "1"})
    async with serving(a=count, b=patch({"op": "add", "path": "/data/m", "value": "1"})) as hook:
        await server.client.create(mutating("m", webhook(hook, "a", reinvocationPolicy="IfNeeded"), webhook(hook, "b")))
        made = await server.client.create(config_map("x"))
        assert made.data == {"k": "v", "n": "1", "m": "1"}
        assert hook.paths == ["/a", "/b", "/a"]


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(
    ("answer", "more", "why"),
    [
        (lambda review: web.Response(status=500, text="boom"), {},
         'failed to call webhook: an error on the server ("boom") has prevented the request from succeeding'),
        (lambda review: web.Response(status=404), {},
         "failed to call webhook: the server could not find the requested resource"),
        (lambda review: {"uid": "other", "allowed": True}, {},
         "received invalid webhook response: expected response.uid="),
        (lambda review: {"allowed": True, "patch": "e30=", "patchType": "JSONPatch"}, {},
         "received invalid webhook response: validating webhook may not return response.patch"),
        (allow, {"ca": ""}, "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        (lambda review: asyncio.sleep(5), {"timeoutSeconds": 1}, "context deadline exceeded"),
    ],
)  # fmt: skip
@real
async def test_failures(server: Server, answer: Any, more: dict[str, Any], why: str, policy: str) -> None:
    async with serving(a=answer) as hook:
        made = webhook(hook, failurePolicy=policy, **{k: v for k, v in more.items() if k != "ca"})
        if "ca" in more:
            made["clientConfig"] = hook.config("/a", ca=more["ca"])
        await server.client.create(validating("v", made))
        if policy == "Ignore":
            await server.client.create(config_map("x"))
            return
        error = await refused(server, config_map("x"))
        assert str(error).startswith('Internal error occurred: failed calling webhook "a.example.com": ')
        assert why in str(error) and (error.code, error.reason) == (500, "InternalError")


@real
async def test_nobody_listens(server: Server) -> None:
    async with serving(a=allow) as hook:
        pass
    await server.client.create(validating("v", webhook(hook)))
    assert str(await refused(server, config_map("x"))) == (
        'Internal error occurred: failed calling webhook "a.example.com": failed to call webhook: Post '
        f'"https://127.0.0.1:{hook.port}/a?timeout=10s": dial tcp 127.0.0.1:{hook.port}: connect: connection refused'
    )


def service() -> core_v1.Service:
    port = {"port": 8443, "targetPort": 1234}
    return from_dict({"metadata": {"name": "hook", "namespace": "default"}, "spec": {"ports": [port]}}, core_v1.Service)


@real
async def test_services_are_resolved_to_their_endpoints(server: Server) -> None:
    config = {"service": {"name": "hook", "namespace": "default", "path": "/a", "port": 8443}, "caBundle": ca_bundle()}
    async with serving(a=allow) as hook:
        await server.client.create(validating("v", webhook(hook, clientConfig=config)))
        post = 'failed to call webhook: Post "https://hook.default.svc:8443/a?timeout=10s": '
        assert f'{post}service "hook" not found' in str(await refused(server, config_map("x")))
        await server.client.create(service())
        assert f'{post}no endpoints available for service "hook"' in str(await refused(server, config_map("x")))
        ports = [discovery_v1.EndpointPort(name="", port=hook.port, protocol="TCP")]
        ready = discovery_v1.EndpointConditions(ready=True)
        piece = discovery_v1.EndpointSlice(
            metadata=meta_v1.ObjectMeta(
                name="hook-1", namespace="default", labels={"kubernetes.io/service-name": "hook"}
            ),
            address_type="IPv4",
            ports=ports,
            endpoints=[discovery_v1.Endpoint(addresses=["127.0.0.1"], conditions=ready)],
        )  # fmt: skip
        # Validation rightly refuses loopback in slices; the test's server has nothing else.
        served = server.app.lookup("discovery.k8s.io", "endpointslices")
        assert served is not None
        served.strategy.validate = lambda obj: []  # type: ignore[method-assign]
        await server.client.create(piece)
        await server.client.create(config_map("x"))
        assert hook.paths == ["/a"]


@real
async def test_a_service_may_be_another_name(server: Server) -> None:
    """The name is looked up as the system does; the certificate is the service's all the same."""
    async with serving(a=allow) as hook:
        target = {"name": "hook", "namespace": "default", "path": "/a", "port": hook.port}
        await server.client.create(
            validating("v", webhook(hook, clientConfig={"service": target, "caBundle": ca_bundle()}))
        )
        raw = {
            "metadata": {"name": "hook", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        await server.client.create(from_dict(raw, core_v1.Service))
        await server.client.create(config_map("x"))
        assert hook.paths == ["/a"]


@real
async def test_selectors_conditions_and_equivalents(server: Server) -> None:
    async with serving(a=deny("no")) as hook:
        conditions = [{"name": "skip", "expression": "object.metadata.name != 'skip-me'"}]
        await server.client.create(validating("v", webhook(
            hook, matchConditions=conditions, objectSelector={"matchExpressions": [
                {"key": "free", "operator": "DoesNotExist"}]},
            namespaceSelector={"matchExpressions": [{"key": "exempt", "operator": "DoesNotExist"}]})))  # fmt: skip
        await server.client.create(config_map("skip-me"))
        await server.client.create(config_map("a", labels={"free": "1"}))
        await refused(server, config_map("a2"))
        await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="e", labels={"exempt": "1"})))
        await server.client.create(config_map("a", namespace="e"))
        assert len(hook.requests) == 1


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@real
async def test_conditions_that_fail(server: Server, policy: str) -> None:
    async with serving(a=allow) as hook:
        conditions = [{"name": "c", "expression": "object.data.none == 'x'"}]
        await server.client.create(validating("v", webhook(hook, matchConditions=conditions, failurePolicy=policy)))
        if policy == "Ignore":
            await server.client.create(config_map("x"))
        else:
            error = await refused(server, config_map("x"))
            assert str(error) == (
                "configmaps \"x\" is forbidden: expression 'object.data.none == 'x'' resulted in error: "
                "no such key: none"
            )
        assert not hook.requests


@real
async def test_conditions_that_do_not_compile_are_refused(server: Server) -> None:
    hook = Hook(1, {})
    for make in (validating, mutating):
        error = await refused(
            server, make("v", webhook(hook, matchConditions=[{"name": "c", "expression": "... [] bad"}]))
        )
        assert error.code == 422 and "compilation failed" in str(error)


@real
async def test_equivalent_resources_are_converted(server: Server) -> None:
    rule = {**RULE, "apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers"]}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    async with serving(a=patch({"op": "replace", "path": "/spec/maxReplicas", "value": 7})) as hook:
        await server.client.create(mutating("m", webhook(hook, rules=[rule])))
        body = {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}}  # fmt: skip
        answer = await server.ask("POST", "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", body)
        (request,) = hook.requests
        assert request["kind"]["version"] == "v2" and request["requestKind"]["version"] == "v1"
        assert request["object"]["spec"]["metrics"][0]["type"] == "Resource"
        assert answer.obj.spec.max_replicas == 7 and answer.obj.spec.target_cpu_utilization_percentage == 50


@real
async def test_scale_is_shown_as_a_scale(server: Server) -> None:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments/scale"]}
    body = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}},
    }  # fmt: skip
    async with serving(a=patch({"op": "replace", "path": "/spec/replicas", "value": 4})) as hook:
        await server.client.create(mutating("m", webhook(hook, rules=[rule])))
        path = "/apis/apps/v1/namespaces/default/deployments"
        await server.ask("POST", path, body)
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 2}}
        await server.ask("PUT", f"{path}/d/scale", scale)
        (request,) = hook.requests
        assert request["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        assert request["subResource"] == "scale" and request["object"]["spec"] == {"replicas": 2}
        made = await server.client.get(apps_v1.Deployment, "d", "default")
        assert made.spec and made.spec.replicas == 4


@real
async def test_connections_are_shown_as_their_options(server: Server) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]}
    async with serving(a=deny("no shell")) as hook:
        await server.client.create(validating("v", webhook(hook, rules=[rule])))
        await server.app.hub.current()
        query = {"command": ["sh", "-c"], "stdin": "true", "tty": "false", "container": "c"}
        pods = server.app.served["", "v1", "pods"].resource
        attributes = Attributes(CONNECT, pods, "exec", "default", "p", None, None, LOOPBACK, options=query)
        with pytest.raises(StatusError, match="no shell"):
            await server.app.admission.validate(attributes)
        (request,) = hook.requests
        assert request["object"] == {
            "kind": "PodExecOptions", "apiVersion": "v1", "stdin": True, "container": "c", "command": ["sh", "-c"]
        }  # fmt: skip
        assert (request["operation"], request["subResource"], request["name"]) == ("CONNECT", "exec", "p")
        assert request["options"] is None


@real
async def test_side_effects_forbid_dry_runs(server: Server) -> None:
    async with serving(a=allow) as hook:
        configuration = validating("v", webhook(hook))
        await server.client.create(configuration)
        await server.app.hub.current()
        # Stored by an older version: today's validation would not take it.
        plugin = next(p for p in server.app.admission.plugins if p.name == "ValidatingAdmissionWebhook")
        plugin.hooks()[0].webhook.side_effects = "Some"  # type: ignore[attr-defined]
        body = {"metadata": {"name": "x"}}
        error = await server.fails("POST", "/api/v1/namespaces/default/configmaps", body, query={"dryRun": "All"})
        assert (error.code, str(error)) == (400, 'admission webhook "a.example.com" does not support dry run')


@real
async def test_configurations_are_exempt_and_found_at_once(server: Server) -> None:
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    async with serving(a=deny("no")) as hook:
        await server.client.create(validating("v", webhook(hook, rules=[rule])))
        await refused(server, config_map("x"))
        await server.client.create(mutating("m"))
        await server.client.delete(v1.ValidatingWebhookConfiguration, "v")
        await server.client.create(config_map("x"))
        assert len(hook.requests) == 1


@real
async def test_without_configurations_nothing_is_asked(server: Server) -> None:
    idle = [p for p in server.app.admission.plugins if not p.active]
    assert {p.name for p in idle} == {
        "MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "version", "why"),
    [
        (b"x", "v1", "couldn't get version/kind"),
        (b"{}", "v1", "webhook response was absent"),
        (b'{"kind":"X","apiVersion":"admission.k8s.io/v1","response":{"uid":"u"}}', "v1",
         "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1, Kind=X"),
    ],
)  # fmt: skip
def test_answers_that_are_none(body: bytes, version: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        read_response(body, "u", version, mutating=True)


def test_v1beta1_answers_need_not_repeat_the_question() -> None:
    assert read_response(b'{"response":{"allowed":true}}', "u", "v1beta1", mutating=False) == {"allowed": True}
