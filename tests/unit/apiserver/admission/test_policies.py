"""Validating and mutating admission policies, through requests."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.harness import Server, config_map, virtual
from podling.api import admissionregistration_v1 as v1
from podling.api import apps_v1, core_v1, meta_v1
from podling.api.errors import StatusError
from podling.api.struct import clone, from_dict

GROUP = "/apis/admissionregistration.k8s.io/v1"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}


def validating(name: str, *validations: dict[str, Any], **spec: Any) -> v1.ValidatingAdmissionPolicy:
    body = {"matchConstraints": {"resourceRules": [RULE]}, "validations": list(validations), **spec}
    return from_dict({"metadata": {"name": name}, "spec": body}, v1.ValidatingAdmissionPolicy)


def mutating(name: str, *mutations: dict[str, Any], **spec: Any) -> v1.MutatingAdmissionPolicy:
    body = {
        "matchConstraints": {"resourceRules": [RULE]},
        "mutations": list(mutations),
        "reinvocationPolicy": "Never",
        **spec,
    }
    return from_dict({"metadata": {"name": name}, "spec": body}, v1.MutatingAdmissionPolicy)


def bound(policy: str, *actions: str, name: str = "", **spec: Any) -> v1.ValidatingAdmissionPolicyBinding:
    body = {"policyName": policy, "validationActions": list(actions or ("Deny",)), **spec}
    return from_dict({"metadata": {"name": name or f"{policy}-b"}, "spec": body}, v1.ValidatingAdmissionPolicyBinding)


def mutation_bound(policy: str, **spec: Any) -> v1.MutatingAdmissionPolicyBinding:
    body = {"policyName": policy, **spec}
    return from_dict({"metadata": {"name": f"{policy}-b"}, "spec": body}, v1.MutatingAdmissionPolicyBinding)


def configuration(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def json_patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


async def refused(server: Server, obj: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await server.client.create(obj)
    return caught.value


@virtual
async def test_a_validation_denies_in_upstreams_words(server: Server) -> None:
    await server.client.create(validating("small", {"expression": "size(object.data) < 2"}))
    await server.client.create(config_map("free", data={"a": "1", "b": "2"}))
    await server.client.create(bound("small"))
    await server.client.create(config_map("ok", data={"a": "1"}))
    error = await refused(server, config_map("big", data={"a": "1", "b": "2"}))
    said = (
        "ValidatingAdmissionPolicy 'small' with binding 'small-b' denied request: "
        "failed expression: size(object.data) < 2"
    )
    assert str(error) == f'configmaps "big" is forbidden: {said}'
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.status.details and error.status.details.causes
    assert [c.message for c in error.status.details.causes] == [said]
    await server.client.delete(v1.ValidatingAdmissionPolicyBinding, "small-b")
    await server.client.create(config_map("big", data={"a": "1", "b": "2"}))


@virtual
async def test_messages_and_reasons(server: Server) -> None:
    policy = validating(
        "p",
        {"expression": "object.data.k != 'a'", "message": "not a", "reason": "Forbidden"},
        {"expression": "object.data.k != 'b'", "messageExpression": "'k is ' + object.data.k + ', ' + variables.where"},
        {"expression": "object.data.k != 'c'", "messageExpression": "object.data.none", "message": "not c"},
        {"expression": "object.data.k != 'd' || object.data.none == 'x'"},
        variables=[{"name": "where", "expression": "'in ' + object.metadata.namespace"}],
    )
    await server.client.create(policy)
    await server.client.create(bound("p"))
    for value, message, reason in (
        ("a", "not a", "Forbidden"),
        ("b", "k is b, in default", "Invalid"),
        ("c", "not c", "Invalid"),
        ("d", "expression 'object.data.k != 'd' || object.data.none == 'x'' resulted in error: no such key: none",
         "Invalid"),
    ):  # fmt: skip
        error = await refused(server, config_map("x", data={"k": value}))
        assert (str(error).partition("denied request: ")[2], error.reason) == (message, reason)


@virtual
async def test_failure_policy_ignore_lets_errors_pass(server: Server) -> None:
    await server.client.create(validating("p", {"expression": "object.data.none == 'x'"}, failurePolicy="Ignore"))
    await server.client.create(bound("p"))
    await server.client.create(config_map("a"))


@virtual
async def test_warn_and_audit_do_not_deny(server: Server) -> None:
    await server.client.create(
        validating("p", {"expression": "false", "message": "no"}, auditAnnotations=[
            {"key": "who", "valueExpression": "request.userInfo.username"}])
    )  # fmt: skip
    await server.client.create(bound("p", "Warn", "Audit"))
    seen: list[dict[str, str]] = []
    publish = server.app.admission.validate

    async def spy(attributes: Any) -> None:
        await publish(attributes)
        seen.append(attributes.annotations)

    server.app.admission.validate = spy  # type: ignore[method-assign]
    answer = await server.ask("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})
    assert answer.warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': no"]
    assert seen[-1]["p/who"] == "system:apiserver"
    assert (
        '"message":"no","policy":"p","binding":"p-b"'
        in seen[-1]["validation.policy.admission.k8s.io/validation_failure"]
    )


@virtual
async def test_parameters(server: Server) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    policy = validating(
        "p", {"expression": "size(object.data) <= int(params.data.max)"}, paramKind=kind,
        matchConditions=[{"name": "not-params", "expression": "object.metadata.name != params.metadata.name"}],
    )  # fmt: skip
    await server.client.create(config_map("limits", data={"max": "1"}))
    await server.client.create(policy)
    await server.client.create(bound("p", paramRef={"name": "limits", "parameterNotFoundAction": "Deny"}))
    await server.client.create(config_map("ok", data={"a": "1"}))
    assert "failed expression" in str(await refused(server, config_map("big", data={"a": "1", "b": "2"})))
    await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="other")))
    error = await refused(server, config_map("a", namespace="other"))
    assert str(error).endswith(
        "denied request: failed to configure binding: no params found for policy binding with `Deny` "
        "parameterNotFoundAction"
    )


@virtual
async def test_selectors_and_exclusions(server: Server) -> None:
    await server.client.create(
        validating("p", {"expression": "false"}, matchConstraints={
            "resourceRules": [RULE],
            "excludeResourceRules": [{**RULE, "resourceNames": ["free"]}],
            "objectSelector": {"matchLabels": {"checked": "yes"}},
        })
    )  # fmt: skip
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}
    await server.client.create(bound("p", matchResources=selector))
    await server.client.create(config_map("a"))
    await refused(server, config_map("b", labels={"checked": "yes"}))
    await server.client.create(config_map("free", labels={"checked": "yes"}))
    await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="other")))
    await server.client.create(config_map("b", labels={"checked": "yes"}, namespace="other"))


@virtual
async def test_old_object_namespace_and_authorizer(server: Server) -> None:
    policy = validating(
        "p",
        {"expression": "oldObject == null || object.data.k == oldObject.data.k", "message": "k stays"},
        {"expression": "namespaceObject.metadata.name == request.namespace"},
        {"expression": "authorizer.group('').resource('pods').namespace('default').check('list').allowed()"},
        {"expression": "authorizer.requestResource.check('create').allowed()"},
    )
    await server.client.create(policy)
    await server.client.create(bound("p"))
    made = clone(await server.client.create(config_map("a")))
    made.data = {"k": "other"}
    with pytest.raises(StatusError, match="k stays"):
        await server.client.update(made)


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        ({"validations": [{"expression": "nope > 1"}]}, "spec.validations[0].expression",
         "compilation failed: ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')"),
        ({"validations": [{"expression": "1 + 1"}]}, "spec.validations[0].expression", "must evaluate to bool"),
        ({"validations": [{"expression": "true", "messageExpression": "1"}]}, "spec.validations[0].messageExpression",
         "must evaluate to string"),
        ({"validations": [{"expression": "params.x"}]}, "spec.validations[0].expression",
         "undeclared reference to 'params'"),
        ({"validations": [{"expression": "variables.b"}], "variables": [{"name": "a", "expression": "1"}]},
         "spec.validations[0].expression", "undefined field 'b'"),
        ({"validations": [{"expression": "true"}], "variables": [{"name": "a", "expression": "x"}]},
         "spec.variables[0].expression", "undeclared reference to 'x'"),
        ({"validations": [{"expression": "true"}], "matchConditions": [{"name": "a", "expression": "!"}]},
         "spec.matchConditions[0].expression", "compilation failed: ERROR: <input>:1:2: Syntax error"),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}, "spec.auditAnnotations[0].valueExpression",
         "must evaluate to one of [string null]"),
    ],
)  # fmt: skip
@virtual
async def test_what_does_not_compile_is_refused(server: Server, spec: dict[str, Any], field: str, why: str) -> None:
    error = await refused(server, validating("p", **{"validations": [], **spec}))
    assert error.code == 422 and error.status.details and error.status.details.causes
    (cause,) = error.status.details.causes
    assert cause.field == field and why in (cause.message or "")


@virtual
async def test_type_checking_in_the_status(server: Server) -> None:
    deployments = {**RULE, "apiGroups": ["apps"], "resources": ["deployments"]}
    policy = validating(
        "typo", {"expression": "object.spec.replcas > 1"},
        {"expression": "object.spec.template.spec.containers.size() > 0"},
        {"expression": "object.metadata.labels.app == 'x'"}, matchConstraints={"resourceRules": [deployments]},
    )  # fmt: skip
    await server.client.create(policy)
    for _ in range(50):
        found = await server.client.get(v1.ValidatingAdmissionPolicy, "typo")
        if found.status.observed_generation:
            break
        await server.app.hub.current()
    assert found.status.observed_generation == 1 and found.status.type_checking
    (warning,) = found.status.type_checking.expression_warnings or []
    assert warning.field_ref == "spec.validations[0].expression"
    assert warning.warning == (
        "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replcas'\n"
        " | object.spec.replcas > 1\n | ...........^\n"
    )


@virtual
async def test_apply_configurations_merge(server: Server) -> None:
    await server.client.create(
        mutating("p", configuration("Object{metadata: Object.metadata{annotations: {'touched': 'yes'}}}"),
                 configuration("Object{data: {'n': object.metadata.annotations.touched}}"))
    )  # fmt: skip
    await server.client.create(mutation_bound("p"))
    made = await server.client.create(config_map("a", annotations={"mine": "1"}))
    assert made.metadata.annotations == {"mine": "1", "touched": "yes"}
    assert made.data == {"k": "v", "n": "yes"}


@virtual
async def test_deployments_are_mutated_by_both_kinds_of_patch(server: Server) -> None:
    rule = {**RULE, "apiGroups": ["apps"], "resources": ["deployments"]}
    sidecar = (
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: ["
        "Object.spec.template.spec.containers{name: 'side', image: 'busybox'}]}}}}"
    )
    patch = (
        "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'a': string(object.spec.replicas)}}, "
        "JSONPatch{op: 'replace', path: '/spec/replicas', value: 3}]"
    )
    policy = mutating("p", configuration(sidecar), json_patch(patch), matchConstraints={"resourceRules": [rule]})
    await server.client.create(policy)
    await server.client.create(mutation_bound("p"))
    body = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}},
    }  # fmt: skip
    await server.ask("POST", "/apis/apps/v1/namespaces/default/deployments", body)
    made = await server.client.get(apps_v1.Deployment, "d", "default")
    assert made.spec and made.spec.template.spec
    assert [c.name for c in made.spec.template.spec.containers] == ["c", "side"]
    assert made.spec.template.spec.containers[1].termination_message_path == "/dev/termination-log"
    assert made.metadata.annotations and made.metadata.annotations["a"] == "1" and made.spec.replicas == 3


@pytest.mark.parametrize(
    ("mutation", "why"),
    [
        (configuration("Object{data: Object.nope{a: 'x'}}"),
         'type mismatch: unexpected type name "Object.nope", expected "Object.data", which matches field name path '
         "from root Object type"),
        (configuration("Object{metadata: Object.metadata{ownerReferences: [Object.metadata.ownerReferences{uid: 'x', "
                       "controller: true}]}}"), "may not mutate atomic"),
        (configuration("Object{data: {'a': object.data.none}}"), "resulted in error: no such key: none"),
        (json_patch("[JSONPatch{op: 'remove', path: '/data/none'}]"), "JSON Patch: "),
    ],
)  # fmt: skip
@virtual
async def test_mutations_that_fail(server: Server, mutation: dict[str, Any], why: str) -> None:
    await server.client.create(mutating("p", mutation))
    await server.client.create(mutation_bound("p"))
    error = await refused(server, config_map("a"))
    assert str(error).startswith("policy 'p' with binding 'p-b' denied request: ") and why in str(error)
    assert error.reason == "Invalid"


@virtual
async def test_a_failing_test_operation_skips_the_patch(server: Server) -> None:
    patch = "[JSONPatch{op: 'test', path: '/data/k', value: 'z'}, JSONPatch{op: 'remove', path: '/data/k'}]"
    await server.client.create(mutating("p", json_patch(patch)))
    await server.client.create(mutation_bound("p"))
    assert (await server.client.create(config_map("a"))).data == {"k": "v"}


@pytest.mark.parametrize("again", ["Never", "IfNeeded"])
@virtual
async def test_reinvocation(server: Server, again: str) -> None:
    count = "Object{data: {'n': string(object.data.?n.orValue('') + 'x')}}"
    await server.client.create(mutating("a", configuration(count), reinvocationPolicy=again))
    await server.client.create(mutating("b", configuration("Object{data: {'m': 'b'}}")))
    for name in ("a", "b"):
        await server.client.create(mutation_bound(name))
    made = await server.client.create(config_map("c"))
    assert made.data and made.data["n"] == ("xx" if again == "IfNeeded" else "x")


@virtual
async def test_policies_are_not_subject_to_policies(server: Server) -> None:
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    await server.client.create(
        validating("p", {"expression": "false"}, matchConstraints={"resourceRules": [everything]})
    )
    await server.client.create(bound("p"))
    await refused(server, config_map("a"))
    await server.client.delete(v1.ValidatingAdmissionPolicyBinding, "p-b")
    await server.client.delete(v1.ValidatingAdmissionPolicy, "p")
    await server.client.create(config_map("a"))


@virtual
async def test_an_expression_that_costs_too_much_is_stopped(server: Server) -> None:
    loop = "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a + b + c >= 0)))"
    await server.client.create(validating("p", {"expression": loop}))
    await server.client.create(bound("p"))
    assert "operation cancelled: actual cost limit exceeded" in str(await refused(server, config_map("a")))
